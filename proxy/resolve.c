/*
 * The resolver's thread: looks up, publishes, sleeps.
 * Invariants: `list` only ever goes from nothing to good and from good to good, so a failing name server
 * never takes an address away; the lock is never held while a lookup or the callback runs; the state is freed
 * by whoever lets go last, so a thread that hangs in a lookup may outlive its owner.
 */
#include "proxy/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ADDRESSES = 64 };

#define KICK_FLOOR    (500 * TICK_MS) /* a kick does not look up sooner than this after the last lookup */
#define RETRY_FIRST   (200 * TICK_MS) /* after a failure, doubling up to the refresh time or RETRY_LAST */
#define RETRY_LAST    (10 * TICK_S)
#define STOP_PATIENCE (100 * TICK_MS) /* how long resolver_stop waits for a lookup */

struct resolver {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the thread sleeps here; on CLOCK_MONOTONIC */
    pthread_cond_t done; /* resolver_stop waits here */
    pthread_t thread;
    bool threaded;
    unsigned holders; /* of this memory: the owner and the thread */
    bool stopping;
    bool kicked;
    bool retuned;              /* the refresh time is another since the sleep was reckoned */
    bool looking;              /* a lookup is under way, or about to be */
    bool finished;             /* the thread touches nothing of the owner's any more */
    struct address_list *list; /* NULL until the first success */
    struct resolver_status status;
    tick_t times[RESOLVER_TIMES]; /* of lookup n at n % RESOLVER_TIMES */
    struct resolver_options options;
    uint64_t rng;
    uint16_t port;
    char host[ENDPOINT_HOST_MAX];
};

static tick_t monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * TICK_S + t.tv_nsec;
}

static struct timespec to_timespec(tick_t t)
{
    return (struct timespec){.tv_sec = t / TICK_S, .tv_nsec = t % TICK_S};
}

/* splitmix64: jitter needs no more. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void release(struct resolver *r)
{
    pthread_mutex_lock(&r->lock);
    bool last = --r->holders == 0;
    pthread_mutex_unlock(&r->lock);
    if (!last)
        return;
    address_list_unref(r->list);
    pthread_cond_destroy(&r->wake);
    pthread_cond_destroy(&r->done);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* Puts what getaddrinfo gave into a list, in its order and without doubles. */
static int gather(const struct addrinfo *info, struct address_list **out)
{
    struct address *at = calloc(MAX_ADDRESSES, sizeof(*at));
    uint32_t n = 0;
    if (!at)
        return EAI_MEMORY;
    for (; info && n < MAX_ADDRESSES; info = info->ai_next) {
        bool usable = (info->ai_family == AF_INET || info->ai_family == AF_INET6) &&
                      info->ai_addrlen <= sizeof(at[0].sa);
        if (!usable)
            continue;
        at[n].len = info->ai_addrlen;
        memcpy(&at[n].sa, info->ai_addr, info->ai_addrlen);
        bool seen = false;
        for (uint32_t i = 0; i < n && !seen; i++)
            seen = address_equal(&at[i], &at[n]);
        if (seen)
            memset(&at[n], 0, sizeof(at[n]));
        else
            n++;
    }
    *out = n ? address_list_new(at, n) : NULL;
    free(at);
    return *out ? 0 : n ? EAI_MEMORY : EAI_NONAME;
}

static int lookup_getaddrinfo(void *arg, const char *host, uint16_t port, struct address_list **out)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *info = NULL;
    char service[8];
    (void)arg;
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    /* Families that this host has no address of are left out, unless that leaves nothing: some hosts
     * have only the loopback, which does not count. */
    hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
    int code = getaddrinfo(host, service, &hints, &info);
    if (code == EAI_NONAME || code == EAI_NODATA || code == EAI_ADDRFAMILY) {
        hints.ai_flags = AI_NUMERICSERV;
        code = getaddrinfo(host, service, &hints, &info);
    }
    if (code != 0)
        return code;
    code = gather(info, out);
    freeaddrinfo(info);
    return code;
}

/* The same addresses, whatever the order: name servers rotate answers on purpose, that is no change. */
static bool same_addresses(const struct address_list *a, const struct address_list *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (!address_list_has(b, &a->at[i]))
            return false;
    return true;
}

