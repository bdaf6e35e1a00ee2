/*
 * Gathers a worker's access lines, and writes them once a loop turn.
 *
 * Invariants: one owner. The buffer holds whole lines only, none longer than LOG_LINE_MAX,
 * and is flushed before it could overflow. Every text from outside is escaped, every one
 * has its own bound, and a target is masked before it gets in.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/log.h"

enum { BUFFER = 64 * 1024, TARGET_MAX = 1700 };

struct worker_log {
    struct log *log;
    struct metrics_block *block;
    size_t n;
    int64_t second;            /* of `time` */
    char time[LOG_TIME_BYTES]; /* of that second; formatting a date costs more than all else here */
    char *buffer;
};

/* A line being made. Past its end nothing is written, and the line is dropped. */
struct line {
    char *p;
    size_t n;
    bool full;
};

struct worker_log *worker_log_new(struct log *log, struct metrics_block *block)
{
    struct worker_log *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->buffer = malloc(BUFFER);
    if (!w->buffer) {
        free(w);
        return NULL;
    }
    w->log = log;
    w->block = block;
    w->second = -1;
    return w;
}

void worker_log_free(struct worker_log *w)
{
    if (!w)
        return;
    worker_log_flush(w);
    free(w->buffer);
    free(w);
}

void worker_log_flush(struct worker_log *w)
{
    if (!w->n)
        return;
    size_t dropped = log_put(w->log, w->buffer, w->n);
    if (dropped)
        metric_add(w->block, METRIC_LOG_DROPPED, dropped);
    w->n = 0;
}

static void put(struct line *l, const char *p, size_t n)
{
    if (l->full || n > LOG_LINE_MAX - l->n) {
        l->full = true;
        return;
    }
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void put_string(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

static void put_key(struct line *l, const char *key)
{
    put(l, ",\"", 2);
    put_string(l, key);
    put(l, "\":", 2);
}

/* A string of at most `room` bytes once escaped. An empty one is left out. */
static void put_text(struct line *l, const char *key, struct slice text, size_t room)
{
    if (!text.n)
        return;
    put_key(l, key);
    put(l, "\"", 1);
    if (room > LOG_LINE_MAX - l->n)
        l->full = true;
    if (l->full)
        return;
    l->n += log_escape(text, l->p + l->n, room);
    put(l, "\"", 1);
}

static void put_digits(struct line *l, uint64_t v, unsigned at_least)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v || sizeof digits - at < at_least);
    put(l, digits + at, sizeof digits - at);
}

static void put_number(struct line *l, const char *key, uint64_t v)
{
    put_key(l, key);
    put_digits(l, v, 1);
}

/* Milliseconds with three decimals. */
static void put_duration(struct line *l, const char *key, int64_t ns)
{
    uint64_t us = ns > 0 ? (uint64_t)ns / 1000 : 0;
    put_key(l, key);
    put_digits(l, us / 1000, 1);
    put(l, ".", 1);
    put_digits(l, us % 1000, 3);
}

static void put_phases(struct line *l, const struct observation *o)
{
    const struct {
        const char *key;
        int64_t ns;
    } phases[] = {
        {"queue_ms", o->queue_wait},  {"pool_wait_ms", o->pool_wait},
        {"dns_ms", o->dns},           {"tcp_ms", o->tcp},
        {"tls_ms", o->tls},           {"first_byte_ms", o->first_byte},
        {"upstream_ms", o->upstream}, {"retry_delay_ms", o->retry_delay},
        {"saved_ms", o->saved},
    };
    put_duration(l, "duration_ms", o->total);
    for (size_t i = 0; i < ARRAY_LEN(phases); i++)
        if (phases[i].ns > 0)
            put_duration(l, phases[i].key, phases[i].ns);
}

static struct slice protocol(uint8_t minor)
{
    return minor == 20 ? SLICE("HTTP/2") : minor == 0 ? SLICE("HTTP/1.0") : SLICE("HTTP/1.1");
}

static struct slice text_slice(const char *s)
{
    return s ? (struct slice){s, strlen(s)} : (struct slice){NULL, 0};
}

static void put_time(struct worker_log *w, struct line *l, int64_t wall)
{
    if (wall / TICK_S != w->second) {
        log_time(wall, w->time);
        w->second = wall / TICK_S;
    }
    put_string(l, "{\"type\":\"access\",\"time\":\"");
    put(l, w->time, 20); /* up to the point */
    put_digits(l, (uint64_t)(wall % TICK_S / TICK_MS), 3);
    put(l, "Z\"", 2);
}

static void put_record(struct worker_log *w, struct line *l, const struct access_record *r)
{
    const struct observation *o = r->observed;
    char target[TARGET_MAX];
    size_t target_n = log_mask_target(r->target, target, sizeof target);
    put_time(w, l, o->ended_wall > 0 ? o->ended_wall : 0);
    put_text(l, "request_id", r->request_id, 128);
    put_text(l, "trace_id", r->trace_id, 64);
    put_text(l, "client", r->client, 160);
    put_text(l, "method", r->method, 64);
    put_text(l, "target", (struct slice){target, target_n}, TARGET_MAX);
    put_text(l, "protocol", protocol(r->minor), 16);
    put_text(l, "host", r->host, 256);
    put_text(l, "operation", text_slice(r->operation), 128);
    put_number(l, "status", o->status);
    put_text(l, "cache", text_slice(cache_word_name(o->cache)), 16);
    put_text(l, "outcome", text_slice(r->outcome), 32);
    put_text(l, "reason", text_slice(r->reason), 64);
    put_number(l, "bytes_in", o->bytes_in);
    put_number(l, "bytes_out", o->bytes_out);
    put_phases(l, o);
    put_number(l, "attempts", o->attempts);
    if (o->retries)
        put_number(l, "retries", o->retries);
    put_text(l, "upstream", r->upstream, 160);
    if (o->flags & OBSERVED_CLIENT_GONE)
        put_string(l, ",\"client_gone\":true");
    if (o->flags & OBSERVED_BROKEN)
        put_string(l, ",\"broken\":true");
    put_text(l, "user_agent", r->user_agent, 384);
    put(l, "}\n", 2);
}

void worker_log_access(struct worker_log *w, const struct access_record *record)
{
    if (!log_access_on(w->log))
        return;
    if (BUFFER - w->n < LOG_LINE_MAX)
        worker_log_flush(w);
    struct line l = {.p = w->buffer + w->n};
    put_record(w, &l, record);
    if (l.full)
        metric_add(w->block, METRIC_LOG_DROPPED, 1);
    else
        w->n += l.n;
}
