/*
 * Times as text and back. Invariant: no locale and no time zone has a say.
 */
#include "tests/origin/when.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct tm parts(int64_t t)
{
    time_t seconds = (time_t)(t / 1000000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    return tm;
}

void when_text(int64_t t, bool zulu, char out[40])
{
    struct tm tm = parts(t);
    snprintf(out, 40, "%04d-%02d-%02dT%02d:%02d:%02d%s", (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday,
             tm.tm_hour, tm.tm_min, tm.tm_sec, zulu ? "Z" : "");
}

void when_hour(int64_t t, char out[32])
{
    struct tm tm = parts(t);
    snprintf(out, 32, "%04d-%02d-%02d %02d:00", (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour);
}

void when_http(int64_t t, char out[40])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm = parts(t);
    snprintf(out, 40, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday, tm.tm_mday,
             months + 3 * tm.tm_mon, (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* Digits of s at `at`, `n` of them; -1 when they are not digits. */
static int number_at(struct slice s, size_t at, size_t n)
{
    int v = 0;
    for (size_t i = at; i < at + n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -1;
        v = v * 10 + (s.p[i] - '0');
    }
    return v;
}

bool when_parse_naive(struct slice s, int64_t *out)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    if (s.n < 19)
        return false;
    for (size_t i = 0; i < 19; i++) {
        bool digit = s.p[i] >= '0' && s.p[i] <= '9';
        if (shape[i] == 'd' ? !digit : s.p[i] != shape[i])
            return false;
    }
    if (s.n > 19 && (s.p[19] != '.' || s.n == 20 || s.n > 29))
        return false;
    for (size_t i = 20; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    struct tm tm = {.tm_year = number_at(s, 0, 4) - 1900,
                    .tm_mon = number_at(s, 5, 2) - 1,
                    .tm_mday = number_at(s, 8, 2),
                    .tm_hour = number_at(s, 11, 2),
                    .tm_min = number_at(s, 14, 2),
                    .tm_sec = number_at(s, 17, 2)};
    if (tm.tm_mon < 0 || tm.tm_mon > 11 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 ||
        tm.tm_sec > 59 || tm.tm_year < 70)
        return false;
    *out = (int64_t)timegm(&tm) * 1000000000;
    return true;
}
