/*
 * GET /api/v1/requests: finished requests that are kept (a sample, the failed, the slowest), where the time
 * of each went, and each in a sentence.
 *
 * Invariants: a request is shown once, whatever it is kept for; of the kept ones only the keys of those
 * wanted are gathered, and at most `limit` are copied.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/explain.h"
#include "metrics/keeper.h"
#include "proxy/admin_range.h"
#include "proxy/admin_request.h"
#include "proxy/log.h"

enum { REQUESTS_DEFAULT = 50, REQUESTS_MOST = 1000 };

struct filter {
    uint64_t limit, status;
    int64_t min_duration;
    const char *operation, *cache;
    uint8_t kept; /* any of these bits */
    bool slowest; /* first; else the newest */
};

/* A kept request, without its content. */
struct found {
    int64_t rank;
    uint64_t number;
    uint32_t place;
    int block;
};

static bool wanted(const struct metrics *m, const struct filter *f, const struct observation *o)
{
    if (o->total < f->min_duration || (f->status && o->status != f->status) || !(o->kept & f->kept))
        return false;
    if (f->cache && strcmp(f->cache, cache_word_name(o->cache)) != 0)
        return false;
    return !f->operation || strcmp(f->operation, metrics_operation_name(m, o->operation)) == 0;
}

static int by_rank(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? 1 : -1;
    if (x->number != y->number)
        return x->number < y->number ? 1 : -1;
    return x->block - y->block;
}

/* The keys of the wanted ones, best first, each once. Returns how many; *out is to be freed. */
static size_t find(const struct metrics *m, const struct filter *f, struct found **out)
{
    size_t room = 0, n = 0, kept = 0;
    struct observation o;
    for (int b = 0; b < metrics_blocks(m); b++)
        room += keeper_places(metrics_keeper(m, b));
    *out = malloc(room * sizeof **out);
    for (int b = 0; *out && b < metrics_blocks(m); b++) {
        const struct keeper *k = metrics_keeper(m, b);
        for (size_t i = 0; i < keeper_places(k); i++)
            if (keeper_at(k, i, &o) && wanted(m, f, &o))
                (*out)[n++] = (struct found){f->slowest ? o.total : o.ended_wall, o.number, (uint32_t)i, b};
    }
    if (n)
        qsort(*out, n, sizeof **out, by_rank);
    for (size_t i = 0; i < n; i++)
        if (!kept || (*out)[i].number != (*out)[kept - 1].number || (*out)[i].block != (*out)[kept - 1].block)
            (*out)[kept++] = (*out)[i];
    return kept;
}

static void put_attempts(struct view *v, const struct metrics *m, const struct observation *o)
{
    char room[8];
    unsigned n = o->attempts < OBSERVED_ATTEMPTS ? o->attempts : OBSERVED_ATTEMPTS;
    view_array(v, "tried");
    for (unsigned i = 0; i < n; i++) {
        const struct observed_attempt *a = &o->tried[i];
        view_object(v, NULL);
        view_uint(v, "attempt", i + 1 == n ? o->attempts : i + 1);
        view_real(v, "at", (double)a->at_us / 1e6);
        view_real(v, "duration", (double)a->took_us / 1e6);
        if (a->status)
            view_uint(v, "status", a->status);
        else
            view_null(v, "status");
        view_text(v, "reason", a->reason ? metrics_reason_name(m, a->reason) : NULL);
        view_text(v, "outcome", metrics_outcome_name(m, a->outcome, room));
        view_bool(v, "reused", a->reused);
        view_end(v);
    }
    view_end(v);
}

static void put_phase(struct view *v, const char *name, int64_t ns)
{
    if (ns > 0)
        view_real(v, name, (double)ns / 1e9);
}

static void put_phases(struct view *v, const struct observation *o)
{
    struct explain_phase phases[EXPLAIN_PHASES];
    size_t n = explain_phases(o, phases);
    view_object(v, "phases");
    for (size_t i = 0; i < n; i++)
        put_phase(v, phases[i].name, phases[i].ns);
    put_phase(v, "dns", o->dns);
    put_phase(v, "tcp", o->tcp);
    put_phase(v, "tls", o->tls);
    put_phase(v, "first_byte", o->first_byte);
    put_phase(v, "upstream", o->upstream);
    view_end(v);
    view_array(v, "waterfall"); /* one after the other */
    for (size_t i = 0; i < n; i++) {
        view_object(v, NULL);
        view_text(v, "phase", phases[i].name);
        view_real(v, "duration", (double)phases[i].ns / 1e9);
        view_end(v);
    }
    view_end(v);
}

static void put_why_kept(struct view *v, const struct observation *o)
{
    view_array(v, "kept");
    if (o->kept & KEPT_SAMPLE)
        view_text(v, NULL, "sample");
    if (o->kept & KEPT_FAILED)
        view_text(v, NULL, "failed");
    if (o->kept & KEPT_SLOW)
        view_text(v, NULL, "slow");
    view_end(v);
}

static void put_limits(struct view *v, const struct observation *o)
{
    static const char *const circuits[] = {"not_asked", "closed", "probe", "open"};
    view_text(v, "circuit", circuits[o->circuit % ARRAY_LEN(circuits)]);
    if (!(o->flags & OBSERVED_QUOTA)) {
        view_null(v, "quota");
        return;
    }
    view_object(v, "quota");
    view_int(v, "left", o->quota_left);
    if (o->quota_limit >= 0)
        view_int(v, "limit", o->quota_limit);
    else
        view_null(v, "limit");
    view_end(v);
}

