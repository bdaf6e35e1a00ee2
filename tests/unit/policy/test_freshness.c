/*
 * What may be stored, for how long, and what it may answer: one row a rule, named by the section of RFC 9111
 * (or 5861, 8246, 9213).
 */
#include "policy/freshness.h"

#include "tests/unit/message.h"

#define S TICK_S

static struct cache_rules rules;
static struct cache_route route;
static tick_t sent_before; /* how long the answer took */

static void setup(void)
{
    rules = (struct cache_rules){.heuristic_fraction = 0.1};
    rules.targets[0] = SLICE("CDN-Cache-Control");
    rules.target_count = 1;
    route = (struct cache_route){.has_ttl = false};
    sent_before = 0;
}

static enum storable judge(const char *request, const char *response, struct freshness *f)
{
    struct message q, a;
    struct freshness_times times = {NOW - sent_before, NOW, WALL};
    request_text(&q, request);
    response_text(&a, response);
    return freshness_judge(&rules, &route, &q.head, &a.head, &times, f);
}

/* ---- storing ---- */

enum { PRIV = 1, SHARED = 2, BOTH = 3 };

static const struct {
    int scope;
    const char *request, *response;
    enum storable expected;
} storing[] = {
    /* 3: only the answer to a GET */
    {BOTH, "GET /", "200 | Cache-Control: max-age=5", STORABLE_YES},
    {BOTH, "POST / | Content-Length: 0", "200 | Cache-Control: max-age=5", STORABLE_METHOD},
    {BOTH, "HEAD /", "200 | Cache-Control: max-age=5", STORABLE_METHOD},
    {BOTH, "PUT / | Content-Length: 0", "200 | Cache-Control: max-age=5", STORABLE_METHOD},
    /* 3: any final status with explicit freshness, but 206 and 304 */
    {BOTH, "GET /", "201 | Cache-Control: max-age=5", STORABLE_YES},
    {BOTH, "GET /", "404 | Cache-Control: max-age=5", STORABLE_YES},
    {BOTH, "GET /", "418 | Expires: @5", STORABLE_YES},
    {BOTH, "GET /", "502 | Cache-Control: max-age=5", STORABLE_YES},
    {BOTH, "GET /", "599 | Cache-Control: max-age=5", STORABLE_YES},
    {BOTH, "GET /", "206 | Cache-Control: max-age=5",
     STORABLE_STATUS}, /* a part, though none was asked for */
    {BOTH, "GET / | Range: bytes=0-1", "206 | Cache-Control: max-age=5", STORABLE_YES},
    {BOTH, "GET / | Range: bytes=0-1", "416 | Cache-Control: max-age=5", STORABLE_STATUS},
    {BOTH, "GET /", "416 | Cache-Control: max-age=5", STORABLE_YES},
    {BOTH, "POST / | Range: bytes=0-1", "206 | Cache-Control: max-age=5 | Content-Location: /",
     STORABLE_STATUS},
    {BOTH, "POST /", "200 | Cache-Control: max-age=5 | Content-Location: /", STORABLE_YES},
    {BOTH, "POST /", "200 | ETag: \"1\" | Content-Location: /", STORABLE_METHOD},
    {BOTH, "GET /", "304 | Cache-Control: max-age=5", STORABLE_STATUS},
    /* without freshness only what can be validated, and only where heuristics are allowed */
    {BOTH, "GET /", "200", STORABLE_NO_FRESHNESS},
    {BOTH, "GET /", "200 | ETag: \"a\"", STORABLE_YES},
    {BOTH, "GET /", "200 | Last-Modified: @-10", STORABLE_YES},
    {BOTH, "GET /", "200 | Last-Modified: yesterday", STORABLE_NO_FRESHNESS},
    {BOTH, "GET /", "302 | ETag: \"a\"", STORABLE_NO_FRESHNESS},
    {BOTH, "GET /", "302 | ETag: \"a\" | Cache-Control: public", STORABLE_YES},
    {BOTH, "GET /", "500 | ETag: \"a\"", STORABLE_NO_FRESHNESS},
    /* explicit, but worth nothing: stale at once and not to be validated */
    {BOTH, "GET /", "200 | Cache-Control: max-age=0", STORABLE_NO_FRESHNESS},
    {BOTH, "GET /", "200 | Cache-Control: max-age=x", STORABLE_NO_FRESHNESS},
    {BOTH, "GET /", "200 | Expires: 0", STORABLE_NO_FRESHNESS},
    {BOTH, "GET /", "200 | Cache-Control: max-age=0 | ETag: \"a\"", STORABLE_YES},
    {BOTH, "GET /", "200 | Cache-Control: max-age=0, stale-while-revalidate=9", STORABLE_YES},
    {BOTH, "GET /", "200 | Cache-Control: max-age=0, stale-if-error=9", STORABLE_YES},
    /* 5.2.1.5, 5.2.2.5: no-store of either side */
    {BOTH, "GET / | Cache-Control: no-store", "200 | Cache-Control: max-age=5", STORABLE_NO_STORE},
    {BOTH, "GET /", "200 | Cache-Control: max-age=5, no-store", STORABLE_NO_STORE},
    {BOTH, "GET /", "200 | Cache-Control: max-age=5 | Cache-Control: No-Store", STORABLE_NO_STORE},
    {BOTH, "GET /", "200 | Cache-Control: max-age=5, foo=\"no-store\"", STORABLE_YES},
    /* 5.2.2.3: must-understand */
    {BOTH, "GET /", "200 | Cache-Control: max-age=5, no-store, must-understand", STORABLE_YES},
    {BOTH, "GET /", "299 | Cache-Control: max-age=5, no-store, must-understand", STORABLE_NO_STORE},
    {BOTH, "GET /", "299 | Cache-Control: max-age=5, must-understand", STORABLE_NO_STORE},
    {BOTH, "GET / | Cache-Control: no-store", "200 | Cache-Control: max-age=5, must-understand",
     STORABLE_NO_STORE},
    /* 5.2.2.4: no-cache without a validator can never be used */
    {BOTH, "GET /", "200 | Cache-Control: no-cache, max-age=5", STORABLE_NO_FRESHNESS},
    {BOTH, "GET /", "200 | Cache-Control: no-cache, max-age=5 | ETag: \"a\"", STORABLE_YES},
    {BOTH, "GET /", "200 | Cache-Control: no-cache=\"x\", max-age=5", STORABLE_YES},
    /* 5.2.2.7: private */
    {SHARED, "GET /", "200 | Cache-Control: private, max-age=5", STORABLE_PRIVATE},
    {PRIV, "GET /", "200 | Cache-Control: private, max-age=5", STORABLE_YES},
    {SHARED, "GET /", "200 | Cache-Control: private=\"x\", max-age=5", STORABLE_YES},
    /* 3.5: with Authorization */
    {SHARED, "GET / | Authorization: a", "200 | Cache-Control: max-age=5", STORABLE_AUTHORIZED},
    {SHARED, "GET / | Authorization: a", "200 | Cache-Control: max-age=5, public", STORABLE_YES},
    {SHARED, "GET / | Authorization: a", "200 | Cache-Control: max-age=5, must-revalidate", STORABLE_YES},
    {SHARED, "GET / | Authorization: a", "200 | Cache-Control: s-maxage=5", STORABLE_YES},
    {PRIV, "GET / | Authorization: a", "200 | Cache-Control: max-age=5", STORABLE_YES},
    /* s-maxage says nothing to a private cache */
    {SHARED, "GET /", "200 | Cache-Control: s-maxage=5", STORABLE_YES},
    {PRIV, "GET /", "200 | Cache-Control: s-maxage=5", STORABLE_NO_FRESHNESS},
    /* RFC 9213 */
    {SHARED, "GET /", "200 | Cache-Control: no-store | CDN-Cache-Control: max-age=5", STORABLE_YES},
    {PRIV, "GET /", "200 | Cache-Control: no-store | CDN-Cache-Control: max-age=5", STORABLE_NO_STORE},
    {SHARED, "GET /", "200 | Cache-Control: max-age=5 | CDN-Cache-Control: no-store", STORABLE_NO_STORE},
    {PRIV, "GET /", "200 | Cache-Control: max-age=5 | CDN-Cache-Control: no-store", STORABLE_YES},
    {SHARED, "GET /", "200 | Cache-Control: max-age=5 | CDN-Cache-Control: No-Store", STORABLE_YES},
    {SHARED, "GET /", "200 | Expires: @60 | CDN-Cache-Control: foo", STORABLE_NO_FRESHNESS},
};

