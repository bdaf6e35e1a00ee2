/*
 * What POST /__control can change: faults, outages, limits, credentials, fields, the clock. A set of settings
 * is made whole and then never changes, but for the `times` still left of its faults.
 */
#ifndef ORIGIN_SETTINGS_H
#define ORIGIN_SETTINGS_H

#include <jansson.h>
#include <stdatomic.h>

#include "tests/origin/route.h"

enum distribution { DIST_CONSTANT, DIST_EXPONENTIAL, DIST_LOGNORMAL };
enum outage { OUTAGE_NONE, OUTAGE_REFUSE, OUTAGE_RESET, OUTAGE_503, OUTAGE_HANG };
enum dialect {
    DIALECT_REAL,       /* 401 {"detail":"Rate limit exceeded"} */
    DIALECT_DOCUMENTED, /* 429 and the guide's error body */
    DIALECT_FORBIDDEN   /* 403 and the guide's error body */
};

enum { MAX_RULES = 64, MAX_ERRORS = 16, MAX_EXTRA_FIELDS = 16 };

struct rule {
    enum op op; /* OP_COUNT: every operation */
    struct {
        double mean_ms, sigma;
        enum distribution distribution;
        double rate; /* share of requests that it is for */
    } latency;
    struct {
        int status;
        double rate;
    } errors[MAX_ERRORS];
    int error_count;
    double reset_before, reset_in_body, truncate, hang;
    struct {
        double rate;
        uint64_t bytes_per_second;
    } slow_body;
    struct {
        double rate;
        enum dialect dialect;
        int64_t retry_after; /* seconds, -1: no Retry-After */
    } rate_limited;
    atomic_llong *left; /* requests to which it still applies; NULL: all */
};

struct field_rule {
    enum op op;               /* OP_COUNT: every operation */
    char *lines;              /* `name: value CRLF` each; owned */
    bool etag, last_modified; /* made from the body, and conditions answered with 304 */
};

struct settings {
    atomic_uint refs;
    json_t *source; /* what was set, for GET /__control */
    struct rule rules[MAX_RULES];
    int rule_count;
    struct field_rule fields[MAX_EXTRA_FIELDS];
    int field_count;
    enum outage outage;
    uint32_t idle_timeout_ms; /* 0: connections live on */
    uint32_t workers;         /* calls worked on at once, the others wait; 0: all */
    bool auth_required, signature_required;
    bool whole_batches; /* batch_get gives all members of a prompt, where the API leaves some out */
    struct {
        bool enabled, headers;
        enum dialect dialect;
        int64_t retry_after; /* seconds; 0: until the window ends; -1: no Retry-After */
        uint32_t limits[3];  /* a minute, an hour, a day */
    } rate_limit;
    int64_t clock_offset; /* seconds */
    int64_t clock_freeze; /* unix seconds; -1: the clock runs */
};

struct settings_box; /* holds the newest settings */

struct settings_start {
    bool no_auth, signature_required, no_limits;
    uint32_t limits[3];
    enum dialect dialect;
    uint32_t idle_timeout_ms;
};

/* NULL when out of memory. */
struct settings_box *settings_box_new(const struct settings_start *start);
void settings_box_free(struct settings_box *box);

/* The newest settings with a reference of the caller's, and cheaply: whether *seen is out of date. */
struct settings *settings_get(struct settings_box *box, uint64_t *seen);
bool settings_is_newer(struct settings_box *box, uint64_t seen);
void settings_unref(struct settings *settings);

/*
 * Lays the members of `patch` over the present settings. False when one is wrong: `why` then says which,
 * and what is allowed, and nothing has changed.
 */
bool settings_patch(struct settings_box *box, json_t *patch, struct text *why);
/* Back to how it was started. False when out of memory. */
bool settings_reset(struct settings_box *box);

/* Nanoseconds since 1970 of the clock that the settings describe. */
int64_t settings_clock(const struct settings *settings);

#endif
