/*
 * Successor tables. Invariants: a row's counts sum to at most its total, and its total stays below
 * SUCCESSOR_FULL; rows of a set hold different contexts; memory is what successor_new took. A row is known by
 * all 64 bits of its context: two that collide in those are one, which costs a bad guess and nothing else.
 */
#include "policy/successor.h"

#include <stdlib.h>

enum { WAYS = 4, LEAST = 16, PAIR_SUPPORT = 2, CHAIN = 2 };

struct row {
    uint64_t context;
    uint64_t next[SUCCESSOR_SLOTS];
    uint8_t count[SUCCESSOR_SLOTS];
    uint8_t total; /* 0: empty */
    uint8_t order;
    uint16_t pad;
};

/* The last keys of a client, the newest first. */
struct trail {
    uint64_t client;
    tick_t at;
    uint64_t last[CHAIN];
    uint32_t length; /* how many of last are known; 0: empty */
    uint32_t used;   /* for replacement within a set */
};

struct successor {
    struct row *rows;
    struct trail *trails;
    size_t row_mask, trail_mask; /* of the first of a set */
    uint32_t clock;
    bool order_two;
    tick_t gap;
};

/* The finalizer of splitmix64: callers' keys may be anything. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t context_of_pair(uint64_t before, uint64_t last)
{
    return mix(before + 0x9e3779b97f4a7c15u) ^ last;
}

static size_t power_of_two(size_t wanted)
{
    size_t n = LEAST;
    while (n < wanted && n < ((size_t)1 << 28))
        n *= 2;
    return n;
}

struct successor *successor_new(const struct successor_size *size)
{
    struct successor *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    size_t rows = power_of_two(size->keys), trails = power_of_two(size->clients);
    s->rows = calloc(rows, sizeof *s->rows);
    s->trails = calloc(trails, sizeof *s->trails);
    s->row_mask = rows - WAYS; /* powers of two: clears the low bits as well */
    s->trail_mask = trails - WAYS;
    s->order_two = size->order_two;
    s->gap = size->gap;
    if (s->rows && s->trails)
        return s;
    successor_free(s);
    return NULL;
}

void successor_free(struct successor *s)
{
    if (!s)
        return;
    free(s->rows);
    free(s->trails);
    free(s);
}

size_t successor_bytes(const struct successor *s)
{
    return sizeof *s + (s->row_mask + WAYS) * sizeof *s->rows + (s->trail_mask + WAYS) * sizeof *s->trails;
}

/* ---- rows ---- */

static struct row *row_find(const struct successor *s, uint64_t context)
{
    struct row *set = &s->rows[mix(context) & s->row_mask];
    for (unsigned i = 0; i < WAYS; i++)
        if (set[i].total > 0 && set[i].context == context)
            return &set[i];
    return NULL;
}

/*
 * The row of a context, made anew when there is none. In a full set all others fade by one, and the least of
 * them goes when it has nothing left: many contexts that are seen once cannot drive out one that is seen
 * often.
 */
static struct row *row_get(struct successor *s, uint64_t context, uint8_t order)
{
    struct row *row = row_find(s, context);
    if (row)
        return row;
    struct row *set = &s->rows[mix(context) & s->row_mask], *least = set;
    for (unsigned i = 1; i < WAYS; i++)
        if (set[i].total < least->total || (set[i].total == least->total && set[i].order > least->order))
            least = &set[i];
    if (least->total > 1) {
        for (unsigned slot = 0; slot < SUCCESSOR_SLOTS; slot++)
            least->count[slot] /= 2;
        least->total /= 2;
        return NULL;
    }
    *least = (struct row){.context = context, .order = order};
    return least;
}

static void fade(struct row *row)
{
    for (unsigned i = 0; i < SUCCESSOR_SLOTS; i++)
        row->count[i] /= 2;
    row->total /= 2;
}

/* One transition more from this row to `key`. With all slots taken the least one gives way, with its count.
 */
