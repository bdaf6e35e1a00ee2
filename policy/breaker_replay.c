/*
 * The replay of breaker_replay.h. Invariants: events are taken in the order of their times; every permit is
 * reported once, or its call is counted as cut short.
 */
#include "policy/breaker_replay.h"

#include <stdlib.h>
#include <string.h>

#define BACKWARDS                                                                                            \
    (60 * TICK_S) /* calls end in another order than they begin; a clock that was set is further off */

void breaker_replay_init(struct breaker_replay *r, uint64_t seed)
{
    rng_seed(&r->rng, seed);
}

static int by_time(const void *a, const void *b)
{
    const struct replay_event *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    if (x->end != y->end)
        return x->end ? 1 : -1;
    return x->call < y->call ? -1 : x->call > y->call;
}

static struct breaker *circuit_of(struct breaker_replay *r, const struct replay_call *c, tick_t now)
{
    unsigned i = c->circuit < BREAKER_REPLAY_CIRCUITS ? c->circuit : BREAKER_REPLAY_CIRCUITS - 1;
    if (!r->begun[i])
        breaker_init(&r->circuit[i], &r->rules, now);
    r->begun[i] = true;
    return &r->circuit[i];
}

static void take_rules(struct breaker_replay *r, const struct breaker_rules *rules, tick_t now)
{
    r->rules = *rules;
    r->rules.enabled = true;
    for (int i = 0; i < BREAKER_REPLAY_CIRCUITS; i++)
        if (r->begun[i])
            breaker_tune(&r->circuit[i], &r->rules, now);
}

tick_t breaker_replay_run(struct breaker_replay *r, const struct breaker_rules *rules,
                          struct replay_call *calls, size_t count, struct replay_event *room)
{
    tick_t saved = 0;
    for (size_t i = 0; i < count; i++) {
        room[2 * i] = (struct replay_event){calls[i].began, (uint32_t)i, false};
        room[2 * i + 1] = (struct replay_event){calls[i].ended, (uint32_t)i, true};
    }
    if (!count)
        return 0;
    qsort(room, 2 * count, sizeof *room, by_time);
    if (room[2 * count - 1].at < r->latest - BACKWARDS) {
        memset(r->begun, 0, sizeof r->begun);
        r->latest = 0;
    }
    take_rules(r, rules, room[0].at > r->latest ? room[0].at : r->latest);
    for (size_t i = 0; i < 2 * count; i++) {
        struct replay_call *c = &calls[room[i].call];
        r->latest = room[i].at > r->latest ? room[i].at : r->latest;
        struct breaker *b = circuit_of(r, c, r->latest);
        if (!room[i].end)
            c->permit = breaker_admit(b, &r->rng, r->latest);
        else if (c->permit.verdict == BREAKER_SHED)
            saved += c->ended - c->began;
        else
            breaker_report(b, c->permit,
                           (struct breaker_report){(enum breaker_outcome)c->outcome, c->took, false}, &r->rng,
                           r->latest);
    }
    return saved;
}
