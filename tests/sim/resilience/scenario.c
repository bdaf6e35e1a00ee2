/*
 * Reads scenarios. The tables below are the format: they make the parser, the messages about unknown keys and
 * --help. The only place of resilience-sim that knows libyaml. Invariants: every error has a place; a file
 * with any error gives no scenario.
 */
#include "tests/sim/resilience/scenario.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "policy/suggest.h"
#include "policy/units.h"

enum { DEEPEST = 16 };

enum kind {
    DURATION,
    REAL,
    SHARE,
    WHOLE,
    YES_NO,
    WORD,
    TEXT,
    LATENCY,
    PHASES,
    GROUPS,
    SERVICE,
    FAULTS,
    LIMITS,
    WINDOWS,
    SIDECAR,
    EXPECT,
    MINUTE,
    HOUR,
    DAY
};

struct key {
    const char *name;
    enum kind kind;
    size_t offset, size; /* size: of a TEXT */
    const char *const *words;
    const char *help;
};

static const char *const shape_words[] = {"exponential", "constant", "lognormal", "uniform", "pareto", NULL};
static const char *const arrival_words[] = {"poisson", "even", "closed", NULL};
static const char *const method_words[] = {"get", "post", NULL};
static const char *const keys_words[] = {"shared", "each", NULL};
static const char *const backoff_words[] = {"exponential", "fixed", NULL};
static const char *const fault_words[] = {"outage", "refuse",  "hang", "slow", "errors",
                                          "reset",  "workers", "flap", "tail", NULL};
static const char *const limit_words[] = {"window", "bucket", "sliding", "begun", NULL};
static const char *const dialect_words[] = {"real",   "documented", "github",      "draft3", "draft7",
                                            "draft8", "draft10",    "retry_after", "silent", NULL};

#define AT(type, member) offsetof(struct type, member)
static const struct key latency_keys[] = {
    {"mean", DURATION, AT(latency, mean), 0, NULL, "of one call"},
    {"distribution", WORD, AT(latency, shape), 0, shape_words,
     "exponential, constant, lognormal, uniform (0 to twice the mean), pareto"},
    {"sigma", REAL, AT(latency, sigma), 0, NULL,
     "lognormal: of the logarithm (0.5); pareto: the exponent (2)"},
    {"tail_share", SHARE, AT(latency, tail_share), 0, NULL, "this share of the calls ..."},
    {"tail_latency", DURATION, AT(latency, tail_latency), 0, NULL, "... takes so long instead"},
    {NULL, WORD, 0, 0, NULL, NULL}};
static const struct key phase_keys[] = {
    {"at", DURATION, AT(phase, at), 0, NULL, "from then on"},
    {"rate", REAL, AT(phase, rate), 0, NULL, "requests a second of each client"},
    {NULL, WORD, 0, 0, NULL, NULL}};
static const struct key group_keys[] = {
    {"name", TEXT, AT(group, name), sizeof(((struct group *)0)->name), NULL, "for the report"},
    {"count", WHOLE, AT(group, count), 0, NULL, "clients (1)"},
    {"rate", REAL, AT(group, rate), 0, NULL, "requests a second of each client"},
    {"arrival", WORD, AT(group, arrival), 0, arrival_words,
     "poisson, even, or closed: the next one `think` after the answer"},
    {"think", DURATION, AT(group, think), 0, NULL, "closed: between answer and next request"},
    {"timeout", DURATION, AT(group, timeout), 0, NULL, "the client gives up (30s)"},
    {"retries", WHOLE, AT(group, retries), 0, NULL, "of the client itself, on top of the sidecar's (0)"},
    {"retry_delay", DURATION, AT(group, retry_delay), 0, NULL, "before the client's first retry (1s)"},
    {"retry_backoff", WORD, AT(group, retry_backoff), 0, backoff_words, "exponential or fixed"},
    {"marks_retries", YES_NO, AT(group, marks_retries), 0, NULL,
     "the client says that a request is a retry, and the sidecar leaves retrying to it"},
    {"method", WORD, AT(group, method), 0, method_words, "get, or post: not idempotent"},
    {"keys", WORD, AT(group, keys), 0, keys_words, "shared: one API key; each: one for each client"},
    {"start", DURATION, AT(group, start), 0, NULL, "first request"},
    {"stop", DURATION, AT(group, stop), 0, NULL, "no more requests (the end)"},
    {"background", YES_NO, AT(group, background), 0, NULL, "prefetches: spend the spare quota only"},
    {"phases", PHASES, 0, 0, NULL, "list of {at, rate}: the rate changes"},
    {NULL, WORD, 0, 0, NULL, NULL}};