START_TEST(what_is_stored)
{
    for (size_t i = 0; i < ARRAY_LEN(storing); i++) {
        for (int scope = PRIV; scope <= SHARED; scope++) {
            struct freshness f;
            if (!(storing[i].scope & scope))
                continue;
            rules.shared = scope == SHARED;
            enum storable got = judge(storing[i].request, storing[i].response, &f);
            if (got != storing[i].expected)
                ck_abort_msg("%s: %s, then %s: %d", rules.shared ? "shared" : "private", storing[i].request,
                             storing[i].response, (int)got);
        }
    }
}
END_TEST

/* ---- lifetime: 4.2.1, 4.2.2 ---- */

static const struct {
    int scope;
    const char *response;
    tick_t lifetime;
} lifetimes[] = {
    {SHARED, "200 | Cache-Control: max-age=5, s-maxage=7", 7 * S},
    {PRIV, "200 | Cache-Control: max-age=5, s-maxage=7", 5 * S},
    {BOTH, "200 | Cache-Control: max-age=5 | Expires: @60 | Date: @0", 5 * S},
    {BOTH, "200 | Expires: @60 | Date: @0", 60 * S},
    {BOTH, "200 | Expires: @60 | Date: @-30", 90 * S},
    {BOTH, "200 | Expires: @60", 60 * S},                  /* no Date: the receipt */
    {BOTH, "200 | Expires: @60 | Date: nonsense", 60 * S}, /* an invalid one: likewise */
    {BOTH, "200 | Expires: @60 | Date: @-30 | Date: @-30", 60 * S},
    {BOTH, "200 | Expires: @-60 | Date: @0", 0},
    {BOTH, "200 | Expires: 0", 0}, /* an invalid Expires is stale */
    {BOTH, "200 | Expires: -1", 0},
    {BOTH, "200 | Expires: ", 0},
    {BOTH, "200 | Expires: @60 | Expires: @60", 0}, /* and so are two */
    {BOTH, "200 | Cache-Control: max-age=x | Expires: @60", 0},
    {SHARED, "200 | Cache-Control: max-age=5, s-maxage=x", 0},
    {BOTH, "200 | Cache-Control: max-age=99999999999", ((tick_t)1 << 31) * S}, /* clamped */
    {BOTH, "200 | Expires: Fri, 31 Dec 9999 23:59:59 GMT", ((tick_t)1 << 31) * S},
    {SHARED, "200 | Cache-Control: max-age=5 | CDN-Cache-Control: max-age=9", 9 * S},
    {PRIV, "200 | Cache-Control: max-age=5 | CDN-Cache-Control: max-age=9", 5 * S},
    {SHARED, "200 | Cache-Control: max-age=5 | CDN-Cache-Control: max-age=\"9\" | Expires: @60", 0},
    {SHARED, "200 | Cache-Control: max-age=5 | CDN-Cache-Control: max-age=9,", 5 * S},
    /* 4.2.2: a tenth of Date minus Last-Modified */
    {BOTH, "200 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "203 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "204 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "300 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "301 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "308 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "404 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "405 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "410 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "414 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "501 | Date: @0 | Last-Modified: @-100", 10 * S},
    {BOTH, "201 | Date: @0 | Last-Modified: @-100", 0},
    {BOTH, "202 | Date: @0 | Last-Modified: @-100", 0},
    {BOTH, "403 | Date: @0 | Last-Modified: @-100", 0},
    {BOTH, "502 | Date: @0 | Last-Modified: @-100", 0},
    {BOTH, "503 | Date: @0 | Last-Modified: @-100", 0},
    {BOTH, "504 | Date: @0 | Last-Modified: @-100", 0},
    {BOTH, "599 | Date: @0 | Last-Modified: @-100", 0},
    {BOTH, "201 | Date: @0 | Last-Modified: @-100 | Cache-Control: public", 10 * S},
    {BOTH, "599 | Date: @0 | Last-Modified: @-100 | Cache-Control: public", 10 * S},
    {BOTH, "200 | Date: @0 | Last-Modified: @100", 0}, /* modified in the future */
    {BOTH, "200 | Date: @0 | Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT",
     86400 * S}, /* never more than a day */
    {BOTH, "200 | Date: @0 | Last-Modified: @-100 | Cache-Control: max-age=3", 3 * S},
};

