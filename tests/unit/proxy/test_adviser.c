/*
 * Tests of proxy/adviser.c where the wire does not reach: a setting that cannot be taken back at once, and
 * one that somebody else changes in the moment in which it would be kept.
 */
#include "proxy/adviser.c"

#include "proxy/names.h"
#include "tests/unit/policy/config_fixture.h"
#include "tests/unit/policy/harness.h"

/* A configuration door that can be shut. */
static struct {
    struct fixture f;
    struct adviser_sources sources;
    struct metrics *metrics;
    struct adviser *adviser;
    const struct config *changed; /* in force instead of the fixture's, or NULL */
    bool shut;
    unsigned kept, taken_back, given_up;
} w;

static const struct config *config_now(void *ctx)
{
    (void)ctx;
    return w.changed ? w.changed : w.f.cfg;
}

static bool put(void *ctx, const char *key, const char *value, char *err, size_t err_size)
{
    struct config_errors errors = {0};
    struct config_change change = {key, value};
    (void)ctx;
    if (w.shut) {
        snprintf(err, err_size, "the door is shut");
        return false;
    }
    const struct config *fresh = config_with_all(config_now(NULL), &change, 1, &errors);
    must(fresh && errors.count == 0);
    config_errors_free(&errors);
    config_unref(w.changed);
    w.changed = fresh;
    return true;
}

static bool audit(void *ctx, const char *action, const char *detail)
{
    (void)ctx;
    must(strstr(detail, "pool.max_size from "));
    w.kept += strstr(action, "kept") != NULL;
    w.taken_back += strstr(action, "taken back") != NULL;
    w.given_up += strstr(action, "given up") != NULL;
    return true;
}

static void begin(void)
{
    int error;
    struct log_config quiet = {.level = LOG_ERROR};
    memset(&w, 0, sizeof w);
    fixture_begin(&w.f);
    fixture_good(&w.f);
    w.metrics = names_metrics_new(1);
    w.sources = (struct adviser_sources){
        .metrics = w.metrics,
        .block = metrics_block(w.metrics, 1),
        .store = store_new(&(struct store_limits){.max_entries = 100}, (struct hash_key){1, 2}),
        .log = log_open(&quiet, &error),
        .config = config_now,
        .set = put,
        .audit = audit,
    };
    must(w.metrics && w.sources.store && w.sources.log);
    w.adviser = adviser_new(&w.sources, 1, TICK_S);
    must(w.adviser);
    struct item *it = &w.adviser->items[ADVISE_POOL];
    it->state = ADVISER_PROPOSED;
    it->key = "pool.max_size";
    shown(w.adviser, it->key, it->from);
    snprintf(it->to, sizeof it->to, "7");
}

static void end(void)
{
    adviser_free(w.adviser);
    store_free(w.sources.store);
    log_close(w.sources.log);
    metrics_free(w.metrics);
    config_unref(w.changed);
    fixture_end(&w.f);
}

static enum adviser_state state(void)
{
    struct adviser_view view;
    must(adviser_look(w.adviser, ADVISE_POOL, &view));
    return view.state;
}

START_TEST(what_cannot_be_taken_back_is_tried_until_it_can)
{
    begin();
    uint64_t before = w.f.cfg->pool_max_size;
    must(adviser_apply(w.adviser, "pool-size", 2 * TICK_S) == ADVISER_DONE);
    ck_assert_uint_eq(config_now(NULL)->pool_max_size, 7);
    w.shut = true;
    must(adviser_revert(w.adviser, "pool-size", 3 * TICK_S) == ADVISER_REFUSED);
    for (int i = 4; i < 8; i++) {
        adviser_second(w.adviser, i * TICK_S);
        must(state() == ADVISER_TRYING && w.taken_back == 0); /* nobody is told that it is over */
    }
    w.shut = false;
    adviser_second(w.adviser, 8 * TICK_S);
    must(state() == ADVISER_REVERTED && w.taken_back == 1);
    ck_assert_uint_eq(config_now(NULL)->pool_max_size, before);
    end();
}
END_TEST

START_TEST(a_turn_that_cannot_begin_ends_the_experiment)
{
    begin();
    uint64_t before = w.f.cfg->pool_max_size;
    must(adviser_apply(w.adviser, "pool-size", 2 * TICK_S) == ADVISER_DONE);
    w.shut = true;
    begin_turn(w.adviser, false, 3 * TICK_S);
    must(w.adviser->trial.ending);
    w.shut = false;
    adviser_second(w.adviser, 4 * TICK_S);
    must(state() == ADVISER_REVERTED && w.taken_back == 1);
    ck_assert_uint_eq(config_now(NULL)->pool_max_size, before);
    end();
}
END_TEST

START_TEST(what_somebody_else_has_changed_is_not_called_kept)
{
    char err[64];
    begin();
    must(adviser_apply(w.adviser, "pool-size", 2 * TICK_S) == ADVISER_DONE);
    must(put(NULL, "pool.max_size", "9", err, sizeof err));
    finish(w.adviser, true, "It was shown to be better.", 3 * TICK_S);
    must(state() == ADVISER_REVERTED && w.kept == 0 && w.given_up == 1);
    ck_assert_uint_eq(config_now(NULL)->pool_max_size, 9);
    ck_assert_uint_eq(metrics_sum(w.metrics, METRIC_EXPERIMENTS_KEPT), 0);
    end();
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("adviser");
    tcase_add_test(t, what_cannot_be_taken_back_is_tried_until_it_can);
    tcase_add_test(t, a_turn_that_cannot_begin_ends_the_experiment);
    tcase_add_test(t, what_somebody_else_has_changed_is_not_called_kept);
    return run_case("adviser", t);
}
