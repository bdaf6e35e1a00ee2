/*
 * Reads the rate limit out of an answer's fields. Invariants: no read beyond a slice; every number is clamped
 * before it is multiplied; a field that cannot be read changes nothing; the result has at most RATE_WINDOWS
 * windows, each with another key.
 */
#include "policy/rate_header.h"

#include <string.h>

#include "policy/http_date.h"

#define DAY_MS      INT64_C(86400000)
#define LONGEST_MS  (400 * DAY_MS)
#define EPOCH_FROM  INT64_C(1000000000)   /* seconds: above this a reset is a point in time */
#define EPOCH_MS    INT64_C(100000000000) /* above this it is one in milliseconds */
#define FINE_DIGITS 3

enum form { FORM_NONE, FORM_DELTA, FORM_POINT, FORM_FINE /* a delta finer than a second */ };

/* --- Small readers. --- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes `word` (lower case) off the front, without regard to case. */
static bool take(struct slice *s, const char *word)
{
    size_t n = strlen(word);
    if (s->n < n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (lower(s->p[i]) != word[i])
            return false;
    s->p += n;
    s->n -= n;
    return true;
}

static void skip_space(struct slice *s)
{
    while (s->n && (*s->p == ' ' || *s->p == '\t')) {
        s->p++;
        s->n--;
    }
}

/* Digits to a number, held at RATE_MANY x 1000. */
static bool whole(struct slice *s, int64_t *out)
{
    int64_t v = 0;
    if (!s->n || !digit(*s->p))
        return false;
    for (; s->n && digit(*s->p); s->p++, s->n--)
        if (v < RATE_MANY * 1000)
            v = v * 10 + (*s->p - '0');
    *out = v;
    return true;
}

/* A decimal in thousandths. *fine: it had a fraction. */
static bool thousandths(struct slice *s, int64_t *out, bool *fine)
{
    int64_t v;
    if (!whole(s, &v))
        return false;
    v = (v < RATE_MANY * 10 ? v : RATE_MANY * 10) * 1000;
    *fine = false;
    if (s->n > 1 && *s->p == '.' && digit(s->p[1])) {
        int64_t unit = 100;
        *fine = true;
        for (s->p++, s->n--; s->n && digit(*s->p); s->p++, s->n--, unit /= 10)
            v += unit * (*s->p - '0');
    }
    *out = v;
    return true;
}

/* A count: digits, perhaps with a fraction (dropped) or a minus (nothing is left). */
static bool count(struct slice s, int64_t *out)
{
    bool minus, fine;
    int64_t v;
    skip_space(&s);
    minus = take(&s, "-");
    if (!thousandths(&s, &v, &fine))
        return false;
    skip_space(&s);
    if (s.n)
        return false;
    v /= 1000;
    *out = minus ? 0 : v < RATE_MANY ? v : RATE_MANY;
    return true;
}

/* Two digits, or four. */
static bool digits(struct slice *s, int n, int *out)
{
    int v = 0;
    if (s->n < (size_t)n)
        return false;
    for (int i = 0; i < n; i++) {
        if (!digit(s->p[i]))
            return false;
        v = v * 10 + (s->p[i] - '0');
    }
    s->p += n;
    s->n -= (size_t)n;
    *out = v;
    return true;
}

/* Days since 1970-01-01 of a civil date (Hinnant's algorithm). */
static int64_t civil_days(int y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int yoe = (int)(y - era * 400), doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

/* An offset behind an ISO date: nothing or Z = UTC, else +hh:mm. In seconds east. */
static bool iso_zone(struct slice *s, int *east)
{
    int h, m, sign;
    *east = 0;
    if (!s->n || take(s, "z"))
        return !s->n;
    sign = *s->p == '+' ? 1 : *s->p == '-' ? -1 : 0;
    s->p++;
    s->n--;
    if (!sign || !digits(s, 2, &h) || h > 23)
        return false;
    (void)take(s, ":");
    if (!digits(s, 2, &m) || m > 59 || s->n)
        return false;
    *east = sign * (h * 3600 + m * 60);
    return true;
}

/* 2026-01-01T00:00:00[.123][Z|+00:00] to unix milliseconds; naive means UTC. */
static bool iso_date(struct slice s, int64_t *ms)
{
    int y, mo, d, h, mi, sec, east;
    int64_t fraction = 0;
    if (!digits(&s, 4, &y) || !take(&s, "-") || !digits(&s, 2, &mo) || !take(&s, "-") || !digits(&s, 2, &d))
        return false;
    if ((!take(&s, "t") && !take(&s, " ")) || !digits(&s, 2, &h) || !take(&s, ":") || !digits(&s, 2, &mi) ||
        !take(&s, ":") || !digits(&s, 2, &sec))
        return false;
    if (mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || sec > 60)
        return false;
    if (take(&s, ".")) {
        int64_t unit = 100;
        if (!s.n || !digit(*s.p))
            return false;
        for (; s.n && digit(*s.p); s.p++, s.n--, unit /= 10)
            fraction += unit * (*s.p - '0');
    }
    if (!iso_zone(&s, &east))
        return false;
    *ms = (civil_days(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec - east) * 1000 + fraction;
    return true;
}

/* "6m0s", "250ms", "1h30m". Milliseconds. */
static bool units(struct slice s, int64_t *ms)
{
    static const struct {
        const char *word;
        int64_t ms;
    } unit[] = {{"ms", 1}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"d", DAY_MS}};
    int64_t total = 0;
    do {
        int64_t v;
        bool fine;
        size_t i = 0;
        if (!thousandths(&s, &v, &fine))
            return false;
        while (i < ARRAY_LEN(unit) && !take(&s, unit[i].word))
            i++;
        if (i == ARRAY_LEN(unit))
            return false;
        v = v < LONGEST_MS ? v : LONGEST_MS; /* thousandths x at most a day stays far below 2^63 */
        total += v * unit[i].ms / 1000;
        if (total > LONGEST_MS)
            total = LONGEST_MS;
    } while (s.n);
    *ms = total;
    return true;
}

/* A reset in any form. False: unreadable. */
static bool point_or_delta(struct slice s, int64_t wall, int64_t *ms, uint8_t *form)
{
    int64_t v;
    bool fine;
    struct slice rest = s;
    if (thousandths(&rest, &v, &fine) && !rest.n) {
        if (v >= EPOCH_FROM * 1000) {
            *ms = v >= EPOCH_MS * 1000 ? v / 1000 : v;
            *form = FORM_POINT;
            return true;
        }
        *ms = v;
        *form = fine ? FORM_FINE : FORM_DELTA;
        return v <= LONGEST_MS;
    }
    if (iso_date(s, ms)) {
        *form = FORM_POINT;
        return true;
    }
    if (units(s, ms)) {
        *form = FORM_FINE;
        return true;
    }
    if (http_date_parse(s, wall, &v) && v < RATE_MANY) {
        *ms = v * 1000;
        *form = FORM_POINT;
        return true;
    }
    return false;
}

/* --- Windows. --- */

static int find(struct rate_reading *r, uint32_t key)
{
    for (int i = 0; i < r->count; i++)
        if (r->window[i].key == key)
            return i;
    if (r->count == RATE_WINDOWS)
        return -1;
    r->window[r->count] = (struct rate_window){.key = key, .limit = -1, .remaining = -1, .reset = -1};
    r->raw[r->count].form = FORM_NONE;
    return r->count++;
}

static uint32_t key_of_name(struct slice name)
{
    uint32_t h = 2166136261u; /* FNV-1a: keys are told apart, not defended */
    for (size_t i = 0; i < name.n; i++)
        h = (h ^ (unsigned char)name.p[i]) * 16777619u;
    return h < RATE_KEY_NAMES ? h + RATE_KEY_NAMES : h;
}

static uint32_t key_of_length(int64_t seconds)
{
    switch (seconds) {
    case 1:
        return RATE_KEY_SECOND;
    case 60:
        return RATE_KEY_MINUTE;
    case 3600:
        return RATE_KEY_HOUR;
    case 86400:
        return RATE_KEY_DAY;
    default: {
        uint32_t h = (uint32_t)((uint64_t)seconds * 2654435761u);
        return h < RATE_KEY_NAMES ? h + RATE_KEY_NAMES : h;
    }
    }
}

/* --- Limit, Remaining, Reset: one field each. --- */

struct suffix {
    const char *word;
    uint32_t key;
    int64_t seconds;
};
static const struct suffix suffixes[] = {
    {"", RATE_KEY_PLAIN, 0},          {"-requests", RATE_KEY_PLAIN, 0}, {"-second", RATE_KEY_SECOND, 1},
    {"-minute", RATE_KEY_MINUTE, 60}, {"-hour", RATE_KEY_HOUR, 3600},   {"-day", RATE_KEY_DAY, 86400},
};

static void policies(struct rate_reading *r, struct slice value, bool first_is_limit);

static void one_number(struct rate_reading *r, int i, char what, struct slice value, int64_t wall)
{
    int64_t v;
    if (what == 'l' && count(value, &v))
        r->window[i].limit = v;
    else if (what == 'r' && count(value, &v))
        r->window[i].remaining = v;
    else if (what == 't')
        (void)(point_or_delta(value, wall, &r->raw[i].ms, &r->raw[i].form) || (r->raw[i].form = FORM_NONE));
}

/* `rest`: what follows the prefix of the field's name. */
static void split_field(struct rate_reading *r, struct slice rest, struct slice value, int64_t wall)
{
    char what = take(&rest, "limit") ? 'l' : take(&rest, "remaining") ? 'r' : take(&rest, "reset") ? 't' : 0;
    if (!what)
        return;
    if (what == 't')
        (void)take(&rest, "-after");
    for (size_t k = 0; k < ARRAY_LEN(suffixes); k++) {
        struct slice tail = rest;
        if (!take(&tail, suffixes[k].word) || tail.n)
            continue;
        if (what == 'l' && k == 0 && memchr(value.p, ',', value.n)) { /* 10, 10;w=1, 1000;w=3600 */
            policies(r, value, true);
            return;
        }
        int i = find(r, suffixes[k].key);
        if (i < 0)
            return;
        if (suffixes[k].seconds)
            r->window[i].length = suffixes[k].seconds * TICK_S;
        if (what == 'l' && memchr(value.p, ';', value.n))
            policies(r, value, true);
        else
            one_number(r, i, what, value, wall);
        return;
    }
}

/* --- RateLimit and RateLimit-Policy: members with parameters (RFC 8941). --- */

/* Takes one bare item off: a string, or anything up to a separator. */
static struct slice item(struct slice *s)
{
    struct slice out = {s->p, 0};
    if (s->n && *s->p == '"') {
        out.p++;
        for (s->p++, s->n--; s->n && *s->p != '"'; s->p++, s->n--) {
            if (*s->p == '\\' && s->n > 1) {
                s->p++;
                s->n--;
                out.n++;
            }
            out.n++;
        }
        if (s->n) {
            s->p++;
            s->n--;
        }
        return out;
    }
    for (; s->n && !memchr(",;= \t", *s->p, 5); s->p++, s->n--)
        out.n++;
    return out;
}

struct member {
    struct slice name, value; /* value: of name=value; n = 0 when there is none */
    int64_t q, w, r, t;       /* < 0: not there */
    bool other_unit;          /* qu is there, and is not requests */
};

static bool next_member(struct slice *s, struct member *m)
{
    *m = (struct member){.q = -1, .w = -1, .r = -1, .t = -1};
    while (skip_space(s), s->n && *s->p == ',')
        (void)take(s, ",");
    if (!s->n)
        return false;
    m->name = item(s);
    if (take(s, "="))
        m->value = item(s);
    for (;;) {
        skip_space(s);
        if (!take(s, ";"))
            break;
        skip_space(s);
        struct slice key = item(s), v = {"", 0};
        if (take(s, "="))
            v = item(s);
        int64_t n;
        bool good = count(v, &n);
        if (key.n == 1 && good)
            *(*key.p == 'q'   ? &m->q
              : *key.p == 'w' ? &m->w
              : *key.p == 'r' ? &m->r
              : *key.p == 't' ? &m->t
                              : &n) = n;
        else if (key.n == 2 && memcmp(key.p, "qu", 2) == 0)
            m->other_unit = !slice_equal(v, SLICE("requests"));
    }
    while (s->n && *s->p != ',') { /* what cannot be read ends with the member */
        s->p++;
        s->n--;
    }
    return true;
}

static tick_t length_of(int64_t seconds)
{
    return seconds <= 0 || seconds > LONGEST_MS / 1000 ? 0 : seconds * TICK_S;
}

/*
 * The list of RateLimit-Policy, or of the older RateLimit-Limit, whose first member is the limit in force and
 * the others are policies; the one with the same quota gives it its length.
 */
static void policies(struct rate_reading *r, struct slice value, bool first_is_limit)
{
    struct member m;
    int64_t q;
    int plain = -1;
    for (bool first = true; next_member(&value, &m); first = false) {
        bool number = count(m.name, &q) && !m.value.n;
        int i;
        if (m.other_unit)
            continue;
        if (first && first_is_limit && number && m.w < 0) {
            plain = find(r, RATE_KEY_PLAIN);
            if (plain >= 0)
                r->window[plain].limit = q;
            continue;
        }
        if (number && plain < 0 && (i = find(r, RATE_KEY_PLAIN)) >= 0 &&
            (r->window[i].limit < 0 || r->window[i].limit == q))
            plain = i;
        if (number && plain >= 0 && r->window[plain].length == 0 &&
            (r->window[plain].limit < 0 || r->window[plain].limit == q))
            i = plain; /* the policy of the window that the other fields speak of */
        else
            i = find(r, number ? key_of_length(m.w) : key_of_name(m.name));
        if (i < 0)
            continue;
        if (number || m.q >= 0)
            r->window[i].limit = number ? q : m.q;
        if (m.w > 0)
            r->window[i].length = length_of(m.w);
    }
}

static void combined(struct rate_reading *r, struct slice value)
{
    struct member m;
    while (next_member(&value, &m)) {
        int64_t v;
        if (m.value.n) { /* -07: limit=10, remaining=5, reset=30 */
            int i = find(r, RATE_KEY_PLAIN);
            if (i < 0 || !count(m.value, &v))
                continue;
            if (slice_equal_nocase(m.name, SLICE("limit")))
                r->window[i].limit = v;
            else if (slice_equal_nocase(m.name, SLICE("remaining")))
                r->window[i].remaining = v;
            else if (slice_equal_nocase(m.name, SLICE("reset")))
                (void)point_or_delta(m.value, 0, &r->raw[i].ms, &r->raw[i].form);
            continue;
        }
        if ((m.r < 0 && m.t < 0) || m.other_unit)
            continue;
        int i = find(r, key_of_name(m.name));
        if (i < 0)
            continue;
        if (m.r >= 0)
            r->window[i].remaining = m.r;
        if (m.t >= 0 && m.t <= LONGEST_MS / 1000) {
            r->raw[i].ms = m.t * 1000;
            r->raw[i].form = FORM_DELTA;
        }
    }
}

/* --- The whole. --- */

const char *rate_key_name(uint32_t key)
{
    static const char *const names[] = {"none", "plain", "second", "minute", "hour", "day", "learnt"};
    return key < ARRAY_LEN(names) ? names[key] : "named";
}

void rate_reading_begin(struct rate_reading *r)
{
    memset(r, 0, sizeof *r);
    r->retry_after = -1;
    r->date = -1;
}

static bool prefixed(struct slice *name)
{
    return take(name, "x-ratelimit-") || take(name, "x-rate-limit-") || take(name, "ratelimit-");
}

bool rate_header_name(struct slice name)
{
    if (name.n < 4)
        return false;
    switch (lower(name.p[0])) {
    case 'x':
        return name.n > 12 && lower(name.p[2]) == 'r' && lower(name.p[3]) == 'a';
    case 'r':
        return name.n >= 9 && (lower(name.p[1]) == 'a' || lower(name.p[1]) == 'e');
    case 'd':
        return name.n == 4;
    default:
        return false;
    }
}

void rate_reading_field(struct rate_reading *r, struct slice name, struct slice value, int64_t wall)
{
    struct slice rest = name;
    int64_t v;
    if (slice_equal_nocase(name, SLICE("ratelimit"))) {
        combined(r, value);
    } else if (slice_equal_nocase(name, SLICE("ratelimit-policy")) ||
               slice_equal_nocase(name, SLICE("x-ratelimit-policy"))) {
        policies(r, value, false);
    } else if (slice_equal_nocase(name, SLICE("retry-after"))) {
        (void)point_or_delta(value, wall, &r->raw_retry.ms, &r->raw_retry.form);
    } else if (slice_equal_nocase(name, SLICE("retry-after-ms"))) {
        if (count(value, &v) && v <= LONGEST_MS) {
            r->raw_retry.ms = v;
            r->raw_retry.form = FORM_FINE;
        }
    } else if (slice_equal_nocase(name, SLICE("date"))) {
        if (http_date_parse(value, wall, &v) && v >= 0 && v < RATE_MANY)
            r->date = v;
    } else if (prefixed(&rest)) {
        split_field(r, rest, value, wall);
    }
}

/* Milliseconds from the answer on, in ticks; < 0: too far away to mean anything. */
static tick_t from_now(int64_t ms, uint8_t form, int64_t base)
{
    if (form == FORM_POINT)
        ms -= base * 1000;
    if (ms > LONGEST_MS)
        return -1;
    return ms < 0 ? 0 : ms * TICK_MS;
}

/* A window that is there already, under another name, takes what it lacks from this one. */
static void keep(struct rate_reading *r, int *kept, const struct rate_window *w)
{
    for (int i = 0; i < *kept; i++) {
        struct rate_window *o = &r->window[i];
        if (o->key != w->key)
            continue;
        o->limit = o->limit >= 0 ? o->limit : w->limit;
        o->remaining = o->remaining >= 0 ? o->remaining : w->remaining;
        o->reset = o->reset >= 0 ? o->reset : w->reset;
        o->length = o->length > 0 ? o->length : w->length;
        return;
    }
    r->window[(*kept)++] = *w;
}

void rate_reading_end(struct rate_reading *r, int64_t wall)
{
    int64_t base = r->date >= 0 ? r->date : wall;
    int kept = 0;
    if (base < 0 || base > RATE_MANY)
        base = 0;
    for (int i = 0; i < r->count; i++) {
        struct rate_window w = r->window[i];
        if (r->raw[i].form != FORM_NONE) {
            w.reset = from_now(r->raw[i].ms, r->raw[i].form, base);
            w.exact = r->raw[i].form == FORM_FINE;
        }
        if (w.limit < 0 && w.remaining < 0)
            continue;
        if (w.key == RATE_KEY_PLAIN && w.length > 0) /* the same window, however it is named */
            w.key = key_of_length(w.length / TICK_S);
        keep(r, &kept, &w);
    }
    r->count = kept;
    if (r->raw_retry.form != FORM_NONE)
        r->retry_after = from_now(r->raw_retry.ms, r->raw_retry.form, base);
}

bool rate_header_in(const struct head *response)
{
    for (int i = 0; i < response->field_count; i++) {
        uint8_t id = response->fields[i].id;
        if (id == FIELD_RETRY_AFTER || (id == FIELD_OTHER && rate_header_name(head_name(response, i))))
            return true;
    }
    return false;
}

bool rate_reading_head(struct rate_reading *r, const struct head *response, int64_t wall)
{
    bool told = false;
    rate_reading_begin(r);
    for (int i = 0; i < response->field_count; i++) {
        struct slice name = head_name(response, i);
        uint8_t id = response->fields[i].id;
        if ((id != FIELD_OTHER && id != FIELD_RETRY_AFTER) || !rate_header_name(name))
            continue;
        rate_reading_field(r, name, head_value(response, i), wall);
        told = true;
    }
    int date =
        told ? head_find(response, FIELD_DATE, 0) : -1; /* most answers say nothing: theirs is not read */
    if (date >= 0)
        rate_reading_field(r, SLICE("date"), head_value(response, date), wall);
    rate_reading_end(r, wall);
    return r->count > 0 || r->retry_after >= 0;
}
