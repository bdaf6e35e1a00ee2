/*
 * Writes and reads timestamps. Invariant: what is read lies in the years 1970 to 9999, so that sums with a
 * signature's validity cannot overflow. The calendar is counted in days from 0000-03-01, where a leap day is
 * the last day of its year (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
 */
#include "policy/timestamp.h"

#define LAST_SECOND INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

enum { DAY = 86400, DAYS_BEFORE_1970 = 719468, DAYS_IN_400_YEARS = 146097 };

struct civil {
    unsigned year, month, day;
};

static struct civil civil_of(uint32_t days)
{
    uint32_t z = days + DAYS_BEFORE_1970;
    uint32_t era = z / DAYS_IN_400_YEARS, of_era = z % DAYS_IN_400_YEARS;
    uint32_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint32_t of_year = of_era - (365 * year + year / 4 - year / 100);
    uint32_t m = (5 * of_year + 2) / 153; /* 0 = March */
    struct civil c = {year + era * 400, m < 10 ? m + 3 : m - 9, of_year - (153 * m + 2) / 5 + 1};
    if (c.month <= 2)
        c.year++;
    return c;
}

/* Of a day in 1970 or later. */
static uint32_t days_of(struct civil c)
{
    uint32_t year = c.month <= 2 ? c.year - 1 : c.year;
    uint32_t of_era = year % 400, m = c.month > 2 ? c.month - 3 : c.month + 9;
    uint32_t of_year = (153 * m + 2) / 5 + c.day - 1;
    uint32_t days = year / 400 * DAYS_IN_400_YEARS + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    return days - DAYS_BEFORE_1970;
}

static char *put(char *out, unsigned value, unsigned digits, char behind)
{
    for (unsigned i = digits; i-- > 0; value /= 10)
        out[i] = (char)('0' + value % 10);
    out[digits] = behind;
    return out + digits + 1;
}

static size_t write_unix(char *out, uint64_t when)
{
    char digits[TIMESTAMP_MAX];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + when % 10);
        when /= 10;
    } while (when);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

size_t timestamp_write(char out[TIMESTAMP_MAX], int64_t when, enum timestamp_form form)
{
    when = when < 0 ? 0 : when > LAST_SECOND ? LAST_SECOND : when;
    if (form == TIMESTAMP_UNIX)
        return write_unix(out, (uint64_t)when);
    struct civil c = civil_of((uint32_t)(when / DAY));
    unsigned second = (unsigned)(when % DAY);
    char *p = put(out, c.year, 4, '-');
    p = put(p, c.month, 2, '-');
    p = put(p, c.day, 2, 'T');
    p = put(p, second / 3600, 2, ':');
    p = put(p, second / 60 % 60, 2, ':');
    p = put(p, second % 60, 2, 'Z');
    return (size_t)(p - out) - (form == TIMESTAMP_NAIVE_UTC);
}

/* ---- reading ---- */

struct reader {
    const char *p, *end;
    bool bad;
};

static bool is_digit(const struct reader *r)
{
    return r->p < r->end && *r->p >= '0' && *r->p <= '9';
}

static unsigned number(struct reader *r, unsigned digits, char behind)
{
    unsigned v = 0;
    for (; digits > 0 && is_digit(r); digits--)
        v = v * 10 + (unsigned)(*r->p++ - '0');
    if (digits > 0)
        r->bad = true;
    if (behind && !r->bad) {
        r->bad = r->p == r->end || *r->p != behind;
        r->p += !r->bad;
    }
    return v;
}

/* A point and digits, or nothing. */
static void fraction(struct reader *r)
{
    if (r->bad || r->p == r->end || *r->p != '.')
        return;
    r->p++;
    r->bad = !is_digit(r);
    while (is_digit(r))
        r->p++;
}

static bool read_unix(struct reader *r, int64_t *out)
{
    int64_t v = 0;
    if (!is_digit(r))
        return false;
    while (is_digit(r) && v <= LAST_SECOND)
        v = v * 10 + (*r->p++ - '0');
    fraction(r);
    if (r->bad || r->p != r->end || v > LAST_SECOND)
        return false;
    *out = v;
    return true;
}

static bool exists(struct civil c)
{
    static const unsigned char length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (c.year % 4 == 0 && c.year % 100 != 0) || c.year % 400 == 0;
    return c.year >= 1970 && c.month >= 1 && c.month <= 12 && c.day >= 1 &&
           c.day <= length[c.month - 1] + (unsigned)(c.month == 2 && leap);
}

bool timestamp_read(struct slice text, int64_t *out)
{
    struct reader r = {text.p, text.p + text.n, false};
    if (text.n < 5 || text.p[4] != '-')
        return read_unix(&r, out);
    struct civil c;
    c.year = number(&r, 4, '-');
    c.month = number(&r, 2, '-');
    c.day = number(&r, 2, 'T');
    unsigned hour = number(&r, 2, ':'), minute = number(&r, 2, ':'), second = number(&r, 2, 0);
    fraction(&r);
    if (!r.bad && r.p < r.end && *r.p == 'Z')
        r.p++;
    if (r.bad || r.p != r.end || !exists(c) || hour > 23 || minute > 59 || second > 59)
        return false;
    *out = (int64_t)days_of(c) * DAY + hour * 3600 + minute * 60 + second;
    return true;
}
