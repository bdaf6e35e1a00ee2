/*
 * Counts finished requests and attempts, and keeps the names of what is counted.
 *
 * Invariants: a block is written by its owner only. What is allocated later (an operation's
 * histograms) is published with release and lives as long as the block. Names belong to the
 * control thread; workers know numbers only. Numbers beyond a table count as OTHER.
 */
#include "metrics/observe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/exemplar.h"
#include "metrics/hist_table.h"
#include "metrics/keeper.h"
#include "metrics/series.h"

/* A code is an outcome (below 100), a status, or a reason (from REASON_BASE on). */
enum { HTTP_ROOM = 512, MAX_METHODS = 255, MAX_OUTCOMES = 100, MAX_REASONS = 500, REASON_BASE = 1024 };

struct operation_detail {
    _Atomic uint64_t tally[TALLY_COUNT];
    struct hist request;
    struct hist upstream;
};

struct metrics_detail {
    struct operation_detail *_Atomic operations[METRICS_MAX_OPERATIONS];
    struct hist shared[HISTOGRAM_COUNT]; /* those without parts */
    struct hist connect[METRICS_CONNECT_PHASES];
    struct series *series[SERIES_COUNT];
    struct keeper *keeper;
    struct exemplars *exemplars;
    _Atomic uint64_t sample; /* of 2^32 requests so many; NOT_MEASURED: nothing is measured */
    struct hist_table *_Atomic http[METRICS_HTTP_SIDES]; /* NULL: nobody wants it */
};
#define NOT_MEASURED UINT64_MAX
#define SAMPLE_ALL   (UINT64_C(1) << 32)

struct metrics {
    struct metrics_block **blocks;
    int block_count;
    char *operations[METRICS_MAX_OPERATIONS];
    unsigned operation_count;
    char *routes[METRICS_MAX_ROUTES];
    unsigned route_count;
    char **methods;
    size_t method_count;
    char **reasons;
    size_t reason_count;
    char **outcomes;
    size_t outcome_count;
};

static const struct {
    const char *label;
    bool saved;
} words[VERDICT_COUNT] = {
#define CACHE_WORD(id, label, saved) {label, saved},
    CACHE_WORDS
#undef CACHE_WORD
};

static const size_t series_room[SERIES_COUNT] = {
#define SERIES(id, room, name, help) room,
#include "metrics/counters.def"
};

static const char *const series_names[SERIES_COUNT][2] = {
#define SERIES(id, room, name, help) {name, help},
#include "metrics/counters.def"
};

enum { UNIT_SECONDS = true, UNIT_COUNT = false };
static const struct histogram_row histogram_rows[HISTOGRAM_COUNT] = {
#define HISTOGRAM(id, unit, name, label, help) {name, label, help, UNIT_##unit},
#include "metrics/counters.def"
};

const struct histogram_row *histogram_row(enum histogram_id id)
{
    return &histogram_rows[(unsigned)id < HISTOGRAM_COUNT ? id : 0];
}

const char *series_name(enum series_id id)
{
    return series_names[(unsigned)id < SERIES_COUNT ? id : 0][0];
}

const char *series_help(enum series_id id)
{
    return series_names[(unsigned)id < SERIES_COUNT ? id : 0][1];
}

const char *cache_word_name(unsigned word)
{
    return word < VERDICT_COUNT ? words[word].label : "other";
}

/* ---- making and freeing ---- */

static void detail_free(struct metrics_detail *d)
{
    if (!d)
        return;
    for (unsigned i = 0; i < METRICS_MAX_OPERATIONS; i++) {
        struct operation_detail *o = atomic_load_explicit(&d->operations[i], memory_order_relaxed);
        if (!o)
            continue;
        hist_dispose(&o->request);
        hist_dispose(&o->upstream);
        free(o);
    }
    for (unsigned i = 0; i < HISTOGRAM_COUNT; i++)
        hist_dispose(&d->shared[i]);
    for (unsigned i = 0; i < METRICS_CONNECT_PHASES; i++)
        hist_dispose(&d->connect[i]);
    for (unsigned i = 0; i < SERIES_COUNT; i++)
        series_free(d->series[i]);
    keeper_free(d->keeper);
    exemplars_free(d->exemplars);
    for (int i = 0; i < METRICS_HTTP_SIDES; i++)
        hist_table_free(atomic_load_explicit(&d->http[i], memory_order_relaxed));
    free(d);
}

