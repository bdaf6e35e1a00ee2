/*
 * The thread of the shared level: connections, breaker, inbox. Invariants:
 * - three connections, so that a large write holds no look up, and waiting for purges holds neither up;
 * - looks are taken only while `usable`: connected, all purges heard, the breaker closed. While it is open
 * the level itself asks Redis by a PING whether it is well again: no request pays for finding out;
 * - jobs are carried out in the order in which they came, so that a write comes before the deletion behind
 * it.
 */
#include "proxy/shared.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/log.h"
#include "proxy/shared_inner.h"
#include "proxy/store_inner.h"
#include "proxy/view.h"

static const struct breaker_rules shared_rules = {.enabled = true,
                                                  .consecutive = 5,
                                                  .failure_rate = 0.5,
                                                  .slow_call = 25 * TICK_MS,
                                                  .slow_rate = 0.5,
                                                  .window = 10 * TICK_S,
                                                  .minimum_requests = 20,
                                                  .open_time = TICK_S,
                                                  .open_max = 30 * TICK_S,
                                                  .probes = 1,
                                                  .probe_lease = 2 * TICK_S};

static _Thread_local const struct shared *own; /* on its thread */

tick_t shared_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

int64_t shared_wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool shared_is_own(const struct shared *s)
{
    return own == s;
}

/* ---- is it well? ---- */

void shared_judge(struct shared *s)
{
    bool up = redis_up(s->ask) && redis_up(s->tell) && redis_up(s->hear);
    bool usable = up && shared_hears(s) && s->breaker.state == BREAKER_CLOSED;
    bool was = atomic_exchange(&s->usable, usable);
    atomic_store(&s->circuit, (int)s->breaker.state);
    const char *trouble = redis_trouble(!redis_up(s->ask) ? s->ask : !redis_up(s->tell) ? s->tell : s->hear);
    const char *why = up           ? shared_hears(s) ? "it answers late, or not" : "it is being read"
                      : trouble[0] ? trouble
                                   : "not connected yet";
    pthread_mutex_lock(&s->lock);
    snprintf(s->trouble, sizeof(s->trouble), "%s", usable ? "" : why);
    pthread_mutex_unlock(&s->lock);
    if (usable && !was)
        log_write(s->log, LOG_INFO, "redis", "the shared level is in use");
    else if (was && !usable)
        log_write(s->log, LOG_WARNING, "redis", "the shared level is not used for now: %s; requests go on",
                  why);
}

void shared_report(struct shared *s, struct breaker_permit permit, bool good, tick_t took)
{
    if (permit.verdict == BREAKER_SHED)
        return;
    breaker_report(&s->breaker, permit,
                   (struct breaker_report){good ? BREAKER_OK : BREAKER_FAILURE, took, false}, &s->rng,
                   shared_now());
    if ((int)s->breaker.state != atomic_load_explicit(&s->circuit, memory_order_relaxed))
        shared_judge(s);
}

struct probe {
    struct shared *s;
    struct breaker_permit permit;
    tick_t asked;
};

static void probed(void *arg, const struct redis_reply *reply)
{
    struct probe *p = arg;
    p->s->probing = false;
    shared_report(p->s, p->permit, redis_says(reply, "PONG"), shared_now() - p->asked);
    free(p);
}

/* While the breaker is open, the level's own question whether it is over. */
static void probe(struct shared *s)
{
    struct slice ping = SLICE("PING");
    tick_t now = shared_now();
    breaker_turn(&s->breaker, &s->rng, now);
    if (s->breaker.state == BREAKER_CLOSED || s->probing || !redis_up(s->ask))
        return;
    struct probe *p = calloc(1, sizeof(*p));
    if (!p)
        return;
    *p = (struct probe){s, breaker_admit(&s->breaker, &s->rng, now), now};
    if (p->permit.verdict == BREAKER_SHED) {
        free(p);
        return;
    }
    s->probing = true;
    if (!redis_send(s->ask, &ping, 1, SHARED_LOOK_TIMEOUT, probed, p))
        probed(p, NULL);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct shared *s = arg;
    (void)fd;
    (void)what;
    probe(s);
    shared_tell_pending(s);
    shared_hear(s);
    shared_judge(s);
}

/* ---- connections ---- */

static void changed(void *arg, bool up)
{
    struct shared *s = arg;
    shared_count(&s->counts.connects, up);
    shared_judge(s);
    if (up)
        shared_tell_pending(s);
}

