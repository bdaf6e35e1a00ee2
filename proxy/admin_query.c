/*
 * Query parameters of the admin port: found, read, refused by name.
 * Invariant: a function that returns false has answered.
 */
#include <errno.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/admin_request.h"

const char *admin_query(const struct admin_request *r, const char *name)
{
    const char *value = NULL;
    for (struct evkeyval *kv = r->query->tqh_first; kv; kv = kv->next.tqe_next)
        if (strcmp(kv->key, name) == 0)
            value = kv->value;
    return value;
}

static void refuse_query(struct admin_request *r, const char *name, const char *how)
{
    char what[160];
    snprintf(what, sizeof what, "The query parameter `%s` has a value that is not understood.", name);
    admin_reply_error(r, 400, what, how);
}

bool admin_query_number(struct admin_request *r, const char *name, uint64_t most, uint64_t *out)
{
    const char *text = admin_query(r, name);
    char how[96], *end;
    if (!text)
        return true;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && !errno && v <= most) {
        *out = v;
        return true;
    }
    snprintf(how, sizeof how, "Give a whole number from 0 to %llu.", (unsigned long long)most);
    refuse_query(r, name, how);
    return false;
}

/* The nanoseconds of a unit's name; 0 for an unknown one. */
static double unit_of(const char *unit)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"", 1e9},  {"ns", 1},   {"us", 1e3},   {"ms", 1e6},
                 {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9}};
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (strcmp(unit, units[i].name) == 0)
            return units[i].ns;
    return 0;
}

bool admin_query_duration(struct admin_request *r, const char *name, int64_t *out)
{
    const char *text = admin_query(r, name);
    char *end;
    if (!text)
        return true;
    double v = strtod(text, &end);
    double unit = unit_of(end);
    bool plain = *text >= '0' && *text <= '9' && !memchr(text, 'x', strlen(text));
    if (plain && unit > 0 && v >= 0 && v * unit < 9e18) {
        *out = (int64_t)(v * unit);
        return true;
    }
    refuse_query(r, name, "Give a duration such as 250ms, 30s, 5m, 1h or plain seconds.");
    return false;
}

bool admin_query_word(struct admin_request *r, const char *name, const char *words)
{
    const char *text = admin_query(r, name);
    char how[160];
    if (!text)
        return true;
    for (const char *p = words; *p; p += *p == '|') {
        size_t n = strcspn(p, "|");
        if (n == strlen(text) && memcmp(p, text, n) == 0)
            return true;
        p += n;
    }
    snprintf(how, sizeof how, "Give one of %s.", words);
    refuse_query(r, name, how);
    return false;
}

/* "name:type name:type" of an endpoint's row. */
static bool listed(const char *row, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = row; *p; p += *p == ' ') {
        if (strncmp(p, name, n) == 0 && p[n] == ':')
            return true;
        p += strcspn(p, " ");
    }
    return false;
}

static void list_names(const char *row, char *out, size_t room)
{
    size_t n = (size_t)snprintf(out, room, *row ? "There are" : "Leave it out: this path takes none");
    for (const char *p = row; *p && n < room; p += *p == ' ') {
        n += (size_t)snprintf(out + n, room - n, "%s %.*s", p == row ? "" : ",", (int)strcspn(p, ":"), p);
        p += strcspn(p, " ");
    }
    if (n < room)
        snprintf(out + n, room - n, ".");
}

bool admin_query_known(struct admin_request *r, const struct admin_endpoint *e)
{
    char what[192], how[256];
    if (e->access == ADMIN_ACCESS_OPEN || strcmp(e->path, "/metrics") == 0)
        return true; /* probes and scrapers may mark theirs */
    for (struct evkeyval *kv = r->query->tqh_first; kv; kv = kv->next.tqe_next) {
        if (listed(e->query, kv->key))
            continue;
        snprintf(what, sizeof what, "The query parameter `%.100s` is not known here.", kv->key);
        list_names(e->query, how, sizeof how);
        admin_reply_error(r, 400, what, how);
        return false;
    }
    return true;
}