/*
 * Takes in the end of a lookup, the lock held; eats `fresh`. Returns the list to announce (a reference), or
 * NULL. A new order replaces the list quietly: the order is what spreads new connections over the addresses.
 */
static struct address_list *take_in(struct resolver *r, int code, struct address_list *fresh, tick_t began)
{
    struct resolver_status *s = &r->status;
    tick_t now = monotonic();
    r->times[s->lookups++ % RESOLVER_TIMES] = now - began;
    s->looking_since = 0;
    s->last_duration = now - began;
    if (code != 0) {
        s->failures++;
        s->failing++;
        snprintf(s->error, sizeof(s->error), "%s", code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));
        return NULL;
    }
    bool changed = !r->list || !same_addresses(r->list, fresh);
    s->failing = 0;
    s->error[0] = 0;
    s->last_success = now;
    fresh->version = s->version + (changed ? 1 : 0);
    s->version = fresh->version;
    s->count = fresh->count;
    address_list_unref(r->list);
    r->list = fresh;
    return changed ? address_list_ref(fresh) : NULL;
}

static tick_t next_delay(struct resolver *r)
{
    tick_t delay = r->options.refresh;
    if (r->status.failing) {
        unsigned doublings = r->status.failing - 1 < 6 ? r->status.failing - 1 : 6;
        tick_t retry = RETRY_FIRST << doublings;
        retry = retry < RETRY_LAST ? retry : RETRY_LAST;
        delay = retry < delay ? retry : delay;
    }
    return delay - (tick_t)(next_random(&r->rng) % (uint64_t)(delay / 10 + 1));
}

/* Sleeps until the next lookup is due, somebody kicks, or the end comes. The lock is held. */
static void sleep_until_due(struct resolver *r)
{
    tick_t now = monotonic(), slept = now, due = now + next_delay(r), floor = now + KICK_FLOOR;
    while (!r->stopping) {
        now = monotonic();
        if (r->retuned)
            due = slept + next_delay(r);
        r->retuned = false;
        tick_t until = r->kicked && floor < due ? floor : due;
        if (now >= until)
            break;
        struct timespec t = to_timespec(until);
        pthread_cond_timedwait(&r->wake, &r->lock, &t);
    }
    r->kicked = false;
}

/* One lookup and its announcement. The lock is held on entry and on return, not between. */
static void look_up(struct resolver *r)
{
    struct address_list *fresh = NULL;
    tick_t began = monotonic();
    r->looking = true;
    r->status.looking_since = began;
    pthread_mutex_unlock(&r->lock);
    int code = r->options.lookup(r->options.lookup_arg, r->host, r->port, &fresh);
    int saved = errno;
    pthread_mutex_lock(&r->lock);
    r->looking = false;
    if (r->stopping) {
        address_list_unref(fresh);
        return;
    }
    errno = saved;
    struct address_list *announce = take_in(r, code, fresh, began);
    if (!announce)
        return;
    pthread_mutex_unlock(&r->lock);
    if (r->options.changed)
        r->options.changed(r->options.changed_arg, announce);
    address_list_unref(announce);
    pthread_mutex_lock(&r->lock);
}

static void *run(void *arg)
{
    struct resolver *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->stopping) {
        look_up(r);
        sleep_until_due(r);
    }
    r->finished = true;
    pthread_cond_signal(&r->done);
    pthread_mutex_unlock(&r->lock);
    release(r);
    return NULL;
}

static bool init_locks(struct resolver *r)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return false;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    bool ok = pthread_mutex_init(&r->lock, NULL) == 0;
    if (ok && pthread_cond_init(&r->wake, &attr) != 0) {
        pthread_mutex_destroy(&r->lock);
        ok = false;
    }
    if (ok && pthread_cond_init(&r->done, &attr) != 0) {
        pthread_cond_destroy(&r->wake);
        pthread_mutex_destroy(&r->lock);
        ok = false;
    }
    pthread_condattr_destroy(&attr);
    return ok;
}