static const struct key service_keys[] = {
    {"workers", WHOLE, AT(service, workers), 0, NULL,
     "calls that it works on at once (100); also called capacity"},
    {"capacity", WHOLE, AT(service, workers), 0, NULL, NULL},
    {"latency", LATENCY, AT(service, latency), 0, NULL,
     "a duration, or {mean, distribution, ...} (100ms, exponential)"},
    {"queue", WHOLE, AT(service, queue), 0, NULL,
     "calls that wait for a worker; more are answered 503 (4000)"},
    {"connect_time", DURATION, AT(service, connect_time), 0, NULL, "for a new connection (0)"},
    {"network", DURATION, AT(service, network), 0, NULL, "one way (0)"},
    {"errors", SHARE, AT(service, errors), 0, NULL, "share of calls that fail all the time (0)"},
    {"error_status", WHOLE, AT(service, error_status), 0, NULL, "with this status (503)"},
    {"notices_leaving", YES_NO, AT(service, notices_leaving), 0, NULL,
     "drops the work when the caller has left (false)"},
    {NULL, WORD, 0, 0, NULL, NULL}};
static const struct key fault_keys[] = {
    {"at", DURATION, AT(fault_spec, at), 0, NULL, "begins"},
    {"for", DURATION, AT(fault_spec, length), 0, NULL, "lasts"},
    {"kind", WORD, AT(fault_spec, kind), 0, fault_words,
     "outage (answers `status` at once), refuse (no connection is taken, those that are there break), hang "
     "(no answer), slow (`factor` times), "
     "errors (`share` of calls `status`), reset (`share`), "
     "workers (`workers` left), flap (outage for half of each `period`), tail (`share` of calls takes "
     "`latency`)"},
    {"factor", REAL, AT(fault_spec, factor), 0, NULL, "slow: times as long (5)"},
    {"share", SHARE, AT(fault_spec, share), 0, NULL, "of the calls that it hits (1)"},
    {"status", WHOLE, AT(fault_spec, status), 0, NULL, "outage, errors, flap (503)"},
    {"workers", WHOLE, AT(fault_spec, workers), 0, NULL, "workers: how many are left"},
    {"latency", DURATION, AT(fault_spec, latency), 0, NULL,
     "outage, errors, refuse, flap: how fast it fails (5ms); tail: how slow"},
    {"period", DURATION, AT(fault_spec, period), 0, NULL, "flap: down and up again (10s)"},
    {NULL, WORD, 0, 0, NULL, NULL}};
static const struct key limit_keys[] = {
    {"limit", WHOLE, AT(limit_spec, limit), 0, NULL, "calls a window"},
    {"window", DURATION, AT(limit_spec, window), 0, NULL, "its length"},
    {"kind", WORD, AT(limit_spec, kind), 0, limit_words,
     "window: fixed, from the minute on; bucket: refilled evenly"},
    {"burst", WHOLE, AT(limit_spec, burst), 0, NULL, "bucket: its size (the limit)"},
    {NULL, WORD, 0, 0, NULL, NULL}};
