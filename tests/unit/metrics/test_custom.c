/* metrics/custom.c: judging, counting, bounds. */
#include "metrics/custom.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "main.h"

static struct custom_sample sample(const char *name, enum custom_type type, double value)
{
    return (struct custom_sample){.name = name, .type = type, .value = value};
}

static bool good(const struct custom *c, struct custom_sample s, const char *field)
{
    struct custom_error e;
    bool is = custom_check(c, &s, 1, &e);
    if (!is)
        ck_assert_msg(strcmp(e.field, field) == 0 && *e.what && *e.remedy, "%s: %s %s", s.name, e.field,
                      e.what);
    return is;
}

START_TEST(names)
{
    struct custom *c = custom_new();
    static const char *const bad[] = {"", "1a", "a b", "a\xc3\xa9", "-a", ".a"};
    char longest[CUSTOM_NAME_BYTES + 2];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert(!good(c, sample(bad[i], CUSTOM_GAUGE, 1), "name"));
    memset(longest, 'a', sizeof longest);
    longest[CUSTOM_NAME_BYTES + 1] = '\0';
    ck_assert(!good(c, sample(longest, CUSTOM_GAUGE, 1), "name"));
    ck_assert(good(c, sample(longest + 1, CUSTOM_COUNTER, 1), ""));
    ck_assert(good(c, sample("a.b/c-d_9", CUSTOM_GAUGE, -1), ""));
    ck_assert(good(c, sample("a_total", CUSTOM_COUNTER, 1), ""));
    ck_assert(!good(c, sample("a_total", CUSTOM_GAUGE, 1), "name"));
    ck_assert(!good(c, sample("a.bucket", CUSTOM_HISTOGRAM, 1), "name"));
    ck_assert(!good(c, sample("a", CUSTOM_COUNTER, -0.5), "value"));
    ck_assert(!good(c, sample("a", CUSTOM_GAUGE, NAN), "value"));
    custom_free(c);
}
END_TEST

static void add(struct custom *c, struct custom_sample s, int64_t now, bool fold)
{
    bool folded;
    ck_assert(custom_add(c, &s, now, &folded));
    ck_assert_int_eq(folded, fold);
}

START_TEST(one_name_one_type_one_family)
{
    struct custom *c = custom_new();
    struct custom_sample both[2] = {sample("x", CUSTOM_GAUGE, 1), sample("x", CUSTOM_COUNTER, 1)};
    struct custom_error e;
    add(c, sample("a.b", CUSTOM_COUNTER, 1), 1, false);
    ck_assert(!good(c, sample("a.b", CUSTOM_GAUGE, 1), "type"));
    ck_assert(!good(c, sample("a_b", CUSTOM_COUNTER, 1), "name"));
    ck_assert(!good(c, sample("a_b_total", CUSTOM_COUNTER, 1), "name"));
    ck_assert(!good(c, sample("a-b", CUSTOM_GAUGE, 1), "name"));
    ck_assert(!custom_check(c, both, 2, &e) && e.sample == 1 && strcmp(e.field, "type") == 0);
    ck_assert_int_eq(custom_find(c, "a.b"), 0);
    ck_assert_int_eq(custom_find(c, "x"), -1);
    ck_assert_str_eq(custom_metric_at(c, 0)->family, "promptops_custom_a_b");
    custom_free(c);
}
END_TEST

START_TEST(values)
{
    struct custom *c = custom_new();
    struct custom_sample s = sample("n", CUSTOM_COUNTER, 2), t;
    s.attributes[0] = (struct custom_attribute){"b", "1"};
    s.attributes[1] = (struct custom_attribute){"a", "2"};
    s.attribute_count = 2;
    t = s;
    t.attributes[0] = s.attributes[1]; /* the same in another order */
    t.attributes[1] = s.attributes[0];
    t.value = 0.5;
    add(c, s, 10, false);
    add(c, t, 20, false);
    add(c, sample("n", CUSTOM_COUNTER, 1), 25, false);
    add(c, sample("g", CUSTOM_GAUGE, 7), 30, false);
    add(c, sample("g", CUSTOM_GAUGE, -7), 40, false);
    add(c, sample("h", CUSTOM_HISTOGRAM, 3), 50, false);
    ck_assert_uint_eq(custom_series(c), 4);
    const struct custom_series *first = custom_series_at(c, 0);
    ck_assert(first->value == 2.5 && first->began == 10 && first->changed == 20 &&
              first->attribute_count == 2);
    ck_assert_str_eq(first->attributes[0].key, "a");
    ck_assert(custom_series_at(c, 1)->value == 1 && custom_series_at(c, 1)->metric == 0);
    ck_assert(custom_series_at(c, 2)->value == -7 && custom_metric_at(c, 1)->newest == -7);
    ck_assert_uint_eq(custom_series_at(c, 3)->sketch->count, 1);
    ck_assert_uint_eq(custom_metric_at(c, 0)->second.count, 3);
    custom_second_over(c);
    ck_assert_uint_eq(custom_metric_at(c, 0)->second.count, 0);
    ck_assert_uint_eq(custom_samples(c), 6);
    custom_free(c);
}
END_TEST

START_TEST(what_finds_no_room_is_folded)
{
    struct custom *c = custom_new();
    char name[32], value[32];
    double sum = 0;
    for (int i = 0; i < 20 * CUSTOM_SERIES_OF_NAME; i++) {
        snprintf(name, sizeof name, "n%d", i / (CUSTOM_SERIES_OF_NAME + 20));
        snprintf(value, sizeof value, "%d", i);
        struct custom_sample s = sample(name, CUSTOM_COUNTER, 1);
        bool folded;
        s.attributes[0] = (struct custom_attribute){"k", value};
        s.attribute_count = 1;
        ck_assert(custom_add(c, &s, 1, &folded));
    }
    size_t plain = 0, folds = 0, last = 0;
    for (size_t i = 0; i < custom_series(c); i++) {
        const struct custom_series *s = custom_series_at(c, i);
        sum += s->value;
        plain += !s->folded;
        folds += s->folded;
        ck_assert(s->metric >= last); /* side by side */
        last = s->metric;
    }
    ck_assert_uint_eq(plain, CUSTOM_SERIES);
    ck_assert(folds > 0 && sum == 20 * CUSTOM_SERIES_OF_NAME);
    ck_assert_uint_eq(custom_folded(c), 20 * CUSTOM_SERIES_OF_NAME - CUSTOM_SERIES);
    for (int i = (int)custom_metrics(c); i < CUSTOM_NAMES; i++) {
        snprintf(name, sizeof name, "m%d", i);
        ck_assert(good(c, sample(name, CUSTOM_GAUGE, 1), ""));
        add(c, sample(name, CUSTOM_GAUGE, 1), 1, true);
    }
    struct custom_error e;
    struct custom_sample s = sample("more", CUSTOM_GAUGE, 1);
    bool folded;
    ck_assert(!custom_check(c, &s, 1, &e) && e.no_room);
    ck_assert(!custom_add(c, &s, 1, &folded));
    custom_free(c);
}
END_TEST

SUITE("metrics/custom", names, one_name_one_type_one_family, values, what_finds_no_room_is_folded)
