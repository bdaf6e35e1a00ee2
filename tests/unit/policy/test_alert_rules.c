/* Tests of policy/alert_rules.c: the built-in table is sound, and what replaces what. */
#include "policy/alert_rules.h"

#include <string.h>

#include "tests/unit/policy/harness.h"

static struct alert_rule out[64];

static struct alert_spec spec(const char *id, const char *condition)
{
    struct alert_spec s = {.id = id,
                           .metric_type = ALERT_METRIC_ERROR_RATE,
                           .metric_name = "",
                           .compare = ALERT_ABOVE,
                           .condition = condition,
                           .severity = ALERT_INFO,
                           .message = "",
                           .cooldown_period = -1,
                           .enabled = true};
    ck_assert(alert_condition_parse(condition, &s.compare, &s.threshold));
    return s;
}

static const struct alert_rule *find(size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(out[i].id, id) == 0)
            return &out[i];
    ck_abort_msg("%s is not there", id);
    return NULL;
}

START_TEST(built_in)
{
    struct alert_rules_setup setup = {.cooldown = 300 * TICK_S};
    size_t n = alert_rules(&setup, out, ARRAY_LEN(out));
    ck_assert_uint_eq(n, alert_rules_built_in());
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(out[i].enabled, "%s: its condition cannot be read", out[i].id);
        ck_assert_int_eq(out[i].cooldown, 300 * TICK_S);
        if (*out[i].muted_by)
            find(n, out[i].muted_by);
        for (size_t j = 0; j < i; j++)
            ck_assert_str_ne(out[i].id, out[j].id);
    }
    static const char *const asked[] = {"high_latency",       "high_error_rate", "low_cache_hit_rate",
                                        "high_memory_usage",  "high_cpu_usage",  "quota_exhaustion",
                                        "circuit_open",       "pool_starvation", "certificate_expiry",
                                        "retry_amplification"};
    for (size_t i = 0; i < ARRAY_LEN(asked); i++)
        find(n, asked[i]);
    ck_assert_uint_eq(alert_rules(&setup, out, 3), 3);
}
END_TEST

START_TEST(replaced)
{
    struct alert_spec configured[] = {spec("high_error_rate", "> 0.5"), spec("mine", "> 0.7")};
    struct alert_spec admin[] = {spec("mine", "< 0.1"),
                                 {.id = "high_latency",
                                  .metric_type = ALERT_METRIC_NONE,
                                  .metric_name = "",
                                  .compare = ALERT_COMPARE_NONE,
                                  .message = "",
                                  .severity = ALERT_WARNING}};
    configured[1].cooldown_period = 5 * TICK_S;
    struct alert_rules_setup setup = {configured, admin, 2, 2, 300 * TICK_S};
    size_t n = alert_rules(&setup, out, ARRAY_LEN(out));
    ck_assert_uint_eq(n, alert_rules_built_in() + 1);
    const struct alert_rule *r = find(n, "high_error_rate");
    ck_assert(r->enabled && r->threshold == 0.5 && r->severity == ALERT_INFO && !*r->group);
    ck_assert_str_eq(r->origin, "configuration");
    ck_assert_str_eq(r->message, "More than one request in ten fails.");
    r = find(n, "mine");
    ck_assert(r->compare == ALERT_BELOW && r->threshold == 0.1 && r->keep == 60 * TICK_S);
    ck_assert_str_eq(r->origin, "admin");
    r = find(n, "high_latency");
    ck_assert(!r->enabled && r->threshold == 5);
    ck_assert_str_eq(r->message, "Requests take more than five seconds on average.");
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("alert_rules");
    tcase_add_test(t, built_in);
    tcase_add_test(t, replaced);
    return run_case("alert_rules", t);
}