static void put_request(struct view *v, const struct metrics *m, int block, const struct observation *o)
{
    char when[LOG_TIME_BYTES], id[48];
    struct text sentence = {0};
    log_time(o->ended_wall, when);
    snprintf(id, sizeof id, "%d-%llu", block, (unsigned long long)o->number);
    view_text(v, "id", id);
    view_text(v, "ended", when);
    view_slice(v, "request_id", (struct slice){o->request_id, strnlen(o->request_id, RING_ID_BYTES)});
    view_text(v, "operation", metrics_operation_name(m, o->operation));
    view_text(v, "method", metrics_method_name(m, o->method));
    view_slice(v, "path", (struct slice){o->path, strnlen(o->path, RING_PATH_BYTES)});
    view_uint(v, "status", o->status);
    view_text(v, "reason", o->reason ? metrics_reason_name(m, o->reason) : NULL);
    view_text(v, "cache", cache_word_name(o->cache));
    view_bool(v, "stored", o->flags & OBSERVED_STORED);
    view_bool(v, "failed", observation_failed(o));
    put_why_kept(v, o);
    view_uint(v, "attempts", o->attempts);
    view_uint(v, "retries", o->retries);
    view_uint(v, "bytes_in", o->bytes_in);
    view_uint(v, "bytes_out", o->bytes_out);
    view_real(v, "duration", (double)o->total / 1e9);
    put_phases(v, o);
    put_attempts(v, m, o);
    put_limits(v, o);
    explain_request(m, o, &sentence);
    view_slice(v, "explanation", sentence.failed ? SLICE("") : (struct slice){sentence.p, sentence.n});
    text_dispose(&sentence);
}

static void put_found(struct view *v, const struct metrics *m, const char *key, const struct filter *f)
{
    struct found *all;
    struct observation o;
    size_t n = find(m, f, &all), shown = 0;
    view_array(v, key);
    for (size_t i = 0; i < n && shown < f->limit; i++) {
        if (!keeper_at(metrics_keeper(m, all[i].block), all[i].place, &o) || o.number != all[i].number)
            continue; /* another has taken its place meanwhile */
        view_object(v, NULL);
        put_request(v, m, all[i].block, &o);
        view_end(v);
        shown++;
    }
    view_end(v);
    free(all);
}

void admin_put_notable(const struct admin_sources *s, struct view *v, const char *key, size_t limit,
                       bool failed)
{
    struct filter f = {.limit = limit, .kept = failed ? KEPT_FAILED : KEPT_SLOW, .slowest = !failed};
    put_found(v, s->metrics, key, &f);
}

static bool operation_known(struct admin_request *r, const char *name)
{
    const struct metrics *m = r->sources->metrics;
    for (unsigned i = 0; name && i < metrics_operations(m); i++)
        if (strcmp(name, metrics_operation_name(m, (uint16_t)i)) == 0)
            return true;
    if (name)
        admin_refuse_query(r, "operation", "names no operation that is known",
                           "GET /api/v1/snapshot lists operations that had requests.");
    return !name;
}

void admin_show_requests(struct admin_request *r)
{
    const char *kept = admin_query(r, "kept"), *sort = admin_query(r, "sort");
    struct filter f = {.limit = REQUESTS_DEFAULT,
                       .operation = admin_query(r, "operation"),
                       .cache = admin_query(r, "cache"),
                       .slowest = sort && strcmp(sort, "slowest") == 0};
    f.kept = !kept                         ? KEPT_SAMPLE | KEPT_FAILED | KEPT_SLOW
             : strcmp(kept, "failed") == 0 ? KEPT_FAILED
             : strcmp(kept, "slow") == 0   ? KEPT_SLOW
                                           : KEPT_SAMPLE;
    if (!admin_query_number(r, "limit", REQUESTS_MOST, &f.limit) ||
        !admin_query_number(r, "status", 999, &f.status) ||
        !admin_query_duration(r, "min_duration", &f.min_duration) ||
        !admin_query_word(r, "cache", "none|hit|stale|miss|revalidated|collapsed|bypass|batched") ||
        !operation_known(r, f.operation) || !admin_query_word(r, "kept", "sample|failed|slow") ||
        !admin_query_word(r, "sort", "newest|slowest"))
        return;
    struct view *v = view_new();
    if (v)
        put_found(v, r->sources->metrics, "requests", &f);
    admin_reply(r, 200, v);
}

/* By our id, or by X-Request-Id: then the newest of it. */
static bool find_one(const struct metrics *m, const char *name, int *block, struct observation *out)
{
    struct observation o;
    bool found = false;
    size_t n = strlen(name) < RING_ID_BYTES ? strlen(name) : RING_ID_BYTES;
    for (int b = 0; b < metrics_blocks(m); b++) {
        const struct keeper *k = metrics_keeper(m, b);
        for (size_t i = 0; i < keeper_places(k); i++) {
            char id[48];
            if (!keeper_at(k, i, &o))
                continue;
            snprintf(id, sizeof id, "%d-%llu", b, (unsigned long long)o.number);
            bool same = strnlen(o.request_id, RING_ID_BYTES) == n && memcmp(o.request_id, name, n) == 0;
            if ((strcmp(id, name) != 0 && !same) || (found && o.ended_wall < out->ended_wall))
                continue;
            *out = o;
            *block = b;
            found = true;
        }
    }
    return found;
}

void admin_show_one_request(struct admin_request *r)
{
    struct observation o;
    int block = 0;
    if (!*r->name || !find_one(r->sources->metrics, r->name, &block, &o)) {
        admin_reply_error(r, 404, "No request of this id is kept (any more).",
                          "GET /api/v1/requests lists what is; performance.sample_rate and "
                          "performance.metrics_buffer_size say how much.");
        return;
    }
    struct view *v = view_new();
    if (v)
        put_request(v, r->sources->metrics, block, &o);
    admin_reply(r, 200, v);
}