static struct metrics_detail *detail_new(void)
{
    struct metrics_detail *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    bool whole = (d->keeper = keeper_new(RING_ENTRIES)) != NULL;
    whole &= (d->exemplars = exemplars_new()) != NULL;
    atomic_init(&d->sample, SAMPLE_ALL);
    for (unsigned i = 0; i < SERIES_COUNT; i++)
        whole &= (d->series[i] = series_new(series_room[i])) != NULL;
    if (whole)
        return d;
    detail_free(d);
    return NULL;
}

static struct metrics_block *block_new(void)
{
    struct metrics_block *b = aligned_alloc(_Alignof(struct metrics_block), sizeof *b);
    if (!b)
        return NULL;
    memset(b, 0, sizeof *b);
    b->detail = detail_new();
    if (!b->detail) {
        free(b);
        return NULL;
    }
    return b;
}

static char *copy_lower(const char *s)
{
    char *copy = strdup(s);
    for (char *p = copy; p && *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    return copy;
}

static char **names_copy(const char *const *names, size_t n, char *(*copy)(const char *))
{
    char **out = calloc(n + 1, sizeof *out);
    for (size_t i = 0; out && i < n; i++) {
        out[i] = copy(names[i]);
        if (out[i])
            continue;
        while (i-- > 0)
            free(out[i]);
        free(out);
        return NULL;
    }
    return out;
}

static void names_free(char **names, size_t n)
{
    for (size_t i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
}

struct metrics *metrics_new(const struct metrics_config *config)
{
    if (config->workers < 0 || config->method_count > MAX_METHODS || config->reason_count > MAX_REASONS ||
        config->outcome_count > MAX_OUTCOMES)
        return NULL;
    struct metrics *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->methods = names_copy(config->methods, config->method_count, strdup);
    m->method_count = m->methods ? config->method_count : 0;
    m->reasons = names_copy(config->reasons, config->reason_count, copy_lower);
    m->reason_count = m->reasons ? config->reason_count : 0;
    m->outcomes = names_copy(config->outcomes, config->outcome_count, strdup);
    m->outcome_count = m->outcomes ? config->outcome_count : 0;
    m->operations[0] = strdup("other");
    m->operation_count = 1;
    m->routes[ROUTE_NONE] = strdup("");
    m->route_count = 1;
    m->blocks = calloc((size_t)config->workers + 1, sizeof(struct metrics_block *));
    bool whole = m->methods && m->reasons && m->outcomes && m->operations[0] && m->routes[0] && m->blocks;
    for (int i = 0; whole && i <= config->workers; i++) {
        m->blocks[i] = block_new();
        whole = m->blocks[i] != NULL;
        m->block_count += whole;
    }
    if (whole)
        return m;
    metrics_free(m);
    return NULL;
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->block_count; i++) {
        detail_free(m->blocks[i]->detail);
        free(m->blocks[i]);
    }
    free(m->blocks);
    for (unsigned i = 0; i < m->operation_count; i++)
        free(m->operations[i]);
    for (unsigned i = 0; i < m->route_count; i++)
        free(m->routes[i]);
    names_free(m->methods, m->method_count);
    names_free(m->reasons, m->reason_count);
    names_free(m->outcomes, m->outcome_count);
    free(m);
}

bool metrics_make_room(struct metrics *m, size_t requests)
{
    size_t workers = m->block_count > 1 ? (size_t)m->block_count - 1 : 1;
    for (int i = 0; i < m->block_count; i++) {
        bool control = i == m->block_count - 1; /* it answers no requests */
        struct keeper *fresh = keeper_new(control ? 1 : (requests + workers - 1) / workers);
        if (!fresh)
            return false;
        keeper_free(m->blocks[i]->detail->keeper);
        m->blocks[i]->detail->keeper = fresh;
    }
    return true;
}

struct metrics_block *metrics_block(struct metrics *m, int i)
{
    return i >= 0 && i < m->block_count ? m->blocks[i] : NULL;
}

int metrics_blocks(const struct metrics *m)
{
    return m->block_count;
}

/* ---- names ---- */

/* The name's number, made at its first sight; 0 when there is no room. */
static uint16_t intern(char **names, unsigned *count, unsigned room, const char *name)
{
    for (unsigned i = 0; i < *count; i++)
        if (strcmp(names[i], name) == 0)
            return (uint16_t)i;
    char *copy = *count < room ? strdup(name) : NULL;
    if (!copy)
        return 0;
    names[*count] = copy;
    return (uint16_t)(*count)++;
}

uint16_t metrics_operation(struct metrics *m, const char *name)
{
    return intern(m->operations, &m->operation_count, METRICS_MAX_OPERATIONS, name);
}

uint16_t metrics_route(struct metrics *m, const char *path)
{
    return intern(m->routes, &m->route_count, METRICS_MAX_ROUTES, path);
}

const char *metrics_route_name(const struct metrics *m, uint16_t route)
{
    return route < m->route_count ? m->routes[route] : "";
}

const char *metrics_operation_name(const struct metrics *m, uint16_t operation)
{
    return operation < m->operation_count ? m->operations[operation] : "other";
}

const char *metrics_method_name(const struct metrics *m, unsigned method)
{
    return method < m->method_count ? m->methods[method] : "other";
}

const char *metrics_reason_name(const struct metrics *m, unsigned reason)
{
    return reason < m->reason_count ? m->reasons[reason] : "other";
}

/* ---- series ---- */

static uint64_t tuple_key(const struct series_tuple *t)
{
    /* The highest bit keeps the key from being 0; bits 48 ... 62 stay clear, so that it is never
     * SERIES_OTHER. */
    return UINT64_C(1) << 63 | (uint64_t)t->operation << 32 | (uint64_t)t->code << 16 |
           (uint64_t)t->method << 8 | t->cache;
}

struct series_tuple metrics_tuple(uint64_t key)
{
    if (key == SERIES_OTHER)
        return (struct series_tuple){.other = true};
    return (struct series_tuple){.operation = (uint16_t)(key >> 32),
                                 .code = (uint16_t)(key >> 16),
                                 .method = (uint8_t)(key >> 8),
                                 .cache = (uint8_t)key};
}

static void tuple_count(struct metrics_block *b, enum series_id id, struct series_tuple tuple)
{
    if (!series_add(b->detail->series[id], tuple_key(&tuple), 1))
        metric_add(b, METRIC_SERIES_FOLDED, 1);
}

const char *metrics_outcome_name(const struct metrics *m, unsigned outcome, char room[8])
{
    if (outcome < m->outcome_count)
        return m->outcomes[outcome];
    if (outcome >= REASON_BASE)
        return metrics_reason_name(m, outcome - REASON_BASE);
    if (outcome < 100 || outcome > 999)
        return "other";
    room[0] = (char)('0' + outcome / 100);
    room[1] = (char)('0' + outcome / 10 % 10);
    room[2] = (char)('0' + outcome % 10);
    room[3] = '\0';
    return room;
}

/* ---- counting ---- */

static void record(struct metrics_block *b, struct hist *h, int64_t value)
{
    if (!hist_record(h, value))
        metric_add(b, METRIC_OBSERVATIONS_LOST, 1);
}

/* The owner's histograms of an operation; NULL when out of memory. */
static struct operation_detail *operation_detail(struct metrics_block *b, uint16_t operation)
{
    struct operation_detail *_Atomic *place = &b->detail->operations[operation];
    struct operation_detail *o = atomic_load_explicit(place, memory_order_relaxed);
    if (__builtin_expect(o != NULL, 1))
        return o;
    o = calloc(1, sizeof *o);
    if (o)
        atomic_store_explicit(place, o, memory_order_release);
    else
        metric_add(b, METRIC_OBSERVATIONS_LOST, 1);
    return o;
}

static uint16_t operation_bound(uint16_t operation)
{
    return operation < METRICS_MAX_OPERATIONS ? operation : OPERATION_OTHER;
}

bool observation_failed(const struct observation *o)
{
    if (o->flags & OBSERVED_NO_FAULT)
        return false;
    return o->flags & OBSERVED_BROKEN || o->status >= 500 || o->status == 429;
}

static void count_cache(struct metrics_block *b, const struct observation *o)
{
    static const enum metric metric[VERDICT_COUNT] = {
        [VERDICT_HIT] = METRIC_CACHE_HITS,
        [VERDICT_STALE] = METRIC_CACHE_STALE,
        [VERDICT_MISS] = METRIC_CACHE_MISSES,
        [VERDICT_REVALIDATED] = METRIC_CACHE_REVALIDATED,
        [VERDICT_COLLAPSED] = METRIC_CACHE_COALESCED,
        [VERDICT_BYPASS] = METRIC_CACHE_BYPASSED,
        [VERDICT_BATCHED] = METRIC_CACHE_MISSES,
    };
    if (o->cache == VERDICT_NONE || o->cache >= VERDICT_COUNT)
        return;
    metric_add(b, metric[o->cache], 1);
    if (words[o->cache].saved && o->attempts == 0) { /* else the upstream was asked, in vain */
        metric_add(b, METRIC_CACHE_SAVED, o->saved > 0 ? (uint64_t)o->saved : 0);
        if (o->flags & OBSERVED_AHEAD)
            return;
        metric_add(b, METRIC_CACHE_SAVED_REQUESTS, 1);
        metric_add(b, METRIC_CACHE_SAVED_BYTES, o->bytes_out);
    }
}

static void tally_add(struct operation_detail *o, enum operation_tally which)
{
    atomic_store_explicit(&o->tally[which], atomic_load_explicit(&o->tally[which], memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* What the history keeps of each operation, beside its latencies. */
static void count_operation(struct operation_detail *detail, const struct observation *o)
{
    tally_add(detail, TALLY_REQUESTS);
    if (observation_failed(o))
        tally_add(detail, TALLY_FAILED);
    if (o->cache == VERDICT_NONE || o->cache == VERDICT_BYPASS || o->cache >= VERDICT_COUNT)
        return;
    tally_add(detail, TALLY_ASKED);
    if (o->cache == VERDICT_HIT || o->cache == VERDICT_STALE)
        tally_add(detail, TALLY_ANSWERED);
}

struct http_key metrics_http_key(const struct observation *o)
{
    bool caused = o->status == 0 || (o->flags & OBSERVED_BROKEN);
    return (struct http_key){
        .route = o->route, .status = o->status, .cause = caused ? o->reason : 0, .method = o->method};
}

static void http_record(struct metrics_block *b, struct hist_table *t, const struct http_key *k,
                        int64_t duration)
{
    uint64_t key = UINT64_C(1) << 63 | (uint64_t)(k->cause & 0x3fff) << 48 | (uint64_t)k->route << 32 |
                   (uint64_t)k->status << 16 | (uint64_t)k->method << 8;
    if (!hist_table_record(t, key, duration))
        metric_add(b, METRIC_OBSERVATIONS_LOST, 1);
}

void metrics_set_sampling(struct metrics *m, bool measure, double share)
{
    uint64_t sample = !measure     ? NOT_MEASURED
                      : share >= 1 ? SAMPLE_ALL
                      : share <= 0 ? 0
                                   : (uint64_t)(share * (double)SAMPLE_ALL);
    for (int i = 0; i < m->block_count; i++)
        atomic_store_explicit(&m->blocks[i]->detail->sample, sample, memory_order_relaxed);
}

bool metrics_measuring(const struct metrics_block *b)
{
    return atomic_load_explicit(&b->detail->sample, memory_order_relaxed) != NOT_MEASURED;
}

void metrics_observe(struct metrics_block *b, struct observation *o)
{
    uint64_t sample = atomic_load_explicit(&b->detail->sample, memory_order_relaxed);
    if (sample == NOT_MEASURED)
        return;
    bool failed = observation_failed(o);
    uint16_t operation = operation_bound(o->operation);
    metric_add(b, METRIC_REQUESTS_DONE, 1);
    if (failed)
        metric_add(b, METRIC_REQUESTS_FAILED, 1);
    else if (o->status >= 400 && o->status < 500)
        metric_add(b, METRIC_REQUESTS_REFUSED, 1);
    if (o->flags & OBSERVED_CLIENT_GONE)
        metric_add(b, METRIC_CLIENT_GONE, 1);
    metric_add(b, METRIC_REQUEST_BYTES, o->bytes_in);
    metric_add(b, METRIC_RESPONSE_BYTES, o->bytes_out);
    count_cache(b, o);
    tuple_count(b, SERIES_REQUESTS,
                (struct series_tuple){
                    .operation = operation, .code = o->status, .method = o->method, .cache = o->cache});
    struct operation_detail *detail = operation_detail(b, operation);
    if (detail) {
        record(b, &detail->request, o->total);
        count_operation(detail, o);
    }
    keeper_see(b->detail->keeper, o, sample, failed);
    struct hist_table *http =
        atomic_load_explicit(&b->detail->http[METRICS_HTTP_SERVER], memory_order_acquire);
    if (http) {
        struct http_key key = metrics_http_key(o);
        http_record(b, http, &key, o->total);
    }
}

static void count_connect(struct metrics_block *b, const struct attempt *a)
{
    const int64_t phase[METRICS_CONNECT_PHASES] = {0, a->tcp, a->tls};
    for (int i = 1; i < METRICS_CONNECT_PHASES; i++)
        if (phase[i] > 0)
            record(b, &b->detail->connect[i], phase[i]);
    int64_t round_trip = a->round_trip > 0 ? a->round_trip : a->tcp;
    if (round_trip > 0)
        record(b, &b->detail->shared[HISTOGRAM_ROUND_TRIP], round_trip);
}

void metrics_lookup(struct metrics_block *b, int64_t took)
{
    if (metrics_measuring(b))
        record(b, &b->detail->connect[0], took);
}

void metrics_upstream(struct metrics_block *b, const struct attempt *a)
{
    if (!metrics_measuring(b))
        return;
    uint16_t operation = operation_bound(a->operation);
    metric_add(b, METRIC_UPSTREAM_DONE, 1);
    if (a->failed)
        metric_add(b, METRIC_UPSTREAM_FAILED, 1);
    if (a->throttled)
        metric_add(b, METRIC_QUOTA_ANSWERS, 1);
    if (a->reused)
        metric_add(b, METRIC_POOL_REUSED, 1);
    metric_add(b, METRIC_UPSTREAM_SENT_BYTES, a->bytes_sent);
    metric_add(b, METRIC_UPSTREAM_RECEIVED_BYTES, a->bytes_received);
    tuple_count(b, SERIES_UPSTREAM, (struct series_tuple){.operation = operation, .code = a->outcome});
    count_connect(b, a);
    if (a->pool_wait > 0)
        record(b, &b->detail->shared[HISTOGRAM_POOL_WAIT], a->pool_wait);
    if (a->first_byte > 0)
        record(b, &b->detail->shared[HISTOGRAM_FIRST_BYTE], a->first_byte);
    if (a->kind == ATTEMPT_BATCH && a->batch) {
        record(b, &b->detail->shared[HISTOGRAM_BATCH_SIZE], a->batch);
        metric_add(b, METRIC_CACHE_SAVED_REQUESTS, a->batch - 1u);
    }
    struct operation_detail *detail = a->total > 0 ? operation_detail(b, operation) : NULL;
    if (detail)
        record(b, &detail->upstream, a->total);
    struct hist_table *http =
        atomic_load_explicit(&b->detail->http[METRICS_HTTP_CLIENT], memory_order_acquire);
    if (http) {
        struct http_key key = {.status = a->status, .cause = a->outcome, .method = a->method};
        http_record(b, http, &key, a->total);
    }
}

static struct series_tuple retry_tuple(uint16_t operation, unsigned reason, unsigned status)
{
    return (struct series_tuple){
        .operation = operation_bound(operation),
        .code =
            (uint16_t)(reason ? REASON_BASE + (reason < MAX_REASONS ? reason : MAX_REASONS) : status % 1000)};
}

void metrics_retry_succeeded(struct metrics_block *b, uint16_t operation, unsigned reason, unsigned status)
{
    if (!metrics_measuring(b))
        return;
    tuple_count(b, SERIES_RETRIES_WON, retry_tuple(operation, reason, status));
}

void metrics_retry(struct metrics_block *b, uint16_t operation, unsigned reason, unsigned status)
{
    if (!metrics_measuring(b))
        return;
    struct operation_detail *detail = operation_detail(b, operation_bound(operation));
    metric_add(b, METRIC_RETRIES_DONE, 1);
    if (detail)
        tally_add(detail, TALLY_RETRIES);
    tuple_count(b, SERIES_RETRIES, retry_tuple(operation, reason, status));
}

/* ---- reading ---- */

uint64_t metrics_sum(const struct metrics *m, enum metric metric)
{
    uint64_t sum = 0;
    for (int i = 0; i < m->block_count; i++)
        sum += metric_get(m->blocks[i], metric);
    return sum;
}

unsigned metrics_operations(const struct metrics *m)
{
    return m->operation_count;
}

uint64_t metrics_operation_sum(const struct metrics *m, uint16_t operation, enum operation_tally which)
{
    uint64_t sum = 0;
    for (int i = 0; operation < METRICS_MAX_OPERATIONS && i < m->block_count; i++) {
        struct operation_detail *o =
            atomic_load_explicit(&m->blocks[i]->detail->operations[operation], memory_order_acquire);
        if (o)
            sum += atomic_load_explicit(&o->tally[which], memory_order_relaxed);
    }
    return sum;
}

/* Reads the histogram of operation `i` in a block, when there is one. */
static void read_operation(const struct metrics_detail *d, enum histogram_id id, int i,
                           struct hist_counts *into)
{
    struct operation_detail *_Atomic *place = &((struct metrics_detail *)(uintptr_t)d)->operations[i];
    struct operation_detail *o = atomic_load_explicit(place, memory_order_acquire);
    if (o)
        hist_read(id == HISTOGRAM_REQUEST ? &o->request : &o->upstream, into);
}

static int parts_of(enum histogram_id id)
{
    if (id == HISTOGRAM_REQUEST || id == HISTOGRAM_UPSTREAM)
        return METRICS_MAX_OPERATIONS;
    return id == HISTOGRAM_CONNECT ? METRICS_CONNECT_PHASES : 1;
}

bool metrics_histogram(const struct metrics *m, enum histogram_id id, int part, struct hist_counts *into)
{
    uint64_t before = into->count;
    int parts = parts_of(id);
    int first = part == METRICS_ALL ? 0 : part;
    int last = part == METRICS_ALL ? parts - 1 : part;
    if ((unsigned)id >= HISTOGRAM_COUNT || first < 0 || last >= parts)
        return false;
    for (int i = 0; i < m->block_count; i++) {
        const struct metrics_detail *d = m->blocks[i]->detail;
        for (int k = first; k <= last; k++) {
            if (parts == METRICS_MAX_OPERATIONS)
                read_operation(d, id, k, into);
            else
                hist_read(parts > 1 ? &d->connect[k] : &d->shared[id], into);
        }
    }
    return into->count > before;
}

const char *metrics_part_name(const struct metrics *m, enum histogram_id id, int part)
{
    static const char *const phases[METRICS_CONNECT_PHASES] = {"dns", "tcp", "tls"};
    return id == HISTOGRAM_CONNECT ? phases[part] : metrics_operation_name(m, (uint16_t)part);
}

int metrics_parts(enum histogram_id id)
{
    return parts_of(id);
}

size_t metrics_tuple_labels(const struct metrics *m, enum series_id id, const struct series_tuple *t,
                            struct metrics_label out[METRICS_LABELS], char room[METRICS_LABEL_ROOM])
{
    static const char *const keys[METRICS_LABELS] = {"operation", "method", "code", "cache"};
    bool requests = id == SERIES_REQUESTS;
    size_t n = requests ? METRICS_LABELS : 2;
    for (size_t i = 0; i < n; i++)
        out[i] = (struct metrics_label){keys[i], "other"};
    if (!requests)
        out[1].key = id == SERIES_RETRIES || id == SERIES_RETRIES_WON ? "reason" : "outcome";
    if (t->other)
        return n;
    out[0].value = metrics_operation_name(m, t->operation);
    if (!requests) {
        out[1].value = metrics_outcome_name(m, t->code, room);
        return n;
    }
    snprintf(room, METRICS_LABEL_ROOM, "%u", t->code);
    out[1].value = metrics_method_name(m, t->method);
    out[2].value = room;
    out[3].value = cache_word_name(t->cache);
    return n;
}

struct series_count *metrics_series_sum(const struct metrics *m, enum series_id id, size_t *n)
{
    size_t room = 0;
    for (int b = 0; b < m->block_count; b++)
        room += series_places(metrics_series(m, b, id));
    struct series_count *all = malloc(room * sizeof *all);
    *n = 0;
    for (int b = 0; all && b < m->block_count; b++) {
        const struct series *s = metrics_series(m, b, id);
        for (size_t i = 0; i < series_places(s); i++)
            if (series_at(s, i, &all[*n].key, &all[*n].count))
                ++*n;
    }
    if (all)
        *n = series_merge(all, *n);
    return all;
}

bool metrics_http_begin(struct metrics *m)
{
    for (int b = 0; b < m->block_count; b++)
        for (int i = 0; i < METRICS_HTTP_SIDES; i++) {
            struct metrics_detail *d = m->blocks[b]->detail;
            if (atomic_load_explicit(&d->http[i], memory_order_relaxed))
                continue;
            struct hist_table *t = hist_table_new(HTTP_ROOM);
            if (!t)
                return false;
            atomic_store_explicit(&d->http[i], t, memory_order_release);
        }
    return true;
}

struct found {
    uint64_t key;
    const struct hist *hist;
};

static int by_found_key(const void *a, const void *b)
{
    uint64_t x = ((const struct found *)a)->key, y = ((const struct found *)b)->key;
    return x < y ? -1 : x > y;
}

/* Every histogram of every block, those of one key side by side. NULL: no memory, or nothing. */
static struct found *find_all(const struct metrics *m, enum metrics_http_side side, size_t *n)
{
    struct found *all = calloc((size_t)m->block_count * (4 * HTTP_ROOM), sizeof *all);
    *n = 0;
    for (int b = 0; all && b < m->block_count; b++) {
        struct hist_table *t = atomic_load_explicit(&m->blocks[b]->detail->http[side], memory_order_acquire);
        for (size_t i = 0; t && i < hist_table_places(t); i++)
            if (hist_table_at(t, i, &all[*n].key, &all[*n].hist))
                ++*n;
    }
    if (all)
        qsort(all, *n, sizeof *all, by_found_key);
    return all;
}

bool metrics_http_walk(const struct metrics *m, enum metrics_http_side side, metrics_http_each *each,
                       void *ctx)
{
    size_t n;
    struct found *all = find_all(m, side, &n);
    struct hist_counts *sum = all ? calloc(1, sizeof *sum) : NULL;
    for (size_t i = 0; sum && i < n; i++) {
        hist_read(all[i].hist, sum);
        if (i + 1 < n && all[i + 1].key == all[i].key)
            continue;
        uint64_t k = all[i].key;
        struct http_key key = {.other = true};
        if (k != HIST_TABLE_OTHER)
            key = (struct http_key){.route = (uint16_t)(k >> 32),
                                    .status = (uint16_t)(k >> 16),
                                    .cause = (uint16_t)(k >> 48 & 0x3fff),
                                    .method = (uint8_t)(k >> 8)};
        if (sum->count)
            each(ctx, &key, sum);
        memset(sum, 0, sizeof *sum);
    }
    free(sum);
    free(all);
    return sum != NULL;
}

const struct series *metrics_series(const struct metrics *m, int block, enum series_id id)
{
    return m->blocks[block]->detail->series[id];
}

const struct ring *metrics_ring(const struct metrics *m, int block)
{
    return keeper_sample(m->blocks[block]->detail->keeper);
}

const struct keeper *metrics_keeper(const struct metrics *m, int block)
{
    return m->blocks[block]->detail->keeper;
}

void metrics_exemplar(struct metrics_block *b, const struct exemplar *e)
{
    if (metrics_measuring(b))
        exemplar_put(b->detail->exemplars, e);
}

const struct exemplars *metrics_exemplars(const struct metrics *m, int block)
{
    return m->blocks[block]->detail->exemplars;
}
