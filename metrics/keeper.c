/*
 * Invariants: of the slowest there are two sets: of the present five minutes and of those before; a set is
 * filled, then its fastest makes room for what is slower. So a fast request costs one comparison.
 */
#include "metrics/keeper.h"

#include <stdlib.h>

#define PERIOD (300 * INT64_C(1000000000))

struct keeper {
    uint64_t number;  /* of the next request */
    uint64_t lottery; /* state of a generator; good enough to choose by, and never a secret */
    int64_t period;   /* of ended_wall: the set that is filled; -1: none yet */
    int64_t began;    /* when that began */
    unsigned filled;
    unsigned fastest;           /* place of the set */
    int64_t floor;              /* the fastest's time; -1 while there is room */
    int64_t total[KEEPER_SLOW]; /* of the set that is filled */
    struct ring *sample, *failed, *slow;
};

struct keeper *keeper_new(size_t room)
{
    struct keeper *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    *k = (struct keeper){
        .lottery = UINT64_C(0x9E3779B97F4A7C15), .period = -1, .began = INT64_MIN, .floor = -1};
    k->sample = ring_new(room);
    k->failed = ring_new(KEEPER_FAILED);
    k->slow = ring_new(2 * KEEPER_SLOW);
    if (k->sample && k->failed && k->slow)
        return k;
    keeper_free(k);
    return NULL;
}

void keeper_free(struct keeper *k)
{
    if (!k)
        return;
    ring_free(k->sample);
    ring_free(k->failed);
    ring_free(k->slow);
    free(k);
}

static void begin_period(struct keeper *k, int64_t period)
{
    if (period == k->period) /* a time before 1970 is of the first */
        return;
    k->period = period;
    k->began = period * PERIOD;
    k->filled = 0;
    k->floor = -1;
    for (size_t i = 0; i < KEEPER_SLOW; i++)
        ring_clear(k->slow, (size_t)(period % 2) * KEEPER_SLOW + i);
}

static void find_fastest(struct keeper *k)
{
    k->fastest = 0;
    for (unsigned i = 1; i < KEEPER_SLOW; i++)
        if (k->total[i] < k->total[k->fastest])
            k->fastest = i;
    k->floor = k->total[k->fastest];
}

static void keep_slow(struct keeper *k, const struct observation *o)
{
    unsigned place = k->filled < KEEPER_SLOW ? k->filled++ : k->fastest;
    k->total[place] = o->total;
    ring_set(k->slow, (size_t)(k->period % 2) * KEEPER_SLOW + place, o);
    if (k->filled == KEEPER_SLOW)
        find_fastest(k);
}

void keeper_see(struct keeper *k, struct observation *o, uint64_t sample, bool failed)
{
    /* Not divided for each request; negative times, and those before, are above all as unsigned ones. */
    if (__builtin_expect((uint64_t)o->ended_wall - (uint64_t)k->began >= (uint64_t)PERIOD, 0))
        begin_period(k, o->ended_wall > 0 ? o->ended_wall / PERIOD : 0);
    k->lottery = k->lottery * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    bool slow = o->total > k->floor;
    o->number = k->number++;
    o->kept = (uint8_t)((k->lottery >> 32 < sample ? KEPT_SAMPLE : 0) | (failed ? KEPT_FAILED : 0) |
                        (slow ? KEPT_SLOW : 0));
    if (o->kept & KEPT_SAMPLE)
        ring_put(k->sample, o);
    if (failed)
        ring_put(k->failed, o);
    if (slow)
        keep_slow(k, o);
}

const struct ring *keeper_sample(const struct keeper *k)
{
    return k->sample;
}

void keeper_bytes(const struct keeper *k, size_t *now, size_t *most)
{
    const struct ring *const all[] = {k->sample, k->failed, k->slow};
    *now = *most = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        *now += ring_bytes(all[i]);
        *most += ring_bytes_most(all[i]);
    }
}

size_t keeper_places(const struct keeper *k)
{
    return ring_room(k->sample) + KEEPER_FAILED + 2 * KEEPER_SLOW;
}

bool keeper_at(const struct keeper *k, size_t i, struct observation *out)
{
    size_t room = ring_room(k->sample);
    if (i < room)
        return ring_at(k->sample, i, out);
    i -= room;
    return i < KEEPER_FAILED ? ring_at(k->failed, i, out) : ring_at(k->slow, i - KEEPER_FAILED, out);
}
