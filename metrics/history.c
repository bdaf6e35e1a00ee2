/*
 * Makes a point of every second, and of points coarser ones.
 *
 * Invariants: a record of a level is the sum of whole records of the level below, and both end at the same
 * time, so that what is read across levels is counted once. A tick that finds no memory loses its second and
 * says so.
 */
#include <stdlib.h>
#include <string.h>

#include "metrics/history_inner.h"

#define SECOND INT64_C(1000000000)
enum { KEPT_AT_LEAST = 60, FOLD_MOST = 128 };

/* 10 minutes, 2 hours, 12 hours, 3 days, 30 days. */
static const struct {
    int64_t seconds;
    size_t cap;
} levels[HISTORY_LEVELS] = {{1, 600}, {10, 720}, {60, 720}, {600, 432}, {3600, 720}};

static const struct history_type types[METRIC_TYPE_COUNT] = {
    [METRIC_TYPE_REQUEST_LATENCY] = {HISTORY_EACH, 1e9},
    [METRIC_TYPE_MEMORY_USAGE] = {HISTORY_GAUGE, 1e6},
    [METRIC_TYPE_CPU_USAGE] = {HISTORY_GAUGE, 1e3},
    [METRIC_TYPE_NETWORK_LATENCY] = {HISTORY_EACH, 1e9},
    [METRIC_TYPE_CACHE_HIT_RATE] = {HISTORY_RATIO, 1e6},
    [METRIC_TYPE_ERROR_RATE] = {HISTORY_RATIO, 1e6},
    [METRIC_TYPE_THROUGHPUT] = {HISTORY_RATE, 1e3},
    [METRIC_TYPE_CONNECTION_POOL_SIZE] = {HISTORY_GAUGE, 1},
    [METRIC_TYPE_RETRY_COUNT] = {HISTORY_RATE, 1e3},
    [METRIC_TYPE_BATCH_SIZE] = {HISTORY_EACH, 1},
    [METRIC_TYPE_COMPRESSION_RATIO] = {HISTORY_RATIO, 1e6},
    [METRIC_TYPE_CUSTOM_METRIC] = {HISTORY_GAUGE, 1},
};

/* Histograms that are no operation's: what they are of all requests, and the phases of attempts. */
static const struct {
    enum histogram_id id;
    int part;
    enum metric_type type;
    int operation;
    const char *name;
} shared[HISTORY_SHARED] = {
    {HISTOGRAM_ROUND_TRIP, METRICS_ALL, METRIC_TYPE_NETWORK_LATENCY, METRICS_ALL, NULL},
    {HISTOGRAM_BATCH_SIZE, METRICS_ALL, METRIC_TYPE_BATCH_SIZE, METRICS_ALL, NULL},
    {HISTOGRAM_POOL_WAIT, METRICS_ALL, METRIC_TYPE_NETWORK_LATENCY, HISTORY_PART, "pool_wait"},
    {HISTOGRAM_CONNECT, 0, METRIC_TYPE_NETWORK_LATENCY, HISTORY_PART + 1, "dns"},
    {HISTOGRAM_CONNECT, 1, METRIC_TYPE_NETWORK_LATENCY, HISTORY_PART + 2, "tcp"},
    {HISTOGRAM_CONNECT, 2, METRIC_TYPE_NETWORK_LATENCY, HISTORY_PART + 3, "tls"},
    {HISTOGRAM_FIRST_BYTE, METRICS_ALL, METRIC_TYPE_NETWORK_LATENCY, HISTORY_PART + 4, "first_byte"},
    {HISTOGRAM_UPSTREAM, METRICS_ALL, METRIC_TYPE_NETWORK_LATENCY, HISTORY_PART + 5, "upstream"}};
enum { SHARED_FIRST_PHASE = 2 };

/* The states of CONNECTION_POOL_SIZE; the last two are not counted here but told with each tick. */
enum { STATE_LIMIT = HISTORY_STATES - 2, STATE_IN_FLIGHT };
static const struct {
    const char *name;
    enum metric counted;
} states[HISTORY_STATES] = {{"idle", METRIC_POOL_IDLE},
                            {"active", METRIC_POOL_ACTIVE},
                            {"connecting", METRIC_POOL_CONNECTING},
                            {"waiting", METRIC_POOL_WAITING},
                            [STATE_LIMIT] = {.name = "limit"},
                            [STATE_IN_FLIGHT] = {.name = "in_flight"}};

