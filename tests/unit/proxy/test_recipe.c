/* Requests to be repeated: what is kept of them, for whom, and how many. */
#include "proxy/recipe.h"

#include "proxy/compose.h"
#include "tests/unit/message.h"

static struct recipes *r;

static void setup(void)
{
    r = recipes_new((struct hash_key){3, 4});
    must(r);
}

static void teardown(void)
{
    recipes_free(r);
}

static const struct store_key key_a = {{1, 10}, {7, 70}}, key_b = {{2, 20}, {7, 70}},
                              key_c = {{3, 30}, {8, 80}};

static void learn(const struct store_key *key, const char *request, uint64_t without)
{
    struct message m;
    request_text(&m, request);
    recipes_learn(r, key, &m.head, without);
}

/* The value of the first field of this name, as a string; "" when there is none. */
static const char *value_of(const struct recipe *recipe, const char *name)
{
    static char text[4096];
    for (int i = 0; i < recipe->head.field_count; i++)
        if (slice_equal_nocase(head_name(&recipe->head, i), (struct slice){name, strlen(name)})) {
            struct slice v = head_value(&recipe->head, i);
            memcpy(text, v.p, v.n);
            text[v.n] = '\0';
            return text;
        }
    return "";
}

START_TEST(what_is_wanted_and_by_whom)
{
    struct recipe recipe;
    learn(&key_a,
          "GET /p?q=1 | Authorization: Bearer me | Accept: text/plain | X-Tenant: seven | Cookie: "
          "a=b",
          0);
    must(recipes_find(r, key_a.place.lo, &recipe));
    must(slice_equal(head_path(&recipe.head), SLICE("/p?q=1")));
    must(slice_equal(head_method(&recipe.head), SLICE("GET")) && recipe.head.method == METHOD_GET);
    must(hash_equal(recipe.key.place, key_a.place) && hash_equal(recipe.key.partition, key_a.partition));
    ck_assert_str_eq(value_of(&recipe, "authorization"), "Bearer me");
    ck_assert_str_eq(value_of(&recipe, "accept"), "text/plain");
    ck_assert_str_eq(value_of(&recipe, "x-tenant"), "seven");
    ck_assert_str_eq(value_of(&recipe, "cookie"), "a=b");
    must(head_has(&recipe.head, FIELD_COOKIE) && !head_has(&recipe.head, FIELD_HOST));
    must(!recipes_find(r, key_b.place.lo, &recipe) && !recipes_place(r, key_b.place.lo));
}
END_TEST

/* One row a field. */
START_TEST(not_what_belongs_to_one_message)
{
    static const char *const own[] = {"Via: 1.1 x",
                                      "Cache-Control: no-cache",
                                      "Pragma: no-cache",
                                      "Range: bytes=0-1",
                                      "If-None-Match: a",
                                      "If-Match: a",
                                      "If-Modified-Since: x",
                                      "If-Range: a",
                                      "Traceparent: 00-1",
                                      "Tracestate: a=b",
                                      "X-Request-Id: me",
                                      "X-Retry-Count: 1",
                                      "Idempotency-Key: k",
                                      "X-PromptOps-Nonce: n",
                                      "X-PromptOps-Timestamp: 1",
                                      "Connection: close",
                                      "Keep-Alive: 1",
                                      "X-PromptOps-Signature: s"};
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        struct recipe recipe;
        char request[128];
        snprintf(request, sizeof request, "GET /p | %s | Accept: a", own[i]);
        learn(&key_a, request, 0);
        must(recipes_find(r, key_a.place.lo, &recipe));
        ck_assert_msg(recipe.head.field_count == 1, "%s is kept", own[i]);
        ck_assert_str_eq(value_of(&recipe, "accept"), "a");
    }
}
END_TEST

/* Where the sidecar shows its own key the client's is not kept. */
START_TEST(without_what_does_not_go_up)
{
    struct recipe recipe;
    learn(&key_a, "GET /p | Authorization: Bearer me | Accept: a",
          FIELD_BIT(AUTHORIZATION) | FIELD_BIT(X_API_KEY));
    must(recipes_find(r, key_a.place.lo, &recipe));
    must(!head_has(&recipe.head, FIELD_AUTHORIZATION));
    ck_assert_str_eq(value_of(&recipe, "authorization"), "");
}
END_TEST

