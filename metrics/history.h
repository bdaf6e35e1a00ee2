/*
 * Time series of the metric types at falling resolution (1 s, 10 s, 1 min, 10 min, 1 h), of all requests
 * together and of each operation, within a fixed number of bytes. A point is a log-linear sketch (hist.h: 64
 * buckets a doubling, so that quantiles, least and greatest are at most 0.79 % off), and points merge
 * exactly: a minute is the sum of its seconds.
 *
 * Control thread only; workers know nothing of it. Times are nanoseconds on one monotonic clock.
 */
#ifndef METRICS_HISTORY_H
#define METRICS_HISTORY_H

#include "metrics/metric_type.h"
#include "metrics/observe.h"

enum { HISTORY_LEVELS = 5, HISTORY_BUDGET = 12 << 20 /* bytes of points kept, by default */ };

struct history;

/* What is measured: a type, and METRICS_ALL or an operation's number. Per operation there are
 * REQUEST_LATENCY, CACHE_HIT_RATE, ERROR_RATE, THROUGHPUT and RETRY_COUNT. For CUSTOM_METRIC it is
 * HISTORY_CUSTOM plus the custom metric's number. */
enum { HISTORY_CUSTOM = METRICS_MAX_OPERATIONS };
struct history_series {
    enum metric_type type;
    int operation;
};

/*
 * Some types are kept in parts as well, as operation HISTORY_PART + i: what is counted or measured of all
 * operations together, apart by something else. NETWORK_LATENCY is the round trip, its parts are the phases
 * of the attempts that it belongs to. CONNECTION_POOL_SIZE: connections by state, requests that wait for one,
 * the concurrency limit and the requests under it. THROUGHPUT: requests by status and by what the cache did,
 * and attempts at the API by outcome. RETRY_COUNT: by reason.
 */
enum {
    HISTORY_PART = 1 << 20,
    HISTORY_PHASES = 6,
    HISTORY_STATES = 6,
    HISTORY_STATUSES = 1000, /* 0: no answer was sent */
    HISTORY_VERDICTS = 64,
    HISTORY_OUTCOMES = 2048, /* numbers of metrics_outcome_name() */
    HISTORY_CODED = HISTORY_STATUSES + HISTORY_VERDICTS + 2 * HISTORY_OUTCOMES,
    HISTORY_PARTS = HISTORY_PHASES + HISTORY_STATES + HISTORY_CODED
};

/* By what a type is kept apart: parts first ... first + count - 1. */
struct history_division {
    const char *by; /* phase, state, status, cache, outcome, reason */
    enum metric_type type;
    int first, count;
};
/* Division i; NULL behind the last. / That of a part; NULL: it is none. */
const struct history_division *history_division(int i);
const struct history_division *history_division_of(int part);

/* The name of a part, NULL when it is none or has no name in this process. `room` takes digits. */
enum { HISTORY_PART_NAME = 8 };
const char *history_part_name(const struct history *h, int part, char room[HISTORY_PART_NAME]);

/*
 * One point, in the unit of the type's row. What a sample is: of latencies and batches each request; of
 * ratios each second that had any request; of rates and gauges each second; of custom metrics each posted
 * value.
 */
struct history_point {
    int64_t from, to; /* what it covers; a gap in between is possible */
    uint64_t count;   /* what it rests on: requests, round trips, batches, events, or seconds of a gauge */
    double mean;      /* exact: of ratios the ratio of the sums, of rates events a second */
    double min, max, p50, p95, p99;
};

struct history_gauges {
    uint64_t resident_bytes;
    uint64_t cpu_ns; /* of the process, ever growing */
    uint64_t limit;  /* requests that may be at the upstream at once; 0: no limit */
    uint64_t in_flight;
};

/* `wall` - `now` says where minutes and hours begin. At most `budget` bytes of points are kept: beyond, the
 * oldest of the finest go first. NULL when out of memory. */
struct history *history_new(const struct metrics *m, int64_t now, int64_t wall, size_t budget);
void history_free(struct history *h); /* NULL is fine */

/* Custom metrics whose posted values are kept, too; borrowed. Each tick empties their `second`. */
struct custom;
void history_follow(struct history *h, struct custom *custom);

/* Points older than this are dropped at the next tick. Without it 30 days. */
void history_retain(struct history *h, int64_t nanoseconds);

/* To be called once a second; a late call makes a longer point. False when out of memory: that second is
 * missing then. */
bool history_tick(struct history *h, int64_t now, const struct history_gauges *gauges)
    __attribute__((warn_unused_result));

/* True when the type is kept for single operations too. */
bool history_by_operation(enum metric_type type);

/* The last `length` nanoseconds as one point, at a resolution of about a tenth of that or finer. False when
 * nothing was measured in them. */
bool history_window(struct history *h, const struct history_series *s, int64_t length, int64_t now,
                    struct history_point *out);

/* The quantile q (0 ... 1) of the same samples; 0 when there are none. */
double history_quantile(struct history *h, const struct history_series *s, int64_t length, int64_t now,
                        double q);

/*
 * Points of `step` nanoseconds (at least a second) from `from` up to `to`, oldest first; those without a
 * sample are left out. Where only coarser points are left, these are given. Returns how many were written, at
 * most `most`.
 */
size_t history_points(struct history *h, const struct history_series *s, int64_t from, int64_t to,
                      int64_t step, struct history_point *out, size_t most);

/*
 * Each part of a division, or each operation where `division` is NULL, that has a sample of the type from
 * `from` up to `to`, as one point of the whole time: by growing number. Records are those of points of
 * `step`. `see` gets the number as in struct history_series.
 */
typedef void history_see_part(void *arg, int operation, const struct history_point *total);
void history_parts(struct history *h, enum metric_type type, const struct history_division *division,
                   int64_t from, int64_t to, int64_t step, history_see_part *see, void *arg);

/*
 * The samples themselves, as sketches of `step` nanoseconds each, in the order of history_points. A sketched
 * number is the value times `scale`. `see` copies what it wants; it returns false to end the walk.
 */
typedef bool history_see(void *arg, int64_t from, const struct hist_counts *sketch, double scale);
void history_sketches(struct history *h, const struct history_series *s, int64_t from, int64_t to,
                      int64_t step, history_see *see, void *arg);

/* The same of a custom metric. */
struct real_sketch;
typedef bool history_see_real(void *arg, int64_t from, const struct real_sketch *sketch);
void history_reals(struct history *h, const struct history_series *s, int64_t from, int64_t to, int64_t step,
                   history_see_real *see, void *arg);

/* True when samples of the type are single events (requests, round trips, batches), not seconds. */
bool history_of_events(enum metric_type type);

/* Everything that is kept, each stretch of time at its finest resolution. All zero is the beginning; it stays
 * valid while points come and go. */
struct history_cursor {
    int64_t at;
    uint64_t key;
    bool begun;
};
bool history_next(struct history *h, struct history_cursor *c, struct history_series *s,
                  struct history_point *out);

/* Appends everything that is kept as bytes; out->failed when out of memory. */
struct text;
void history_save(const struct history *h, struct text *out);

/*
 * Takes in what another process has saved, in place of what is there; to be called before the first tick.
 * False: damaged, of another version, or out of memory; then nothing has changed.
 */
bool history_load(struct history *h, const void *bytes, size_t n, int64_t now);

/* When the oldest point begins; `now` when there is none. */
int64_t history_oldest(const struct history *h, int64_t now);

/* Bytes that points, counters and scratch take; points dropped for want of room before their time. */
size_t history_bytes(const struct history *h);
uint64_t history_dropped(const struct history *h);

#endif
