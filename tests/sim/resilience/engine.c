/*
 * Events and clients. Invariants: events are taken in order of time, and of insertion where equal; an event
 * of a request or job that has ended meanwhile is void (its `turn` differs); every request ends exactly once.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/resilience/sim.h"

#define THINK_LEAST (100 * TICK_US) /* nobody asks faster than this, however fast the answers are */

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void sim_push(struct sim *m, tick_t at, enum event_kind kind, int id, uint32_t turn)
{
    if (m->events == m->heap_room) {
        size_t room = m->heap_room ? m->heap_room * 2 : 4096;
        struct event *heap = realloc(m->heap, room * sizeof *heap);
        if (!heap) {
            m->broken = true;
            return;
        }
        m->heap = heap;
        m->heap_room = room;
    }
    struct event e = {at, m->order++, id, turn, (uint8_t)kind};
    size_t i = m->events++;
    for (; i && before(&e, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = e;
}

static struct event pop(struct sim *m)
{
    struct event first = m->heap[0], last = m->heap[--m->events];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < m->events; i = child) {
        if (child + 1 < m->events && before(&m->heap[child + 1], &m->heap[child]))
            child++;
        if (!before(&m->heap[child], &last))
            break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = last;
    return first;
}

/* --- Dice. --- */

static double normal(struct rng *rng)
{
    double u = 1 - rng_double(rng), v = rng_double(rng);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

tick_t sim_draw(struct sim *m, const struct latency *l)
{
    double mean = (double)l->mean, u = 1 - rng_double(&m->rng);
    if (l->tail_share > 0 && rng_double(&m->rng) < l->tail_share)
        return l->tail_latency;
    switch (l->shape) {
    case SHAPE_CONSTANT:
        return l->mean;
    case SHAPE_UNIFORM:
        return (tick_t)(2 * mean * u);
    case SHAPE_LOGNORMAL:
        return (tick_t)(mean * exp(l->sigma * normal(&m->rng) - l->sigma * l->sigma / 2));
    case SHAPE_PARETO:
        return (tick_t)(mean * (l->sigma - 1) / l->sigma * pow(u, -1 / l->sigma));
    default:
        return (tick_t)(-log(u) * mean);
    }
}

/* --- Slots. --- */

static struct request *new_request(struct sim *m, int client)
{
    struct request *q;
    if (m->free_request >= 0) {
        q = m->request[m->free_request];
        m->free_request = q->next_free;
    } else {
        if (m->request_count == m->request_room) {
            int room = m->request_room ? m->request_room * 2 : 1024;
            struct request **more = realloc(m->request, (size_t)room * sizeof(struct request *));
            if (!more) {
                m->broken = true;
                return NULL;
            }
            m->request = more;
            m->request_room = room;
        }
        q = calloc(1, sizeof *q);
        if (!q) {
            m->broken = true;
            return NULL;
        }
        q->id = m->request_count;
        m->request[m->request_count++] = q;
    }
    uint32_t turn = q->turn, step = q->step;
    int id = q->id;
    *q = (struct request){.id = id,
                          .turn = turn + 1,
                          .step = step + 1,
                          .client = client,
                          .began = m->now,
                          .tried = m->now,
                          .job = {-1, -1}};
    return q;
}

struct job *sim_job(struct sim *m, int request)
{
    struct job *j;
    if (m->free_job >= 0) {
        j = m->job[m->free_job];
        m->free_job = j->next_free;
    } else {
        if (m->job_count == m->job_room) {
            int room = m->job_room ? m->job_room * 2 : 1024;
            struct job **more = realloc(m->job, (size_t)room * sizeof(struct job *));
            if (!more) {
                m->broken = true;
                return NULL;
            }
            m->job = more;
            m->job_room = room;
        }
        j = calloc(1, sizeof *j);
        if (!j) {
            m->broken = true;
            return NULL;
        }
        j->id = m->job_count;
        m->job[m->job_count++] = j;
    }
    uint32_t turn = j->turn;
    int id = j->id;
    *j = (struct job){.id = id,
                      .turn = turn + 1,
                      .request = request,
                      .began = m->now,
                      .waited_for = true,
                      .next_wait = -1,
                      .prev_wait = -1};
    return j;
}

/* Free once nobody waits for it and the API is done with it. */
void sim_job_done(struct sim *m, struct job *j)
{
    if (j->waited_for || j->in_server || j->connecting)
        return;
    j->turn++;
    j->next_free = m->free_job;
    m->free_job = j->id;
}

/* --- Clients. --- */

static const struct group *group_of(const struct sim *m, const struct request *q)
{
    return &m->s->group[m->client[q->client].group];
}

static struct second *second_of(struct sim *m, tick_t at)
{
    int i = (int)(at / TICK_S);
    return &m->second[i < m->seconds ? i : m->seconds - 1];
}

static void note_latency(struct sim *m, tick_t took)
{
    if (m->latencies == m->latency_room) {
        size_t room = m->latency_room ? m->latency_room * 2 : 65536;
        float *more = realloc(m->latency, room * sizeof *more);
        if (!more) {
            m->broken = true;
            return;
        }
        m->latency = more;
        m->latency_room = room;
    }
    m->latency[m->latencies++] = (float)((double)took / 1e9);
}

static void note_failure(struct sim *m, const char *why)
{
    for (int i = 0; i < WHY_ROWS; i++) {
        if (!m->failed[i].why)
            m->failed[i].why = why;
        if (strcmp(m->failed[i].why, why) == 0) {
            m->failed[i].count++;
            return;
        }
    }
}

static double rate_at(const struct group *g, tick_t now)
{
    double rate = g->rate;
    for (int i = 0; i < g->phase_count && g->phase[i].at <= now; i++)
        rate = g->phase[i].rate;
    return rate;
}

static tick_t end_of(const struct sim *m, const struct group *g)
{
    return g->stop > 0 && g->stop < m->s->duration ? g->stop : m->s->duration;
}

/* The next arrival; when the rate is 0, at the next phase. */
static void next_arrival(struct sim *m, int client)
{
    const struct group *g = &m->s->group[m->client[client].group];
    double rate = rate_at(g, m->now);
    tick_t at = TICK_NEVER;
    if (rate > 0) {
        double mean = 1e9 / rate;
        at = m->now + (tick_t)(g->arrival == ARRIVAL_EVEN ? mean : -log(1 - rng_double(&m->rng)) * mean);
    }
    for (int i = 0; i < g->phase_count; i++)
        if (g->phase[i].at > m->now && g->phase[i].at < at) { /* draw again there: memoryless */
            sim_push(m, g->phase[i].at, EVENT_ARRIVE, client, 1);
            return;
        }
    if (at < end_of(m, g))
        sim_push(m, at, EVENT_ARRIVE, client, 0);
}

static void over(struct sim *m, struct request *q, bool good)
{
    const struct group *g = group_of(m, q);
    bool counted = q->began >= m->s->warmup && !g->background;
    if (good && counted) {
        m->good++;
        m->client[q->client].good++;
        second_of(m, q->began)->good++;
        note_latency(m, m->now - q->began);
    } else if (counted) {
        note_failure(m, q->why ? q->why : "unknown");
    }
    if (g->arrival == ARRIVAL_CLOSED && m->now + g->think < end_of(m, g))
        sim_push(m, m->now + (g->think > THINK_LEAST ? g->think : THINK_LEAST), EVENT_ARRIVE, q->client, 0);
    q->turn++;
    q->step++;
    q->next_free = m->free_request;
    m->free_request = q->id;
}

static void try_it(struct sim *m, struct request *q)
{
    q->tried = m->now;
    q->client_tries++;
    q->step++;
    sim_push(m, m->now + group_of(m, q)->timeout, EVENT_GIVES_UP, q->id,
             q->turn + (uint32_t)q->client_tries * 1000003u);
    sidecar_begin(m, q);
}

void sim_answered(struct sim *m, struct request *q, bool good, const char *why)
{
    const struct group *g = group_of(m, q);
    q->why = why;
    q->place = PLACE_NONE;
    if (good || q->client_tries > g->retries) {
        over(m, q, good);
        return;
    }
    tick_t wait = g->retry_delay;
    for (int i = 1;
         g->retry_backoff == CLIENT_BACKOFF_EXPONENTIAL && i < q->client_tries && wait < 3600 * TICK_S; i++)
        wait *= 2;
    q->place = PLACE_CLIENT_BACKOFF;
    m->client_retries++;
    sim_push(m, m->now + wait, EVENT_CLIENT_AGAIN, q->id, q->turn);
}

static void arrive(struct sim *m, int client, bool phase_only)
{
    const struct group *g = &m->s->group[m->client[client].group];
    if (g->arrival != ARRIVAL_CLOSED)
        next_arrival(m, client);
    if (phase_only)
        return;
    struct request *q = new_request(m, client);
    if (!q)
        return;
    if (m->now >= m->s->warmup && !g->background) {
        m->offered++;
        m->client[client].offered++;
        second_of(m, m->now)->offered++;
    }
    try_it(m, q);
}

static void gives_up(struct sim *m, const struct event *e)
{
    struct request *q = m->request[e->id];
    if (e->turn != q->turn + (uint32_t)q->client_tries * 1000003u || q->place == PLACE_NONE ||
        q->place == PLACE_CLIENT_BACKOFF)
        return;
    sidecar_leave(m, q);
    sim_answered(m, q, false, "client_timeout");
}

static void step(struct sim *m)
{
    struct event e = pop(m);
    m->now = e.at;
    switch (e.kind) {
    case EVENT_ARRIVE:
        arrive(m, e.id, e.turn != 0);
        break;
    case EVENT_CLIENT_AGAIN:
        if (m->request[e.id]->turn == e.turn)
            try_it(m, m->request[e.id]);
        break;
    case EVENT_GIVES_UP:
        gives_up(m, &e);
        break;
    case EVENT_AT_SERVER:
        api_arrive(m, m->job[e.id]);
        break;
    case EVENT_SERVED:
        api_served(m, m->job[e.id]);
        break;
    default:
        sidecar_event(m, &e);
        break;
    }
}

static bool make_clients(struct sim *m)
{
    const struct scenario *s = m->s;
    int shared = -1;
    for (int i = 0; i < s->group_count; i++)
        m->client_count += (int)s->group[i].count;
    m->client = calloc((size_t)m->client_count, sizeof *m->client);
    m->key = calloc((size_t)m->client_count, sizeof *m->key);
    if (!m->client || !m->key)
        return false;
    for (int i = 0, c = 0; i < s->group_count; i++)
        for (int64_t n = 0; n < s->group[i].count; n++, c++) {
            bool each = s->group[i].keys == KEYS_EACH;
            if (!each && shared < 0)
                shared = m->key_count++;
            m->client[c] = (struct client){.group = i, .key = each ? m->key_count++ : shared};
        }
    return true;
}

static void start_clients(struct sim *m)
{
    for (int c = 0; c < m->client_count; c++) {
        const struct group *g = &m->s->group[m->client[c].group];
        /* Spread over a second, or over one interval, so that clients of an even rate do not march in step.
         */
        double rate = rate_at(g, g->start),
               spread = g->arrival == ARRIVAL_CLOSED || rate <= 0 ? 1e7 : 1e9 / rate;
        sim_push(m, g->start + (tick_t)(spread * rng_double(&m->rng)), EVENT_ARRIVE, c,
                 g->arrival != ARRIVAL_CLOSED && rate <= 0);
    }
}

bool sim_run(struct sim *m, const struct scenario *s, bool bare)
{
    *m = (struct sim){
        .s = s, .bare = bare, .free_request = -1, .free_job = -1, .first_wait = -1, .last_wait = -1};
    rng_seed(&m->rng, (uint64_t)s->seed);
    m->patience = api_patience(m);
    m->seconds = (int)(s->duration / TICK_S) + 2;
    m->second = calloc((size_t)m->seconds, sizeof *m->second);
    m->fifo = calloc((size_t)s->upstream.queue + 1, sizeof *m->fifo);
    if (!m->second || !m->fifo || !make_clients(m) || !sidecar_init(m))
        return false;
    start_clients(m);
    sim_push(m, TICK_S, EVENT_SECOND, 0, 0);
    while (!m->broken && m->events)
        step(m);
    return !m->broken;
}

void sim_free(struct sim *m)
{
    for (int i = 0; i < m->request_count; i++)
        free(m->request[i]);
    for (int i = 0; i < m->job_count; i++)
        free(m->job[i]);
    free(m->request);
    free(m->job);
    free(m->heap);
    free(m->client);
    for (int i = 0; m->key && i < m->key_count; i++)
        for (int j = 0; j < MOST_LIMITS; j++)
            free(m->key[i].spent[j].when);
    free(m->key);
    free(m->second);
    free(m->latency);
    free(m->fifo);
}
