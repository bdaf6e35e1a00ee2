/*
 * The simulated outage. Invariants: events are taken in order of time (and of insertion where equal); a job
 * outlives its client, and is freed when the server is done with it and the client does not wait for it; a
 * request is freed when it has ended.
 */
#include "tests/sim/outage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum event_kind { ARRIVE, ATTEMPT, SERVED, REFUSED, PATIENCE_OVER, HEALTH };

struct event {
    tick_t at;
    uint64_t order;
    enum event_kind kind;
    int id; /* request or job */
};

struct request {
    tick_t began, deadline, last_delay;
    int attempts, next_free;
};

struct job {
    int request, next_free;
    struct breaker_permit permit;
    tick_t began;
    bool waited_for; /* the client still waits */
    bool in_server;  /* queued or served */
    bool timer;      /* its PATIENCE_OVER is still to come */
};

struct world {
    const struct outage_setup *s;
    struct outage_result *r;
    struct rng rng;
    tick_t now;
    struct event *heap;
    size_t events, heap_room;
    uint64_t order;
    struct request *requests;
    int request_count, request_room, free_request;
    struct job *jobs;
    int job_count, job_room, free_job;
    int *fifo, fifo_first, fifo_length, busy, in_flight;
    struct breaker breaker;
    struct retry_budget budget;
    uint64_t *second_offered, *second_good;
    int seconds;
    bool broken; /* out of memory */
};

static void *grow(struct world *w, void *p, int *room, size_t size)
{
    int more = *room ? *room * 2 : 1024;
    void *q = realloc(p, (size_t)more * size);
    if (!q) {
        w->broken = true;
        return p;
    }
    *room = more;
    return q;
}

/* --- The queue of events: a binary heap. --- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct world *w, tick_t at, enum event_kind kind, int id)
{
    if (w->events == w->heap_room) {
        size_t room = w->heap_room ? w->heap_room * 2 : 4096;
        struct event *heap = realloc(w->heap, room * sizeof *heap);
        if (!heap) {
            w->broken = true;
            return;
        }
        w->heap = heap;
        w->heap_room = room;
    }
    struct event e = {at, w->order++, kind, id};
    size_t i = w->events++;
    for (; i && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event pop(struct world *w)
{
    struct event first = w->heap[0], last = w->heap[--w->events];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->events; i = child) {
        if (child + 1 < w->events && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return first;
}

/* --- Time. --- */

static tick_t exponential(struct world *w, double mean)
{
    return (tick_t)(-log(1 - rng_double(&w->rng)) * mean);
}

static int phase_of(const struct world *w, tick_t at)
{
    if (at < w->s->before)
        return OUTAGE_BEFORE;
    return at < w->s->before + w->s->fault ? OUTAGE_DURING : OUTAGE_AFTER;
}

static bool in_fault(const struct world *w, enum outage_kind kind)
{
    return w->s->kind == kind && phase_of(w, w->now) == OUTAGE_DURING;
}

static int second_of(const struct world *w, tick_t at)
{
    int second = (int)(at / TICK_S);
    return second < w->seconds ? second : w->seconds - 1;
}

/* --- Slots. --- */

static int new_request(struct world *w)
{
    int id = w->free_request;
    if (id >= 0) {
        w->free_request = w->requests[id].next_free;
    } else {
        if (w->request_count == w->request_room)
            w->requests = grow(w, w->requests, &w->request_room, sizeof *w->requests);
        if (w->broken)
            return -1;
        id = w->request_count++;
    }
    w->requests[id] = (struct request){.began = w->now, .deadline = TICK_NEVER};
    if (w->s->deadline != TICK_NEVER)
        w->requests[id].deadline = w->now + w->s->deadline;
    return id;
}

static void end_request(struct world *w, int id, bool good)
{
    struct request *q = &w->requests[id];
    if (good) {
        w->r->phase[phase_of(w, q->began)].good++;
        w->second_good[second_of(w, q->began)]++;
    }
    q->next_free = w->free_request;
    w->free_request = id;
}

static int new_job(struct world *w)
{
    int id = w->free_job;
    if (id >= 0) {
        w->free_job = w->jobs[id].next_free;
        return id;
    }
    if (w->job_count == w->job_room)
        w->jobs = grow(w, w->jobs, &w->job_room, sizeof *w->jobs);
    return w->broken ? -1 : w->job_count++;
}

