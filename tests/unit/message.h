/*
 * Messages for tests: written as text in one line, parsed by the real parser.
 */
#ifndef TESTS_UNIT_MESSAGE_H
#define TESTS_UNIT_MESSAGE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/http_date.h"
#include "proxy/h1.h"

#define must(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            ck_abort_msg("%s", #condition);                                                                  \
    } while (0)

enum { MESSAGE_MAX = 8192, FIELDS_MAX = 128 };

#define WALL ((int64_t)1700000000) /* Tue, 14 Nov 2023 22:13:20 GMT */
#define NOW  (1000 * TICK_S)

/* A parsed message and the memory behind it. */
struct message {
    char text[MESSAGE_MAX];
    struct field fields[FIELDS_MAX];
    struct head head;
};

static const struct h1_limits limits_of_h1 = {
    .max_head = MESSAGE_MAX, .max_target = 4096, .max_trailer = 1024};

/* "GET /x | Accept: a | ..." : a request line without its version, then fields, separated by " | ". */
static inline void request_text(struct message *m, const char *text)
{
    struct h1_scan scan = {0};
    size_t used, n = 0;
    const char *bar = strstr(text, " | ");
    n += (size_t)snprintf(m->text, sizeof m->text, "%.*s HTTP/1.1\r\nHost: h\r\n",
                          (int)(bar ? bar - text : (long)strlen(text)), text);
    while (bar) {
        text = bar + 3;
        bar = strstr(text, " | ");
        n += (size_t)snprintf(m->text + n, sizeof m->text - n, "%.*s\r\n",
                              (int)(bar ? bar - text : (long)strlen(text)), text);
    }
    n += (size_t)snprintf(m->text + n, sizeof m->text - n, "\r\n");
    m->head = (struct head){.fields = m->fields, .field_max = FIELDS_MAX};
    enum reason why = h1_parse_request(&scan, &limits_of_h1, m->text, n, &m->head, &used);
    if (why != REASON_NONE)
        ck_abort_msg("request %s: %s", m->text, reason_row(why)->name);
}

/* "200 | Cache-Control: max-age=5 | ..." Text @N becomes the date N seconds after WALL. */
static inline void response_text(struct message *m, const char *text)
{
    struct h1_scan scan = {0};
    char line[MESSAGE_MAX];
    size_t used, n = 0;
    const char *bar = strstr(text, " | ");
    n += (size_t)snprintf(m->text, sizeof m->text, "HTTP/1.1 %.*s OK\r\n",
                          (int)(bar ? bar - text : (long)strlen(text)), text);
    while (bar) {
        text = bar + 3;
        bar = strstr(text, " | ");
        snprintf(line, sizeof line, "%.*s", (int)(bar ? bar - text : (long)strlen(text)), text);
        char *at = strchr(line, '@');
        if (at) {
            char date[HTTP_DATE_LEN + 1] = {0};
            http_date_write(date, WALL + atol(at + 1));
            strcpy(at, date);
        }
        n += (size_t)snprintf(m->text + n, sizeof m->text - n, "%s\r\n", line);
    }
    n += (size_t)snprintf(m->text + n, sizeof m->text - n, "\r\n");
    m->head = (struct head){.fields = m->fields, .field_max = FIELDS_MAX};
    enum reason why = h1_parse_response(&scan, &limits_of_h1, METHOD_GET, m->text, n, &m->head, &used);
    if (why != REASON_NONE)
        ck_abort_msg("response %s: %s", m->text, reason_row(why)->name);
}

static inline int run_case(const char *name, TCase *t)
{
    Suite *s = suite_create(name);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}

#endif
