/*
 * What the counters, the recorded requests and the cache's miniatures say of a window of traffic. Private to
 * adviser*.c.
 */
#ifndef PROXY_ADVISER_FACTS_H
#define PROXY_ADVISER_FACTS_H

#include "policy/experiment.h"
#include "proxy/adviser.h"
#include "proxy/store.h"

enum { FACTS_BLOCKS = 257 }; /* workers, and the control thread */

/* How far everything had come at one moment. */
struct facts_mark {
    uint64_t requests, failed, latency, attempts, pool_wait, connects, connecting;
    uint64_t lookups, looking; /* of the upstream's name */
    uint64_t received, plain, plain_bodies, sampled, sampled_smaller;
    uint64_t recorded[FACTS_BLOCKS]; /* requests, by block */
    struct store_stats store;
    struct store_whatif whatif;
};

void facts_mark(const struct adviser_sources *s, struct facts_mark *out);

/* Lookups and hits of the store between two marks. */
void facts_lookups(const struct facts_mark *from, const struct facts_mark *to, uint64_t *lookups,
                   uint64_t *hits);

/* The window between two marks; `peak` of connections was sampled by the caller. `replay` goes on from the
 * window before; NULL: what a breaker would do is not asked. */
struct breaker_replay;
void facts_read(const struct adviser_sources *s, const struct facts_mark *from, const struct facts_mark *to,
                unsigned peak, struct breaker_replay *replay, struct advise_facts *out);

/* The same as a slice of an experiment with this kind. For a ghost `before` gets the old setting's; `whatif`
 * is the miniature that has the new one, or -1 while that is not in force. */
bool facts_slice(enum advise_kind kind, int whatif, const struct facts_mark *from,
                 const struct facts_mark *to, struct experiment_slice *before,
                 struct experiment_slice *after);

/* Is this kind compared with a miniature, on the same requests? Else in turns. */
bool facts_ghost(enum advise_kind kind);

#endif