/* All signals stay with the threads that expect them. */
static bool start_thread(struct resolver *r)
{
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGSYS); /* harden.h */
    r->holders = 2;
    r->threaded = true;
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int code = pthread_create(&r->thread, NULL, run, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code != 0) {
        r->holders = 1;
        r->threaded = false;
    }
    return code == 0;
}

static bool start_literal(struct resolver *r, const struct address *address)
{
    struct address_list *list = address_list_new(address, 1);
    if (!list)
        return false;
    r->holders = 1;
    struct address_list *announce = take_in(r, 0, list, monotonic());
    if (r->options.changed)
        r->options.changed(r->options.changed_arg, announce);
    address_list_unref(announce);
    return true;
}

static tick_t refresh_bound(tick_t refresh)
{
    return refresh < 10 * TICK_MS ? 10 * TICK_MS : refresh;
}

void resolver_set_refresh(struct resolver *r, tick_t refresh)
{
    pthread_mutex_lock(&r->lock);
    if (r->options.refresh != refresh_bound(refresh)) {
        r->options.refresh = refresh_bound(refresh);
        r->retuned = true;
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
}

struct resolver *resolver_start(const struct endpoint *endpoint, const struct resolver_options *options,
                                char *err, size_t err_size)
{
    struct address literal;
    struct resolver *r = calloc(1, sizeof(*r));
    if (!r || !init_locks(r)) {
        free(r);
        snprintf(err, err_size, "out of memory");
        return NULL;
    }
    r->options = *options;
    if (!r->options.lookup)
        r->options.lookup = lookup_getaddrinfo;
    r->options.refresh = refresh_bound(options->refresh);
    r->rng = options->seed;
    r->port = endpoint->port;
    memcpy(r->host, endpoint->host, sizeof(r->host));
    r->host[sizeof(r->host) - 1] = 0;
    bool ok = endpoint_literal(endpoint, &literal) ? start_literal(r, &literal) : start_thread(r);
    if (ok)
        return r;
    snprintf(err, err_size, "out of memory or threads: cannot resolve %s", r->host);
    r->holders = 1;
    release(r);
    return NULL;
}

struct address_list *resolver_get(struct resolver *r)
{
    pthread_mutex_lock(&r->lock);
    struct address_list *list = r->list ? address_list_ref(r->list) : NULL;
    pthread_mutex_unlock(&r->lock);
    return list;
}

bool resolver_failed(struct resolver *r)
{
    pthread_mutex_lock(&r->lock);
    bool failed = !r->list && r->status.failing > 0;
    pthread_mutex_unlock(&r->lock);
    return failed;
}

void resolver_kick(struct resolver *r)
{
    pthread_mutex_lock(&r->lock);
    /* A lookup under way answers the kick already. */
    if (!r->kicked && !r->looking) {
        r->kicked = true;
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
}

void resolver_status(struct resolver *r, struct resolver_status *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->status;
    pthread_mutex_unlock(&r->lock);
}

unsigned resolver_times(struct resolver *r, uint64_t *seen, tick_t out[RESOLVER_TIMES])
{
    unsigned n = 0;
    pthread_mutex_lock(&r->lock);
    uint64_t next = r->status.lookups;
    if (next - *seen > RESOLVER_TIMES)
        *seen = next - RESOLVER_TIMES;
    while (*seen < next)
        out[n++] = r->times[(*seen)++ % RESOLVER_TIMES];
    pthread_mutex_unlock(&r->lock);
    return n;
}

void resolver_stop(struct resolver *r)
{
    pthread_t thread = r->thread;
    bool threaded = r->threaded, finished = true;
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->wake);
    struct timespec until = to_timespec(monotonic() + STOP_PATIENCE);
    while (threaded && !r->finished) {
        /* Outside of a lookup the thread is in our own code (or the callback) and ends soon: wait for it. */
        int code = r->looking ? pthread_cond_timedwait(&r->done, &r->lock, &until)
                              : pthread_cond_wait(&r->done, &r->lock);
        if (code == ETIMEDOUT && r->looking)
            break;
    }
    finished = r->finished;
    pthread_mutex_unlock(&r->lock);
    if (threaded) {
        if (finished)
            pthread_join(thread, NULL);
        else
            pthread_detach(thread);
    }
    release(r);
}
