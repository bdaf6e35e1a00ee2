/*
 * Puts a request into words.
 *
 * Invariants: every number was measured; a phase is named when it took a hundredth of the whole or more, the
 * longest first; nothing of the request but its method, path and operation is quoted.
 */
#include "metrics/explain.h"

#include <stdio.h>
#include <string.h>

static void put_duration(struct text *t, int64_t ns)
{
    char room[32];
    double ms = (double)ns / 1e6;
    if (ms < 0.0095)
        snprintf(room, sizeof room, "%.0f us", (double)ns / 1e3);
    else if (ms < 9.95)
        snprintf(room, sizeof room, "%.2f ms", ms);
    else if (ms < 999.5)
        snprintf(room, sizeof room, "%.0f ms", ms);
    else
        snprintf(room, sizeof room, "%.2f s", ms / 1e3);
    text_string(t, room);
}

static void put_number(struct text *t, int64_t v)
{
    text_uint(t, v > 0 ? (uint64_t)v : 0);
}

size_t explain_phases(const struct observation *o, struct explain_phase out[EXPLAIN_PHASES])
{
    const struct explain_phase all[EXPLAIN_PHASES] = {
        {"held", "receiving the rest of the request, which its signature covers", o->held},
        {"second", "asking a tier below memory", o->second},
        {"joined", "sharing the fetch of another request", o->joined},
        {"queue_wait", "held back by the rate limit or the concurrency limit", o->queue_wait},
        {"pool_wait", "waiting for a connection", o->pool_wait},
        {"send", "sending the request", o->send},
        {"wait", "waiting for the API's answer to begin", o->wait},
        {"body", "receiving and passing on the answer's body", o->body},
        {"retry_delay", "pausing between attempts", o->retry_delay},
    };
    size_t n = 0;
    for (size_t i = 0; i < EXPLAIN_PHASES; i++)
        if (all[i].ns > 0)
            out[n++] = all[i];
    return n;
}

static void put_head(const struct metrics *m, const struct observation *o, struct text *t)
{
    char status[32];
    text_string(t, metrics_method_name(m, o->method));
    text_string(t, " ");
    text_bytes(t, o->path, strnlen(o->path, RING_PATH_BYTES));
    text_string(t, " (");
    text_string(t, metrics_operation_name(m, o->operation));
    snprintf(status, sizeof status, o->status ? ") was answered %u" : ") got no answer", o->status);
    text_string(t, status);
    if (o->reason && o->flags & OBSERVED_OWN) {
        text_string(t, " by the sidecar itself (");
        text_string(t, metrics_reason_name(m, o->reason));
        text_string(t, ")");
    } else if (o->reason) {
        text_string(t, " (");
        text_string(t, metrics_reason_name(m, o->reason));
        text_string(t, ")");
    }
    text_string(t, o->flags & OBSERVED_CLIENT_GONE ? "; the client left after "
                   : o->flags & OBSERVED_BROKEN    ? " and broke off after "
                                                   : " after ");
    put_duration(t, o->total);
}

static void put_cache(const struct observation *o, struct text *t)
{
    static const char *const sentences[VERDICT_COUNT] = {
        [VERDICT_NONE] = "",
        [VERDICT_HIT] = "; it came fresh from the cache",
        [VERDICT_STALE] = "; it came stale from the cache, as its lifetime allows",
        [VERDICT_MISS] = "; the cache had nothing to use",
        [VERDICT_REVALIDATED] = "; the cache's answer was confirmed by the API",
        [VERDICT_COLLAPSED] = "; it shared the fetch of another request",
        [VERDICT_BYPASS] = "; the cache was not asked",
        [VERDICT_BATCHED] = "; it was fetched in a batch with others",
    };
    text_string(t, o->cache < VERDICT_COUNT ? sentences[o->cache] : "");
    if (o->saved > 0 && (o->cache == VERDICT_HIT || o->cache == VERDICT_STALE)) {
        text_string(t, " (fetching it had taken ");
        put_duration(t, o->saved);
        text_string(t, ")");
    }
    if (o->flags & OBSERVED_STORED)
        text_string(t, ", and was stored");
}

static void put_phases(const struct observation *o, struct text *t)
{
    struct explain_phase phases[EXPLAIN_PHASES];
    size_t n = explain_phases(o, phases), told = 0;
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k && phases[k].ns > phases[k - 1].ns; k--) {
            struct explain_phase kept = phases[k];
            phases[k] = phases[k - 1];
            phases[k - 1] = kept;
        }
    for (size_t i = 0; i < n && phases[i].ns * 100 >= o->total; i++) {
        text_string(t, told++ ? ", " : "; it spent ");
        put_duration(t, phases[i].ns);
        text_string(t, " ");
        text_string(t, phases[i].words);
    }
    if (o->dns > 0 || o->tcp > 0 || o->tls > 0) {
        text_string(t, told ? ", where a connection was made (" : "; a connection was made (");
        const struct {
            const char *name;
            int64_t ns;
        } parts[] = {{"name ", o->dns}, {"TCP ", o->tcp}, {"TLS ", o->tls}};
        bool any = false;
        for (size_t i = 0; i < 3; i++)
            if (parts[i].ns > 0) {
                text_string(t, any ? ", " : "");
                text_string(t, parts[i].name);
                put_duration(t, parts[i].ns);
                any = true;
            }
        text_string(t, ")");
    }
}

static void put_attempts(const struct metrics *m, const struct observation *o, struct text *t)
{
    unsigned n = o->attempts < OBSERVED_ATTEMPTS ? o->attempts : OBSERVED_ATTEMPTS;
    if (o->attempts < 2)
        return;
    text_string(t, "; of ");
    text_uint(t, o->attempts);
    text_string(t, " attempts ");
    for (unsigned i = 0; i < n; i++) {
        const struct observed_attempt *a = &o->tried[i];
        char number[48];
        snprintf(number, sizeof number, "%s%s ended with ", i ? i + 1 == n ? " and " : ", " : "",
                 i == 0       ? "the first"
                 : i + 1 == n ? "the last"
                 : i == 1     ? "the second"
                              : "the third");
        text_string(t, number);
        if (a->reason)
            text_string(t, metrics_reason_name(m, a->reason));
        else
            text_uint(t, a->status);
        text_string(t, " after ");
        put_duration(t, (int64_t)a->took_us * 1000);
    }
}

static void put_limits(const struct observation *o, struct text *t)
{
    if (o->flags & OBSERVED_HEDGED)
        text_string(t, "; a second copy was sent because the first was slow");
    if (o->circuit == CIRCUIT_OPEN)
        text_string(t, "; a circuit breaker was open");
    else if (o->circuit == CIRCUIT_PROBE)
        text_string(t, "; it was one of the few that try whether the API is back");
    if (!(o->flags & OBSERVED_QUOTA) ||
        (o->quota_limit > 0 && o->quota_left * 5 > o->quota_limit && o->queue_wait == 0 && o->status != 429))
        return; /* plenty left */
    text_string(t, "; the API said that ");
    put_number(t, o->quota_left);
    if (o->quota_limit > 0) {
        text_string(t, " of ");
        put_number(t, o->quota_limit);
    }
    text_string(t, " calls were left");
}

void explain_request(const struct metrics *m, const struct observation *o, struct text *t)
{
    put_head(m, o, t);
    put_cache(o, t);
    put_phases(o, t);
    put_attempts(m, o, t);
    put_limits(o, t);
    text_string(t, ".");
}
