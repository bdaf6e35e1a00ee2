/*
 * The report: one JSON object on standard output, every number in it also known by its path ("latency.p99")
 * so that a scenario's expectations can name it. The oracle is what a sidecar that knew everything could have
 * reached in this run: per second the smaller of what was offered and what the API could serve within the
 * clients' patience, and in all no more than the rate limits give.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/units.h"
#include "tests/sim/resilience/sim.h"

#define MOST_NUMBERS 1200
#define DRAWS        200000 /* where the run has too few: the bound to 0.2 % */
#define DRAWN_ENOUGH 500

struct number {
    char path[64];
    double value;
};

struct out {
    struct number number[MOST_NUMBERS];
    int numbers;
    char path[64];
    bool first; /* in the present object */
};

/* --- JSON. --- */

static void indent(struct out *o, const char *name)
{
    int depth = 1;
    for (const char *p = o->path; *p; p++)
        depth += *p == '.' || *p == '[';
    depth += *o->path != '\0';
    printf("%s\n%*s", o->first ? "" : ",", depth * 2, "");
    if (name)
        printf("\"%s\": ", name);
    o->first = false;
}

static void number(struct out *o, const char *name, double v)
{
    indent(o, name);
    if (v == (double)(int64_t)v && fabs(v) < 1e15)
        printf("%lld", (long long)v);
    else
        printf("%.6g", v);
    if (o->numbers < MOST_NUMBERS) {
        struct number *n = &o->number[o->numbers++];
        if ((size_t)snprintf(n->path, sizeof n->path, "%s%s%s", o->path, *o->path ? "." : "", name) >=
            sizeof n->path)
            o->numbers--;
        n->value = v;
    }
}

static void quoted(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        if ((unsigned char)*text >= 32)
            putchar(*text);
    }
    putchar('"');
}

static void word(struct out *o, const char *name, const char *text)
{
    indent(o, name);
    quoted(text);
}

static void open_object(struct out *o, const char *name)
{
    indent(o, name);
    putchar('{');
    size_t n = strlen(o->path);
    snprintf(o->path + n, sizeof o->path - n, "%s%s", n ? "." : "", name);
    o->first = true;
}

