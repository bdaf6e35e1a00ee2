/*
 * The loop of a worker. Invariants:
 * - `now`, `wall` and `date` are read at most once a turn and never go back;
 * - the tick event is set no later than the wheel's next due time;
 * - what is to be done at the end of a turn (resumed clients, log lines) is done before the loop
 *   sleeps again.
 */
#include "proxy/worker.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "metrics/observe.h"
#include "policy/config.h"
#include "policy/http_date.h"
#include "proxy/client.h"
#include "proxy/exchange.h"
#include "proxy/listener.h"
#include "proxy/log.h"
#include "proxy/pool.h"
#include "proxy/secret.h"
#include "proxy/service.h"
#include "proxy/settings.h"

static tick_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

void worker_read_now(struct worker *w)
{
    w->now = read_clock(CLOCK_MONOTONIC);
    w->wall = 0;
}

void worker_read_end(struct worker *w)
{
    w->end = read_clock(CLOCK_MONOTONIC);
}

int64_t worker_wall(struct worker *w)
{
    if (w->wall == 0)
        w->wall = (int64_t)time(NULL);
    return w->wall;
}

tick_t worker_wall_ns(struct worker *w)
{
    int64_t wall = worker_wall(w);
    if (wall != w->offset_of) {
        w->offset = read_clock(CLOCK_REALTIME) - worker_now(w);
        w->offset_of = wall;
    }
    return worker_now(w) + w->offset;
}

struct slice worker_date(struct worker *w)
{
    int64_t wall = worker_wall(w);
    if (wall != w->date_of) {
        http_date_write(w->date, wall);
        w->date_of = wall;
    }
    return (struct slice){w->date, HTTP_DATE_LEN};
}

struct block *worker_scratch(struct worker *w)
{
    if (w->scratch && w->scratch->refs > 1) { /* somebody queued bytes of it: it is theirs now */
        block_unref(w->scratch);
        w->scratch = NULL;
    }
    if (!w->scratch)
        w->scratch = block_get(&w->blocks);
    return w->scratch;
}

/* ---- timers ---------------------------------------------------------------------------------- */

static void set_tick(struct worker *w)
{
    tick_t due = wheel_next_due(w->wheel);
    if (due >= w->tick_due)
        return;
    tick_t left = due == TICK_NEVER ? 0 : due - worker_now(w);
    if (left < 0)
        left = 0;
    struct timeval tv = {left / TICK_S, (left % TICK_S + TICK_US - 1) / TICK_US};
    evtimer_add(w->tick, &tv);
    w->tick_due = due;
}

void worker_move_timer(struct worker *w, struct timer *timer, tick_t due)
{
    wheel_set(w->wheel, &timer->node, due);
    if (due < w->tick_due)
        set_tick(w);
}

void worker_cancel_timer(struct worker *w, struct timer *timer)
{
    wheel_cancel(w->wheel, &timer->node);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;
    struct wheel_timer *node;
    (void)fd;
    (void)what;
    w->tick_due = TICK_NEVER;
    while ((node = wheel_expire(w->wheel, worker_now(w)))) {
        struct timer *timer = (struct timer *)node;
        timer->fire(timer);
    }
    set_tick(w);
}

/* ---- the loop ---------------------------------------------------------------------------------- */

static bool finished(const struct worker *w)
{
    return w->stopping && w->exchanges == 0 && w->client_count[CLIENT_BUSY] == 0 &&
           w->client_count[CLIENT_LINGER] == 0;
}

/* On the worker's own thread. */
static void stop(struct worker *w, bool force)
{
    w->stopping = true;
    if (w->listener)
        listener_stop(w->listener);
    w->listener = NULL;
    pool_close_idle(w->pool);
    clients_close_idle(w, force);
    if (force)
        pool_cut(w->pool);
}

static void stop_delivered(struct letter *letter, void *owner)
{
    struct worker *w = owner;
    stop(w, letter == &w->stop_letter[true].letter);
}

void worker_stop(struct worker *w, bool force)
{
    struct stop_letter *l = &w->stop_letter[force];
    if (!atomic_exchange(&l->posted, true)) /* once is enough, and a letter can be under way only once */
        mailbox_post(&w->box, &l->letter);
}

static void end_turn(struct worker *w)
{
    if (w->served) {
        w->served = false;
        atomic_store_explicit(&w->service->last_request, worker_now(w), memory_order_relaxed);
    }
    for (int i = 0; w->resume && i < 16; i++)
        clients_resume(w);
    if (w->stopping)
        clients_close_idle(w, false);
    if (w->told)
        exchange_ahead_turn(w);
    worker_log_flush(w->log);
    w->now = 0;
    w->ends = 0;
}