START_TEST(not_what_may_not_be_repeated)
{
    struct recipe recipe;
    char request[8192] = "GET /";
    learn(&key_a, "POST /p", 0);
    learn(&key_a, "HEAD /p", 0);
    memset(request + 5, 'p', RECIPE_PATH);
    request[5 + RECIPE_PATH] = '\0';
    learn(&key_a, request, 0);
    snprintf(request, sizeof request, "GET /p | A: %0*d", RECIPE_BYTES + 1, 0);
    learn(&key_a, request, 0);
    must(!recipes_find(r, key_a.place.lo, &recipe));
    size_t at = (size_t)snprintf(request, sizeof request, "GET /p");
    for (int i = 0; i <= RECIPE_FIELDS; i++)
        at += (size_t)snprintf(request + at, sizeof request - at, " | F%d: v", i);
    learn(&key_a, request, 0);
    must(!recipes_find(r, key_a.place.lo, &recipe));
    ck_assert_uint_eq(recipes_count(r), 0);
}
END_TEST

/* A client that sends another value each time: the newest of the same shape is as good. */
START_TEST(values_that_change)
{
    struct recipe recipe;
    for (int i = 0; i < 4 * RECIPE_SETS; i++) {
        char request[128];
        snprintf(request, sizeof request, "GET /p%d | Authorization: Bearer me | X-Number: %d", i, i);
        struct store_key key = {{100 + (uint64_t)i, 1}, {7, 70}};
        learn(&key, request, 0);
    }
    must(recipes_find(r, 100, &recipe));
    must(slice_equal(head_path(&recipe.head), SLICE("/p0")));
    ck_assert_str_eq(value_of(&recipe, "authorization"), "Bearer me");
}
END_TEST

/* Another partition's fields are never taken for it, whatever their shape. */
START_TEST(partitions_do_not_meet)
{
    struct recipe recipe;
    learn(&key_a, "GET /p | Authorization: Bearer me", 0);
    for (int i = 0; i < 2 * RECIPE_SETS; i++) {
        char request[128];
        snprintf(request, sizeof request, "GET /p | Authorization: Bearer other%d", i);
        struct store_key key = {{1000 + (uint64_t)i, 1}, {1000 + (uint64_t)i, 1}};
        learn(&key, request, 0);
    }
    must(!recipes_find(r, key_a.place.lo, &recipe)); /* its set gave way, and no other does for it */
}
END_TEST

START_TEST(a_refused_credential_is_forgotten)
{
    struct recipe recipe;
    learn(&key_a, "GET /a | Authorization: Bearer me", 0);
    learn(&key_b, "GET /b | Authorization: Bearer me", 0);
    learn(&key_c, "GET /c | Authorization: Bearer you", 0);
    recipes_forget(r, key_a.partition);
    must(!recipes_find(r, key_a.place.lo, &recipe) && !recipes_find(r, key_b.place.lo, &recipe));
    must(recipes_find(r, key_c.place.lo, &recipe));
    ck_assert_str_eq(value_of(&recipe, "authorization"), "Bearer you");
}
END_TEST

/* Many paths: bounded, and the newest are there. */
START_TEST(bounded)
{
    struct recipe recipe;
    size_t bytes = recipes_bytes(r);
    unsigned found = 0;
    for (int i = 0; i < 3 * RECIPE_PATHS; i++) {
        char request[64];
        snprintf(request, sizeof request, "GET /p%d", i);
        struct store_key key = {{(uint64_t)i * 0x9e3779b97f4a7c15u, 1}, {7, 70}};
        learn(&key, request, 0);
        must(recipes_find(r, key.place.lo, &recipe));
    }
    for (int i = 0; i < 3 * RECIPE_PATHS; i++)
        found += recipes_find(r, (uint64_t)i * 0x9e3779b97f4a7c15u, &recipe);
    must(found <= RECIPE_PATHS && found >= RECIPE_PATHS / 2);
    ck_assert_uint_eq(recipes_bytes(r), bytes);
    must(bytes < 2 << 20 && recipes_count(r) <= RECIPE_PATHS);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("recipe");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_is_wanted_and_by_whom);
    tcase_add_test(t, not_what_belongs_to_one_message);
    tcase_add_test(t, without_what_does_not_go_up);
    tcase_add_test(t, not_what_may_not_be_repeated);
    tcase_add_test(t, values_that_change);
    tcase_add_test(t, partitions_do_not_meet);
    tcase_add_test(t, a_refused_credential_is_forgotten);
    tcase_add_test(t, bounded);
    return run_case("recipe", t);
}