static const struct key limits_keys[] = {
    {"minute", MINUTE, 0, 0, NULL, "calls a minute"},
    {"hour", HOUR, 0, 0, NULL, "calls an hour"},
    {"day", DAY, 0, 0, NULL, "calls a day"},
    {"windows", WINDOWS, 0, 0, NULL, "list of {limit, window, kind, burst}"},
    {"dialect", WORD, AT(limits_spec, dialect), 0, dialect_words,
     "how it says so: real (401 in disguise, no headers), documented (X-RateLimit-*-Minute), github "
     "(X-RateLimit-*), draft3, draft7, draft8, draft10 (RateLimit), "
     "retry_after (429 with Retry-After), silent (429 and nothing)"},
    {"per_key", YES_NO, AT(limits_spec, per_key), 0, NULL, "each API key has its own (true)"},
    {"count_refused", YES_NO, AT(limits_spec, count_refused), 0, NULL, "refused calls count too (true)"},
    {"skew", WHOLE, AT(limits_spec, skew), 0, NULL, "seconds that the server's clock is ahead of ours (0)"},
    {"used_by_others", WHOLE, AT(limits_spec, used_by_others), 0, NULL,
     "calls a minute with the same key from elsewhere (0)"},
    {NULL, WORD, 0, 0, NULL, NULL}};
static const struct key root_keys[] = {
    {"name", TEXT, AT(scenario, name), sizeof(((struct scenario *)0)->name), NULL, "for the report"},
    {"description", TEXT, AT(scenario, description), sizeof(((struct scenario *)0)->description), NULL,
     "what it shows"},
    {"seed", WHOLE, AT(scenario, seed), 0, NULL, "of the dice (1): the same seed gives the same run"},
    {"duration", DURATION, AT(scenario, duration), 0, NULL,
     "of new requests (60s); what is under way is finished"},
    {"warmup", DURATION, AT(scenario, warmup), 0, NULL, "requests before it are not counted (0)"},
    {"start_at", DURATION, AT(scenario, start_at), 0, NULL, "where in the hour it begins, for limits (0)"},
    {"clients", GROUPS, 0, 0, NULL, "one group of clients, or a list of them"},
    {"upstream", SERVICE, 0, 0, NULL, "the API; also called origin"},
    {"origin", SERVICE, 0, 0, NULL, NULL},
    {"faults", FAULTS, 0, 0, NULL, "list of what goes wrong; also called outages"},
    {"outages", FAULTS, 0, 0, NULL, NULL},
    {"limits", LIMITS, 0, 0, NULL, "the API's rate limits"},
    {"sidecar", SIDECAR, 0, 0, NULL, "any of the sidecar's own settings, as in its configuration file"},
    {"compare", YES_NO, AT(scenario, without), 0, NULL,
     "run once more without sidecar, and report it as `without` (false)"},
    {"expect", EXPECT, 0, 0, NULL,
     "names of the report and their bounds, `goodput.share: \">= 0.97\"`: a breach is exit code 1"},
    {NULL, WORD, 0, 0, NULL, NULL}};

struct reader {
    yaml_document_t doc;
    const char *path;
    struct scenario *s;
    struct config_draft *draft;
    struct config_errors *errors;
};

static struct config_place place_of(const struct reader *r, const yaml_node_t *n)
{
    return (struct config_place){CONFIG_FROM_FILE, r->path, (int)n->start_mark.line + 1,
                                 (int)n->start_mark.column + 1};
}

static void complain(struct reader *r, const yaml_node_t *n, const char *key, const char *what)
{
    struct config_place place = place_of(r, n);
    config_errors_add(r->errors, &place, key, "%s", what);
}

static const yaml_node_t *node(struct reader *r, int id)
{
    return yaml_document_get_node(&r->doc, id);
}

static const char *text(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : "";
}

static bool is_nothing(const yaml_node_t *n)
{
    const char *v = text(n);
    return n->type == YAML_SCALAR_NODE && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*v || strcmp(v, "~") == 0 || strcmp(v, "null") == 0);
}

static bool read_word(struct reader *r, const yaml_node_t *n, const char *key, const char *const *words,
                      int *out)
{
    char what[400] = "not one of ";
    for (int i = 0; words[i]; i++)
        if (n->type == YAML_SCALAR_NODE && strcmp(words[i], text(n)) == 0) {
            *out = i;
            return true;
        }
    for (int i = 0; words[i]; i++)
        snprintf(what + strlen(what), sizeof what - strlen(what), "%s%s", i ? ", " : "", words[i]);
    complain(r, n, key, what);
    return false;
}

static void read_map(struct reader *r, const yaml_node_t *n, const char *at, const struct key *keys,
                     void *to);

