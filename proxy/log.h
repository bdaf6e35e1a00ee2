/*
 * What the sidecar says about itself (the log) and about every request (the access log).
 * Writing never blocks and never fails a request: a line that cannot be written is dropped
 * and counted. Credentials do not get in: values of sensitive query parameters are masked.
 */
#ifndef PROXY_LOG_H
#define PROXY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metrics/observe.h"
#include "policy/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

struct log;        /* one for the process; any thread may write */
struct worker_log; /* access lines of one worker, gathered until the end of its turn */

struct log_config {
    const char *file; /* "-" or NULL: standard error; else a path, appended to, made with mode 0640 */
    enum log_level level;
    bool text;   /* key=value lines for people instead of JSON */
    bool access; /* access lines are written */
};

/* Opens the log. NULL on failure: *error then holds errno. */
struct log *log_open(const struct log_config *config, int *error);
void log_close(struct log *log);

/* Opens the file again (USR1), after it was moved away. Keeps the old one when that fails. Returns 0 or
 * errno. One thread at a time. */
int log_reopen(struct log *log);

/* Goes on in another file (as log_config.file; nothing is done when it is the same). Returns 0 or errno: then
 * the old one stays. One thread at a time. */
int log_set_file(struct log *log, const char *file) MUSTCHECK;

void log_set_level(struct log *log, enum log_level level); /* any thread */
void log_set_access(struct log *log, bool on);             /* any thread */
void log_set_text(struct log *log, bool text);             /* any thread */

/*
 * For one module (or "all") another level until `until`. False when there is no module of that name. From one
 * thread. / Ends what is over; true when something was. / The i-th module's name, NULL behind the last;
 * *level is -1 when it has none of its own.
 */
bool log_set_module(struct log *log, const char *module, enum log_level level, tick_t until);
bool log_expire_modules(struct log *log, tick_t now);
const char *log_module(const struct log *log, unsigned i, int *level, tick_t *until);
bool log_access_on(const struct log *log);
bool log_enabled(const struct log *log, enum log_level level);
bool log_level_parse(const char *text, enum log_level *level); /* debug info warning (or warn) error */

/* Lines dropped so far by log_write(); access lines are counted in their worker's METRIC_LOG_DROPPED. */
uint64_t log_dropped(const struct log *log);

/* One line: time, level, module (a short fixed word), message. Longer than 2 KiB is cut, and marked with
 * "...". */
void log_write(struct log *log, enum log_level level, const char *module, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * Writes whole lines, each with its newline, without blocking. Returns how many were dropped. Any thread.
 * Lines of at most LOG_LINE_MAX bytes never mix with those of other threads, not even in a pipe.
 */
enum { LOG_LINE_MAX = 4096 };
size_t log_put(struct log *log, const char *lines, size_t n);

/* One line for machines that wait for it (at level info): "event" and the address that it is about. */
void log_event(struct log *log, const char *event, const char *address);

/* One finished request, as the access log shows it. Slices may be empty; bytes may be anything. */
struct access_record {
    const struct observation *observed;
    struct slice client; /* address */
    struct slice method; /* as received */
    struct slice target; /* path and query as received; masked here */
    struct slice host;
    struct slice user_agent;
    struct slice request_id;
    struct slice trace_id;
    struct slice upstream; /* address of the last attempt */
    const char *operation; /* name, or NULL */
    const char *outcome;   /* of the last attempt at the upstream, or NULL when there was none */
    const char *reason;    /* name, or NULL when the request ended well */
    uint8_t minor;         /* HTTP/1.minor; 20 = HTTP/2 */
};

/* NULL when out of memory. `block` is the owner's, for the count of dropped lines. */
struct worker_log *worker_log_new(struct log *log, struct metrics_block *block);
void worker_log_free(struct worker_log *w); /* flushes first */

/* Appends one line; does nothing when access lines are off. Only the owner. */
void worker_log_access(struct worker_log *w, const struct access_record *record);

/* Writes what was gathered, once a loop turn. Never blocks. Cheap when there is nothing. */
void worker_log_flush(struct worker_log *w);

enum { LOG_TIME_BYTES = 25 };
/* Writes "2026-01-31T23:59:59.123Z" and a NUL. `wall` in nanoseconds since 1970. */
void log_time(int64_t wall, char out[LOG_TIME_BYTES]);

/*
 * Copies a target with the values of sensitive query parameters (api_key, token, secret, password, signature,
 * ...) replaced by
 * "***". Returns the bytes written, at most `room`; a longer target is cut.
 */
size_t log_mask_target(struct slice target, char *out, size_t room);

/* Writes the bytes as the inside of a JSON string: always valid UTF-8 and JSON, whatever came. Returns the
 * bytes written, at most `room`; never cuts inside an escape. */
size_t log_escape(struct slice text, char *out, size_t room);

#endif
