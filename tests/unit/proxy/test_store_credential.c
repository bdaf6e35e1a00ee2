/*
 * Partitions where the sidecar's own credential goes up: by that one, whatever the client's is, and by what
 * else goes up.
 */
#include "tests/unit/proxy/cache_case.h"

static struct world w;

static void setup(void)
{
    world_init(&w, NULL);
    w.rules.partition_names[2] = SLICE("X-API-Key");
    w.rules.partition_ids[2] = FIELD_X_API_KEY;
    w.rules.partition_names[3] = SLICE("Cookie");
    w.rules.partition_ids[3] = FIELD_COOKIE;
    w.rules.partition_count = 4;
}

static void teardown(void)
{
    world_dispose(&w);
}

/* Its partition, as numbers. */
static struct hash128 partition(const char *credential, const char *request)
{
    struct store_result r;
    w.credential = (struct slice){credential, credential ? strlen(credential) : 0};
    enum store_verdict v = look(&w, request, &r);
    struct hash128 p = r.key.partition;
    let_go(&r, v);
    return p;
}

static bool same(struct hash128 a, struct hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

#define HELD "Authorization: Bearer po_1\r\n"

START_TEST(the_clients_own_says_nothing)
{
    struct hash128 plain = partition(HELD, "GET /");
    ck_assert(same(plain, partition(HELD, "GET / | Authorization: Bearer x")));
    ck_assert(same(plain, partition(HELD, "GET / | Authorization: Bearer y | X-API-Key: z")));
    ck_assert(same(plain, partition(HELD, "GET / | X-PromptOps-Signature: a | X-PromptOps-Nonce: b")));
}
END_TEST

START_TEST(what_else_goes_up_does)
{
    struct hash128 plain = partition(HELD, "GET /");
    ck_assert(!same(plain, partition(HELD, "GET / | Cookie: a=b")));
    ck_assert(!same(plain, partition(HELD, "GET / | X-Tenant: t")));
    ck_assert(same(partition(HELD, "GET / | Cookie: a=b"),
                   partition(HELD, "GET / | Cookie: a=b | Authorization: c")));
}
END_TEST

START_TEST(another_key_is_another_partition)
{
    struct hash128 plain = partition(HELD, "GET /");
    ck_assert(!same(plain, partition("Authorization: Bearer po_2\r\n", "GET /")));
    ck_assert(!same(plain, partition("Authorization: PromptOps po_1\r\n", "GET /")));
}
END_TEST

/* No client's field can be made to look like the sidecar's own credential. */
START_TEST(no_client_gets_into_it)
{
    struct hash128 plain = partition(HELD, "GET /");
    ck_assert(!same(plain, partition(NULL, "GET /")));
    ck_assert(!same(plain, partition(NULL, "GET / | Authorization: Bearer po_1")));
    ck_assert(!same(plain, partition(NULL, "GET / | Authorization: Authorization: Bearer po_1")));
    ck_assert(!same(plain, partition(NULL, "GET / | X-API-Key: po_1")));
}
END_TEST

START_TEST(a_shared_cache_has_one)
{
    w.rules.shared = true;
    ck_assert(same(partition(HELD, "GET /"), partition(NULL, "GET / | Authorization: x")));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store_credential");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_clients_own_says_nothing);
    tcase_add_test(t, what_else_goes_up_does);
    tcase_add_test(t, another_key_is_another_partition);
    tcase_add_test(t, no_client_gets_into_it);
    tcase_add_test(t, a_shared_cache_has_one);
    return run_case("store_credential", t);
}