static void changed_hear(void *arg, bool up)
{
    struct shared *s = arg;
    s->logs[0].whole = false; /* until all that came meanwhile was read */
    changed(arg, up);
    if (up)
        shared_hear(s);
}

static bool connect_all(struct shared *s)
{
    struct redis_options o = {.base = s->base, .seed = rng_next(&s->rng), .changed = changed, .arg = s};
    redis_place_options(&s->place, &o);
    s->ask = redis_new(&o);
    o.seed = rng_next(&s->rng);
    s->tell = redis_new(&o);
    o.seed = rng_next(&s->rng);
    o.changed = changed_hear;
    s->hear = redis_new(&o);
    return s->ask && s->tell && s->hear;
}

/* ---- the inbox ---- */

static void do_jobs(struct shared *s, struct job *job)
{
    while (job) {
        struct job *next = job->next;
        if (job->kind == JOB_KEEP)
            shared_write(s, job);
        else if (job->kind == JOB_DELETE)
            shared_delete(s, job);
        entry_release(job->entry);
        free(job);
        job = next;
    }
}

static void on_bell(struct letter *letter, void *owner)
{
    struct shared *s = owner;
    (void)letter;
    pthread_mutex_lock(&s->lock);
    struct level_look *look = s->looks;
    struct job *jobs = s->jobs;
    bool stopping = s->stopping;
    s->looks = s->last_look = NULL;
    s->jobs = s->last_job = NULL;
    s->job_count = 0;
    s->job_bytes = 0;
    s->rung = false;
    pthread_mutex_unlock(&s->lock);
    while (look) {
        struct level_look *next = look->next;
        shared_ask_for(s, look);
        look = next;
    }
    do_jobs(s, jobs);
    shared_tell_pending(s);
    if (stopping)
        event_base_loopbreak(s->base);
}

void shared_ring(struct shared *s)
{
    if (s->rung)
        return;
    s->rung = true;
    mailbox_post(&s->box, &s->bell);
}

static void *run(void *arg)
{
    struct shared *s = arg;
    own = s;
    event_base_dispatch(s->base);
    return NULL;
}

/* ---- life ---- */

static bool set_up_names(struct shared *s)
{
    struct slice origin = {s->origin, s->origin_n};
    struct seal_key key;
    uint64_t id;
    struct hash_key vary;
    if (!s->sealer || !seal_derive(s->sealer, NULL, "space", &origin, 1, &key))
        return false;
    memcpy(&id, key.bytes, sizeof(id));
    snprintf(s->space, sizeof(s->space), "promptops:%d:%016llx:", 1, (unsigned long long)id);
    snprintf(s->logs[0].key, SHARED_KEY_MAX, "%spurges", s->space);
    snprintf(s->logs[1].key, SHARED_KEY_MAX, "%splaces", s->space);
    for (int i = 0; i < 2; i++) {
        s->logs[i].most = i == LOG_PURGES ? SHARED_PURGES_KEPT : SHARED_PLACES_KEPT;
        snprintf(s->logs[i].last, sizeof(s->logs[i].last), "0");
    }
    if (!persons_vary_key(s->sealer, origin, &vary))
        return false;
    store_share_vary(s->store, vary);
    return true;
}

static bool set_up(struct shared *s, const struct shared_options *o, char *err, size_t err_size)
{
    struct timeval turn = {0, SHARED_TURN / TICK_US};
    snprintf(err, err_size, "out of memory");
    s->origin = malloc(o->origin.n + 1);
    if (!s->origin)
        return false;
    memcpy(s->origin, o->origin.p, o->origin.n);
    s->origin_n = o->origin.n;
    s->sealer = sealer_new();
    s->persons = s->sealer ? persons_new(s->sealer, s->store, o->origin) : NULL;
    s->base = event_base_new();
    if (!s->base || !mailbox_init(&s->box, s->base, s))
        return false;
    s->bell.deliver = on_bell;
    s->turn = event_new(s->base, -1, EV_PERSIST, on_turn, s);
    if (!s->turn || event_add(s->turn, &turn) != 0 || !s->persons || !set_up_names(s))
        return false;
    if (!redis_place_open(&s->place, o->url, rng_next(&s->rng), err, err_size))
        return false;
    snprintf(err, err_size, "out of memory");
    return connect_all(s);
}