const char *history_phase_name(int i)
{
    return shared[SHARED_FIRST_PHASE + i].name;
}

const char *history_state_name(int i)
{
    return states[i].name;
}

_Static_assert((int)METRIC_TYPE_COUNT <= (int)HISTORY_TYPES, "a type fits into its part of a key");

const struct history_type *history_type(enum metric_type type)
{
    return &types[(unsigned)type < METRIC_TYPE_COUNT ? type : 0];
}

bool history_by_operation(enum metric_type type)
{
    return type == METRIC_TYPE_REQUEST_LATENCY || type == METRIC_TYPE_CACHE_HIT_RATE ||
           type == METRIC_TYPE_ERROR_RATE || type == METRIC_TYPE_THROUGHPUT ||
           type == METRIC_TYPE_RETRY_COUNT;
}

int64_t history_resolution(int level)
{
    return levels[level].seconds * SECOND;
}

struct history_record *history_record_at(const struct history_level *l, size_t i)
{
    return &l->records[(l->oldest + i) % l->cap];
}

/* ---- making and freeing ---- */

struct history *history_new(const struct metrics *m, int64_t now, int64_t wall, size_t budget)
{
    struct history *h = calloc(1, sizeof *h);
    bool whole = h != NULL;
    for (int i = 0; h && i < HISTORY_LEVELS; i++) {
        struct history_level *l = &h->levels[i];
        *l = (struct history_level){.cap = levels[i].cap, .open = now};
        l->records = calloc(l->cap, sizeof *l->records);
        whole &= l->records != NULL;
    }
    if (!whole) {
        history_free(h);
        return NULL;
    }
    h->metrics = m;
    h->offset = wall - now;
    h->last = now;
    h->budget = budget;
    h->retention = 720 * 3600 * SECOND;
    return h;
}

void history_free(struct history *h)
{
    if (!h)
        return;
    for (int i = 0; i < HISTORY_LEVELS; i++) {
        for (size_t k = 0; h->levels[i].records && k < h->levels[i].cap; k++)
            free(h->levels[i].records[k].packed);
        free(h->levels[i].records);
    }
    for (int i = 0; i < METRICS_MAX_OPERATIONS; i++)
        free(h->marks[i]);
    text_dispose(&h->packed);
    free(h);
}

void history_follow(struct history *h, struct custom *custom)
{
    h->custom = custom;
}

void history_retain(struct history *h, int64_t nanoseconds)
{
    h->retention = nanoseconds;
}

/* ---- keeping records ---- */

static void drop_oldest(struct history *h, struct history_level *l)
{
    struct history_record *r = history_record_at(l, 0);
    h->bytes -= r->n;
    free(r->packed);
    *r = (struct history_record){0};
    l->oldest = (l->oldest + 1) % l->cap;
    l->count--;
}

static void keep_within_budget(struct history *h)
{
    while (h->bytes > h->budget) {
        struct history_level *victim = NULL;
        for (int i = 0; i < HISTORY_LEVELS && !victim; i++)
            if (h->levels[i].count > KEPT_AT_LEAST)
                victim = &h->levels[i];
        for (int i = 0; i < HISTORY_LEVELS && !victim; i++)
            if (h->levels[i].count > 1)
                victim = &h->levels[i];
        if (!victim)
            return;
        drop_oldest(h, victim);
        h->dropped++;
    }
}

/* Ends h->packed and makes it the level's newest record. False when out of memory. */
static bool keep(struct history *h, struct history_level *l, int64_t to)
{
    history_put(&h->packed, 0);
    uint8_t *copy = h->packed.failed ? NULL : malloc(h->packed.n);
    if (!copy)
        return false;
    memcpy(copy, h->packed.p, h->packed.n);
    if (l->count == l->cap)
        drop_oldest(h, l);
    *history_record_at(l, l->count++) = (struct history_record){l->open, to, copy, h->packed.n};
    l->open = to;
    h->bytes += h->packed.n;
    return true;
}

/* ---- a second ---- */

/* What a histogram gained since its mark: into c's sketch, its sum into *num. Does not move the mark. */
static void gained(const struct history_mark *mark, const struct hist_counts *now, struct history_cell *c)
{
    c->num += now->sum - mark->sum;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        uint32_t n = (uint32_t)now->v[i] - mark->v[i];
        c->sketch.v[i] += n;
        c->sketch.count += n;
        c->den += n;
    }
}

static void move_mark(struct history_mark *mark, const struct hist_counts *now)
{
    mark->sum = now->sum;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        mark->v[i] = (uint32_t)now->v[i];
}