static void read_scalar(struct reader *r, const yaml_node_t *n, const char *key, const struct key *k,
                        void *to)
{
    const char *v = text(n);
    if (n->type != YAML_SCALAR_NODE)
        complain(r, n, key, "must be one value");
    else if (k->kind == DURATION && !units_parse_duration(v, to))
        complain(r, n, key, "not a duration, allowed: 250ms, 30s, 5m, 1h or seconds");
    else if ((k->kind == REAL || k->kind == SHARE) &&
             (!units_parse_real(v, to) || *(double *)to < 0 || (k->kind == SHARE && *(double *)to > 1)))
        complain(r, n, key, k->kind == SHARE ? "not a share, allowed: 0 to 1" : "not a number of 0 or more");
    else if (k->kind == WHOLE && (!units_parse_int(v, to) || *(int64_t *)to > 100000000 ||
                                  (*(int64_t *)to < 0 && strcmp(k->name, "skew") != 0)))
        complain(r, n, key, "not a whole number from 0 to 100000000");
    else if (k->kind == YES_NO && !units_parse_bool(v, to))
        complain(r, n, key, "not true or false");
    else if (k->kind == TEXT && (size_t)snprintf(to, k->size, "%s", v) >= k->size)
        complain(r, n, key, "too long");
}

/* Runs `each` over the members of a list, or once over what is none. */
static void each(struct reader *r, const yaml_node_t *n, const char *key,
                 void (*one)(struct reader *, const yaml_node_t *, const char *))
{
    char at[240];
    if (n->type != YAML_SEQUENCE_NODE) {
        one(r, n, key);
        return;
    }
    for (int i = 0; n->data.sequence.items.start + i < n->data.sequence.items.top; i++) {
        snprintf(at, sizeof at, "%s[%d]", key, i);
        one(r, node(r, n->data.sequence.items.start[i]), at);
    }
}

static bool full(struct reader *r, const yaml_node_t *n, const char *key, int count, int most)
{
    if (count < most)
        return false;
    complain(r, n, key, "too many of them");
    return true;
}

static void one_phase(struct reader *r, const yaml_node_t *n, const char *key)
{
    struct group *g = &r->s->group[r->s->group_count];
    if (!full(r, n, key, g->phase_count, MOST_PHASES))
        read_map(r, n, key, phase_keys, &g->phase[g->phase_count++]);
}

static void one_group(struct reader *r, const yaml_node_t *n, const char *key)
{
    struct scenario *s = r->s;
    if (full(r, n, key, s->group_count, MOST_GROUPS))
        return;
    struct group *g = &s->group[s->group_count];
    *g = (struct group){.count = 1, .timeout = 30 * TICK_S, .retry_delay = TICK_S};
    read_map(r, n, key, group_keys, g);
    if (g->count < 1 || g->count > 10000)
        complain(r, n, key, "count must be from 1 to 10000");
    if (g->arrival != ARRIVAL_CLOSED && g->rate <= 0 && !g->phase_count)
        complain(r, n, key, "needs a rate above 0, phases, or arrival: closed");
    if (g->rate * (double)g->count > 1e6)
        complain(r, n, key, "more than a million requests a second");
    if (g->timeout <= 0)
        complain(r, n, key, "timeout must be above 0");
    for (int i = 1; i < g->phase_count; i++)
        if (g->phase[i].at <= g->phase[i - 1].at)
            complain(r, n, key, "phases must be in order of time");
    s->group_count++;
}

static void one_fault(struct reader *r, const yaml_node_t *n, const char *key)
{
    struct scenario *s = r->s;
    if (full(r, n, key, s->fault_count, MOST_FAULTS))
        return;
    struct fault_spec *f = &s->fault[s->fault_count++];
    *f = (struct fault_spec){
        .kind = -1, .factor = 5, .share = 1, .status = 503, .latency = 5 * TICK_MS, .period = 10 * TICK_S};
    read_map(r, n, key, fault_keys, f);
    if (f->kind < 0)
        complain(r, n, key, "has no kind");
    if (f->length <= 0)
        complain(r, n, key, "has no length: for");
    if (f->status < 100 || f->status > 599)
        complain(r, n, key, "status must be from 100 to 599");
    if (f->period <= 0)
        complain(r, n, key, "period must be above 0");
}

