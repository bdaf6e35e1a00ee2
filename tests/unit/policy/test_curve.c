/*
 * Tuner and curve on a loop that is larger than the cache, where what is right is known: the tuner leaves
 * lru for a rule that holds a part of the loop, and the curve knows at which size all of it fits; and
 * samples thin out.
 */
#include "policy/curve.h"

#include "policy/mini.h"
#include "policy/rng.h"
#include "policy/tuner.h"
#include "tests/unit/message.h"

static struct evict_item item_of(uint64_t key)
{
    uint64_t hash = (key + 1) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 31) * 0xbf58476d1ce4e5b9u;
    return (struct evict_item){hash ^ hash >> 29, 100, 1, false};
}

START_TEST(a_loop_is_found_out)
{
    struct tuner *tuner = tuner_new(100, 0);
    must(tuner && tuner_rule(tuner).kind == EVICT_RECENT && tuner_rate(tuner) > 0.99);
    for (uint64_t i = 0; i < 60000; i++) {
        struct evict_item item = item_of(i % 500);
        must(tuner_wants(tuner, item.hash));
        tuner_note(tuner, &item);
    }
    must(tuner_changes(tuner) > 0); /* with the first rule nothing is ever hit */
    must(*tuner_advice(tuner) == evict_advice_of(tuner_rule(tuner)));
    must(tuner_set_limits(tuner, 200, 0));
    must(*tuner_advice(tuner) == evict_advice_of(tuner_rule(tuner)));
    tuner_free(tuner);
    tuner_free(NULL);
}
END_TEST

/* A set of keys used at random, some of them dear: who saves most is followed, but nobody who hits less often
 * than lru would. */
START_TEST(costs_are_saved_but_hits_are_not_given_away)
{
    struct tuner *tuner = tuner_new(100, 0);
    struct mini *lru = mini_new(&(struct mini_recipe){.strategy = EVICT_LRU}, (struct mini_limits){100, 0});
    struct mini *live =
        mini_new(&(struct mini_recipe){.strategy = EVICT_ADAPTIVE, .advice = tuner_advice(tuner)},
                 (struct mini_limits){100, 0});
    double saved = 0, saved_lru = 0, hits = 0, hits_lru = 0;
    struct rng rng;
    rng_seed(&rng, 11);
    for (int i = 0; i < 100000; i++) {
        uint64_t key = rng_below(&rng, 1000) * rng_below(&rng, 1000) / 1000 + (uint64_t)i / 500;
        struct evict_item item = item_of(key);
        item.cost = item.hash >> 20 & 3 ? 1 : 30;
        bool hit = mini_request(live, &item, 0, 1), hit_lru = mini_request(lru, &item, 0, 1);
        hits += hit;
        hits_lru += hit_lru;
        saved += hit ? (double)item.cost : 0;
        saved_lru += hit_lru ? (double)item.cost : 0;
        tuner_note(tuner, &item);
    }
    ck_assert_msg(saved > 1.1 * saved_lru, "saved %g, lru %g", saved, saved_lru);
    ck_assert_msg(hits > hits_lru - 500, "hits %g, lru %g", hits, hits_lru);
    tuner_free(tuner);
    mini_free(lru);
    mini_free(live);
}
END_TEST

START_TEST(a_curve_knows_where_a_loop_fits)
{
    static const double factors[] = {0.5, 2, 8};
    struct curve_point points[CURVE_MAX_SIZES];
    struct curve *curve = curve_new(
        &(struct curve_setup){.strategy = EVICT_LRU, .max_entries = 300, .factors = factors, .count = 3});
    must(curve && curve_points(curve, points) == 0);
    for (uint64_t i = 0; i < 500; i++) {
        struct evict_item item = item_of(i);
        curve_note(curve, &item, 0, TICK_NEVER);
    }
    curve_window(curve, 500, 0);
    for (int window = 0; window < 20; window++) {
        for (uint64_t i = 0; i < 500; i++) {
            struct evict_item item = item_of(i);
            curve_note(curve, &item, 0, TICK_NEVER);
        }
        curve_window(curve, 500, 0);
    }
    must(curve_points(curve, points) == 3);
    must(points[0].hit_ratio == 0 && points[0].gain == 0);
    must(points[1].gain > 0.85 && points[2].gain > 0.85);
    must(points[1].gain <= 1 && points[1].windows == 21);
    curve_free(curve);
    curve_free(NULL);
}
END_TEST

/* Keys that are read twice, 700 requests apart: with 800 entries lru hits each second use, and the rule that
 * a cache of 400 follows here hits next to none. */
START_TEST(another_size_has_its_own_rule)
{
    static const double twice = 2;
    struct curve_point point;
    evict_advice present = evict_advice_of((struct evict_rule){EVICT_S3, 10, 0});
    struct curve *curve = curve_new(&(struct curve_setup){
        .strategy = EVICT_ADAPTIVE, .advice = &present, .max_entries = 400, .factors = &twice, .count = 1});
    must(curve);
    for (uint64_t i = 0; i < 40000; i++) {
        struct evict_item item = item_of(i % 2 == 0 ? i : i > 700 ? i - 701 : 1);
        curve_note(curve, &item, 0, 1);
    }
    curve_window(curve, 40000, 0);
    must(curve_points(curve, &point) == 1 && point.gain > 0.45);
    curve_free(curve);
}
END_TEST