/* The entries of one operation, or of all, out of what its counters gained. By growing type, as keys must. */
static void put_requests(struct history *h, int operation, const uint64_t gain[TALLY_COUNT],
                         const struct history_cell *latency, double seconds)
{
    struct text *t = &h->packed;
    if (latency->den)
        history_put_cell(t, history_key(operation, METRIC_TYPE_REQUEST_LATENCY), latency);
    if (gain[TALLY_ASKED])
        history_put_sample(t, history_key(operation, METRIC_TYPE_CACHE_HIT_RATE), gain[TALLY_ANSWERED],
                           gain[TALLY_ASKED], gain[TALLY_ANSWERED] * 1000000 / gain[TALLY_ASKED]);
    if (gain[TALLY_REQUESTS])
        history_put_sample(t, history_key(operation, METRIC_TYPE_ERROR_RATE), gain[TALLY_FAILED],
                           gain[TALLY_REQUESTS], gain[TALLY_FAILED] * 1000000 / gain[TALLY_REQUESTS]);
    if (gain[TALLY_REQUESTS])
        history_put_sample(t, history_key(operation, METRIC_TYPE_THROUGHPUT), gain[TALLY_REQUESTS], 0,
                           (uint64_t)((double)gain[TALLY_REQUESTS] * 1e3 / seconds));
    if (gain[TALLY_RETRIES])
        history_put_sample(t, history_key(operation, METRIC_TYPE_RETRY_COUNT), gain[TALLY_RETRIES], 0,
                           (uint64_t)((double)gain[TALLY_RETRIES] * 1e3 / seconds));
}

/* The mark of an operation that did anything since the last tick, and what it gained; NULL when it did
 * nothing. */
static struct history_mark *active_mark(struct history *h, int operation, uint64_t gain[TALLY_COUNT])
{
    static const struct history_mark zero;
    struct history_mark *mark = h->marks[operation];
    bool any = false;
    for (int i = 0; i < TALLY_COUNT; i++) {
        gain[i] = metrics_operation_sum(h->metrics, (uint16_t)operation, (enum operation_tally)i) -
                  (mark ? mark : &zero)->tally[i];
        any |= gain[i] != 0;
    }
    if (!any)
        return NULL;
    if (!mark && (mark = calloc(1, sizeof *mark)) != NULL) {
        h->marks[operation] = mark;
        h->marks_bytes += sizeof *mark;
    }
    if (!mark)
        h->packed.failed = true;
    return mark;
}

static void clear_cell(struct history_cell *c)
{
    memset(c, 0, sizeof *c);
}

/* The entries of each operation that did anything; *total sums them, h->all their latencies. */
static void put_operations(struct history *h, double seconds, uint64_t total[TALLY_COUNT])
{
    unsigned known = metrics_operations(h->metrics);
    clear_cell(&h->all);
    for (unsigned i = 0; i < known; i++) {
        uint64_t gain[TALLY_COUNT];
        struct history_mark *mark = active_mark(h, (int)i, gain);
        if (!mark)
            continue;
        memset(&h->read, 0, sizeof h->read);
        metrics_histogram(h->metrics, HISTOGRAM_REQUEST, (int)i, &h->read);
        clear_cell(&h->cell);
        gained(mark, &h->read, &h->cell);
        gained(mark, &h->read, &h->all);
        put_requests(h, (int)i, gain, &h->cell, seconds);
        for (int k = 0; k < TALLY_COUNT; k++) {
            total[k] += gain[k];
            mark->tally[k] += gain[k];
        }
        move_mark(mark, &h->read);
    }
}

static void put_gauges(struct history *h, const struct history_gauges *g, double seconds,
                       enum metric_type type)
{
    uint64_t v;
    if (type == METRIC_TYPE_MEMORY_USAGE)
        v = g->resident_bytes;
    else if (type == METRIC_TYPE_CPU_USAGE)
        v = g->cpu_ns > h->cpu_ns ? (uint64_t)((double)(g->cpu_ns - h->cpu_ns) / seconds * 1e-4) : 0;
    else
        v = metrics_sum(h->metrics, METRIC_POOL_IDLE) + metrics_sum(h->metrics, METRIC_POOL_ACTIVE) +
            metrics_sum(h->metrics, METRIC_POOL_CONNECTING);
    if (metric_signed(v) < 0)
        v = 0;
    history_put_sample(&h->packed, history_key(METRICS_ALL, type), v, 1, v);
}

