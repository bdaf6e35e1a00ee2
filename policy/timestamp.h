/*
 * The timestamps of signed requests (X-PromptOps-Timestamp) in their three forms. Whole seconds since
 * 1970-01-01T00:00:00Z; leap seconds are not counted.
 */
#ifndef POLICY_TIMESTAMP_H
#define POLICY_TIMESTAMP_H

#include "policy/base.h"

enum timestamp_form {
    TIMESTAMP_NAIVE_UTC, /* 2026-01-01T00:00:00, UTC without saying so: what the real server reads */
    TIMESTAMP_ZULU,      /* 2026-01-01T00:00:00Z (RFC 3339): what its documents say */
    TIMESTAMP_UNIX       /* 1767225600 */
};

#define TIMESTAMP_MAX 24

/* Writes one form, without a NUL; returns its length. `when` is clamped into the years 1970 to 9999. */
size_t timestamp_write(char out[TIMESTAMP_MAX], int64_t when, enum timestamp_form form);

/*
 * Reads any of the three forms; a fraction of a second is passed over. Returns false, *out untouched, for
 * all else: an offset, a day that does not exist, a time outside of the years 1970 to 9999.
 */
bool timestamp_read(struct slice text, int64_t *out) MUSTCHECK;

#endif
