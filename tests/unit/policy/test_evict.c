/*
 * Eviction against plain models of each strategy, on random traces with tiny and larger caches; replacement,
 * removal and switching in the middle; and that adaptive resists a scan.
 */
#include "policy/evict.h"

#include "policy/rng.h"
#include "tests/unit/message.h"

enum { KEYS = 200 };

struct item {
    struct evict_node node;
    bool in;
    uint64_t used, came; /* for the models: when last used, when inserted */
    unsigned priority;
    unsigned count;
};

static struct item items[KEYS + 1];

static uint64_t hash_of(int i)
{
    return (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;
}

static struct item *pop(struct evict_index *index)
{
    struct item *out = (struct item *)evict_pop(index, EVICT_NEED_BYTES);
    if (out) {
        must(out->in && out->node.next == NULL);
        out->in = false;
    }
    return out;
}

/* ---- models: which one would a plain implementation evict? ---- */

static struct item *least(uint64_t (*rank)(const struct item *))
{
    struct item *best = NULL;
    for (int i = 0; i < KEYS; i++)
        if (items[i].in && (!best || rank(&items[i]) < rank(best)))
            best = &items[i];
    return best;
}

static uint64_t by_use(const struct item *i)
{
    return i->used;
}

static uint64_t by_age(const struct item *i)
{
    return i->came;
}

/* Least priority; of equals the one that got it first. */
static uint64_t by_priority(const struct item *i)
{
    return (uint64_t)i->priority << 40 | i->used;
}

static const struct {
    enum evict_strategy strategy;
    uint64_t (*rank)(const struct item *);
} models[] = {{EVICT_LRU, by_use}, {EVICT_FIFO, by_age}, {EVICT_LFU, by_priority}};

static void run_model(size_t m, size_t capacity, uint64_t seed)
{
    struct rng rng;
    struct evict_index *index = evict_new(models[m].strategy, capacity, NULL);
    unsigned level = 0; /* priority of the last victim (LFU with dynamic aging) */
    rng_seed(&rng, seed);
    memset(items, 0, sizeof items);
    must(index);
    for (uint64_t now = 1; now < 6000; now++) {
        uint64_t r = rng_next(&rng);
        int key = (int)((r % KEYS) * ((r >> 32) % KEYS) / KEYS); /* low keys more often */
        struct item *it = &items[key];
        if (it->in) {
            evict_hit(index, &it->node);
            it->count += it->count < 255;
            it->priority = level + it->count;
        } else {
            if (evict_count(index) == capacity) {
                struct item *expected = least(models[m].rank);
                struct item *victim = pop(index);
                if (victim != expected)
                    ck_abort_msg("strategy %d, capacity %zu, step %llu", (int)models[m].strategy, capacity,
                                 (unsigned long long)now);
                level = victim->priority;
            }
            evict_insert(index, &it->node, &(struct evict_item){hash_of(key), 100, 1, false});
            it->in = true;
            it->came = now;
            it->count = 1;
            it->priority = level + 1;
        }
        it->used = now;
    }
    while (pop(index))
        ;
    must(evict_count(index) == 0);
    evict_free(index);
}

START_TEST(lru_fifo_and_lfu_are_literally_those)
{
    static const size_t capacities[] = {1, 2, 3, 10, 50, 150};
    for (size_t m = 0; m < ARRAY_LEN(models); m++)
        for (size_t c = 0; c < ARRAY_LEN(capacities); c++)
            run_model(m, capacities[c], 1000 + m * 10 + c);
}
END_TEST

/* ---- adaptive ---- */

static size_t touch(struct evict_index *index, int key, size_t capacity)
{
    struct item *it = &items[key];
    if (it->in) {
        evict_hit(index, &it->node);
        return 1;
    }
    while (evict_count(index) >= capacity)
        must(pop(index));
    evict_insert(index, &it->node, &(struct evict_item){hash_of(key), 100, 1, false});
    it->in = true;
    return 0;
}

/* What is used again and again survives a scan that is larger than the cache; under LRU it does not. */
START_TEST(adaptive_resists_a_scan)
{
    size_t hits[2] = {0, 0};
    const enum evict_strategy strategies[2] = {EVICT_ADAPTIVE, EVICT_LRU};
    for (int s = 0; s < 2; s++) {
        struct evict_index *index = evict_new(strategies[s], 20, NULL);
        memset(items, 0, sizeof items);
        for (int round = 0; round < 20; round++)
            for (int key = 0; key < 10; key++)
                touch(index, key, 20);
        for (int key = 50; key < KEYS; key++)
            touch(index, key, 20);
        for (int key = 0; key < 10; key++)
            hits[s] += touch(index, key, 20);
        while (pop(index))
            ;
        evict_free(index);
    }
    ck_assert_uint_ge(hits[0], 9);
    ck_assert_uint_eq(hits[1], 0);
}
END_TEST

/* Whom the ghost remembers goes straight to the main queue. */
START_TEST(the_ghost_brings_back)
{
    struct evict_index *index = evict_new(EVICT_ADAPTIVE, 10, NULL);
    memset(items, 0, sizeof items);
    for (int key = 0; key < 10; key++)
        touch(index, key, 10);
    touch(index, 100, 10);
    must(!items[0].in);
    touch(index, 0, 10); /* it was missed too soon */
    must(items[0].in);
    for (int key = 101; key < 140; key++)
        touch(index, key, 10);
    must(items[0].in);
    must(!items[100].in);
    while (pop(index))
        ;
    evict_free(index);
}
END_TEST

/* Tiny caches work: no part of the structure rounds away (published code misses everything at such sizes). */
START_TEST(tiny_caches)
{
    for (size_t capacity = 1; capacity <= 10; capacity++) {
        struct evict_index *index = evict_new(EVICT_ADAPTIVE, capacity, NULL);
        size_t hits = 0;
        memset(items, 0, sizeof items);
        for (int i = 0; i < 1000; i++)
            for (size_t key = 0; key < capacity; key++)
                hits += touch(index, (int)key, capacity);
        ck_assert_uint_eq(hits, 999 * capacity);
        while (pop(index))
            ;
        evict_free(index);
    }
}
END_TEST

/* ---- all of them ---- */

static void check_sum(struct evict_index *index)
{
    size_t count = 0;
    for (int i = 0; i < KEYS; i++) {
        must(items[i].in == (items[i].node.next != NULL));
        count += items[i].in;
    }
    must(evict_count(index) == count);
}

/* Anything in any order, switching strategies, and at the end everything comes out once. */
START_TEST(any_order_of_calls)
{
    struct rng rng;
    struct evict_index *index = evict_new(EVICT_LRU, 10, NULL);
    rng_seed(&rng, 99);
    memset(items, 0, sizeof items);
    for (int step = 0; step < 30000; step++) {
        uint64_t r = rng_next(&rng);
        int key = (int)(r % KEYS);
        struct item *it = &items[key];
        bool had;
        switch ((r >> 16) % 16) {
        case 0:
            evict_set_strategy(index, (enum evict_strategy)((r >> 32) % 5));
            break;
        case 1:
        case 2:
            evict_remove(index, &it->node); /* harmless when it is not in */
            it->in = false;
            break;
        case 3:
        case 4:
        case 5:
            had = evict_count(index) > 0;
            must((pop(index) != NULL) == had);
            break;
        case 6:
            if (it->in) { /* a new version stands where the old one stood */
                evict_replace(index, &it->node, &items[KEYS].node, r >> 40, 0);
                evict_replace(index, &items[KEYS].node, &it->node, r >> 41, 0);
            }
            break;
        default:
            if (it->in) {
                evict_hit(index, &it->node);
            } else {
                evict_insert(index, &it->node,
                             &(struct evict_item){hash_of(key), (r >> 32) % 100000, 1, false});
                it->in = true;
            }
        }
        if (step % 100 == 0)
            check_sum(index);
    }
    check_sum(index);
    size_t left = evict_count(index);
    while (pop(index))
        left--;
    must(left == 0);
    must(evict_pop(index, EVICT_NEED_BYTES) == NULL);
    evict_free(index);
    evict_free(NULL);
}
END_TEST

START_TEST(replacing_keeps_the_place)
{
    struct evict_index *index = evict_new(EVICT_FIFO, 10, NULL);
    memset(items, 0, sizeof items);
    for (int key = 0; key < 3; key++)
        touch(index, key, 10);
    items[0].in = false;
    evict_replace(index, &items[0].node, &items[7].node, 1, 0);
    items[7].in = true;
    must(items[0].node.next == NULL && evict_count(index) == 3);
    must(pop(index) == &items[7]);
    must(pop(index) == &items[1]);
    must(pop(index) == &items[2]);
    evict_free(index);
}
END_TEST

/* Large entries weigh more: a small queue of one large entry is over its share. */
START_TEST(sizes_count_in_adaptive)
{
    struct evict_index *index = evict_new(EVICT_ADAPTIVE, 10, NULL);
    memset(items, 0, sizeof items);
    for (int key = 0; key < 10; key++)
        touch(index, key, 100);
    for (int round = 0; round < 3; round++)
        for (int key = 0; key < 10; key++)
            touch(index, key, 100);
    evict_insert(index, &items[20].node, &(struct evict_item){hash_of(20), 1 << 20, 1, false});
    items[20].in = true;
    must(pop(index) == &items[20]);
    evict_insert(
        index, &items[21].node,
        &(struct evict_item){hash_of(21), UINT64_MAX, 1, false}); /* a size that no count holds is clamped */
    items[21].in = true;
    must(items[21].node.size == UINT32_MAX);
    while (pop(index))
        ;
    evict_free(index);
}
END_TEST

/* Hits that need no owner count as much as others; lru and lfu say that they need one. */
START_TEST(shared_hits)
{
    struct evict_index *index = evict_new(EVICT_ADAPTIVE, 10, NULL);
    memset(items, 0, sizeof items);
    for (int key = 0; key < 10; key++)
        touch(index, key, 10);
    for (int round = 0; round < 2; round++)
        must(evict_hit_shared(index, &items[0].node));
    touch(index, 100, 10);
    must(items[0].in); /* it was on probation, and stayed for its two uses */
    evict_set_strategy(index, EVICT_LRU);
    must(!evict_hit_shared(index, &items[0].node));
    evict_set_strategy(index, EVICT_LFU);
    must(!evict_hit_shared(index, &items[0].node));
    evict_set_strategy(index, EVICT_FIFO);
    must(evict_hit_shared(index, &items[0].node));
    while (pop(index))
        ;
    evict_free(index);
}
END_TEST

/* The rule RECENT is lru to the letter, but for what was guessed: that goes first once it is a tenth. */
START_TEST(recent_is_lru)
{
    evict_advice advice = evict_advice_of((struct evict_rule){EVICT_RECENT, 10, 0});
    struct evict_index *lru = evict_new(EVICT_LRU, 10, NULL),
                       *recent = evict_new(EVICT_ADAPTIVE, 10, &advice);
    static struct evict_node a[64], b[64];
    bool in[64] = {false};
    struct rng rng;
    rng_seed(&rng, 3);
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    unsigned count = 0;
    for (int i = 0; i < 5000; i++) {
        unsigned key = (unsigned)rng_below(&rng, 64);
        struct evict_item item = {key * 0x9e3779b97f4a7c15u, 100, 1, false};
        if (in[key]) {
            must(!evict_hit_shared(recent, &b[key]));
            evict_hit(lru, &a[key]);
            evict_hit(recent, &b[key]);
            continue;
        }
        if (count == 20) {
            struct evict_node *gone = evict_pop(lru, EVICT_NEED_ENTRIES);
            must(evict_pop(recent, EVICT_NEED_ENTRIES) == &b[gone - a]);
            in[gone - a] = false;
            count--;
        }
        memset(&a[key], 0, sizeof a[key]);
        memset(&b[key], 0, sizeof b[key]);
        evict_insert(lru, &a[key], &item);
        evict_insert(recent, &b[key], &item);
        in[key] = true;
        count++;
    }
    struct evict_node guess[3] = {{0}};
    for (int i = 0; i < 3; i++)
        evict_insert(recent, &guess[i], &(struct evict_item){(uint64_t)i + 7, 100, 1, true});
    must(evict_pop(recent, EVICT_NEED_ENTRIES) == &guess[0]); /* 3 of 23 */
    evict_hit(recent, &guess[1]);                             /* of use: it stays as long as others */
    must(evict_pop(recent, EVICT_NEED_ENTRIES) != &guess[1]);
    while (evict_pop(recent, EVICT_NEED_ENTRIES) || evict_pop(lru, EVICT_NEED_ENTRIES))
        ;
    evict_free(lru);
    evict_free(recent);
}
END_TEST

/* The rule of value throws out what saves least for its size; what was prefetched and not used goes first. */
START_TEST(value_by_cost_and_size)
{
    evict_advice advice = evict_advice_of((struct evict_rule){EVICT_VALUE, 100, 0});
    struct evict_index *index = evict_new(EVICT_ADAPTIVE, 10, &advice);
    static const struct {
        uint64_t bytes;
        float cost;
        bool guessed;
    } of[] = {{6400, 1, false}, {640, 1, false}, {6400, 20, false}, {640, 50, true}};
    static const int order[] = {3, 0, 1, 2};
    memset(items, 0, sizeof items);
    for (int i = 0; i < 4; i++) {
        evict_insert(index, &items[i].node,
                     &(struct evict_item){hash_of(i), of[i].bytes, of[i].cost, of[i].guessed});
        items[i].in = true;
    }
    for (int i = 0; i < 4; i++)
        must(pop(index) == &items[order[i]]);
    must(pop(index) == NULL);
    evict_free(index);
}
END_TEST

/* Every rule in turn, with entries in all queues: nothing is lost, nothing comes out twice. */
START_TEST(changing_rules)
{
    static const struct evict_rule rules[] = {{EVICT_S3, 10, 0}, {EVICT_VALUE, 50, 0},  {EVICT_DUEL, 40, 1},
                                              {EVICT_S3, 0, 0},  {EVICT_RECENT, 10, 0}, {EVICT_DUEL, 1, 1}};
    evict_advice advice = 0;
    struct evict_index *index = evict_new(EVICT_ADAPTIVE, 20, &advice);
    struct rng rng;
    rng_seed(&rng, 5);
    memset(items, 0, sizeof items);
    for (int step = 0; step < 20000; step++) {
        if (step % 50 == 0)
            advice = evict_advice_of(rules[rng_below(&rng, ARRAY_LEN(rules))]);
        touch(index, (int)rng_below(&rng, 100), 20);
        must(evict_count(index) <= 20);
        if (step % 100 == 0)
            check_sum(index);
    }
    size_t left = evict_count(index);
    for (; left > 0; left--)
        must(pop(index));
    must(pop(index) == NULL);
    evict_free(index);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("evict");
    tcase_add_test(t, lru_fifo_and_lfu_are_literally_those);
    tcase_add_test(t, adaptive_resists_a_scan);
    tcase_add_test(t, the_ghost_brings_back);
    tcase_add_test(t, tiny_caches);
    tcase_add_test(t, any_order_of_calls);
    tcase_add_test(t, replacing_keeps_the_place);
    tcase_add_test(t, sizes_count_in_adaptive);
    tcase_add_test(t, shared_hits);
    tcase_add_test(t, value_by_cost_and_size);
    tcase_add_test(t, recent_is_lru);
    tcase_add_test(t, changing_rules);
    return run_case("evict", t);
}
