/*
 * The text of Cache-Status (RFC 9211), which must be a valid structured list whatever the key holds.
 */
#include "policy/cache_status.h"

#include "tests/unit/message.h"

static const char *written(struct cache_status status)
{
    static char out[CACHE_STATUS_MAX + 1];
    out[cache_status_write(out, CACHE_STATUS_MAX, &status)] = '\0';
    return out;
}

START_TEST(texts)
{
    ck_assert_str_eq(written((struct cache_status){0}), "promptops-sidecar; hit");
    ck_assert_str_eq(written((struct cache_status){.has_ttl = true, .ttl = 42}),
                     "promptops-sidecar; hit; ttl=42");
    ck_assert_str_eq(
        written((struct cache_status){.has_ttl = true, .ttl = -3, .detail = SLICE("stale-if-error")}),
        "promptops-sidecar; hit; ttl=-3; detail=stale-if-error");
    ck_assert_str_eq(written((struct cache_status){.fwd = CACHE_FWD_URI_MISS, .stored = true}),
                     "promptops-sidecar; fwd=uri-miss; stored");
    ck_assert_str_eq(written((struct cache_status){
                         .fwd = CACHE_FWD_STALE, .fwd_status = 304, .has_ttl = true, .stored = true}),
                     "promptops-sidecar; fwd=stale; fwd-status=304; ttl=0; stored");
    ck_assert_str_eq(written((struct cache_status){.fwd = CACHE_FWD_VARY_MISS, .collapsed = true}),
                     "promptops-sidecar; fwd=vary-miss; collapsed");
    ck_assert_str_eq(written((struct cache_status){.fwd = CACHE_FWD_BYPASS, .key = SLICE("/a?b")}),
                     "promptops-sidecar; fwd=bypass; key=\"/a?b\"");
    ck_assert_str_eq(written((struct cache_status){.fwd = CACHE_FWD_METHOD}),
                     "promptops-sidecar; fwd=method");
    ck_assert_str_eq(written((struct cache_status){.fwd = CACHE_FWD_REQUEST}),
                     "promptops-sidecar; fwd=request");
    ck_assert_str_eq(written((struct cache_status){.fwd = CACHE_FWD_PARTIAL}),
                     "promptops-sidecar; fwd=partial");
}
END_TEST

START_TEST(extremes)
{
    char key[CACHE_STATUS_MAX];
    ck_assert_str_eq(written((struct cache_status){.has_ttl = true, .ttl = INT64_MAX}),
                     "promptops-sidecar; hit; ttl=999999999999999");
    ck_assert_str_eq(written((struct cache_status){.has_ttl = true, .ttl = INT64_MIN}),
                     "promptops-sidecar; hit; ttl=-999999999999999");
    /* What no sf-string may have, or what is too long, is left out. */
    ck_assert_str_eq(written((struct cache_status){.key = SLICE("a\"b")}), "promptops-sidecar; hit");
    ck_assert_str_eq(written((struct cache_status){.key = SLICE("a\\b")}), "promptops-sidecar; hit");
    ck_assert_str_eq(written((struct cache_status){.key = SLICE("a\nb")}), "promptops-sidecar; hit");
    ck_assert_str_eq(written((struct cache_status){.key = SLICE("\xc3\xa4")}), "promptops-sidecar; hit");
    ck_assert_str_eq(written((struct cache_status){.detail = SLICE("a; hit")}), "promptops-sidecar; hit");
    memset(key, 'k', sizeof key);
    for (size_t n = 1; n <= sizeof key; n++) {
        struct cache_status s = {CACHE_FWD_VARY_MISS,
                                 65535,
                                 true,
                                 INT64_MIN,
                                 true,
                                 true,
                                 {key, n},
                                 SLICE("a-word-that-is-thirty-two-bytes-")};
        size_t length = strlen(written(s));
        must(length < CACHE_STATUS_MAX);
        must((strstr(written(s), "key=") != NULL) == (n <= 256));
    }
    must(cache_status_write(key, CACHE_STATUS_MAX - 1, &(struct cache_status){0}) == 0);
    must(cache_fwd_name((enum cache_fwd)99).n == 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("cache_status");
    tcase_add_test(t, texts);
    tcase_add_test(t, extremes);
    return run_case("cache_status", t);
}