static void close_object(struct out *o)
{
    char *dot = strrchr(o->path, '.');
    *(dot ? dot : o->path) = '\0';
    int depth = 1;
    for (const char *p = o->path; *p; p++)
        depth += *p == '.';
    printf("\n%*s}", (depth + (*o->path != '\0')) * 2, "");
    o->first = false;
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

/* --- The oracle. --- */

struct bound {
    double good, offered;
};

/* Share of calls that the API answers in time at this moment, nobody waiting for a worker. */
static double in_time(struct sim *m, tick_t at, double *mean)
{
    const struct fault_spec *slow = api_fault(m->s, FAULT_SLOW, at), *tail = api_fault(m->s, FAULT_TAIL, at);
    int good = 0;
    double sum = 0;
    tick_t most = m->patience;
    for (int i = 0; i < DRAWS; i++) {
        tick_t t = sim_draw(m, &m->s->upstream.latency);
        if (slow)
            t = (tick_t)((double)t * slow->factor);
        if (tail && rng_double(&m->rng) < tail->share)
            t = tail->latency;
        good += t <= most;
        sum += (double)t;
    }
    *mean = sum / DRAWS / 1e9;
    return good / (double)DRAWS;
}

static bool same_weather(const struct scenario *s, tick_t a, tick_t b)
{
    for (int i = 0; i < s->fault_count; i++) {
        const struct fault_spec *f = &s->fault[i];
        if ((a >= f->at && a < f->at + f->length) != (b >= f->at && b < f->at + f->length))
            return false;
    }
    return true;
}

/*
 * The same from the calls that the API did work on in the same weather: the luck of the dice is the oracle's
 * as well. How long a call takes does not depend on who sent it when, so this favours nobody.
 */
static double in_time_drawn(struct sim *m, tick_t at, tick_t from, tick_t to, double *mean)
{
    double worked = 0, good = 0, work = 0;
    for (tick_t t = from; t < to; t += TICK_S) {
        const struct second *x = &m->second[t / TICK_S];
        bool same = same_weather(m->s, at, t);
        worked += same ? x->worked : 0;
        good += same ? x->in_time : 0;
        work += same ? x->work : 0;
    }
    if (worked < DRAWN_ENOUGH)
        return in_time(m, at, mean);
    *mean = work / worked;
    return good / worked;
}

static struct bound bound_between(struct sim *m, tick_t from, tick_t to)
{
    struct bound b = {0, 0};
    double mean = 0, p = 0;
    tick_t known = -1;
    for (tick_t t = from; t < to; t += TICK_S) {
        const struct second *x = &m->second[t / TICK_S];
        b.offered += x->offered;
        if (known < 0 || !same_weather(m->s, known, t)) {
            p = in_time_drawn(m, t, from, to, &mean);
            known = t;
        }
        const struct fault_spec *e = api_fault(m->s, FAULT_ERRORS, t), *r = api_fault(m->s, FAULT_RESET, t);
        if (api_down(m->s, t) || (e && e->share >= 1) || (r && r->share >= 1))
            continue;
        double can = mean > 0 ? api_workers(m->s, t) / mean : 1e12;
        b.good += (x->offered < can ? x->offered : can) * p;
    }
    return b;
}

/* What the rate limits give for the time of the run, spent evenly. */
static double quota_bound(const struct sim *m)
{
    double least = INFINITY;
    const struct limits_spec *l = &m->s->limits;
    double keys = l->per_key ? m->key_count : 1, run = (double)m->s->duration;
    for (int i = 0; i < l->count; i++) {
        const struct limit_spec *x = &l->item[i];
        double calls = (double)x->limit * run / (double)x->window - (double)l->used_by_others * run / 60e9;
        if ((double)x->window > run) /* one window alone */
            calls = (double)x->limit;
        if (x->kind == LIMIT_BUCKET)
            calls += (double)(x->burst ? x->burst : x->limit);
        least = keys * calls < least ? keys * calls : least;
    }
    return least;
}

/* --- Parts. --- */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void latency(struct out *o, struct sim *m)
{
    static const struct {
        const char *name;
        double q;
    } rows[] = {{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    double sum = 0;
    size_t n = m->latencies;
    if (n)
        qsort(m->latency, n, sizeof *m->latency, by_value);
    for (size_t i = 0; i < n; i++)
        sum += m->latency[i];
    open_object(o, "latency"); /* seconds, of what was answered well, from the client's first try on */
    number(o, "mean", n ? sum / (double)n : 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t at = (size_t)ceil(rows[i].q * (double)n);
        number(o, rows[i].name, n ? m->latency[at ? at - 1 : 0] : 0);
    }
    close_object(o);
}

static void failures(struct out *o, const struct sim *m)
{
    open_object(o, "failed");
    for (int i = 0; i < WHY_ROWS && m->failed[i].why; i++)
        number(o, m->failed[i].why, (double)m->failed[i].count);
    close_object(o);
}

static void breaker(struct out *o, const struct sim *m)
{
    open_object(o, "breaker");
    number(o, "opened", m->breaker.opened);
    number(o, "transition_count", m->transitions);
    indent(o, "transitions");
    putchar('[');
    for (int i = 0; i < m->transitions && i < MOST_TRANSITIONS; i++) {
        const struct transition *t = &m->transition[i];
        printf("%s\n      {\"at\": %.3f, \"from\": \"%s\", \"to\": \"%s\", \"cause\": \"%s\"}", i ? "," : "",
               (double)t->at / 1e9, breaker_state_name((enum breaker_state)t->from),
               breaker_state_name((enum breaker_state)t->to),
               t->to == BREAKER_OPEN ? breaker_cause_name((enum breaker_cause)t->cause) : "none");
    }
    printf("%s]", m->transitions ? "\n    " : "");
    close_object(o);
}

static void quota(struct out *o, struct sim *m)
{
    double waited = 0, refused = 0, limit = quota_bound(m);
    for (int i = 0; i < m->key_count; i++) {
        waited += (double)m->key[i].quota.waited;
        refused += (double)m->key[i].quota.refused;
    }
    open_object(o, "quota");
    number(o, "accepted", (double)m->accepted);
    number(o, "upstream_refusals", (double)m->throttled);
    number(o, "refusals_per_accepted", share((double)m->throttled, (double)m->accepted));
    number(o, "waited", waited);
    number(o, "refused_here", refused);
    if (isfinite(limit))
        number(o, "used_share", share((double)m->accepted, limit));
    double least = INFINITY, most = 0, sum = 0;
    for (int i = 0; i < m->client_count; i++) {
        if (m->s->group[m->client[i].group].background)
            continue;
        double n = (double)m->client[i].good;
        least = n < least ? n : least;
        most = n > most ? n : most;
        sum += n;
    }
    double mean = share(sum, m->client_count);
    number(o, "share_least", share(least, mean));
    number(o, "share_most", share(most, mean));
    close_object(o);
}

static void controllers(struct out *o, struct sim *m)
{
    open_object(o, "retry");
    number(o, "retries", (double)m->retries);
    number(o, "late_attempts", (double)m->late);
    number(o, "client_retries", (double)m->client_retries);
    close_object(o);
    breaker(o, m);
    open_object(o, "concurrency");
    number(o, "limit", concurrency_limit(&m->limit));
    number(o, "healthy", m->limit.healthy);
    number(o, "most_in_flight", m->most_in_flight);
    number(o, "waited", (double)m->limit.waited);
    number(o, "refused", (double)m->limit.refused);
    close_object(o);
    if (m->s->limits.count)
        quota(o, m);
    open_object(o, "hedge");
    number(o, "sent", (double)m->hedges);
    number(o, "won", (double)m->hedges_won);
    number(o, "extra_load", share((double)m->hedges, (double)(m->attempts - m->hedges)));
    close_object(o);
    open_object(o, "pool");
    number(o, "most_open", m->most_open);
    number(o, "waits", (double)m->connect_waits);
    number(o, "longest_wait", (double)m->longest_connect_wait / 1e9);
    if (m->s->upstream.connect_time > 0)
        number(o, "longest_wait_in_connects",
               (double)m->longest_connect_wait / (double)m->s->upstream.connect_time);
    close_object(o);
}

/* From the end of the fault to the first of five seconds in a row that reach 95 % of the bound. */
static double recovery(struct sim *m, tick_t end)
{
    int row = 0, first = (int)((end + TICK_S - 1) / TICK_S), last = (int)(m->s->duration / TICK_S);
    for (int i = first; i < last; i++) {
        const struct second *x = &m->second[i];
        row = x->offered == 0 || x->good >= 0.95 * x->offered ? row + 1 : 0;
        if (row == 5)
            return (double)(i - 4) - (double)end / 1e9;
    }
    return -1;
}

static void faults(struct out *o, struct sim *m)
{
    static const char *const kinds[] = {"outage", "refuse",  "hang", "slow", "errors",
                                        "reset",  "workers", "flap", "tail"};
    for (int i = 0; i < m->s->fault_count; i++) {
        const struct fault_spec *f = &m->s->fault[i];
        tick_t to = f->at + f->length < m->s->duration ? f->at + f->length : m->s->duration,
               next = m->s->duration;
        char name[24];
        double offered = 0, good = 0, sent = 0, after_offered = 0, after_good = 0;
        if (f->at >= m->s->duration)
            continue;
        for (int k = 0; k < m->s->fault_count; k++)
            if (m->s->fault[k].at >= to && m->s->fault[k].at < next)
                next = m->s->fault[k].at;
        for (tick_t t = f->at; t < next; t += TICK_S) {
            const struct second *x = &m->second[t / TICK_S];
            *(t < to ? &offered : &after_offered) += x->offered;
            *(t < to ? &good : &after_good) += x->good;
            sent += t < to ? x->sent : 0;
        }
        struct bound b = bound_between(m, f->at, to);
        snprintf(name, sizeof name, "fault_%d", i + 1);
        open_object(o, name);
        word(o, "kind", kinds[f->kind]);
        number(o, "at", (double)f->at / 1e9);
        number(o, "until", (double)to / 1e9);
        number(o, "offered", offered);
        number(o, "load", share(sent, offered)); /* calls at the API for each request offered */
        number(o, "goodput", share(good, offered));
        number(o, "oracle", share(b.good, b.offered));
        number(o, "of_oracle", b.good > 0 ? good / b.good : 1);
        number(o, "goodput_after", after_offered > 0 ? after_good / after_offered : 1);
        number(o, "recovery", recovery(m, to));
        close_object(o);
    }
}

static void totals(struct out *o, struct sim *m)
{
    double seconds = (double)(m->s->duration - m->s->warmup) / 1e9;
    struct bound b = bound_between(m, m->s->warmup, m->s->duration);
    double most = quota_bound(m);
    most = b.good < most ? b.good : most;
    number(o, "offered", (double)m->offered);
    number(o, "good", (double)m->good);
    open_object(o, "goodput");
    number(o, "share", share((double)m->good, (double)m->offered));
    number(o, "rate", (double)m->good / seconds);
    number(o, "of_oracle", most > 0 ? (double)m->good / most : 1);
    close_object(o);
    open_object(o, "oracle");
    number(o, "good", floor(most));
    number(o, "share", share(most, (double)m->offered));
    close_object(o);
    number(o, "attempts", (double)m->attempts);
    number(o, "amplification", share((double)m->at_server, (double)m->offered));
    number(o, "wasted", (double)m->wasted); /* work that nobody waited for any more */
    failures(o, m);
    latency(o, m);
}

/* --- Expectations. --- */

static bool holds(const char *bound, double v)
{
    double limit = 0;
    const char *p = bound + strspn(bound, "<>= ");
    if (!units_parse_real(p, &limit))
        return false;
    if (strncmp(bound, ">=", 2) == 0)
        return v >= limit;
    if (strncmp(bound, "<=", 2) == 0)
        return v <= limit;
    return *bound == '>' ? v > limit : *bound == '<' ? v < limit : fabs(v - limit) < 1e-12;
}

static bool expectations(const struct out *o, const struct scenario *s)
{
    bool met = true;
    for (int i = 0; i < s->expect_count; i++) {
        const struct expectation *e = &s->expect[i];
        const struct number *found = NULL;
        for (int k = 0; k < o->numbers; k++)
            if (strcmp(o->number[k].path, e->name) == 0)
                found = &o->number[k];
        if (found && holds(e->bound, found->value))
            continue;
        met = false;
        if (found)
            fprintf(stderr, "%s:%d:%d: %s is %g, expected %s\n", e->place.name, e->place.line,
                    e->place.column, e->name, found->value, e->bound);
        else
            fprintf(stderr, "%s:%d:%d: the report has no %s\n", e->place.name, e->place.line, e->place.column,
                    e->name);
    }
    return met;
}

bool report_print(struct sim *m, struct sim *bare)
{
    struct out *o = calloc(1, sizeof *o);
    if (!o)
        return false;
    putchar('{');
    o->first = true;
    word(o, "scenario", m->s->name);
    number(o, "seed", (double)m->s->seed);
    number(o, "duration", (double)m->s->duration / 1e9);
    totals(o, m);
    controllers(o, m);
    faults(o, m);
    if (bare) {
        open_object(o, "without");
        totals(o, bare);
        faults(o, bare);
        close_object(o);
    }
    bool met = expectations(o, m->s);
    if (m->s->expect_count) {
        indent(o, "expectations_met");
        printf("%s", met ? "true" : "false");
    }
    printf("\n}\n");
    free(o);
    return met;
}