/*
 * Nobody cancels a worker. Where cancellation may come at any time glibc need not allow it for the length of
 * each read and write, by two locked instructions each; and where it is disabled it cannot come.
 */
static void never_cancelled(void)
{
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before);
}

static void *run(void *arg)
{
    struct worker *w = arg;
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGSYS); /* harden.h */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    never_cancelled();
    while (!finished(w)) {
        event_base_loop(w->base, w->resume ? EVLOOP_ONCE | EVLOOP_NONBLOCK : EVLOOP_ONCE);
        end_turn(w);
    }
    atomic_store(&w->left, true);
    return NULL;
}

/* ---- birth and end ------------------------------------------------------------------------------ */

static struct event_base *new_base(void)
{
    struct event_config *cfg = event_config_new();
    struct event_base *base = NULL;
    if (!cfg)
        return NULL;
    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK); /* one thread a base; others use the mailbox */
    base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    return base;
}

static bool new_buffers(struct worker *w)
{
    const struct config *cfg = settings_config(w->settings);
    uint64_t largest = cfg->listen_max_header_bytes > cfg->upstream_max_header_bytes
                           ? cfg->listen_max_header_bytes
                           : cfg->upstream_max_header_bytes;
    w->head_size = (size_t)largest + HEAD_ROOM;
    w->down_head = malloc(w->head_size);
    w->up_head = secret_room(w->head_size); /* keys pass through it on their way up */
    w->lines = malloc(w->head_size);
    w->field_max = 1024;
    w->fields = calloc(w->field_max, sizeof(*w->fields));
    w->wheel = malloc(sizeof(*w->wheel));
    w->down.scratch = w->down_head;
    w->up.scratch = w->up_head;
    return w->down_head && w->up_head && w->lines && w->fields && w->wheel;
}

static bool begin(struct worker *w, int listen_fd)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        return false;
    rng_seed(&w->rng, seed);
    gather_clear(&w->down);
    gather_clear(&w->up);
    w->tick_due = TICK_NEVER;
    w->base = new_base();
    if (!w->base || !new_buffers(w) || !mailbox_init(&w->box, w->base, w))
        return false;
    wheel_init(w->wheel, worker_now(w));
    w->tick = evtimer_new(w->base, on_tick, w);
    w->metrics = metrics_block(w->service->metrics, w->index);
    w->blocks.metrics = w->metrics;
    w->log = worker_log_new(w->service->log, w->metrics);
    w->pool = pool_new(w);
    w->listener = listener_start(w, listen_fd, NULL);
    return w->tick && w->log && w->pool && w->listener;
}

struct worker *worker_new(struct service *service, int index, int listen_fd, struct publication *p)
{
    struct worker *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->service = service;
    w->index = index;
    w->box.fd = -1;
    w->stop_letter[false].letter.deliver = w->stop_letter[true].letter.deliver = stop_delivered;
    w->settings = settings_new(publication_ref(p));
    if (!w->settings || !begin(w, listen_fd)) {
        worker_free(w);
        return NULL;
    }
    return w;
}

bool worker_listen(struct worker *w, int fd)
{
    struct listener *l = listener_start(w, fd, w->listener);
    if (l)
        w->listener = l;
    return l != NULL;
}

void worker_leave(struct worker *w)
{
    w->leaving = true;
    if (w->listener)
        listener_stop(w->listener);
    w->listener = NULL;
}

bool worker_start(struct worker *w)
{
    return pthread_create(&w->thread, NULL, run, w) == 0;
}

void worker_post(struct worker *w, struct letter *letter)
{
    mailbox_post(&w->box, letter);
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    if (w->listener)
        listener_stop(w->listener);
    w->listener = NULL;
    w->stopping = true;
    if (w->box.wake)
        mailbox_drain(&w->box); /* orders that came too late are carried out while there is a pool */
    clients_close_idle(w, true);
    if (w->pool)
        pool_free(w->pool);
    w->pool = NULL;
    if (w->box.wake)
        mailbox_dispose(&w->box);
    exchange_dispose_free(w);
    exchange_ahead_dispose(w);
    worker_log_free(w->log);
    if (w->tick)
        event_free(w->tick);
    if (w->scratch)
        block_unref(w->scratch);
    block_pool_dispose(&w->blocks);
    if (w->settings)
        settings_unref(w->settings);
    if (w->base)
        event_base_free(w->base);
    free(w->down_head);
    secret_room_free(w->up_head, w->head_size);
    free(w->lines);
    free(w->fields);
    free(w->wheel);
    free(w);
}

unsigned worker_clients(const struct worker *w)
{
    unsigned n = 0;
    for (int i = 0; i < CLIENT_STATES; i++)
        n += w->client_count[i];
    return n;
}