static void free_job(struct world *w, int id)
{
    struct job *j = &w->jobs[id];
    if (j->waited_for || j->in_server || j->timer)
        return;
    j->next_free = w->free_job;
    w->free_job = id;
}

/* --- The server. --- */

static void serve(struct world *w, int id)
{
    double mean = (double)w->s->service * (in_fault(w, OUTAGE_GRAY) ? w->s->slow : 1);
    w->busy++;
    push(w, w->now + exponential(w, mean), SERVED, id);
}

static void server_takes(struct world *w, int id)
{
    w->r->phase[phase_of(w, w->now)].sent++;
    if (in_fault(w, OUTAGE_HARD)) {
        push(w, w->now + 5 * TICK_MS, REFUSED, id);
    } else if (w->busy < w->s->workers) {
        serve(w, id);
    } else if (w->fifo_length < w->s->queue) {
        w->fifo[(w->fifo_first + w->fifo_length++) % w->s->queue] = id;
    } else {
        push(w, w->now + TICK_MS, REFUSED, id);
    }
}

static void server_done(struct world *w)
{
    w->busy--;
    if (w->fifo_length == 0)
        return;
    int next = w->fifo[w->fifo_first];
    w->fifo_first = (w->fifo_first + 1) % w->s->queue;
    w->fifo_length--;
    serve(w, next);
}

/* --- The sidecar. --- */

static void attempt(struct world *w, int id)
{
    struct request *q = &w->requests[id];
    struct breaker_permit permit = breaker_admit(&w->breaker, &w->rng, w->now);
    if (permit.verdict == BREAKER_SHED || (w->s->cap && w->in_flight >= w->s->cap)) {
        if (permit.verdict != BREAKER_SHED) /* our own refusal says nothing about the upstream */
            breaker_report(&w->breaker, permit, (struct breaker_report){BREAKER_IGNORED, 0, false}, &w->rng,
                           w->now);
        end_request(w, id, false);
        return;
    }
    w->r->late += w->now >= q->deadline;
    int j = new_job(w);
    if (j < 0)
        return;
    w->jobs[j] = (struct job){.request = id,
                              .permit = permit,
                              .began = w->now,
                              .waited_for = true,
                              .in_server = true,
                              .timer = true};
    if (q->attempts++ == 0)
        retry_budget_request(&w->budget, w->now);
    w->in_flight++;
    tick_t until = w->now + w->s->patience;
    push(w, until < q->deadline ? until : q->deadline, PATIENCE_OVER, j);
    server_takes(w, j);
}

/* The client's side of an attempt is over, one way or another. */
static void attempt_over(struct world *w, int j, enum reason reason, int status)
{
    struct job *job = &w->jobs[j];
    int id = job->request;
    struct request *q = &w->requests[id];
    bool good = reason == REASON_NONE && status == 200;
    struct breaker_report report = {good ? BREAKER_OK : BREAKER_FAILURE, w->now - job->began, false};
    job->waited_for = false;
    w->in_flight--;
    breaker_report(&w->breaker, job->permit, report, &w->rng, w->now);
    retry_budget_outcome(&w->budget, good, w->now);
    if (good) {
        end_request(w, id, true);
        return;
    }
    struct retry_case c = {.reason = reason,
                           .status = status,
                           .attempts = q->attempts,
                           .idempotent = true,
                           .sent = true,
                           .replayable = true,
                           .began = q->began,
                           .deadline = q->deadline,
                           .retry_after = -1,
                           .last_delay = q->last_delay};
    struct retry_verdict v = retry_decide(&w->s->retry, &c, &w->budget, &w->rng, w->now);
    if (v.why != RETRY_YES) {
        end_request(w, id, false);
        return;
    }
    q->last_delay = v.delay;
    push(w, v.at, ATTEMPT, id);
}

static void answered(struct world *w, int j, bool refused)
{
    struct job *job = &w->jobs[j];
    job->in_server = false;
    bool error = refused || (w->s->errors > 0 && rng_double(&w->rng) < w->s->errors);
    if (job->waited_for)
        attempt_over(w, j, REASON_NONE, error ? 503 : 200);
    free_job(w, j);
}

