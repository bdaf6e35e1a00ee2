/*
 * Variants (RFC 9111 4.1): the names that Vary gives, and which requests select the same one.
 */
#include "policy/vary.h"

#include "tests/unit/message.h"

static const struct hash_key key = {3, 4};

START_TEST(names_of_vary)
{
    static const struct {
        const char *response, *names; /* NULL: not to be stored */
    } rows[] = {
        {"200", ""},
        {"200 | Vary: ", ""},
        {"200 | Vary: ,", ""},
        {"200 | Vary: Accept", "accept"},
        {"200 | Vary: Accept, X-Y | Vary: foo", "accept,x-y,foo"},
        {"200 | Vary: Accept,ACCEPT, accept", "accept"},
        {"200 | Vary: *", NULL},
        {"200 | Vary: Accept, *", NULL},
        {"200 | Vary: Accept | Vary: *", NULL},
        {"200 | Vary: a b", NULL},
        {"200 | Vary: \"a\"", NULL},
        {"200 | Vary: a;b", NULL},
        {"200 | Vary: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p"},
        {"200 | Vary: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", NULL}, /* one too many */
        {"200 | Content-Encoding: gzip", "*accept-encoding"},
        {"200 | Content-Encoding: identity", ""},
        {"200 | Content-Encoding: gzip | Vary: Accept", "accept,*accept-encoding"},
        {"200 | Content-Encoding: gzip | Vary: accept-Encoding", "accept-encoding"},
        {"200 | Content-Encoding: gzip | Vary: this-name-is-of-some-forty-chars", NULL}, /* no room */
        {"200 | Vary: this-name-is-of-some-forty-characters-x", "this-name-is-of-some-forty-characters-x"},
        {"200 | Vary: this-name-is-of-some-forty-characters-x, a", NULL}, /* no room */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct message m;
        char out[40];
        response_text(&m, rows[i].response);
        int n = vary_names(&m.head, out, sizeof out);
        bool right = rows[i].names
                         ? n == (int)strlen(rows[i].names) && memcmp(out, rows[i].names, (size_t)n) == 0
                         : n < 0;
        if (!right)
            ck_abort_msg("%s: %d", rows[i].response, n);
    }
}
END_TEST

static bool fits(const char *vary, const char *stored_for, const char *asked_by, const char *language)
{
    struct message response, a, b;
    char names[200], line[300];
    struct vary_key stored, asked;
    snprintf(line, sizeof line, "200 | %s%s",
             vary[0] == '!' ? "Content-Encoding: " : "Vary: ", vary + (vary[0] == '!'));
    response_text(&response, line);
    request_text(&a, stored_for);
    request_text(&b, asked_by);
    int n = vary_names(&response.head, names, sizeof names);
    must(n >= 0);
    vary_select((struct slice){names, (size_t)n}, &a.head, key, &stored);
    vary_select((struct slice){names, (size_t)n}, &b.head, key, &asked);
    struct vary_content content = {{language, strlen(language)},
                                   head_first(&response.head, FIELD_CONTENT_ENCODING)};
    return vary_match(&stored, &asked, &content, &b.head);
}

static const struct {
    const char *vary, *stored_for, *asked_by;
    bool expected;
} selections[] = {
    {"", "GET / | A: 1", "GET / | A: 2", true},
    /* Accept-Encoding, named: without case, order and blanks */
    {"Accept-Encoding", "GET / | Accept-Encoding: gzip, br", "GET / | Accept-Encoding: BR,GZip", true},
    {"Accept-Encoding", "GET / | Accept-Encoding: gzip, br;q=0.5",
     "GET / | Accept-Encoding: br ; q=0.5, gzip", true},
    {"Accept-Encoding", "GET / | Accept-Encoding: gzip, br", "GET / | Accept-Encoding: gzip", false},
    {"Accept-Encoding", "GET / | Accept-Encoding: gzip", "GET /", false},
    {"Accept-Encoding", "GET / | Accept-Encoding: ", "GET /", false},
    {"A", "GET / | A: 1", "GET / | A: 1", true},
    {"A", "GET / | A: 1", "GET / | A: 2", false},
    {"A", "GET / | A: 1", "GET / | a: 1 | B: x", true},
    {"A", "GET / | A: 1", "GET /", false},
    {"A", "GET /", "GET /", true},
    {"A", "GET /", "GET / | A: ", false}, /* missing is not empty */
    {"A, B", "GET / | A: 1 | B: 2", "GET / | B: 2 | A: 1", true},
    {"A, B", "GET / | A: 1 | B: 2", "GET / | A: 2 | B: 1", false},
    {"A, B", "GET / | A: 1", "GET / | B: 1", false},
    {"A, B", "GET / | A: 12 | B: 3", "GET / | A: 1 | B: 23", false},
    /* lines joined with a comma, white space around commas taken away */
    {"A", "GET / | A: 1, 2", "GET / | A: 1 | A: 2", true},
    {"A", "GET / | A: 1,2", "GET / | A: 1 \t,\t  2", true},
    {"A", "GET / | A: 1,2", "GET / | A: 2,1", false}, /* in general order matters */
    {"A", "GET / | A: 1 2", "GET / | A: 12", false},
    {"A", "GET / | A: 1 2", "GET / | A: 1  2", false},
    {"A", "GET / | A: \"1, 2\"", "GET / | A: \"1,2\"", false}, /* not inside quotes */
    {"A", "GET / | A: \"\\\" , 2\"", "GET / | A: \"\\\",2\"", false},
    {"A", "GET / | A: x", "GET / | A: X", false},
    /* Accept-Language: without case, order and space */
    {"Accept-Language", "GET / | Accept-Language: en, de;q=0.5", "GET / | Accept-Language: DE; q=0.5,EN",
     true},
    {"Accept-Language", "GET / | Accept-Language: en | Accept-Language: de",
     "GET / | Accept-Language: de, en", true},
    {"Accept-Language", "GET / | Accept-Language: en", "GET / | Accept-Language: de", false},
    {"Accept-Language", "GET / | Accept-Language: en", "GET / | Accept-Language: en, en", false},
    {"Accept-Language", "GET /", "GET / | Accept-Language: en", false},
    {"Accept-Language", "GET /", "GET / | Accept-Language: ", false},
    {"Accept-Language, A", "GET / | Accept-Language: en | A: 1", "GET / | Accept-Language: en | A: 2", false},
};

