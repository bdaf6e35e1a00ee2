/* proxy/telemetry_answer.c: what is tried again, when, and what was left out. */
#include "proxy/telemetry_answer.h"

#include <string.h>

#include "tests/unit/metrics/main.h"

static enum courier_verdict grpc(int status, int code, const char *details, tick_t *after)
{
    struct post_result r = {
        .status = status, .grpc_status = code, .grpc_details = details, .retry_after = -1};
    *after = -1;
    return telemetry_judge(true, &r, after);
}

START_TEST(grpc_is_judged_by_its_own_status)
{
    static const int again[] = {1, 4, 10, 11, 14, 15};
    tick_t after;
    for (int code = 1; code < 100; code++) {
        bool may = false;
        for (size_t i = 0; i < ARRAY_LEN(again); i++)
            may |= again[i] == code;
        ck_assert_int_eq(grpc(200, code, "", &after), may ? COURIER_AGAIN : COURIER_NEVER);
    }
    ck_assert_int_eq(grpc(200, 0, "", &after), COURIER_GOOD);
    ck_assert_int_eq(grpc(200, -1, "", &after), COURIER_NEVER); /* no gRPC server */
    ck_assert_int_eq(grpc(204, -1, NULL, &after), COURIER_NEVER);
    ck_assert_int_eq(grpc(503, -1, "", &after), COURIER_AGAIN);
    ck_assert_int_eq(grpc(404, 0, "", &after), COURIER_NEVER);
}
END_TEST

START_TEST(retry_info)
{
    tick_t after;
    /* Status { code: 8, details: [Any { RetryInfo { retry_delay { seconds: 2, nanos: 500000000 } } }] } */
    const char *said = "CAgaOAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIMCgoIAhCAyrXuARIA";
    ck_assert_int_eq(grpc(200, 8, "", &after), COURIER_NEVER);
    ck_assert_int_eq(after, -1);
    ck_assert_int_eq(grpc(200, 8, "CAg", &after), COURIER_NEVER);
    ck_assert_int_eq(grpc(200, 8, said, &after), COURIER_AGAIN);
    ck_assert_int_eq(after, 2 * TICK_S + TICK_S / 2);
    ck_assert_int_eq(grpc(200, 13, said, &after), COURIER_NEVER);
    ck_assert_int_eq(grpc(200, 8, "!!!!", &after), COURIER_NEVER);
}
END_TEST

START_TEST(http_is_judged_by_its_status)
{
    for (int status = 200; status < 600; status++) {
        struct post_result r = {.status = status, .grpc_status = -1, .retry_after = 5};
        tick_t after = 5;
        bool may = status == 429 || status == 502 || status == 503 || status == 504;
        ck_assert_int_eq(telemetry_judge(false, &r, &after), status < 300 ? COURIER_GOOD
                                                             : may        ? COURIER_AGAIN
                                                                          : COURIER_NEVER);
        ck_assert_int_eq(after, 5);
    }
}
END_TEST

static uint64_t rejected(bool is_grpc, const char *answer, size_t n)
{
    struct post_result r = {.status = 200, .answer = answer, .answer_n = n};
    return telemetry_rejected(is_grpc, &r);
}

START_TEST(what_was_left_out)
{
    ck_assert_uint_eq(rejected(false, "\x0a\x02\x08\x03", 4), 3);
    ck_assert_uint_eq(rejected(true, "\0\0\0\0\4\x0a\x02\x08\x03", 9), 3);
    ck_assert_uint_eq(rejected(true, "\1\0\0\0\4\x0a\x02\x08\x03", 9), 0); /* compressed, unasked for */
    ck_assert_uint_eq(rejected(true, "\0\0\0\0\0", 5), 0);
    ck_assert_uint_eq(rejected(false, "", 0), 0);
    ck_assert_uint_eq(rejected(false, NULL, 0), 0);
    ck_assert_uint_eq(rejected(false, "\x0a\x09\x08\x03", 4), 0);
    ck_assert_uint_eq(rejected(false, "<html>", 6), 0);
}
END_TEST

SUITE("proxy/telemetry_answer", grpc_is_judged_by_its_own_status, retry_info, http_is_judged_by_its_status,
      what_was_left_out)