static void arrive(struct world *w)
{
    tick_t next = w->now + exponential(w, (double)TICK_S / w->s->rate);
    if (next < w->s->before + w->s->fault + w->s->after)
        push(w, next, ARRIVE, 0);
    w->r->phase[phase_of(w, w->now)].offered++;
    w->second_offered[second_of(w, w->now)]++;
    int id = new_request(w);
    if (id >= 0)
        attempt(w, id);
}

static void health_check(struct world *w)
{
    if (!in_fault(w, OUTAGE_HARD))
        breaker_sign_of_life(&w->breaker, w->now);
    if (w->now + w->s->health < w->s->before + w->s->fault + w->s->after)
        push(w, w->now + w->s->health, HEALTH, 0);
}

static void step(struct world *w)
{
    struct event e = pop(w);
    w->now = e.at;
    switch (e.kind) {
    case ARRIVE:
        arrive(w);
        break;
    case ATTEMPT:
        attempt(w, e.id);
        break;
    case SERVED:
        server_done(w);
        answered(w, e.id, false);
        break;
    case REFUSED:
        answered(w, e.id, true);
        break;
    case PATIENCE_OVER:
        w->jobs[e.id].timer = false;
        if (w->jobs[e.id].waited_for)
            attempt_over(w, e.id, REASON_RESPONSE_TIMEOUT, 0);
        free_job(w, e.id);
        break;
    case HEALTH:
        health_check(w);
        break;
    }
}

/* Seconds from the end of the fault to the first of five in a row with 95 % answered well. */
static double recovery(const struct world *w)
{
    int first = (int)((w->s->before + w->s->fault) / TICK_S), row = 0;
    for (int i = first; i < w->seconds; i++) {
        row = (double)w->second_good[i] >= 0.95 * (double)w->second_offered[i] ? row + 1 : 0;
        if (row == 5)
            return i - 4 - first;
    }
    return -1;
}

void outage_defaults(struct outage_setup *s)
{
    *s = (struct outage_setup){
        .seed = 1,
        .rate = 800,
        .workers = 100,
        .service = 100 * TICK_MS,
        .queue = 4000,
        .slow = 5,
        .before = 10 * TICK_S,
        .fault = 30 * TICK_S,
        .after = 60 * TICK_S,
        .patience = TICK_S,
        .deadline = TICK_NEVER,
        .retry = {.strategy = BACKOFF_EXPONENTIAL,
                  .jitter = JITTER_FULL,
                  .max_attempts = 3,
                  .base_delay = 100 * TICK_MS,
                  .max_delay = 60 * TICK_S,
                  .max_total_time = 30 * TICK_S,
                  .retry_on = retry_on_default(),
                  .success_rate_threshold = 0.5},
        .budget = 0.1,
        .budget_floor = 1,
        .breaker = {.enabled = true,
                    .consecutive = 5,
                    .failure_rate = 0.5,
                    .slow_rate = 1,
                    .window = 10 * TICK_S,
                    .minimum_requests = 20,
                    .open_time = 5 * TICK_S,
                    .open_max = 60 * TICK_S,
                    .probes = 3,
                    .probe_lease = 5 * TICK_S},
    };
}

bool outage_run(const struct outage_setup *s, struct outage_result *result)
{
    struct world w = {.s = s, .r = result, .free_request = -1, .free_job = -1};
    memset(result, 0, sizeof *result);
    w.seconds = (int)((s->before + s->fault + s->after) / TICK_S) + 1;
    w.second_offered = calloc((size_t)w.seconds, sizeof *w.second_offered);
    w.second_good = calloc((size_t)w.seconds, sizeof *w.second_good);
    w.fifo = calloc((size_t)s->queue + 1, sizeof *w.fifo);
    w.broken = !w.second_offered || !w.second_good || !w.fifo;
    rng_seed(&w.rng, s->seed);
    breaker_init(&w.breaker, &s->breaker, 0);
    retry_budget_init(&w.budget, s->budget, s->budget_floor, 0);
    if (!w.broken)
        push(&w, 0, ARRIVE, 0);
    if (!w.broken && s->health > 0)
        push(&w, s->health / 2, HEALTH, 0);
    while (!w.broken && w.events)
        step(&w);
    if (!w.broken) {
        w.seconds--; /* the last one took what came after the end */
        result->recovery = recovery(&w);
        result->opened = w.breaker.opened;
    }
    free(w.heap);
    free(w.requests);
    free(w.jobs);
    free(w.fifo);
    free(w.second_offered);
    free(w.second_good);
    return !w.broken;
}