static void row_add(struct row *row, uint64_t key)
{
    unsigned least = 0, slot;
    for (slot = 0; slot < SUCCESSOR_SLOTS; slot++) {
        if (row->count[slot] > 0 && row->next[slot] == key)
            break;
        if (row->count[slot] < row->count[least])
            least = slot;
    }
    if (slot == SUCCESSOR_SLOTS) {
        slot = least;
        row->next[slot] = key;
        row->count[slot] = 0;
    }
    row->count[slot]++;
    if (++row->total >= SUCCESSOR_FULL)
        fade(row);
}

/* ---- clients ---- */

static struct trail *trail_find(const struct successor *s, uint64_t client)
{
    struct trail *set = &s->trails[mix(client) & s->trail_mask];
    for (unsigned i = 0; i < WAYS; i++)
        if (set[i].length > 0 && set[i].client == client)
            return &set[i];
    return NULL;
}

/* The client's own, or that of the one in its set that was away for the longest. */
static struct trail *trail_get(struct successor *s, uint64_t client)
{
    struct trail *trail = trail_find(s, client);
    if (trail)
        return trail;
    struct trail *set = &s->trails[mix(client) & s->trail_mask];
    trail = set;
    for (unsigned i = 0; i < WAYS && trail->length > 0; i++)
        if (set[i].length == 0 || s->clock - set[i].used > s->clock - trail->used)
            trail = &set[i];
    *trail = (struct trail){.client = client};
    return trail;
}

static void learn(struct successor *s, uint64_t context, uint8_t order, uint64_t key)
{
    struct row *row = row_get(s, context, order);
    if (row)
        row_add(row, key);
}

void successor_see(struct successor *s, uint64_t client, uint64_t key, tick_t now)
{
    struct trail *trail = trail_get(s, client);
    if (trail->length > 0 && s->gap > 0 && now - trail->at > s->gap)
        trail->length = 0;
    trail->at = now;
    trail->used = ++s->clock;
    if (trail->length > 0 && trail->last[0] == key)
        return;
    if (trail->length > 0)
        learn(s, trail->last[0], 1, key);
    if (s->order_two && trail->length > 1)
        learn(s, context_of_pair(trail->last[1], trail->last[0]), 2, key);
    trail->last[1] = trail->last[0];
    trail->last[0] = key;
    trail->length += trail->length < CHAIN;
}

void successor_stand(struct successor *s, uint64_t client, uint64_t key, tick_t now)
{
    struct trail *trail = trail_get(s, client);
    *trail = (struct trail){.client = client, .at = now, .last = {key}, .length = 1, .used = ++s->clock};
}

/* ---- guesses ---- */

static unsigned guesses_of(const struct row *row, uint64_t last, struct successor_guess *out, unsigned max)
{
    unsigned n = 0;
    for (unsigned slot = 0; slot < SUCCESSOR_SLOTS; slot++) {
        if (row->count[slot] == 0 || row->next[slot] == last)
            continue;
        struct successor_guess guess = {row->next[slot], (float)row->count[slot] / (float)row->total,
                                        row->count[slot], row->order};
        unsigned at = n < max ? n++ : max;
        while (at > 0 && out[at - 1].support < guess.support) {
            if (at < max)
                out[at] = out[at - 1];
            at--;
        }
        if (at < max)
            out[at] = guess;
    }
    return n;
}

unsigned successor_guess(const struct successor *s, uint64_t client, struct successor_guess *out,
                         unsigned max)
{
    const struct trail *trail = trail_find(s, client);
    if (!trail || max == 0)
        return 0;
    if (s->order_two && trail->length > 1) {
        const struct row *pair = row_find(s, context_of_pair(trail->last[1], trail->last[0]));
        if (pair && pair->total >= PAIR_SUPPORT)
            return guesses_of(pair, trail->last[0], out, max);
    }
    const struct row *row = row_find(s, trail->last[0]);
    return row ? guesses_of(row, trail->last[0], out, max) : 0;
}