START_TEST(which_requests_select_the_same)
{
    for (size_t i = 0; i < ARRAY_LEN(selections); i++)
        if (fits(selections[i].vary, selections[i].stored_for, selections[i].asked_by, "") !=
                selections[i].expected ||
            fits(selections[i].vary, selections[i].asked_by, selections[i].stored_for, "") !=
                selections[i].expected)
            ck_abort_msg("%s: %s, %s", selections[i].vary, selections[i].stored_for, selections[i].asked_by);
}
END_TEST

/* An encoded answer whose Vary does not name Accept-Encoding: who accepts the coding may have it, nobody
 * else. */
START_TEST(encoded_answers_go_to_who_accepts_them)
{
    static const struct {
        const char *content_encoding, *stored_for, *asked_by;
        bool expected;
    } rows[] = {
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET / | Accept-Encoding: gzip, br", true},
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET / | Accept-Encoding: x-GZIP;q=0.1", true},
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET / | Accept-Encoding: br, *", true},
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET / | Accept-Encoding: br, *;q=0", false},
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET / | Accept-Encoding: *, gzip;q=0.000", false},
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET / | Accept-Encoding: gzip;q=x", false},
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET / | Accept-Encoding: gzip;v=1", false},
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET / | Accept-Encoding: ,;,, ", false},
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET / | Accept-Encoding: identity", false},
        {"!gzip", "GET / | Accept-Encoding: gzip", "GET /", false},
        {"!gzip", "GET /", "GET /", true}, /* the origin answers such a client so */
        {"!gzip, br", "GET / | Accept-Encoding: gzip, br", "GET / | Accept-Encoding: gzip", false},
        {"!gzip, br", "GET / | Accept-Encoding: gzip, br", "GET / | Accept-Encoding: deflate, gzip, br",
         true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (fits(rows[i].content_encoding, rows[i].stored_for, rows[i].asked_by, "") != rows[i].expected)
            ck_abort_msg("%s: %s, %s", rows[i].content_encoding, rows[i].stored_for, rows[i].asked_by);
}
END_TEST

/* The stored Content-Language is the request's single most wanted one. */
START_TEST(by_language)
{
    static const struct {
        const char *accept, *language;
        bool expected;
    } rows[] = {
        {"de", "de", true},
        {"DE", "de", true},
        {"de, en;q=0.9", "de", true},
        {"de, en;q=0.9", "en", false},
        {"de, en", "de", false}, /* not the single one */
        {"de;q=0.3, en;q=0.7, fr;q=0.699", "en", true},
        {"de;q=0, en;q=0", "de", false},
        {"de-AT", "de", false},
        {"*", "de", false},
        {"de;q=2", "de", false},
        {"de;x=1", "de", false},
        {"de;q=0.5555", "de", false},
        {"de;q=1.001", "de", false},
        {"de;q=", "de", false},
        {"de;q=0.", "de", false},
        {"de;q=0.001", "de", true},
        {"de", "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char request[200];
        snprintf(request, sizeof request, "GET / | Accept-Language: %s | B: 1", rows[i].accept);
        if (fits("Accept-Language, B", "GET / | Accept-Language: xx | B: 1", request, rows[i].language) !=
            rows[i].expected)
            ck_abort_msg("%s, %s", rows[i].accept, rows[i].language);
        /* All other fields must agree all the same. */
        must(!fits("Accept-Language, B", "GET / | Accept-Language: xx | B: 2", request, rows[i].language));
    }
}
END_TEST

/* Long values are hashed in pieces: every byte counts all the same. */
START_TEST(every_byte_counts)
{
    char a[400], b[400];
    for (int at = 0; at < 200; at++) {
        int n = snprintf(a, sizeof a, "GET / | A: ");
        memset(a + n, 'x', 200);
        a[n + 200] = '\0';
        strcpy(b, a);
        b[n + at] = 'y';
        must(!fits("A", a, b, ""));
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("vary");
    tcase_add_test(t, names_of_vary);
    tcase_add_test(t, which_requests_select_the_same);
    tcase_add_test(t, by_language);
    tcase_add_test(t, encoded_answers_go_to_who_accepts_them);
    tcase_add_test(t, every_byte_counts);
    return run_case("vary", t);
}