static void add_limit(struct reader *r, const yaml_node_t *n, const char *key, struct limit_spec spec)
{
    struct limits_spec *l = &r->s->limits;
    if (full(r, n, key, l->count, MOST_LIMITS))
        return;
    if (spec.limit < 1 || spec.window < TICK_MS)
        complain(r, n, key, "needs a limit and a window");
    else
        l->item[l->count++] = spec;
}

static void one_window(struct reader *r, const yaml_node_t *n, const char *key)
{
    struct limit_spec spec = {0};
    read_map(r, n, key, limit_keys, &spec);
    add_limit(r, n, key, spec);
}

static void read_calendar(struct reader *r, const yaml_node_t *n, const char *key, tick_t window)
{
    struct limit_spec spec = {.window = window};
    if (!units_parse_int(text(n), &spec.limit))
        complain(r, n, key, "not a whole number");
    else
        add_limit(r, n, key, spec);
}

static void read_latency(struct reader *r, const yaml_node_t *n, const char *key, struct latency *to)
{
    if (n->type == YAML_MAPPING_NODE) {
        read_map(r, n, key, latency_keys, to);
        if (to->sigma == 0)
            to->sigma = to->shape == SHAPE_PARETO ? 2 : 0.5;
        if (to->shape == SHAPE_PARETO && to->sigma <= 1)
            complain(r, n, key, "a pareto distribution has a mean only with sigma above 1");
    } else if (n->type != YAML_SCALAR_NODE || !units_parse_duration(text(n), &to->mean)) {
        complain(r, n, key, "not a duration, nor {mean, distribution, ...}");
    }
}

static void read_expect(struct reader *r, const yaml_node_t *n, const char *key)
{
    struct scenario *s = r->s;
    if (n->type != YAML_MAPPING_NODE) {
        complain(r, n, key, "must be a mapping from names of the report to bounds");
        return;
    }
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        const yaml_node_t *k = node(r, p->key), *v = node(r, p->value);
        if (full(r, k, key, s->expect_count, MOST_EXPECT))
            return;
        struct expectation *e = &s->expect[s->expect_count++];
        e->place = place_of(r, v);
        if ((size_t)snprintf(e->name, sizeof e->name, "%s", text(k)) >= sizeof e->name ||
            (size_t)snprintf(e->bound, sizeof e->bound, "%s", text(v)) >= sizeof e->bound)
            complain(r, k, key, "too long");
        double bound;
        if (!strchr("<>=", e->bound[0]) || !units_parse_real(e->bound + strspn(e->bound, "<>= "), &bound))
            complain(r, v, e->name,
                     "not a bound, allowed: \">= 0.97\", \"<= 10\", \"> 0\", \"< 1\", \"= 0\"");
    }
}

/* Hands a part of the document to the sidecar's own reader of settings. */
static void to_draft(struct reader *r, const yaml_node_t *n, const yaml_node_t *k, const char *key, int depth)
{
    char under[256];
    if (depth > DEEPEST) { /* an alias of what it is in goes on for ever */
        complain(r, k ? k : n, key, "is nested too deeply");
        return;
    }
    const yaml_node_t *at = k && n->type != YAML_SCALAR_NODE ? k : n;
    struct config_entry e = {.key = key, .value = text(n), .place = place_of(r, at)};
    if (k) {
        e.key_line = (int)k->start_mark.line + 1;
        e.key_column = (int)k->start_mark.column + 1;
    }
    e.shape = n->type == YAML_SCALAR_NODE
                  ? (*text(n)                                          ? CONFIG_SCALAR
                     : n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? CONFIG_NOTHING
                                                                       : CONFIG_SCALAR)
              : n->type == YAML_SEQUENCE_NODE ? CONFIG_SEQUENCE
                                              : CONFIG_MAPPING;
    if (*key && !config_draft_put(r->draft, &e))
        r->errors->out_of_memory = true;
    if (n->type == YAML_SEQUENCE_NODE) {
        for (int i = 0; n->data.sequence.items.start + i < n->data.sequence.items.top; i++) {
            const yaml_node_t *item = node(r, n->data.sequence.items.start[i]);
            if (snprintf(under, sizeof under, "%s[%d]", key, i) >= (int)sizeof under)
                complain(r, item, key, "is too long a name");
            else
                to_draft(r, item, NULL, under, depth + 1);
        }
    } else if (n->type == YAML_MAPPING_NODE) {
        for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
            const yaml_node_t *name = node(r, p->key);
            if (snprintf(under, sizeof under, "%s%s%s", key, *key ? "." : "", text(name)) >=
                (int)sizeof under)
                complain(r, name, key, "has too long a name in it");
            else
                to_draft(r, node(r, p->value), name, under, depth + 1);
        }
    }
}

