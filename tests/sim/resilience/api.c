/*
 * The API: workers with a bounded FIFO queue, faults, and rate limits in the dialects of the field. It does
 * not notice when a caller has left, unless told to, so that work is wasted as in real outages. Invariant: a
 * job in the server leaves it exactly once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "policy/http_date.h"
#include "tests/sim/resilience/sim.h"

#define EPOCH INT64_C(1767225600) /* 2026-01-01T00:00:00Z: the hour in which a run begins */

const struct fault_spec *api_fault(const struct scenario *s, enum fault_kind kind, tick_t now)
{
    for (int i = 0; i < s->fault_count; i++)
        if (s->fault[i].kind == (int)kind && now >= s->fault[i].at &&
            now < s->fault[i].at + s->fault[i].length)
            return &s->fault[i];
    return NULL;
}

int api_workers(const struct scenario *s, tick_t now)
{
    const struct fault_spec *f = api_fault(s, FAULT_WORKERS, now);
    return (int)(f && f->workers < s->upstream.workers ? f->workers : s->upstream.workers);
}

static const struct fault_spec *outage(const struct scenario *s, tick_t now)
{
    const struct fault_spec *f = api_fault(s, FAULT_OUTAGE, now);
    if (f)
        return f;
    f = api_fault(s, FAULT_FLAP, now);
    return f && (now - f->at) % f->period < f->period / 2 ? f : NULL;
}

bool api_down(const struct scenario *s, tick_t now)
{
    return outage(s, now) || api_fault(s, FAULT_REFUSE, now) || api_fault(s, FAULT_HANG, now) ||
           api_workers(s, now) == 0;
}

bool api_refuses(struct sim *m, tick_t *after, bool *hangs)
{
    const struct fault_spec *f = api_fault(m->s, FAULT_REFUSE, m->now);
    *hangs = !f;
    if (!f)
        f = api_fault(m->s, FAULT_HANG, m->now);
    if (f)
        *after = f->latency;
    return f != NULL;
}

/* --- Answers. --- */

static int64_t server_time(const struct sim *m) /* in ticks since the epoch */
{
    return EPOCH * TICK_S + m->s->start_at + m->now + m->s->limits.skew * TICK_S;
}

static void field(struct job *j, const char *name, const char *value, int64_t wall)
{
    rate_reading_field(&j->reading, (struct slice){name, strlen(name)}, (struct slice){value, strlen(value)},
                       wall);
}

static void date_field(struct sim *m, struct job *j)
{
    char date[HTTP_DATE_LEN + 1] = "";
    int64_t wall = server_time(m) / TICK_S;
    http_date_write(date, wall);
    rate_reading_begin(&j->reading);
    field(j, "date", date, wall);
}

static void leaves(struct sim *m, struct job *j, int status, tick_t after)
{
    j->in_server = false;
    j->status = status;
    if (!j->waited_for) {
        m->wasted++;
        sim_job_done(m, j);
        return;
    }
    sim_push(m, m->now + after + m->s->upstream.network, EVENT_ANSWER, j->id, j->turn);
}

static void answer(struct sim *m, struct job *j, int status, tick_t after)
{
    if (!j->reading.date)
        date_field(m, j);
    leaves(m, j, status, after);
}

/* --- Rate limits. --- */

static tick_t resets_in(const struct sim *m, const struct limit_spec *l, double level)
{
    if (l->kind == LIMIT_BUCKET) {
        double each = (double)l->window / (double)l->limit;
        return level >= 1 ? 0 : (tick_t)((1 - level) * each);
    }
    return l->window - server_time(m) % l->window;
}

static int64_t seconds_up(tick_t t)
{
    return (t + TICK_S - 1) / TICK_S;
}