START_TEST(how_long_it_is_fresh)
{
    for (size_t i = 0; i < ARRAY_LEN(lifetimes); i++) {
        for (int scope = PRIV; scope <= SHARED; scope++) {
            struct freshness f;
            if (!(lifetimes[i].scope & scope))
                continue;
            rules.shared = scope == SHARED;
            judge("GET /", lifetimes[i].response, &f);
            if (f.lifetime != lifetimes[i].lifetime)
                ck_abort_msg("%s: %s: %lld ns", rules.shared ? "shared" : "private", lifetimes[i].response,
                             (long long)f.lifetime);
        }
    }
}
END_TEST

START_TEST(our_own_lifetimes)
{
    struct freshness f;
    rules.default_ttl = 30 * S;
    must(judge("GET /", "200", &f) == STORABLE_YES && f.lifetime == 30 * S);
    must(judge("GET /", "200 | Last-Modified: @-100 | Date: @0", &f) == STORABLE_YES && f.lifetime == 30 * S);
    must(judge("GET /", "404", &f) == STORABLE_NO_FRESHNESS); /* may be there in a moment */
    must(judge("GET /", "500", &f) == STORABLE_NO_FRESHNESS);
    must(judge("GET /", "200 | Cache-Control: max-age=1", &f) == STORABLE_YES &&
         f.lifetime == S); /* the origin's word first */
    must(judge("GET /", "200 | Cache-Control: no-store", &f) == STORABLE_NO_STORE);
    must(judge("GET /", "200 | Cache-Control: no-cache", &f) == STORABLE_NO_FRESHNESS);
    must(judge("GET /", "200 | Cache-Control: private", &f) == STORABLE_YES && f.lifetime == 30 * S);
    route = (struct cache_route){.has_ttl = true, .ttl = 250 * TICK_MS};
    must(judge("GET /", "200", &f) == STORABLE_YES &&
         f.lifetime == 250 * TICK_MS); /* the route's before the default */
    must(judge("GET /", "200 | Expires: @5 | Date: @0", &f) == STORABLE_YES && f.lifetime == 5 * S);
    route.ttl = 0;
    must(judge("GET /", "200", &f) == STORABLE_NO_FRESHNESS); /* a route may say: never */
    rules.default_ttl = 0;
    route.has_ttl = false;
    rules.heuristic_fraction = 0;
    must(judge("GET /", "200 | Last-Modified: @-100", &f) == STORABLE_YES && f.lifetime == 0);
    rules.default_ttl = TICK_NEVER;
    must(judge("GET /", "200", &f) == STORABLE_YES && f.lifetime == ((tick_t)1 << 31) * S);
}
END_TEST