static void read_value(struct reader *r, const yaml_node_t *n, const char *key, const struct key *k,
                       char *base)
{
    struct scenario *s = r->s;
    switch (k->kind) {
    case WORD:
        (void)read_word(r, n, key, k->words, (int *)(void *)(base + k->offset));
        break;
    case LATENCY:
        read_latency(r, n, key, (struct latency *)(void *)(base + k->offset));
        break;
    case PHASES:
        each(r, n, key, one_phase);
        break;
    case GROUPS:
        each(r, n, key, one_group);
        break;
    case SERVICE:
        read_map(r, n, key, service_keys, &s->upstream);
        break;
    case FAULTS:
        each(r, n, key, one_fault);
        break;
    case LIMITS:
        read_map(r, n, key, limits_keys, &s->limits);
        break;
    case WINDOWS:
        each(r, n, key, one_window);
        break;
    case MINUTE:
    case HOUR:
    case DAY:
        read_calendar(r, n, key, (k->kind == MINUTE ? 60 : k->kind == HOUR ? 3600 : 86400) * TICK_S);
        break;
    case SIDECAR:
        if (n->type == YAML_MAPPING_NODE)
            to_draft(r, n, NULL, "", 0);
        else
            complain(r, n, key, "must be a mapping of the sidecar's settings");
        break;
    case EXPECT:
        read_expect(r, n, key);
        break;
    default:
        read_scalar(r, n, key, k, base + k->offset);
        break;
    }
}

static void unknown(struct reader *r, const yaml_node_t *k, const char *path, const struct key *keys)
{
    char what[500];
    struct suggestion near = {.typed = text(k)};
    for (const struct key *i = keys; i->name; i++)
        (void)suggest_offer(&near, i->name);
    if (near.best) {
        snprintf(what, sizeof what, "no such key; did you mean %s?", near.best);
    } else {
        snprintf(what, sizeof what, "no such key, allowed: ");
        for (const struct key *i = keys; i->name; i++)
            snprintf(what + strlen(what), sizeof what - strlen(what), "%s%s", i > keys ? ", " : "", i->name);
    }
    complain(r, k, path, what);
}

static void read_map(struct reader *r, const yaml_node_t *n, const char *at, const struct key *keys, void *to)
{
    char path[200];
    if (n->type != YAML_MAPPING_NODE) {
        complain(r, n, at, "must be a mapping: keys and what they hold");
        return;
    }
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        const yaml_node_t *k = node(r, p->key);
        const struct key *found = NULL;
        bool twice = false;
        snprintf(path, sizeof path, "%s%s%s", at, *at ? "." : "", text(k));
        for (const struct key *i = keys; i->name; i++)
            if (k->type == YAML_SCALAR_NODE && strcmp(i->name, text(k)) == 0)
                found = i;
        for (yaml_node_pair_t *e = n->data.mapping.pairs.start; e < p; e++)
            twice = twice || strcmp(text(node(r, e->key)), text(k)) == 0;
        if (twice)
            complain(r, k, path, "the key is there twice");
        else if (found && is_nothing(node(r, p->value)))
            ; /* as if it were not there */
        else if (found)
            read_value(r, node(r, p->value), path, found, to);
        else
            unknown(r, k, path, keys);
    }
}