/* What one window says about itself, in the dialect. */
static void one_window_says(struct sim *m, struct job *j, const struct limit_spec *l, int64_t left,
                            tick_t reset, int index)
{
    char name[48], value[96];
    const char *calendar = l->window == 60 * TICK_S ? "Minute" : l->window == 3600 * TICK_S ? "Hour" : "Day";
    int64_t wall = server_time(m) / TICK_S;
    if (m->s->limits.dialect == DIALECT_DOCUMENTED) {
        snprintf(name, sizeof name, "X-RateLimit-Limit-%s", calendar);
        snprintf(value, sizeof value, "%lld", (long long)l->limit);
        field(j, name, value, wall);
        snprintf(name, sizeof name, "X-RateLimit-Remaining-%s", calendar);
        snprintf(value, sizeof value, "%lld", (long long)left);
        field(j, name, value, wall);
        snprintf(name, sizeof name, "X-RateLimit-Reset-%s", calendar);
        time_t at = (time_t)((server_time(m) + reset + TICK_S / 2) / TICK_S);
        struct tm tm;
        gmtime_r(&at, &tm);
        strftime(value, sizeof value, "%Y-%m-%dT%H:%M:%SZ", &tm);
        field(j, name, value, wall);
    } else if (m->s->limits.dialect == DIALECT_GITHUB && index == 0) {
        snprintf(value, sizeof value, "%lld", (long long)l->limit);
        field(j, "x-ratelimit-limit", value, wall);
        snprintf(value, sizeof value, "%lld", (long long)left);
        field(j, "x-ratelimit-remaining", value, wall);
        snprintf(value, sizeof value, "%lld", (long long)((server_time(m) + reset + TICK_S - 1) / TICK_S));
        field(j, "x-ratelimit-reset", value, wall);
    } else if (m->s->limits.dialect == DIALECT_DRAFT3 && index == 0) {
        snprintf(value, sizeof value, "%lld, %lld;w=%lld", (long long)l->limit, (long long)l->limit,
                 (long long)(l->window / TICK_S));
        field(j, "ratelimit-limit", value, wall);
        snprintf(value, sizeof value, "%lld", (long long)left);
        field(j, "ratelimit-remaining", value, wall);
        snprintf(value, sizeof value, "%lld", (long long)seconds_up(reset));
        field(j, "ratelimit-reset", value, wall);
    } else if (m->s->limits.dialect == DIALECT_DRAFT7 && index == 0) {
        snprintf(value, sizeof value, "limit=%lld, remaining=%lld, reset=%lld", (long long)l->limit,
                 (long long)left, (long long)seconds_up(reset));
        field(j, "ratelimit", value, wall);
        snprintf(value, sizeof value, "%lld;w=%lld", (long long)l->limit, (long long)(l->window / TICK_S));
        field(j, "ratelimit-policy", value, wall);
    } else if (m->s->limits.dialect == DIALECT_DRAFT8 || m->s->limits.dialect == DIALECT_DRAFT10) {
        const char *quote = m->s->limits.dialect == DIALECT_DRAFT10 ? "\"" : "";
        snprintf(value, sizeof value, "%sp%d%s;r=%lld;t=%lld", quote, index, quote, (long long)left,
                 (long long)seconds_up(reset));
        field(j, "RateLimit", value, wall);
        snprintf(value, sizeof value, "%sp%d%s;q=%lld;w=%lld", quote, index, quote, (long long)l->limit,
                 (long long)(l->window / TICK_S));
        field(j, "RateLimit-Policy", value, wall);
    }
}

/* So many within any such time. */
static bool spend_sliding(struct sim *m, struct key *k, int i, int64_t *left, tick_t *reset)
{
    const struct limit_spec *l = &m->s->limits.item[i];
    if (!k->spent[i].when && !(k->spent[i].when = calloc((size_t)l->limit, sizeof(tick_t))))
        abort(); /* no memory, and no result */
    tick_t *oldest = &k->spent[i].when[k->spent[i].count % l->limit];
    bool good = k->spent[i].count < l->limit || m->now - *oldest >= l->window;
    if (good) {
        *oldest = m->now;
        k->spent[i].count++;
    }
    *left = 0;
    for (int64_t c = 0; c < l->limit; c++)
        *left += c >= k->spent[i].count || m->now - k->spent[i].when[c] >= l->window;
    oldest = &k->spent[i].when[k->spent[i].count % l->limit];
    *reset = *left ? 0 : *oldest + l->window - m->now;
    return good;
}

/* Such a window begins with its first call. */
static bool spend_begun(struct sim *m, struct key *k, int i, int64_t *left, tick_t *reset)
{
    const struct limit_spec *l = &m->s->limits.item[i];
    if (!k->spent[i].index || m->now >= k->spent[i].at + l->window) {
        k->spent[i].index = 1;
        k->spent[i].count = 0;
        k->spent[i].at = m->now;
    }
    bool good = k->spent[i].count < l->limit;
    k->spent[i].count += good;
    *left = l->limit - k->spent[i].count;
    *reset = k->spent[i].at + l->window - m->now;
    return good;
}

/* Takes one call out of one limit. False: it is spent. */
static bool spend(struct sim *m, struct key *k, int i, int64_t *left, tick_t *reset)
{
    const struct limit_spec *l = &m->s->limits.item[i];
    if (l->kind == LIMIT_SLIDING)
        return spend_sliding(m, k, i, left, reset);
    if (l->kind == LIMIT_BEGUN)
        return spend_begun(m, k, i, left, reset);
    int64_t size = l->burst > 0 ? l->burst : l->limit;
    if (l->kind == LIMIT_BUCKET) {
        double more = (double)(m->now - k->spent[i].at) * (double)l->limit / (double)l->window;
        double level = k->spent[i].at || k->spent[i].index ? k->spent[i].level + more : (double)size;
        level = level < (double)size ? level : (double)size;
        bool good = level >= 1;
        k->spent[i].index = 1; /* was used */
        k->spent[i].at = m->now;
        k->spent[i].level = good ? level - 1 : level;
        *left = (int64_t)k->spent[i].level;
        *reset = resets_in(m, l, k->spent[i].level);
        return good;
    }
    int64_t index = server_time(m) / l->window, into = server_time(m) % l->window;
    if (k->spent[i].index != index) {
        k->spent[i].index = index;
        k->spent[i].count = 0;
    }
    int64_t others = m->s->limits.used_by_others * into / (60 * TICK_S);
    bool good = k->spent[i].count + others < l->limit;
    if (good || m->s->limits.count_refused)
        k->spent[i].count++;
    *left = l->limit - k->spent[i].count - others;
    *left = *left > 0 ? *left : 0;
    *reset = resets_in(m, l, 0);
    return good;
}

