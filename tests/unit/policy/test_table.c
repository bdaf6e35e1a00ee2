/*
 * The hash table with links in the caller's objects: against a plain list, through growth, and while it is
 * walked.
 */
#include "policy/table.h"

#include "policy/rng.h"
#include "tests/unit/message.h"

enum { OBJECTS = 3000 };

struct object {
    struct table_link link;
    bool in;
    unsigned seen;
};

static struct table table;
static struct object objects[OBJECTS];

static void setup(void)
{
    memset(objects, 0, sizeof objects);
    must(table_init(&table, 4));
}

static void teardown(void)
{
    table_dispose(&table);
}

/* Few hashes, many objects: chains of equals are the rule here. */
static uint64_t hash_of(const struct object *o)
{
    return (uint64_t)(o - objects) / 3 * 0x9e3779b97f4a7c15u;
}

static bool found(const struct object *o)
{
    for (struct table_link *l = table_first(&table, hash_of(o)); l; l = table_next(l))
        if (l == &o->link)
            return true;
    return false;
}

static void flip(struct object *o)
{
    o->in = !o->in;
    if (o->in)
        table_insert(&table, &o->link, hash_of(o));
    else
        table_remove(&table, &o->link);
}

START_TEST(finds_what_is_in_and_nothing_else)
{
    struct rng rng;
    rng_seed(&rng, 42);
    size_t count = 0;
    for (int step = 0; step < 60000; step++) {
        struct object *o = &objects[rng_next(&rng) % OBJECTS];
        flip(o);
        count += o->in ? 1 : (size_t)-1;
        must(table.count == count);
        must(found(o) == o->in);
        struct object *other = &objects[rng_next(&rng) % OBJECTS];
        must(found(other) == other->in);
    }
    for (int i = 0; i < OBJECTS; i++)
        must(found(&objects[i]) == objects[i].in);
}
END_TEST

static void see(void *arg, struct table_link *link)
{
    struct object *o = (struct object *)link;
    (void)arg;
    o->seen++;
}

static void see_and_remove(void *arg, struct table_link *link)
{
    see(arg, link);
    flip((struct object *)link);
}

static void scan_all(size_t at_once, void (*visit)(void *, struct table_link *))
{
    size_t cursor = 0;
    table.pins++;
    while (table_scan(&table, &cursor, at_once, visit, NULL))
        ;
    table.pins--;
}

/* Whether the table is growing just then or not, each link is visited once. */
START_TEST(a_walk_sees_each_once)
{
    for (int n = 0; n < OBJECTS; n++) {
        flip(&objects[n]);
        if (n % 37 != 0 && n > 40)
            continue;
        for (int i = 0; i < OBJECTS; i++)
            objects[i].seen = 0;
        scan_all(1 + (size_t)n % 7, see);
        for (int i = 0; i < OBJECTS; i++)
            must(objects[i].seen == (objects[i].in ? 1u : 0u));
    }
    scan_all(3, see_and_remove);
    must(table.count == 0);
}
END_TEST

/* Between two steps of a walk others come and go; who was there all the time is seen exactly once. */
START_TEST(a_walk_while_others_come_and_go)
{
    struct rng rng;
    rng_seed(&rng, 7);
    for (int i = 0; i < OBJECTS / 2; i++)
        flip(&objects[i]);
    size_t cursor = 0, size = table.now_size;
    table.pins++;
    while (table_scan(&table, &cursor, 8, see, NULL))
        for (int k = 0; k < 20; k++)
            flip(&objects[OBJECTS / 2 + rng_next(&rng) % (OBJECTS / 2)]);
    must(table.now_size == size); /* pinned: it does not grow */
    table.pins--;
    for (int i = 0; i < OBJECTS / 2; i++)
        must(objects[i].seen == 1);
    for (int i = OBJECTS / 2; i < OBJECTS; i++)
        must(objects[i].seen <= 1); /* who leaves and comes back, comes back to the same place */
}
END_TEST

START_TEST(it_grows_in_steps)
{
    size_t before = table.now_size;
    for (int i = 0; i < OBJECTS; i++) {
        size_t moved = table.old ? table.moved : 0;
        bool growing = table.old != NULL;
        flip(&objects[i]);
        if (growing && table.old)
            must(table.moved - moved <= 4);
    }
    must(table.now_size > before && table.now_size >= OBJECTS / 2);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("table");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, finds_what_is_in_and_nothing_else);
    tcase_add_test(t, a_walk_sees_each_once);
    tcase_add_test(t, a_walk_while_others_come_and_go);
    tcase_add_test(t, it_grows_in_steps);
    return run_case("table", t);
}
