/*
 * What layers say to each other of retries.
 */
#include "policy/retry_mark.h"

#include "tests/unit/message.h"

START_TEST(requests)
{
    static const struct {
        const char *text;
        bool marked;
    } rows[] = {
        {"GET /", false},
        {"GET / | X-Retry-Count: 0", false},
        {"GET / | X-Retry-Count: 1", true},
        {"GET / | x-retry-count: 12", true},
        {"GET / | X-Retry-Count: 99999999999999999999999999", true},
        {"GET / | X-Retry-Count: one", false},
        {"GET / | X-Retry-Count: 1x", false},
        {"GET / | X-Retry-Count: -1", false},
        {"GET / | X-Retry-Count:", false},
        {"GET / | X-Retry-Attempt: 2", true},
        {"GET / | X-Stainless-Retry-Count: 0", false},
        {"GET / | X-Stainless-Retry-Count: 2", true},
        {"GET / | Grpc-Previous-Rpc-Attempts: 1", true},
        {"GET / | X-Envoy-Attempt-Count: 1", false},
        {"GET / | X-Envoy-Attempt-Count: 2", true},
        {"GET / | Amz-Sdk-Request: attempt=1; max=3", false},
        {"GET / | Amz-Sdk-Request: attempt=2; max=3", true},
        {"GET / | Amz-Sdk-Request: attempt=", false},
        {"GET / | Amz-Sdk-Request: max=3", false},
        {"GET / | X-Retry-Count: 0 | X-Stainless-Retry-Count: 1", true},
    };
    struct message m;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        request_text(&m, rows[i].text);
        ck_assert_msg(retry_marked(&m.head) == rows[i].marked, "%s", rows[i].text);
    }
}
END_TEST

START_TEST(responses)
{
    static const struct {
        const char *text;
        enum retry_hint hint;
    } rows[] = {
        {"503", RETRY_HINT_NONE},
        {"503 | X-Should-Retry: true", RETRY_HINT_YES},
        {"503 | x-should-retry: TRUE", RETRY_HINT_YES},
        {"503 | X-Should-Retry: false", RETRY_HINT_NO},
        {"503 | X-Should-Retry: 1", RETRY_HINT_NONE},
        {"503 | X-Should-Retry:", RETRY_HINT_NONE},
    };
    struct message m;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        response_text(&m, rows[i].text);
        ck_assert_msg(retry_hint_of(&m.head) == rows[i].hint, "%s", rows[i].text);
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("retry_mark");
    tcase_add_test(t, requests);
    tcase_add_test(t, responses);
    return run_case("retry_mark", t);
}