/* What was not noted changes no share. */
START_TEST(uses_that_were_passed_fare_like_the_others)
{
    static const double twice = 2;
    struct curve_point point;
    struct curve_sums sums;
    struct curve *curve = curve_new(
        &(struct curve_setup){.strategy = EVICT_LRU, .max_entries = 20, .factors = &twice, .count = 1});
    must(curve);
    for (uint64_t i = 0; i < 3000; i++) {
        struct evict_item item = item_of(i % 30);
        curve_note(curve, &item, 0, 1);
    }
    curve_pass(curve, 7000);
    curve_window(curve, 10000, 0);
    must(curve_points(curve, &point) == 1 && point.gain > 0.98 && point.gain <= 1);
    curve_sum(curve, &sums);
    must(sums.requests == 3000 && sums.passed == 7000);
    curve_free(curve);
}
END_TEST

START_TEST(what_is_out_of_date_is_no_hit)
{
    static const double twice = 2;
    struct curve_point points[CURVE_MAX_SIZES];
    struct curve *curve = curve_new(
        &(struct curve_setup){.strategy = EVICT_ADAPTIVE, .max_entries = 100, .factors = &twice, .count = 1});
    must(curve);
    for (uint64_t i = 0; i < 20000; i++) { /* all would fit, but nothing lives until it is asked for again */
        struct evict_item item = item_of(i % 150);
        curve_note(curve, &item, (tick_t)i, (tick_t)i + 100);
    }
    curve_window(curve, 20000, 0);
    must(curve_points(curve, points) == 1 && points[0].gain < 0.01);
    curve_free(curve);
}
END_TEST

/* Uses that were only counted weigh as much as uses that were noted one by one. */
START_TEST(uses_in_a_row_may_be_noted_at_once)
{
    static const double half = 0.5;
    const struct curve_setup setup = {
        .strategy = EVICT_LRU, .max_entries = 40, .factors = &half, .count = 1, .entries = 500};
    struct curve *one_by_one = curve_new(&setup), *at_once = curve_new(&setup);
    struct curve_sums a, b;
    must(one_by_one && at_once);
    for (uint64_t i = 0; i < 3000; i++) {
        struct evict_item item = item_of(i % 30);
        tick_t now = (tick_t)i * TICK_S;
        for (int n = 0; n < 5; n++)
            curve_note_life(one_by_one, &item, now, 100 * TICK_S, false, 0);
        curve_note_life(at_once, &item, now, 100 * TICK_S, false, i < 30 ? 0 : 4);
    }
    curve_sum(one_by_one, &a);
    curve_sum(at_once, &b);
    must(a.requests == 15000 && a.requests - b.requests == 30 * 4);
    must(a.hits[0] == 3000 * 4 && a.hits[0] - b.hits[0] == 30 * 4);
    must(a.base - b.base == 30 * 4);
    curve_free(one_by_one);
    curve_free(at_once);
}
END_TEST

/* Memory does not follow the number of keys without end. */
START_TEST(samples_thin_out)
{
    static const double twice = 2;
    struct tuner *tuner = tuner_new(0, 64 * 50000);
    struct curve *curve = curve_new(&(struct curve_setup){
        .strategy = EVICT_FIFO, .max_bytes = 64 * 50000, .factors = &twice, .count = 1, .entries = 500});
    must(tuner && curve);
    for (uint64_t i = 0; i < 200000; i++) {
        struct evict_item item = item_of(i);
        item.bytes = 64;
        if (tuner_wants(tuner, item.hash))
            tuner_note(tuner, &item);
        if (curve_wants(curve, item.hash))
            curve_note(curve, &item, 0, 1);
    }
    must(tuner_rate(tuner) < 0.03 && curve_rate(curve) < 0.03);
    must(tuner_memory(tuner) < 50000 * 30);
    must(curve_memory(curve) < 50000 * 30);
    tuner_free(tuner);
    curve_free(curve);
}
END_TEST

START_TEST(lifetimes_are_tried_too)
{
    static const double sizes[] = {1, 1}, lives[] = {2, 4};
    struct curve_sums sums;
    struct curve *curve = curve_new(&(struct curve_setup){.strategy = EVICT_LRU,
                                                          .max_entries = 100000,
                                                          .factors = sizes,
                                                          .lifetimes = lives,
                                                          .count = 2,
                                                          .whole = true,
                                                          .entries = 600});
    must(curve && curve_rate(curve) > 0.99);
    for (tick_t now = 0; now < 4000;
         now++) /* each of ten keys every ten ticks, good for ten: the tenth is late */
        for (int i = now % 10; i < 10; i += 10) {
            struct evict_item item = item_of((uint64_t)i);
            curve_note_life(curve, &item, now, 10, true, 0);
        }
    curve_sum(curve, &sums);
    must(sums.count == 2 && sums.requests == 4000 && sums.base == 0);
    must(sums.hits[0] == 2000 && sums.hits[1] == 3000);
    for (uint64_t i = 0; i < 500; i++) {
        struct evict_item item = item_of(i + 100);
        curve_note_life(curve, &item, 5000, 10, false, 0);
    }
    curve_thin(curve, 1000); /* too few would be left */
    must(curve_rate(curve) > 0.99);
    curve_thin(curve, 200);
    must(curve_rate(curve) < 0.51);
    curve_free(curve);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("curve");
    tcase_add_test(t, a_loop_is_found_out);
    tcase_add_test(t, costs_are_saved_but_hits_are_not_given_away);
    tcase_add_test(t, a_curve_knows_where_a_loop_fits);
    tcase_add_test(t, another_size_has_its_own_rule);
    tcase_add_test(t, uses_that_were_passed_fare_like_the_others);
    tcase_add_test(t, what_is_out_of_date_is_no_hit);
    tcase_add_test(t, uses_in_a_row_may_be_noted_at_once);
    tcase_add_test(t, samples_thin_out);
    tcase_add_test(t, lifetimes_are_tried_too);
    return run_case("curve", t);
}
