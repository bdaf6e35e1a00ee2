/*
 * Values as people write them: durations, sizes, whole numbers, decimals, yes or no. Reading is
 * strict (the whole text, no white space, nothing rounded, nothing that overflows); printing gives
 * the shortest form that reads back to the same value.
 */
#ifndef POLICY_UNITS_H
#define POLICY_UNITS_H

#include "policy/base.h"

/* Enough for any of the printed forms, its NUL included. */
#define UNITS_MAX_TEXT 40

/* "250ms", "1.5s", "5m", "1h", "7d", "20us", "100ns", or seconds without a unit. Never negative. */
bool units_parse_duration(const char *text, tick_t *value) MUSTCHECK;

/* "64KiB", "1.5GiB", "10MB", "64Ki", or bytes without a unit. KiB and Ki count 1024, KB 1000. */
bool units_parse_size(const char *text, uint64_t *value) MUSTCHECK;

/* Decimal digits, perhaps behind a minus; no leading zeros. */
bool units_parse_int(const char *text, int64_t *value) MUSTCHECK;

/* A decimal fraction, perhaps with an exponent; never infinite, never not-a-number. */
bool units_parse_real(const char *text, double *value) MUSTCHECK;

/* true yes on / false no off, in any case. */
bool units_parse_bool(const char *text, bool *value) MUSTCHECK;

/* Each writes at most UNITS_MAX_TEXT bytes, NUL included, and returns buf. */
char *units_print_duration(tick_t value, char buf[UNITS_MAX_TEXT]);
char *units_print_size(uint64_t value, char buf[UNITS_MAX_TEXT]);
char *units_print_int(int64_t value, char buf[UNITS_MAX_TEXT]);
char *units_print_real(double value, char buf[UNITS_MAX_TEXT]);

#endif