static void put_states(struct history *h, const struct history_gauges *g)
{
    for (int i = 0; i < HISTORY_STATES; i++) {
        uint64_t v = i == STATE_LIMIT       ? g->limit
                     : i == STATE_IN_FLIGHT ? g->in_flight
                                            : metrics_sum(h->metrics, states[i].counted);
        if (i == STATE_LIMIT && !v)
            continue; /* there is none */
        if (metric_signed(v) < 0)
            v = 0;
        history_put_sample(&h->packed,
                           history_key(HISTORY_PART + HISTORY_PHASES + i, METRIC_TYPE_CONNECTION_POOL_SIZE),
                           v, 1, v);
    }
}

static void put_shared(struct history *h, int i)
{
    memset(&h->read, 0, sizeof h->read);
    metrics_histogram(h->metrics, shared[i].id, shared[i].part, &h->read);
    if (h->read.count == h->shared[i].count)
        return; /* nothing new */
    h->shared[i].count = h->read.count;
    clear_cell(&h->cell);
    gained(&h->shared[i], &h->read, &h->cell);
    if (h->cell.den)
        history_put_cell(&h->packed, history_key(shared[i].operation, shared[i].type), &h->cell);
    move_mark(&h->shared[i], &h->read);
}

static void put_compression(struct history *h)
{
    uint64_t from = metrics_sum(h->metrics, METRIC_COMPRESSED_FROM),
             to = metrics_sum(h->metrics, METRIC_COMPRESSED_TO);
    uint64_t num = from - h->compressed_from, den = to - h->compressed_to;
    if (den && from >= h->compressed_from && to > h->compressed_to)
        history_put_sample(&h->packed, history_key(METRICS_ALL, METRIC_TYPE_COMPRESSION_RATIO), num, den,
                           (uint64_t)((double)num / (double)den * 1e6));
    h->compressed_from = from;
    h->compressed_to = to;
}

static void put_custom(struct history *h)
{
    for (size_t i = 0; h->custom && i < custom_metrics(h->custom); i++) {
        const struct real_sketch *s = &custom_metric_at(h->custom, i)->second;
        if (s->count)
            history_put_real(&h->packed, history_key(HISTORY_CUSTOM + (int)i, METRIC_TYPE_CUSTOM_METRIC), s);
    }
}

/* Entries of all requests together, by growing type. */
static void put_all(struct history *h, const struct history_gauges *g, double seconds,
                    const uint64_t total[TALLY_COUNT])
{
    const uint64_t cached[TALLY_COUNT] = {
        [TALLY_ANSWERED] = total[TALLY_ANSWERED], [TALLY_ASKED] = total[TALLY_ASKED]};
    const uint64_t done[TALLY_COUNT] = {
        [TALLY_REQUESTS] = total[TALLY_REQUESTS], [TALLY_FAILED] = total[TALLY_FAILED]};
    const uint64_t again[TALLY_COUNT] = {[TALLY_RETRIES] = total[TALLY_RETRIES]};
    static const struct history_cell none;
    if (h->all.den)
        history_put_cell(&h->packed, history_key(METRICS_ALL, METRIC_TYPE_REQUEST_LATENCY), &h->all);
    put_gauges(h, g, seconds, METRIC_TYPE_MEMORY_USAGE);
    put_gauges(h, g, seconds, METRIC_TYPE_CPU_USAGE);
    put_shared(h, 0);
    put_requests(h, METRICS_ALL, cached, &none, seconds);
    put_requests(h, METRICS_ALL, done, &none, seconds);
    put_gauges(h, g, seconds, METRIC_TYPE_CONNECTION_POOL_SIZE);
    put_requests(h, METRICS_ALL, again, &none, seconds);
    put_shared(h, 1);
    put_compression(h);
    h->cpu_ns = g->cpu_ns;
}

/* ---- coarser points ---- */

struct reader {
    const uint8_t *p, *content, *end;
    uint64_t key;
    bool more;
};

static void step(struct reader *r)
{
    r->more = history_entry(&r->p, &r->key, &r->content, &r->end);
}