/* True when the call is refused, and answered. */
static bool limited(struct sim *m, struct job *j)
{
    const struct limits_spec *spec = &m->s->limits;
    int client = m->request[j->request]->client;
    struct key *k = &m->key[spec->per_key ? m->client[client].key : 0];
    bool good = true;
    tick_t longest = 0;
    date_field(m, j);
    for (int i = 0; i < spec->count; i++) {
        int64_t left;
        tick_t reset;
        bool has = spend(m, k, i, &left, &reset);
        if (!has)
            longest = reset > longest ? reset : longest;
        good = good && has;
        one_window_says(m, j, &spec->item[i], left, reset, i);
    }
    if (good) {
        k->accepted++;
        m->accepted += m->now < m->s->duration; /* what waited beyond the end is not weighed against it */
        return false;
    }
    m->throttled++;
    k->throttled++;
    j->throttled = true;
    if (spec->dialect != DIALECT_REAL && spec->dialect != DIALECT_SILENT) {
        char value[24];
        snprintf(value, sizeof value, "%lld", (long long)seconds_up(longest));
        field(j, "retry-after", value, EPOCH);
    }
    answer(m, j, spec->dialect == DIALECT_REAL ? 401 : 429, TICK_MS);
    return true;
}

/* --- Work. --- */

tick_t api_patience(const struct sim *m)
{
    tick_t p = 0, own = m->s->cfg->upstream_response_timeout, one = m->s->cfg->retry_per_try_timeout;
    for (int i = 0; i < m->s->group_count; i++)
        p = m->s->group[i].timeout > p ? m->s->group[i].timeout : p;
    if (one > 0 && one < own)
        own = one;
    return own < p ? own : p;
}

static void work(struct sim *m, struct job *j)
{
    const struct scenario *s = m->s;
    const struct fault_spec *slow = api_fault(s, FAULT_SLOW, m->now),
                            *tail = api_fault(s, FAULT_TAIL, m->now);
    tick_t t = sim_draw(m, &s->upstream.latency);
    if (slow)
        t = (tick_t)((double)t * slow->factor);
    if (tail && rng_double(&m->rng) < tail->share)
        t = tail->latency;
    m->serving++;
    if (m->now / TICK_S < m->seconds) {
        struct second *x = &m->second[m->now / TICK_S];
        x->worked++;
        x->in_time += t <= m->patience;
        x->work += (double)t / (double)TICK_S;
    }
    sim_push(m, m->now + t, EVENT_SERVED, j->id, j->turn);
}

static void take_more(struct sim *m)
{
    int64_t room = m->s->upstream.queue + 1;
    while (m->fifo_length && m->serving < api_workers(m->s, m->now)) {
        struct job *j = m->job[m->fifo[m->fifo_first]];
        m->fifo_first = (int)((m->fifo_first + 1) % room);
        m->fifo_length--;
        if (m->s->upstream.notices_leaving && !j->waited_for)
            leaves(m, j, 0, 0);
        else
            work(m, j);
    }
}

static bool hit(struct sim *m, const struct fault_spec *f)
{
    return f && (f->share >= 1 || rng_double(&m->rng) < f->share);
}

void api_arrive(struct sim *m, struct job *j)
{
    const struct scenario *s = m->s;
    const struct fault_spec *f;
    m->at_server++;
    if (m->now / TICK_S < m->seconds)
        m->second[m->now / TICK_S].sent++;
    j->in_server = true;
    if (api_fault(s, FAULT_HANG, m->now)) {
        j->in_server = false; /* never answered */
        sim_job_done(m, j);
    } else if ((f = outage(s, m->now))) {
        answer(m, j, (int)f->status, f->latency);
    } else if ((f = api_fault(s, FAULT_REFUSE, m->now)) || hit(m, f = api_fault(s, FAULT_RESET, m->now))) {
        j->in_server = false;
        if (j->waited_for)
            sim_push(m, m->now + f->latency, EVENT_BROKEN, j->id, j->turn);
        else
            sim_job_done(m, j);
    } else if (s->limits.count && limited(m, j)) {
        return;
    } else if (hit(m, f = api_fault(s, FAULT_ERRORS, m->now))) {
        answer(m, j, (int)f->status, f->latency);
    } else if (m->serving < api_workers(s, m->now)) {
        work(m, j);
    } else if (m->fifo_length < s->upstream.queue) {
        m->fifo[(m->fifo_first + m->fifo_length++) % (s->upstream.queue + 1)] = j->id;
    } else {
        answer(m, j, 503, TICK_MS);
    }
}

void api_served(struct sim *m, struct job *j)
{
    bool error = m->s->upstream.errors > 0 && rng_double(&m->rng) < m->s->upstream.errors;
    m->serving--;
    take_more(m);
    answer(m, j, error ? (int)m->s->upstream.error_status : 200, 0);
}