static void check_whole(struct reader *r, const yaml_node_t *root)
{
    struct scenario *s = r->s;
    double requests = 0;
    if (!s->group_count)
        complain(r, root, "clients", "is missing: nobody asks");
    if (s->duration <= 0 || s->duration > 3 * 86400 * TICK_S)
        complain(r, root, "duration", "must be above 0, and at most three days");
    if (s->upstream.workers < 1 || s->upstream.workers > 1000000)
        complain(r, root, "upstream.workers", "must be from 1 to 1000000");
    if (s->upstream.error_status < 100 || s->upstream.error_status > 599)
        complain(r, root, "upstream.error_status", "must be from 100 to 599");
    if (s->warmup >= s->duration)
        complain(r, root, "warmup", "must be shorter than duration");
    for (int i = 0; i < s->group_count; i++) {
        double rate = s->group[i].rate;
        for (int j = 0; j < s->group[i].phase_count; j++)
            rate = s->group[i].phase[j].rate > rate ? s->group[i].phase[j].rate : rate;
        requests += rate * (double)s->group[i].count * (double)s->duration / (double)TICK_S;
    }
    if (requests > 2e8)
        complain(r, root, "duration",
                 "more than 200 million requests in all: less rate, fewer clients or a shorter run");
}

static bool parse(struct reader *r, FILE *f)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return false;
    yaml_parser_set_input_file(&parser, f);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    bool good = yaml_parser_load(&parser, &r->doc);
    if (!good) {
        struct config_place place = {CONFIG_FROM_FILE, r->path, (int)parser.problem_mark.line + 1,
                                     (int)parser.problem_mark.column + 1};
        config_errors_add(r->errors, &place, "", "not well-formed YAML: %s",
                          parser.problem ? parser.problem : "unreadable");
    }
    yaml_document_t more;
    if (good && yaml_parser_load(&parser, &more)) {
        const yaml_node_t *root = yaml_document_get_root_node(&more);
        if (root) {
            struct config_place place = {CONFIG_FROM_FILE, r->path, (int)root->start_mark.line + 1, 1};
            config_errors_add(r->errors, &place, "", "is a second document, allowed: one scenario a file");
        }
        yaml_document_delete(&more);
    }
    yaml_parser_delete(&parser);
    return good;
}

bool scenario_read(const char *path, struct scenario *s, struct config_errors *errors)
{
    struct reader r = {.path = path, .s = s, .errors = errors};
    struct config_place whole = {CONFIG_FROM_FILE, path, 1, 1};
    memset(s, 0, sizeof *s);
    s->seed = 1;
    s->duration = 60 * TICK_S;
    s->upstream = (struct service){
        .workers = 100, .latency = {.mean = 100 * TICK_MS}, .queue = 4000, .error_status = 503};
    s->limits = (struct limits_spec){.per_key = true, .count_refused = true, .answer_headers = true};
    FILE *f = fopen(path, "rb");
    if (!f) {
        config_errors_add(errors, &whole, "", "cannot be opened");
        return false;
    }
    bool good = parse(&r, f);
    fclose(f);
    if (!good)
        return false;
    r.draft = config_draft_new();
    const yaml_node_t *root = yaml_document_get_root_node(&r.doc);
    if (r.draft && root) {
        read_map(&r, root, "", root_keys, s);
        check_whole(&r, root);
        s->cfg = config_draft_build(r.draft, errors);
    } else {
        config_errors_add(errors, &whole, "", root ? "out of memory" : "is empty");
    }
    config_draft_free(r.draft);
    yaml_document_delete(&r.doc);
    return !config_errors_any(errors) && s->cfg;
}

void scenario_dispose(struct scenario *s)
{
    config_unref(s->cfg);
    s->cfg = NULL;
}

static void help_of(const char *section, const struct key *keys)
{
    printf("%s\n", section);
    for (; keys->name; keys++)
        if (keys->help)
            printf("  %-16s %s\n", keys->name, keys->help);
}

void scenario_help(void)
{
    help_of("The file:", root_keys);
    help_of("clients (a mapping, or a list of them):", group_keys);
    help_of("clients.phases[]:", phase_keys);
    help_of("upstream:", service_keys);
    help_of("upstream.latency:", latency_keys);
    help_of("faults[]:", fault_keys);
    help_of("limits:", limits_keys);
    help_of("limits.windows[]:", limit_keys);
}
