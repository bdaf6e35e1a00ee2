/*
 * Keeps the addresses of one upstream host fresh on a thread of its own, so that
 * nobody ever waits for the resolver library. The last good list stays in use while the resolver fails.
 */
#ifndef PROXY_RESOLVE_H
#define PROXY_RESOLVE_H

#include "policy/base.h"
#include "proxy/address.h"

struct resolver;

/*
 * Looks a name up, may block for as long as it likes. Returns 0 and a list (one reference, given to the
 * caller, in the order to try), or a code of getaddrinfo. Replaced in tests only.
 */
typedef int resolver_lookup_fn(void *arg, const char *host, uint16_t port, struct address_list **out);

/*
 * The list has changed (or has come for the first time). Called on the resolver's thread, with no lock held;
 * `list` is borrowed for the call: take a reference to keep it. Must not call resolver_stop.
 */
typedef void resolver_changed_fn(void *arg, struct address_list *list);

struct resolver_options {
    tick_t refresh;               /* between two lookups, each shortened by up to a tenth at random; > 0 */
    uint64_t seed;                /* of that randomness */
    resolver_changed_fn *changed; /* may be NULL */
    void *changed_arg;
    resolver_lookup_fn *lookup; /* NULL: getaddrinfo, which also rereads resolv.conf when that changes */
    void *lookup_arg;
};

/* What an operator wants to know. A copy. */
struct resolver_status {
    uint32_t version;     /* of the list in use; 0: none yet */
    uint32_t count;       /* addresses in it */
    uint64_t lookups;     /* finished ones */
    uint64_t failures;    /* of them */
    uint32_t failing;     /* failures since the last success; > 0 with a version: the list is stale */
    tick_t last_duration; /* of the last lookup */
    tick_t last_success;  /* CLOCK_MONOTONIC; 0: never */
    tick_t looking_since; /* CLOCK_MONOTONIC; 0: no lookup is under way */
    char error[128];      /* why the last lookup failed; "" when it did not */
};

/*
 * Starts. An IP literal or a path is resolved here and needs no thread (changed is then called before the
 * return). NULL when out of memory or no thread could be made; err says why.
 */
struct resolver *resolver_start(const struct endpoint *endpoint, const struct resolver_options *options,
                                char *err, size_t err_size) MUSTCHECK;

/* The newest list with a reference for the caller, or NULL while there is none (REASON_DNS_PENDING, or
 * REASON_DNS_FAILED when resolver_failed). Any thread; a short lock. */
struct address_list *resolver_get(struct resolver *resolver) MUSTCHECK;

/* True when there is no list and the last lookup failed. */
bool resolver_failed(struct resolver *resolver);

/* Looks up again now (once, when many ask): after a connection failed, say. At most every 500 ms. Any thread.
 */
void resolver_kick(struct resolver *resolver);

/* Another refresh time, from the last lookup on. Any thread. */
void resolver_set_refresh(struct resolver *resolver, tick_t refresh);

void resolver_status(struct resolver *resolver, struct resolver_status *out);

/*
 * How long the lookups behind number *seen took, the newest RESOLVER_TIMES at most; moves *seen on. Returns
 * how many. Any thread.
 */
enum { RESOLVER_TIMES = 16 };
unsigned resolver_times(struct resolver *resolver, uint64_t *seen, tick_t out[RESOLVER_TIMES]);

/*
 * Stops and frees. Returns within a tenth of a second even while a lookup hangs (its thread then ends by
 * itself when the lookup does, touching nothing of the caller's). `changed` is not called after the return.
 */
void resolver_stop(struct resolver *resolver);

#endif
