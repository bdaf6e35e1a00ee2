/*
 * Compiling routes while memory runs out at every possible place: a named error, nothing lost (the address
 * sanitizer looks). The source is included, so that its calloc can be made to fail.
 */
#include <stdlib.h>

static int until_failure; /* < 0: never */

static void *failing_calloc(size_t n, size_t size)
{
    if (until_failure == 0)
        return NULL;
    until_failure--;
    return calloc(n, size);
}

#define calloc failing_calloc
#include "policy/route_compile.c"
#undef calloc

#include "tests/unit/policy/harness.h"

START_TEST(every_allocation_may_fail)
{
    static const struct route_spec spec[] = {
        {.path = "/a/{id}/x", .tags = {"a:{id}", "all"}, .invalidates = {"a:{id}:*"}},
        {.path = "/b/{rest...}"},
    };
    struct route_error error;
    struct routes *r = NULL;
    int n = 0;
    for (; !r; n++) {
        until_failure = n;
        r = routes_compile(spec, ARRAY_LEN(spec), n % 2, NULL, &error);
        if (!r) {
            ck_assert_str_eq(error.message, "out of memory");
            ck_assert_int_eq(error.row, -1);
        }
    }
    ck_assert_int_gt(n, 10);
    routes_free(r);
    for (n = 0, r = NULL; !r; n += 7) {
        until_failure = n;
        r = routes_compile(spec, ARRAY_LEN(spec), true, NULL, &error);
    }
    ck_assert_int_gt(n, 200); /* the preset's rows too */
    routes_free(r);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("route_oom");
    tcase_add_test(t, every_allocation_may_fail);
    return run_case("policy/route_compile without memory", t);
}