/* Sums the records of `below` that begin at or behind l->open into h->packed. */
static void fold(struct history *h, const struct history_level *below, const struct history_level *l)
{
    struct reader readers[FOLD_MOST];
    size_t n = 0;
    text_clear(&h->packed);
    for (size_t i = below->count; i-- > 0 && n < FOLD_MOST;) {
        const struct history_record *r = history_record_at(below, i);
        if (r->from < l->open)
            break;
        readers[n].p = r->packed;
        step(&readers[n++]);
    }
    for (;;) {
        uint64_t least = UINT64_MAX;
        for (size_t i = 0; i < n; i++)
            if (readers[i].more && readers[i].key < least)
                least = readers[i].key;
        if (least == UINT64_MAX)
            return;
        clear_cell(&h->cell);
        for (size_t i = 0; i < n; i++)
            if (readers[i].more && readers[i].key == least) {
                history_add(least, readers[i].content, readers[i].end, &h->cell);
                step(&readers[i]);
            }
        if (history_is_real(least))
            history_put_real(&h->packed, least, &h->cell.real);
        else
            history_put_cell(&h->packed, least, &h->cell);
    }
}

static bool coarsen(struct history *h, int64_t now)
{
    for (int i = 1; i < HISTORY_LEVELS; i++) {
        int64_t width = history_resolution(i);
        struct history_level *l = &h->levels[i];
        if ((now + h->offset) / width == (l->open + h->offset) / width)
            return true; /* the coarser ones end with this one */
        fold(h, &h->levels[i - 1], l);
        if (!keep(h, l, now))
            return false;
    }
    return true;
}

void history_take_over(struct history *h, struct history_level made[HISTORY_LEVELS], int64_t now)
{
    for (int i = 0; i < HISTORY_LEVELS; i++) {
        struct history_level *l = &h->levels[i];
        while (l->count)
            drop_oldest(h, l);
        free(l->records);
        *l = made[i];
        made[i].records = NULL;
        for (size_t k = 0; k < l->count; k++)
            h->bytes += l->records[k].n;
    }
    /* What was not summed up yet is now: the next coarse point begins with this process. */
    for (int i = 1; i < HISTORY_LEVELS; i++) {
        struct history_level *l = &h->levels[i], *below = &h->levels[i - 1];
        const struct history_record *last = below->count ? history_record_at(below, below->count - 1) : NULL;
        l->open = l->count ? history_record_at(l, l->count - 1)->to : INT64_MIN;
        if (last && last->from >= l->open) {
            size_t first = below->count;
            while (first && below->count - first < FOLD_MOST &&
                   history_record_at(below, first - 1)->from >= l->open)
                first--;
            l->open = history_record_at(below, first)->from;
            fold(h, below, l);
            (void)keep(h, l, last->to); /* without memory the sum is missing */
        }
        l->open = now;
    }
    h->levels[0].open = now;
    keep_within_budget(h);
}

/* Takes h->packed apart again: entries of all requests must stand before those of operations. */
static void turn_round(struct text *t, size_t first, struct text *room)
{
    text_clear(room);
    text_bytes(room, t->p + first, t->n - first);
    text_bytes(room, t->p, first);
    struct text other = *t;
    *t = *room;
    *room = other;
}

bool history_tick(struct history *h, int64_t now, const struct history_gauges *g)
{
    uint64_t total[TALLY_COUNT] = {0};
    struct text room = {0};
    double seconds = (double)(now - h->last) / 1e9;
    if (now - h->last < SECOND / 2)
        return true; /* the clock's tick came early: the next point takes it */
    text_clear(&h->packed);
    h->packed.failed = false;
    put_operations(h, seconds, total);
    size_t first = h->packed.n;
    put_all(h, g, seconds, total);
    if (!h->packed.failed && first)
        turn_round(&h->packed, first, &room);
    put_custom(h);
    if (h->custom)
        custom_second_over(h->custom);
    for (int i = SHARED_FIRST_PHASE; i < HISTORY_SHARED; i++)
        put_shared(h, i);
    put_states(h, g);
    history_put_coded(h, seconds);
    bool good = keep(h, &h->levels[0], now);
    text_dispose(&room);
    h->last = now;
    for (int i = 0; i < HISTORY_LEVELS; i++)
        while (h->levels[i].count && history_record_at(&h->levels[i], 0)->to < now - h->retention)
            drop_oldest(h, &h->levels[i]);
    good = good && coarsen(h, now);
    keep_within_budget(h);
    return good;
}

size_t history_bytes(const struct history *h)
{
    size_t n = sizeof *h + h->bytes + h->marks_bytes + h->packed.cap;
    for (int i = 0; i < HISTORY_LEVELS; i++)
        n += h->levels[i].cap * sizeof(struct history_record);
    return n;
}

uint64_t history_dropped(const struct history *h)
{
    return h->dropped;
}