struct shared *shared_new(const struct shared_options *o, char *err, size_t err_size)
{
    struct shared *s = calloc(1, sizeof(*s));
    if (!s) {
        snprintf(err, err_size, "out of memory");
        return NULL;
    }
    s->store = o->store;
    s->log = o->log;
    rng_seed(&s->rng, o->seed);
    s->me = rng_next(&s->rng) | 1;
    s->box.fd = -1;
    s->rules = shared_rules;
    breaker_init(&s->breaker, &s->rules, shared_now());
    pthread_mutex_init(&s->lock, NULL);
    if (set_up(s, o, err, err_size))
        return s;
    shared_stop(s);
    return NULL;
}

bool shared_start(struct shared *s)
{
    s->running = pthread_create(&s->thread, NULL, run, s) == 0;
    return s->running;
}

void shared_level(struct shared *s, struct level *out)
{
    *out = (struct level){.name = "redis",
                          .self = s,
                          .patience = SHARED_PATIENCE,
                          .fresher = true,
                          .name_of = shared_name_of,
                          .look = shared_look,
                          .keep = shared_keep,
                          .drop = shared_drop};
}

static void stop_thread(struct shared *s)
{
    if (!s->running)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    shared_ring(s);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    s->running = false;
}

/* Who is told of its end may ask how the connection is. */
static void free_connection(struct redis **r)
{
    struct redis *gone = *r;
    *r = NULL;
    redis_free(gone);
}

void shared_stop(struct shared *s)
{
    if (!s)
        return;
    stop_thread(s);
    atomic_store(&s->usable, false);
    if (s->box.fd >= 0)
        mailbox_dispose(&s->box);
    free_connection(&s->ask); /* answers what is under way */
    free_connection(&s->tell);
    free_connection(&s->hear);
    if (s->turn)
        event_free(s->turn);
    if (s->base)
        event_base_free(s->base);
    redis_place_close(&s->place);
    shared_purge_dispose(s);
    persons_free(s->persons);
    sealer_free(s->sealer);
    pthread_mutex_destroy(&s->lock);
    free(s->origin);
    free(s);
}

/* ---- showing ---- */

void shared_stats(struct shared *s, struct shared_stats *out)
{
    const struct shared_counts *c = &s->counts;
    *out = (struct shared_stats){.hits = atomic_load(&c->hits),
                                 .misses = atomic_load(&c->misses),
                                 .failures = atomic_load(&c->failures),
                                 .skipped = atomic_load(&c->skipped),
                                 .stores = atomic_load(&c->stores),
                                 .store_failures = atomic_load(&c->store_failures),
                                 .too_large = atomic_load(&c->too_large),
                                 .damaged = atomic_load(&c->damaged),
                                 .purged = atomic_load(&c->purged),
                                 .purges_sent = atomic_load(&c->purges_sent),
                                 .purges_heard = atomic_load(&c->purges_heard),
                                 .connects = atomic_load(&c->connects)};
}

int shared_circuit(struct shared *s)
{
    return atomic_load(&s->circuit);
}

bool shared_usable(struct shared *s)
{
    return atomic_load(&s->usable);
}

void shared_show(struct shared *s, struct view *v)
{
    struct shared_stats stats;
    char trouble[sizeof(s->trouble)];
    pthread_mutex_lock(&s->lock);
    memcpy(trouble, s->trouble, sizeof(trouble));
    unsigned pending = s->pending_count;
    pthread_mutex_unlock(&s->lock);
    shared_stats(s, &stats);
    view_bool(v, "in_use", shared_usable(s));
    view_text(v, "why_not", trouble[0] ? trouble : NULL);
    view_text(v, "circuit", breaker_state_name((enum breaker_state)shared_circuit(s)));
    view_uint(v, "connects", stats.connects);
    view_uint(v, "hits", stats.hits);
    view_uint(v, "misses", stats.misses);
    view_uint(v, "failures", stats.failures);
    view_uint(v, "skipped", stats.skipped);
    view_uint(v, "stores", stats.stores);
    view_uint(v, "store_failures", stats.store_failures);
    view_uint(v, "too_large", stats.too_large);
    view_uint(v, "damaged", stats.damaged);
    view_uint(v, "purged", stats.purged);
    view_uint(v, "purges_sent", stats.purges_sent);
    view_uint(v, "purges_heard", stats.purges_heard);
    view_uint(v, "purges_waiting", pending);
}