/* ---- age: 4.2.3, 5.1 ---- */

/* Who gives an error a lifetime means it; see outcome_when_lasting(). */
START_TEST(stated_lifetimes)
{
    static const struct {
        const char *fields;
        bool alone, shared;
    } rows[] = {
        {"503", false, false},
        {"503 | Cache-Control: max-age=5", true, true},
        {"503 | Cache-Control: max-age=0", false, false},
        {"503 | Cache-Control: s-maxage=5", false, true},
        {"503 | Cache-Control: max-age=5, no-store", false, false},
        {"503 | Cache-Control: max-age=5, no-cache", false, false},
        {"503 | Cache-Control: public", false, false},
        {"503 | CDN-Cache-Control: max-age=5", false, true},
        {"503 | Date: @0 | Expires: @10", true, true},
        {"503 | Date: @0 | Expires: @0", false, false},
        {"503 | Expires: 0", false, false},
        {"503 | Last-Modified: @-10 | ETag: \"a\"", false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (int shared = 0; shared < 2; shared++) {
            struct message a;
            response_text(&a, rows[i].fields);
            rules.shared = shared;
            ck_assert_msg(freshness_stated(&rules, &a.head, WALL) ==
                              (shared ? rows[i].shared : rows[i].alone),
                          "%d: %s", shared, rows[i].fields);
        }
}
END_TEST

START_TEST(initial_age)
{
    static const struct {
        const char *response;
        tick_t delay, age;
    } rows[] = {
        {"200 | Cache-Control: max-age=99 | Date: @0", 0, 0},
        {"200 | Cache-Control: max-age=99 | Date: @-7", 0, 7 * S},
        {"200 | Cache-Control: max-age=99 | Date: @7", 0, 0}, /* a clock ahead of ours */
        {"200 | Cache-Control: max-age=99 | Date: @0 | Age: 5", 0, 5 * S},
        {"200 | Cache-Control: max-age=99 | Date: @0 | Age: 5", 2 * S, 7 * S}, /* Age plus the delay */
        {"200 | Cache-Control: max-age=99 | Date: @-9 | Age: 5", 2 * S,
         9 * S}, /* or the apparent age: the larger */
        {"200 | Cache-Control: max-age=99 | Date: @0", 2 * S, 2 * S},
        {"200 | Cache-Control: max-age=99 | Date: @0", -5 * S, 0}, /* a clock that stepped back */
        {"200 | Cache-Control: max-age=99 | Date: nonsense", 0, 0},
        {"200 | Cache-Control: max-age=99 | Date: Thu, 01 Jan 1970 00:00:00 GMT", 0, WALL * S},
        /* 5.1: the first member of the first line, digits only, else ignored */
        {"200 | Date: @0 | Age: 5, 9", 0, 5 * S},
        {"200 | Date: @0 | Age: 5 , x", 0, 5 * S},
        {"200 | Date: @0 | Age: 5 | Age: 9", 0, 5 * S},
        {"200 | Date: @0 | Age: 5;x", 0, 0},
        {"200 | Date: @0 | Age: 5.5", 0, 0},
        {"200 | Date: @0 | Age: -5", 0, 0},
        {"200 | Date: @0 | Age: a, 5", 0, 0},
        {"200 | Date: @0 | Age: \"5\"", 0, 0},
        {"200 | Date: @0 | Age: ", 0, 0},
        {"200 | Date: @0 | Age: 2147483648", 0, ((tick_t)1 << 31) * S},
        {"200 | Date: @0 | Age: 4294967296", 0, ((tick_t)1 << 31) * S},
        {"200 | Date: @0 | Age: 99999999999999999999999", 0, ((tick_t)1 << 31) * S},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct freshness f;
        sent_before = rows[i].delay;
        judge("GET /", rows[i].response, &f);
        if (f.initial_age != rows[i].age)
            ck_abort_msg("%s: %lld ns", rows[i].response, (long long)f.initial_age);
    }
}
END_TEST

/* A whole second of rounding in Date is no age where our own lifetime may be shorter than that. */
START_TEST(rounding_of_date)
{
    struct freshness f;
    route = (struct cache_route){.has_ttl = true, .ttl = 250 * TICK_MS};
    judge("GET /", "200 | Date: @-1", &f);
    must(f.initial_age == 0);
    judge("GET /", "200 | Date: @-2", &f);
    must(f.initial_age == 2 * S);
    judge("GET /", "200 | Date: @-1 | Cache-Control: max-age=5", &f);
    must(f.initial_age == S);
}
END_TEST

START_TEST(ages_never_wrap)
{
    struct freshness f = {
        .initial_age = 3 * ((tick_t)1 << 31) * S, .received = -1000, .lifetime = ((tick_t)1 << 31) * S};
    must(freshness_age(&f, TICK_NEVER) == TICK_NEVER);
    must(freshness_left(&f, TICK_NEVER) < 0);
    must(freshness_age(&f, INT64_MIN + 5) == f.initial_age);
    f.received = 1000;
    must(freshness_age(&f, 500) == f.initial_age); /* time went backwards */
    must(freshness_age(&f, 1500) == f.initial_age + 500);
    f = (struct freshness){.received = INT64_MIN};
    must(freshness_age(&f, INT64_MAX) == TICK_NEVER);
    f.lifetime = 0;
    must(freshness_left(&f, INT64_MAX) == -TICK_NEVER);
}
END_TEST

/* ---- use: 4.2.4, 5.2.1, RFC 5861 ---- */

static const struct {
    const char *request, *response;
    int seconds; /* after receipt */
    enum reuse expected;
    enum cache_fwd fwd;
} uses[] = {
    {"GET /", "200 | Cache-Control: max-age=10", 0, REUSE_FRESH, CACHE_FWD_NONE},
    {"GET /", "200 | Cache-Control: max-age=10", 9, REUSE_FRESH, CACHE_FWD_NONE},
    {"GET /", "200 | Cache-Control: max-age=10", 10, REUSE_VALIDATE,
     CACHE_FWD_STALE}, /* fresh only while longer than the age */
    {"GET /", "200 | Cache-Control: max-age=10 | Age: 4", 5, REUSE_FRESH, CACHE_FWD_NONE},
    {"GET /", "200 | Cache-Control: max-age=10 | Age: 4", 6, REUSE_VALIDATE, CACHE_FWD_STALE},
    {"GET /", "200 | Cache-Control: max-age=10, no-cache | ETag: \"a\"", 0, REUSE_VALIDATE,
     CACHE_FWD_STALE}, /* 5.2.2.4 */
    /* 5.2.1.1 max-age */
    {"GET / | Cache-Control: max-age=5", "200 | Cache-Control: max-age=10", 5, REUSE_FRESH, CACHE_FWD_NONE},
    {"GET / | Cache-Control: max-age=5", "200 | Cache-Control: max-age=10", 6, REUSE_VALIDATE,
     CACHE_FWD_REQUEST},
    {"GET / | Cache-Control: max-age=0", "200 | Cache-Control: max-age=10", 1, REUSE_VALIDATE,
     CACHE_FWD_REQUEST},
    {"GET / | Cache-Control: max-age=50", "200 | Cache-Control: max-age=10", 11, REUSE_VALIDATE,
     CACHE_FWD_STALE},
    {"GET / | Cache-Control: max-age=x", "200 | Cache-Control: max-age=10", 1, REUSE_VALIDATE,
     CACHE_FWD_REQUEST},
    /* 5.2.1.2 max-stale */
    {"GET / | Cache-Control: max-stale", "200 | Cache-Control: max-age=10", 1000, REUSE_STALE,
     CACHE_FWD_NONE},
    {"GET / | Cache-Control: max-stale=5", "200 | Cache-Control: max-age=10", 15, REUSE_STALE,
     CACHE_FWD_NONE},
    {"GET / | Cache-Control: max-stale=5", "200 | Cache-Control: max-age=10", 16, REUSE_VALIDATE,
     CACHE_FWD_STALE},
    {"GET / | Cache-Control: max-stale=x", "200 | Cache-Control: max-age=10", 11, REUSE_VALIDATE,
     CACHE_FWD_STALE},
    {"GET / | Cache-Control: max-stale", "200 | Cache-Control: max-age=10, must-revalidate", 11,
     REUSE_VALIDATE, CACHE_FWD_STALE},
    {"GET / | Cache-Control: max-age=20, max-stale=9", "200 | Cache-Control: max-age=10", 15, REUSE_STALE,
     CACHE_FWD_NONE},
    /* 5.2.1.3 min-fresh */
    {"GET / | Cache-Control: min-fresh=5", "200 | Cache-Control: max-age=10", 5, REUSE_FRESH, CACHE_FWD_NONE},
    {"GET / | Cache-Control: min-fresh=5", "200 | Cache-Control: max-age=10", 6, REUSE_VALIDATE,
     CACHE_FWD_REQUEST},
    {"GET / | Cache-Control: min-fresh=x", "200 | Cache-Control: max-age=10", 6, REUSE_FRESH, CACHE_FWD_NONE},
    /* 5.2.1.4 no-cache, and 5.4 */
    {"GET / | Cache-Control: no-cache", "200 | Cache-Control: max-age=10", 0, REUSE_VALIDATE,
     CACHE_FWD_REQUEST},
    {"GET / | Pragma: no-cache", "200 | Cache-Control: max-age=10", 0, REUSE_VALIDATE, CACHE_FWD_REQUEST},
    {"GET / | Pragma: no-cache | Cache-Control: foo", "200 | Cache-Control: max-age=10", 0, REUSE_FRESH,
     CACHE_FWD_NONE},
    {"GET / | Pragma: foo", "200 | Cache-Control: max-age=10", 0, REUSE_FRESH, CACHE_FWD_NONE},
    {"GET / | Cache-Control: foo, bar=\"no-cache\"", "200 | Cache-Control: max-age=10", 0, REUSE_FRESH,
     CACHE_FWD_NONE},
    /* RFC 5861 3 */
    {"GET /", "200 | Cache-Control: max-age=10, stale-while-revalidate=5", 10, REUSE_REFRESH, CACHE_FWD_NONE},
    {"GET /", "200 | Cache-Control: max-age=10, stale-while-revalidate=5", 14, REUSE_REFRESH, CACHE_FWD_NONE},
    {"GET /", "200 | Cache-Control: max-age=10, stale-while-revalidate=5", 15, REUSE_VALIDATE,
     CACHE_FWD_STALE},
    {"GET /", "200 | Cache-Control: max-age=10, stale-while-revalidate=x", 11, REUSE_VALIDATE,
     CACHE_FWD_STALE},
    {"GET /", "200 | Cache-Control: max-age=10, stale-while-revalidate=5, must-revalidate", 11,
     REUSE_VALIDATE, CACHE_FWD_STALE},
    {"GET / | Cache-Control: max-age=90", "200 | Cache-Control: max-age=10, stale-while-revalidate=5", 11,
     REUSE_VALIDATE, CACHE_FWD_STALE},
    {"GET / | Cache-Control: no-cache", "200 | Cache-Control: max-age=10, stale-while-revalidate=5", 11,
     REUSE_VALIDATE, CACHE_FWD_REQUEST},
    /* RFC 8246: immutable lengthens nothing by itself */
    {"GET /", "200 | Cache-Control: max-age=10, immutable", 11, REUSE_VALIDATE, CACHE_FWD_STALE},
};

START_TEST(what_it_may_answer)
{
    for (size_t i = 0; i < ARRAY_LEN(uses); i++) {
        struct message q;
        struct freshness f;
        struct cache_ask ask;
        enum cache_fwd fwd;
        judge("GET /", uses[i].response, &f);
        request_text(&q, uses[i].request);
        cache_ask_read(&q.head, &ask);
        enum reuse got = freshness_reuse(&f, &ask, NOW + uses[i].seconds * S, &fwd);
        if (got != uses[i].expected || fwd != uses[i].fwd)
            ck_abort_msg("%s, %s after %d s: %d, %d", uses[i].request, uses[i].response, uses[i].seconds,
                         (int)got, (int)fwd);
    }
}
END_TEST

static enum reuse use_after(const char *response, int seconds)
{
    struct message q;
    struct freshness f;
    struct cache_ask ask;
    enum cache_fwd fwd;
    judge("GET /", response, &f);
    request_text(&q, "GET /");
    cache_ask_read(&q.head, &ask);
    return freshness_reuse(&f, &ask, NOW + seconds * S, &fwd);
}

/* 3.5 for a request that gets its Authorization here. */
START_TEST(a_credential_that_is_added)
{
    struct freshness f;
    rules.shared = rules.adds_credential = true;
    ck_assert_int_eq(judge("GET /", "200 | Cache-Control: max-age=5", &f), STORABLE_AUTHORIZED);
    ck_assert_int_eq(judge("GET /", "200 | Cache-Control: max-age=5, public", &f), STORABLE_YES);
    rules.shared = false;
    ck_assert_int_eq(judge("GET /", "200 | Cache-Control: max-age=5", &f), STORABLE_YES);
}
END_TEST

/* 5.2.2.8, 5.2.2.10: what only a shared cache must obey. */
START_TEST(directives_of_shared_caches)
{
    const char *proxy = "200 | Cache-Control: max-age=10, stale-while-revalidate=5, proxy-revalidate";
    const char *shared = "200 | Cache-Control: s-maxage=10, max-age=10, stale-while-revalidate=5";
    must(use_after(proxy, 11) == REUSE_REFRESH);
    must(use_after(shared, 11) == REUSE_REFRESH);
    rules.shared = true;
    must(use_after(proxy, 11) == REUSE_VALIDATE);
    must(use_after(shared, 11) == REUSE_VALIDATE);
}
END_TEST

/* The configured windows: the one for refreshing behind where the origin states no lifetime, for it may not
 * be longer than that (RFC 9111 4.2.4), and never longer than our own lifetime. */
START_TEST(configured_windows)
{
    struct freshness f;
    rules.stale_while_revalidate = 30 * S;
    rules.stale_if_error = 3600 * S;
    rules.default_ttl = 10 * S;
    judge("GET /", "200", &f);
    must(f.swr == 10 * S && f.sie == 3600 * S);
    rules.default_ttl = 100 * S;
    judge("GET /", "200", &f);
    must(f.swr == 30 * S);
    judge("GET /", "200 | Cache-Control: max-age=100", &f);
    must(f.swr == 0 && f.sie == 3600 * S);
    judge("GET /", "200 | Cache-Control: max-age=100, stale-while-revalidate=0, stale-if-error=0", &f);
    must(f.swr == 0 && f.sie == 0);
    judge("GET /", "200 | Cache-Control: max-age=10, stale-while-revalidate=77, stale-if-error=78", &f);
    must(f.swr == 77 * S && f.sie == 78 * S);
    judge("GET /", "200 | Cache-Control: max-age=100, must-revalidate", &f);
    must(f.swr == 0 && f.sie == 0);
    judge("GET /", "200 | Cache-Control: no-cache | ETag: \"a\"", &f);
    must(f.swr == 0 && f.sie == 0);
    judge("GET /", "200 | Cache-Control: max-age=0 | ETag: \"a\"", &f);
    must(f.swr == 0);
}
END_TEST

/* RFC 5861 4, RFC 9111 4.2.4 */
START_TEST(after_an_error)
{
    static const struct {
        const char *request, *response;
        int seconds;
        bool expected;
    } rows[] = {
        {"GET /", "200 | Cache-Control: max-age=10, stale-if-error=5", 14, true},
        {"GET /", "200 | Cache-Control: max-age=10, stale-if-error=5", 15, false},
        {"GET /", "200 | Cache-Control: max-age=10", 11, false},
        {"GET /", "200 | Cache-Control: max-age=10", 9, true}, /* fresh, but was to be validated */
        {"GET /", "200 | Cache-Control: max-age=10, stale-if-error=5, must-revalidate", 11, false},
        {"GET /", "200 | Cache-Control: no-cache, stale-if-error=5 | ETag: \"a\"", 0, false},
        {"GET / | Cache-Control: no-cache", "200 | Cache-Control: max-age=10, stale-if-error=5", 11, false},
        {"GET / | Cache-Control: max-age=0", "200 | Cache-Control: max-age=10, stale-if-error=5", 11, false},
        {"GET / | Cache-Control: max-age=5", "200 | Cache-Control: max-age=10, stale-if-error=5", 11, true},
        {"GET / | Cache-Control: stale-if-error=9", "200 | Cache-Control: max-age=10", 18, true},
        {"GET / | Cache-Control: stale-if-error=9", "200 | Cache-Control: max-age=10", 19, false},
        {"GET / | Cache-Control: stale-if-error=0", "200 | Cache-Control: max-age=10, stale-if-error=5", 11,
         false},
        {"GET / | Cache-Control: max-stale=9", "200 | Cache-Control: max-age=10", 18, true},
        {"GET / | Cache-Control: stale-if-error=9", "200 | Cache-Control: max-age=10, must-revalidate", 11,
         false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct message q;
        struct freshness f;
        struct cache_ask ask;
        judge("GET /", rows[i].response, &f);
        request_text(&q, rows[i].request);
        cache_ask_read(&q.head, &ask);
        if (freshness_for_error(&f, &ask, NOW + rows[i].seconds * S) != rows[i].expected)
            ck_abort_msg("%s, %s after %d s", rows[i].request, rows[i].response, rows[i].seconds);
    }
    must(freshness_error_status(500) && freshness_error_status(502) && freshness_error_status(503) &&
         freshness_error_status(504));
    must(!freshness_error_status(501) && !freshness_error_status(404) && !freshness_error_status(200) &&
         !freshness_error_status(505));
}
END_TEST

/* Whatever numbers come from outside: nothing wraps, and more time never makes anything fresher. */
START_TEST(any_numbers)
{
    static const char *const numbers[] = {
        "0", "1", "5", "2147483647", "2147483648", "9223372036854775807", "99999999999999999999", "x"};
    struct message q;
    struct cache_ask ask;
    enum cache_fwd fwd;
    request_text(&q, "GET /");
    cache_ask_read(&q.head, &ask);
    for (size_t a = 0; a < ARRAY_LEN(numbers); a++) {
        for (size_t b = 0; b < ARRAY_LEN(numbers); b++) {
            char text[400];
            struct freshness f;
            snprintf(text, sizeof text,
                     "200 | Cache-Control: max-age=%s, stale-while-revalidate=%s | Age: %s | Date: @0",
                     numbers[a], numbers[b], numbers[b]);
            judge("GET /", text, &f);
            must(f.lifetime >= 0 && f.initial_age >= 0 && f.swr >= 0);
            enum reuse before = REUSE_FRESH;
            for (tick_t later = 0; later >= 0 && later < INT64_MAX / 4; later = later * 3 + S / 3) {
                enum reuse now = freshness_reuse(&f, &ask, NOW + later, &fwd);
                must(now >= before);
                before = now;
            }
        }
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("freshness");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, what_is_stored);
    tcase_add_test(t, how_long_it_is_fresh);
    tcase_add_test(t, our_own_lifetimes);
    tcase_add_test(t, stated_lifetimes);
    tcase_add_test(t, initial_age);
    tcase_add_test(t, rounding_of_date);
    tcase_add_test(t, ages_never_wrap);
    tcase_add_test(t, what_it_may_answer);
    tcase_add_test(t, a_credential_that_is_added);
    tcase_add_test(t, directives_of_shared_caches);
    tcase_add_test(t, configured_windows);
    tcase_add_test(t, after_an_error);
    tcase_add_test(t, any_numbers);
    return run_case("freshness", t);
}
