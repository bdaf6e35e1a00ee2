/*
 * Reads and prints values with units. Invariants: a text is taken whole or not at all; no value is
 * rounded or wraps; what is printed reads back to the same value.
 *
 * snprintf and strtod are used in the "C" locale, which the program never leaves.
 */
#include "policy/units.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t size;
};

/* Largest first: printing takes the first that divides. */
static const struct unit durations[] = {
    {"d", 86400ull * 1000000000ull},
    {"h", 3600ull * 1000000000ull},
    {"m", 60ull * 1000000000ull},
    {"s", 1000000000ull},
    {"ms", 1000000ull},
    {"us", 1000ull},
    {"ns", 1ull},
};

static const struct unit sizes[] = {
    {"TiB", 1ull << 40}, {"GiB", 1ull << 30},      {"MiB", 1ull << 20},   {"KiB", 1ull << 10},
    {"B", 1ull},         {"Ti", 1ull << 40},       {"Gi", 1ull << 30},    {"Mi", 1ull << 20},
    {"Ki", 1ull << 10},  {"TB", 1000000000000ull}, {"GB", 1000000000ull}, {"MB", 1000000ull},
    {"KB", 1000ull},
};

#define PRINTED_SIZES 4u /* the first rows of `sizes` */

static const struct unit *find_unit(const struct unit *units, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(units[i].name, name) == 0)
            return &units[i];
    return NULL;
}

/* A decimal number in two parts: whole, and micro = its fraction in millionths. */
struct decimal {
    uint64_t whole;
    uint64_t micro;
    const char *rest; /* what follows */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool parse_whole(const char **text, uint64_t *value)
{
    const char *p = *text;
    if (!is_digit(*p))
        return false;
    for (*value = 0; is_digit(*p); p++) {
        if (__builtin_mul_overflow(*value, 10u, value))
            return false;
        if (__builtin_add_overflow(*value, (uint64_t)(*p - '0'), value))
            return false;
    }
    *text = p;
    return true;
}

/* More than six digits behind the point are refused: they would have to be rounded. */
static bool parse_decimal(const char *text, struct decimal *out)
{
    *out = (struct decimal){0};
    if (!parse_whole(&text, &out->whole))
        return false;
    if (*text == '.') {
        text++;
        if (!is_digit(*text))
            return false;
        for (uint64_t place = 100000; is_digit(*text); text++, place /= 10) {
            if (place == 0)
                return false;
            out->micro += (uint64_t)(*text - '0') * place;
        }
    }
    out->rest = text;
    return true;
}

/* whole.micro times size, when that is a whole number below 2^63. */
static bool scale(const struct decimal *d, uint64_t size, uint64_t *value)
{
    uint64_t part;
    if (__builtin_mul_overflow(d->whole, size, value))
        return false;
    /* micro < 10^6; split so that the largest unit does not overflow. */
    uint64_t high = d->micro * (size / 1000000u);
    uint64_t low = d->micro * (size % 1000000u);
    if (low % 1000000u != 0)
        return false;
    part = high + low / 1000000u;
    if (__builtin_add_overflow(*value, part, value))
        return false;
    return *value <= INT64_MAX;
}

bool units_parse_duration(const char *text, tick_t *value)
{
    struct decimal d;
    uint64_t ns;
    if (!parse_decimal(text, &d))
        return false;
    const struct unit *u = find_unit(durations, ARRAY_LEN(durations), *d.rest ? d.rest : "s");
    /* TICK_NEVER means something else. */
    if (!u || !scale(&d, u->size, &ns) || ns == (uint64_t)TICK_NEVER)
        return false;
    *value = (tick_t)ns;
    return true;
}

bool units_parse_size(const char *text, uint64_t *value)
{
    struct decimal d;
    if (!parse_decimal(text, &d))
        return false;
    const struct unit *u = find_unit(sizes, ARRAY_LEN(sizes), *d.rest ? d.rest : "B");
    return u && scale(&d, u->size, value);
}

bool units_parse_int(const char *text, int64_t *value)
{
    bool minus = *text == '-';
    uint64_t n;
    text += minus;
    if (*text == '0' && text[1] != '\0')
        return false;
    if (!parse_whole(&text, &n) || *text != '\0' || n > INT64_MAX)
        return false;
    *value = minus ? -(int64_t)n : (int64_t)n;
    return true;
}

bool units_parse_real(const char *text, double *value)
{
    /* strtod also takes hexadecimal, inf and nan: these characters leave them out. */
    if (*text == '\0' || strspn(text, "0123456789.eE+-") != strlen(text))
        return false;
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(x))
        return false;
    *value = x;
    return true;
}

static bool equal_nocase(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        char c = *a >= 'A' && *a <= 'Z' ? (char)(*a - 'A' + 'a') : *a;
        if (c != *b)
            return false;
    }
    return *a == *b;
}

bool units_parse_bool(const char *text, bool *value)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (equal_nocase(text, words[i])) {
            *value = i % 2 == 1;
            return true;
        }
    }
    return false;
}

char *units_print_duration(tick_t value, char buf[UNITS_MAX_TEXT])
{
    uint64_t ns = value < 0 ? 0 : (uint64_t)value;
    /* Days are read, not written: 24h is what the documentation says. */
    size_t i = ns == 0 ? 3 : 1;
    while (ns % durations[i].size != 0)
        i++;
    snprintf(buf, UNITS_MAX_TEXT, "%" PRIu64 "%s", ns / durations[i].size, durations[i].name);
    return buf;
}

char *units_print_size(uint64_t value, char buf[UNITS_MAX_TEXT])
{
    for (size_t i = 0; i < PRINTED_SIZES; i++) {
        if (value != 0 && value % sizes[i].size == 0) {
            snprintf(buf, UNITS_MAX_TEXT, "%" PRIu64 "%s", value / sizes[i].size, sizes[i].name);
            return buf;
        }
    }
    snprintf(buf, UNITS_MAX_TEXT, "%" PRIu64, value);
    return buf;
}

char *units_print_int(int64_t value, char buf[UNITS_MAX_TEXT])
{
    snprintf(buf, UNITS_MAX_TEXT, "%" PRId64, value);
    return buf;
}

char *units_print_real(double value, char buf[UNITS_MAX_TEXT])
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(buf, UNITS_MAX_TEXT, "%.*g", digits, value);
        if (strtod(buf, NULL) == value)
            break;
    }
    return buf;
}
