/*
 * Dates of HTTP. Invariant: nothing is read that the three forms of RFC 9110 5.6.7 do not have at exactly
 * that place; the day's name must be a day's name, but need not be the right one (its error changes nothing
 * that we decide).
 */
#include "policy/http_date.h"

/* What is left to read. `ok` falls once and stays down. */
struct reader {
    const char *p;
    size_t n;
    bool ok;
};

struct civil {
    int64_t year;
    int month, day, hour, minute, second; /* month 1 ... 12 */
};

static const char day_names[] = "sunday\0   monday\0   tuesday\0  wednesday\0thursday\0 friday\0   saturday";
static const char month_names[] = "janfebmaraprmayjunjulaugsepoctnovdec";

enum { DAY_STRIDE = 10 };

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Does the rest begin with these letters, in any case? */
static bool begins(const struct reader *r, const char *letters, size_t n)
{
    if (r->n < n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (lower(r->p[i]) != letters[i])
            return false;
    return true;
}

static void skip(struct reader *r, size_t n)
{
    r->p += n;
    r->n -= n;
}

static void expect(struct reader *r, char c)
{
    if (r->n == 0 || *r->p != c)
        r->ok = false;
    else
        skip(r, 1);
}

static int digits(struct reader *r, size_t count)
{
    int value = 0;
    if (r->n < count) {
        r->ok = false;
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (r->p[i] < '0' || r->p[i] > '9') {
            r->ok = false;
            return 0;
        }
        value = value * 10 + (r->p[i] - '0');
    }
    skip(r, count);
    return value;
}

static int month(struct reader *r)
{
    for (int i = 0; i < 12; i++) {
        if (begins(r, month_names + 3 * i, 3)) {
            skip(r, 3);
            return i + 1;
        }
    }
    r->ok = false;
    return 1;
}

/* Skips the name of a day. Gives true when it was the long form. */
static bool day_name(struct reader *r)
{
    for (int i = 0; i < 7; i++) {
        const char *name = day_names + DAY_STRIDE * i;
        size_t n = 0;
        while (n < 9 && name[n])
            n++;
        if (begins(r, name, n)) {
            skip(r, n);
            return true;
        }
        if (begins(r, name, 3)) {
            skip(r, 3);
            return false;
        }
    }
    r->ok = false;
    return false;
}

static void time_of_day(struct reader *r, struct civil *c)
{
    c->hour = digits(r, 2);
    expect(r, ':');
    c->minute = digits(r, 2);
    expect(r, ':');
    c->second = digits(r, 2);
}

static void expect_gmt(struct reader *r)
{
    expect(r, ' ');
    if (begins(r, "gmt", 3))
        skip(r, 3);
    else
        r->ok = false;
}

/* ", 06 Nov 1994 08:49:37 GMT" */
static void imf_fixdate(struct reader *r, struct civil *c)
{
    expect(r, ',');
    expect(r, ' ');
    c->day = digits(r, 2);
    expect(r, ' ');
    c->month = month(r);
    expect(r, ' ');
    c->year = digits(r, 4);
    expect(r, ' ');
    time_of_day(r, c);
    expect_gmt(r);
}

/* ", 06-Nov-94 08:49:37 GMT" */
static void rfc850_date(struct reader *r, struct civil *c)
{
    expect(r, ',');
    expect(r, ' ');
    c->day = digits(r, 2);
    expect(r, '-');
    c->month = month(r);
    expect(r, '-');
    c->year = digits(r, 2);
    expect(r, ' ');
    time_of_day(r, c);
    expect_gmt(r);
}

/* " Nov  6 08:49:37 1994" */
static void asctime_date(struct reader *r, struct civil *c)
{
    expect(r, ' ');
    c->month = month(r);
    expect(r, ' ');
    if (r->n > 0 && *r->p == ' ') {
        skip(r, 1);
        c->day = digits(r, 1);
    } else {
        c->day = digits(r, 2);
    }
    expect(r, ' ');
    time_of_day(r, c);
    expect(r, ' ');
    c->year = digits(r, 4);
}

/* Days from 1970-01-01 to a day of the proleptic Gregorian calendar; any year, counted in eras of 400 years
 * from March 1st. */
static int64_t days_from_civil(int64_t year, int m, int day)
{
    year -= m <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void civil_from_days(int64_t days, struct civil *c)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153; /* months since March */
    c->day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    c->month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    c->year = year_of_era + era * 400 + (c->month <= 2);
}

static bool leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static bool exists(const struct civil *c)
{
    static const signed char length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int last = length[c->month - 1] + (c->month == 2 && leap(c->year));
    return c->day >= 1 && c->day <= last && c->hour <= 23 && c->minute <= 59 && c->second <= 60;
}

static int64_t seconds(const struct civil *c)
{
    return days_from_civil(c->year, c->month, c->day) * 86400 + c->hour * 3600 + c->minute * 60 + c->second;
}

/* The four-digit year for two digits: the latest that is not more than 50 years ahead of now (RFC
 * 9110 5.6.7). */
static void settle_century(struct civil *c, int64_t now)
{
    struct civil today;
    civil_from_days(now >= 0 ? now / 86400 : (now - 86399) / 86400, &today);
    int64_t century = today.year - today.year % 100;
    int64_t year = century + 100 + c->year;
    while (year > today.year + 50)
        year -= 100;
    c->year = year;
    /* Fifty years ahead to the second: the same year may still be too late in it. */
    struct civil limit = today;
    limit.year += 50;
    if (limit.month == 2 && limit.day == 29)
        limit.day = 28;
    int64_t limit_seconds = days_from_civil(limit.year, limit.month, limit.day) * 86400 + 86399;
    if (c->year == limit.year && seconds(c) > limit_seconds)
        c->year -= 100;
}

bool http_date_parse(struct slice text, int64_t now, int64_t *out)
{
    struct reader r = {text.p, text.n, true};
    struct civil c = {.month = 1};
    bool long_name = day_name(&r);
    bool two_digits = false;
    if (!r.ok || r.n == 0)
        return false;
    if (long_name) {
        rfc850_date(&r, &c);
        two_digits = true;
    } else if (*r.p == ',') {
        imf_fixdate(&r, &c);
    } else {
        asctime_date(&r, &c);
    }
    if (!r.ok || r.n != 0)
        return false;
    if (two_digits)
        settle_century(&c, now);
    if (!exists(&c))
        return false;
    *out = seconds(&c);
    return true;
}

static char *put_digits(char *out, int64_t value, int count)
{
    for (int i = count - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + count;
}

static char *put_text(char *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        *out++ = text[i];
    return out;
}

void http_date_write(char out[HTTP_DATE_LEN], int64_t when)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const int64_t first = days_from_civil(0, 1, 1) * 86400, last = days_from_civil(10000, 1, 1) * 86400 - 1;
    when = when < first ? first : when > last ? last : when;
    int64_t day = when >= 0 ? when / 86400 : (when - 86399) / 86400;
    int64_t rest = when - day * 86400;
    struct civil c;
    civil_from_days(day, &c);
    out = put_text(out, days + 3 * (((day + 4) % 7 + 7) % 7), 3);
    out = put_text(out, ", ", 2);
    out = put_digits(out, c.day, 2);
    *out++ = ' ';
    out = put_text(out, months + 3 * (c.month - 1), 3);
    *out++ = ' ';
    out = put_digits(out, c.year, 4);
    *out++ = ' ';
    out = put_digits(out, rest / 3600, 2);
    *out++ = ':';
    out = put_digits(out, rest / 60 % 60, 2);
    *out++ = ':';
    out = put_digits(out, rest % 60, 2);
    put_text(out, " GMT", 4);
}
