/*
 * Tests of policy/outcome.c: every status and reason has one outcome, and disguises are seen through.
 */
#include "policy/outcome.h"
#include "tests/unit/policy/harness.h"

#include <string.h>

START_TEST(statuses)
{
    static const struct {
        int status;
        enum outcome outcome;
    } rows[] = {
        {100, OUTCOME_OK},
        {200, OUTCOME_OK},
        {304, OUTCOME_OK},
        {400, OUTCOME_CLIENT_ERROR},
        {401, OUTCOME_BAD_CREDENTIALS},
        {403, OUTCOME_BAD_CREDENTIALS},
        {404, OUTCOME_CLIENT_ERROR},
        {429, OUTCOME_THROTTLED},
        {500, OUTCOME_SERVER_ERROR},
        {501, OUTCOME_LASTING_ERROR},
        {502, OUTCOME_SERVER_ERROR},
        {503, OUTCOME_UNAVAILABLE},
        {504, OUTCOME_UNAVAILABLE},
        {599, OUTCOME_SERVER_ERROR},
        {99, OUTCOME_BAD_ANSWER},
        {600, OUTCOME_BAD_ANSWER},
        {-1, OUTCOME_BAD_ANSWER},
        {0, OUTCOME_BAD_ANSWER},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        ck_assert_int_eq(outcome_of_status(rows[i].status), rows[i].outcome);
}
END_TEST

/* An error that says how long it holds is meant; nothing else changes by that. */
START_TEST(lasting_errors)
{
    for (int status = 100; status < 600; status++) {
        enum outcome plain = outcome_of_status(status);
        ck_assert_int_eq(outcome_when_lasting(plain, false), plain);
        ck_assert_int_eq(outcome_when_lasting(plain, true), status >= 500 ? OUTCOME_LASTING_ERROR : plain);
    }
    ck_assert_int_eq(outcome_when_lasting(OUTCOME_THROTTLED, true), OUTCOME_THROTTLED); /* in disguise */
    ck_assert_int_eq(outcome_row(OUTCOME_LASTING_ERROR)->breaker, BREAKER_IGNORED);
}
END_TEST

/* Whatever is whose fault: the breaker hears of the upstream's faults only, and of all of them. */
START_TEST(reasons)
{
    for (int r = REASON_NONE + 1; r < REASON_COUNT; r++) {
        const struct outcome_row *row = outcome_row(outcome_of_reason((enum reason)r, false));
        bool upstream = reason_row((enum reason)r)->fault == FAULT_UPSTREAM;
        bool pool = r == REASON_STALE_CONNECTION || r == REASON_EARLY_RESPONSE;
        ck_assert_msg((row->breaker == BREAKER_FAILURE) == (upstream && !pool), "%s",
                      reason_row((enum reason)r)->name);
        ck_assert_int_ne(row->breaker, BREAKER_THROTTLED);
    }
    ck_assert_int_eq(outcome_of_reason(REASON_NONE, false), OUTCOME_OK);
    ck_assert_int_eq(outcome_of_reason(REASON_RESET_BEFORE_ANSWER, false), OUTCOME_RESET_BEFORE);
    ck_assert_int_eq(outcome_of_reason(REASON_RESET_BEFORE_ANSWER, true), OUTCOME_STALE_CONNECTION);
    ck_assert_int_eq(outcome_of_reason(REASON_CONNECT_TIMEOUT, false), OUTCOME_CONNECT_TIMEOUT);
    ck_assert_int_eq(outcome_of_reason(REASON_DNS_FAILED, true), OUTCOME_CONNECT_FAILED);
    ck_assert_int_eq(outcome_of_reason(REASON_RESPONSE_TIMEOUT, false), OUTCOME_RESPONSE_TIMEOUT);
    ck_assert_int_eq(outcome_of_reason(REASON_STREAM_IDLE, false), OUTCOME_STREAM_TIMEOUT);
    ck_assert_int_eq(outcome_of_reason(REASON_CLIENT_GONE, false), OUTCOME_CLIENT_GONE);
    ck_assert_int_eq(outcome_of_reason(REASON_BREAKER_OPEN, false), OUTCOME_LOCAL);
    ck_assert_int_eq(outcome_of_reason(REASON_BAD_STATUS_LINE, false), OUTCOME_BAD_ANSWER);
}
END_TEST

START_TEST(rows_agree)
{
    for (int o = 0; o < OUTCOME_COUNT; o++) {
        const struct outcome_row *row = outcome_row((enum outcome)o);
        ck_assert(row->name && row->sentence && strlen(row->name) > 1);
        if (row->breaker ==
            BREAKER_THROTTLED) /* throttling is the quota's business, not a sign of overload */
            ck_assert_int_eq(row->load, OUTCOME_LOAD_NEUTRAL);
        if (row->load == OUTCOME_LOAD_DROPPED || row->load == OUTCOME_LOAD_SHED)
            ck_assert_int_eq(row->breaker, BREAKER_FAILURE);
        if (row->load == OUTCOME_LOAD_GOOD)
            ck_assert(row->charged);
        if (row->scope == OUTCOME_SCOPE_UPSTREAM) /* it never got there */
            ck_assert(!row->charged && row->breaker == BREAKER_FAILURE);
        if (row->scope == OUTCOME_SCOPE_BOTH) /* whoever answers can be reached */
            ck_assert(row->charged && row->breaker != BREAKER_IGNORED);
    }
    ck_assert_ptr_eq(outcome_row((enum outcome)999), outcome_row(OUTCOME_LOCAL));
}
END_TEST

static struct outcome_disguises usual(void)
{
    static const char *const items[] = {"401:rate limit", "403:rate limit"};
    struct outcome_disguises d;
    outcome_disguises_read(&d, items, ARRAY_LEN(items));
    ck_assert_int_eq(d.count, 2);
    return d;
}

static enum outcome answer(int status, const char *body)
{
    struct outcome_disguises d = usual();
    return outcome_of_answer(&d, status, (struct slice){body, strlen(body)});
}

START_TEST(disguises)
{
    ck_assert_int_eq(answer(401, "{\"detail\":\"Rate limit exceeded\"}"), OUTCOME_THROTTLED);
    ck_assert_int_eq(answer(403, "{\"error\":\"RATE LIMIT\"}"), OUTCOME_THROTTLED);
    ck_assert_int_eq(answer(401, "{\"detail\":\"Invalid API key\"}"), OUTCOME_BAD_CREDENTIALS);
    ck_assert_int_eq(answer(401, ""), OUTCOME_BAD_CREDENTIALS);
    ck_assert_int_eq(answer(401, "rate limi"), OUTCOME_BAD_CREDENTIALS);
    ck_assert_int_eq(answer(404, "rate limit"), OUTCOME_CLIENT_ERROR);
    ck_assert_int_eq(answer(200, "rate limit"), OUTCOME_OK);
    struct outcome_disguises d = usual();
    ck_assert(outcome_may_be_disguised(&d, 401));
    ck_assert(!outcome_may_be_disguised(&d, 404));
    static const char *const many[] = {"400:a", "bad",   "401:b", "402:c", "403:d",
                                       "404:e", "405:f", "406:g", "407:h", "408:i"};
    outcome_disguises_read(&d, many, ARRAY_LEN(many)); /* what does not parse is left out, like a ninth */
    ck_assert_int_eq(d.count, OUTCOME_DISGUISES);
    ck_assert(outcome_may_be_disguised(&d, 407) && !outcome_may_be_disguised(&d, 408));
}
END_TEST

START_TEST(own_disguises)
{
    struct outcome_disguises d = {.count = 1};
    ck_assert(outcome_disguise_parse(SLICE("400:too many"), &d.item[0]));
    ck_assert_int_eq(d.item[0].status, 400);
    ck_assert_int_eq(outcome_of_answer(&d, 400, SLICE("Too Many calls")), OUTCOME_THROTTLED);
    ck_assert_int_eq(outcome_of_answer(&d, 401, SLICE("rate limit")), OUTCOME_BAD_CREDENTIALS);
    static const char *const bad[] = {"",       "4",         "401",       "401:",      "401: x",
                                      "40x:yy", "399:words", "600:words", "401 words", "-401:words"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!outcome_disguise_parse((struct slice){bad[i], strlen(bad[i])}, &d.item[0]), "%s",
                      bad[i]);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("outcome");
    tcase_add_test(t, statuses);
    tcase_add_test(t, lasting_errors);
    tcase_add_test(t, reasons);
    tcase_add_test(t, rows_agree);
    tcase_add_test(t, disguises);
    tcase_add_test(t, own_disguises);
    return run_case("policy/outcome", t);
}
