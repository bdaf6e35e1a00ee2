/*
 * metrics/explain.c: sentences for requests of every kind.
 */
#include "metrics/explain.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS INT64_C(1000000)

static const char *const methods[] = {"OTHER", "GET"};
static const char *const reasons[] = {"NONE", "CONNECT_FAILED", "RATE_LIMITED"};
static const char *const outcomes[] = {"ok"};

static char *told(struct observation *o)
{
    struct metrics_config config = {1, methods, 2, reasons, 3, outcomes, 1};
    struct metrics *m = metrics_new(&config);
    struct text t = {0};
    o->operation = metrics_operation(m, "get_prompt");
    o->method = 1;
    memcpy(o->path, "/p/1", 4);
    explain_request(m, o, &t);
    metrics_free(m);
    text_bytes(&t, "", 1);
    return t.p;
}

static void is(struct observation o, const char *wanted)
{
    char *text = told(&o);
    ck_assert_str_eq(text, wanted);
    free(text);
}

START_TEST(each_kind)
{
    is((struct observation){.status = 200, .cache = VERDICT_HIT, .total = 4200, .saved = 80 * MS},
       "GET /p/1 (get_prompt) was answered 200 after 4 us; it came fresh from the cache (fetching it had "
       "taken 80 ms).");
    is((struct observation){.status = 200,
                            .cache = VERDICT_MISS,
                            .flags = OBSERVED_STORED,
                            .attempts = 1,
                            .total = 1000 * MS,
                            .queue_wait = 800 * MS,
                            .pool_wait = 150 * MS,
                            .tcp = 100 * MS,
                            .tls = 50 * MS,
                            .wait = 45 * MS,
                            .body = 5 * MS},
       "GET /p/1 (get_prompt) was answered 200 after 1.00 s; the cache had nothing to use, and was stored; "
       "it spent "
       "800 ms held back by the rate limit or the concurrency limit, 150 ms waiting for a connection, 45 ms "
       "waiting "
       "for the API's answer to begin, where a connection was made (TCP 100 ms, TLS 50 ms).");
    is((struct observation){.status = 503,
                            .reason = 1,
                            .flags = OBSERVED_OWN,
                            .cache = VERDICT_MISS,
                            .attempts = 2,
                            .total = 100 * MS,
                            .retry_delay = 70 * MS,
                            .tried = {{0, 10000, 503, 0, 0, 0}, {80000, 20000, 0, 1, 0, 0}}},
       "GET /p/1 (get_prompt) was answered 503 by the sidecar itself (connect_failed) after 100 ms; the "
       "cache had "
       "nothing to use; it spent 70 ms pausing between attempts; of 2 attempts the first ended with 503 "
       "after 10 ms "
       "and the last ended with connect_failed after 20 ms.");
    is(
        (struct observation){
            .status = 0, .flags = OBSERVED_CLIENT_GONE, .cache = VERDICT_BYPASS, .total = 2 * MS},
        "GET /p/1 (get_prompt) got no answer; the client left after 2.00 ms; the cache was not asked.");
    is((struct observation){.status = 429,
                            .reason = 2,
                            .flags = OBSERVED_OWN | OBSERVED_QUOTA,
                            .circuit = CIRCUIT_CLOSED,
                            .quota_left = 0,
                            .quota_limit = 60,
                            .total = 5 * MS},
       "GET /p/1 (get_prompt) was answered 429 by the sidecar itself (rate_limited) after 5.00 ms; the API "
       "said that "
       "0 of 60 calls were left.");
}
END_TEST

START_TEST(more_attempts_than_are_kept)
{
    struct observation o = {.status = 200, .attempts = 9, .total = MS};
    for (int i = 0; i < OBSERVED_ATTEMPTS; i++)
        o.tried[i].status = 503;
    char *text = told(&o);
    ck_assert(strstr(text, "of 9 attempts the first ended") != NULL);
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics/explain");
    TCase *t = tcase_create("explain");
    tcase_add_test(t, each_kind);
    tcase_add_test(t, more_attempts_than_are_kept);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
