/*
 * Dates of HTTP (RFC 9110 5.6.7, RFC 9111 5.3): seconds since 1970-01-01T00:00:00Z in 64 bits.
 */
#ifndef POLICY_HTTP_DATE_H
#define POLICY_HTTP_DATE_H

#include "policy/base.h"

#define HTTP_DATE_LEN 29 /* of an IMF-fixdate */

/*
 * Reads an IMF-fixdate, an RFC 850 date or an asctime date, names in any letter case, and nothing else.
 * `now` (unix seconds) settles the century of an RFC 850 year: no more than 50 years ahead.
 * Returns false when text is not such a date or no such day or time exists (second 60 is taken); *out is then
 * untouched.
 */
bool http_date_parse(struct slice text, int64_t now, int64_t *out) MUSTCHECK;

/* Writes an IMF-fixdate, without a NUL. `when` is clamped into the years 0000 to 9999. */
void http_date_write(char out[HTTP_DATE_LEN], int64_t when);

#endif
