/*
 * Reads the heads of HTTP/1 requests and responses (RFC 9112 2 to 6), line by line, each byte looked at about
 * once.
 *
 * Why not llhttp: Debian 12 ships version 6, only as the sources of a Node package; it takes bare LF, folded
 * lines and other spellings that the next hop may read otherwise; and its callbacks give spans that want a
 * second pass to turn names into numbers.
 *
 * Invariants:
 * - No byte at or behind buf + n, or behind the limit of a head, is read.
 * - A fault is the first in the order of the bytes, so the result does not depend on how the bytes were cut
 * up: a line is judged from left to right, the part of a line like the same bytes of the whole line, and the
 * rules about several fields at the end, in the order of finish_request and finish_response.
 * - The work is linear in the bytes, however they come: a line that is not whole is searched from scan->at
 * on; only its first SHORT_LINE bytes may be judged again. So a fault behind them that is not a control byte
 * is known when the line ends, or a limit is reached, at the latest.
 */
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "policy/host.h"
#include "policy/octet.h"
#include "proxy/h1.h"

enum {
    MAX_METHOD = 64,  /* bytes of a method's name; the longest registered has 17 */
    MAX_NAMED = 32,   /* names in Connection that are not in field.def */
    BLOCK = 16,       /* bytes that are looked at together */
    SHORT_LINE = 256, /* the part of an unfinished line that is judged each time that bytes come */
    VERSION_LEN = 8   /* HTTP/1.1 */
};

/* The set of the fields that are never forwarded: field_is_hop() without a call. */
#define HOP                    1u
#define KEEP                   0u
#define FIELD(id, name, flags) | (uint64_t)(flags) << FIELD_##id
static const uint64_t hop_fields = 0
#include "policy/field.def"
    ;
#undef FIELD
#undef HOP
#undef KEEP

/* What is at the stop of a line, its first control byte. */
enum ending {
    END_CUT,  /* nothing yet, or a CR whose next byte is to come */
    END_CRLF, /* the line is whole */
    END_BAD   /* a byte that no line may have; what is before it is judged first */
};

struct line {
    uint32_t at;
    uint32_t stop;
    enum ending ending;
};

struct side;

struct reader {
    const char *buf;
    uint32_t n; /* bytes that may belong to the head: never more than max_head */
    const struct h1_limits *limits;
    const struct side *side;
    struct head *head;
};

/* What differs between requests and responses. */
struct side {
    enum reason (*start_line)(struct reader *r, const struct line *line);
    bool empty_line_first; /* one is tolerated before the start line (RFC 9112 2.2) */
    enum reason start_control;
    enum reason start_end;
    enum reason field;
    enum reason field_end;
    enum reason too_large;
    enum reason too_many;
};

#ifdef __SSE2__
/* The bits of control bytes other than HTAB among 16. */
static inline unsigned controls(const char *p)
{
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
    __m128i tab = _mm_cmpeq_epi8(x, _mm_set1_epi8('\t'));
    __m128i del = _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del));
}

/* The bits of bytes that end a target: those above 0x7f are negative here, so they are below `!` too. */
static inline unsigned target_ends(const char *p)
{
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i low = _mm_cmplt_epi8(x, _mm_set1_epi8('!'));
    __m128i del = _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f));
    __m128i sharp = _mm_cmpeq_epi8(x, _mm_set1_epi8('#'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(low, del), sharp));
}

/* The bits of bytes that are none of A-Z a-z 0-9 - _, of which nearly all names are made. */
static inline unsigned unusual(const char *p)
{
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i letter = _mm_sub_epi8(_mm_or_si128(x, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i digit = _mm_sub_epi8(x, _mm_set1_epi8('0'));
    __m128i is_letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
    __m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
    __m128i is_joint =
        _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('-')), _mm_cmpeq_epi8(x, _mm_set1_epi8('_')));
    return 0xffff ^ (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(is_letter, is_digit), is_joint));
}

/*
 * The first byte of p[0 ... end - p) for which `stops` has a bit, or end. The last bytes are looked at with
 * those before them, as far back as `begin`, where the bytes begin; what is shorter than a block is left to
 * `slow`.
 */
static inline const char *first_stop(const char *begin, const char *p, const char *end,
                                     unsigned (*stops)(const char *),
                                     const char *(*slow)(const char *p, const char *end))
{
    for (; end - p >= BLOCK; p += BLOCK) {
        unsigned mask = stops(p);
        if (mask != 0)
            return p + __builtin_ctz(mask);
    }
    if (end - begin < BLOCK)
        return slow(p, end);
    unsigned mask = stops(end - BLOCK) >> (p - (end - BLOCK));
    return mask != 0 ? p + __builtin_ctz(mask) : end;
}
#else
#define first_stop(begin, p, end, stops, slow) ((void)(begin), slow(p, end))
#endif

static const char *control_slow(const char *p, const char *end)
{
    while (p < end && !octet_is(*p, OCTET_CONTROL))
        p++;
    return p;
}

static const char *target_slow(const char *p, const char *end)
{
    while (p < end && octet_is(*p, OCTET_TARGET))
        p++;
    return p;
}

static inline const char *token_slow(const char *p, const char *end)
{
    while (p < end && octet_is(*p, OCTET_TOKEN))
        p++;
    return p;
}

/* The first control byte other than HTAB, or end. The bytes from `begin` on may be read, here and below. */
static inline const char *find_control(const char *begin, const char *p, const char *end)
{
    return first_stop(begin, p, end, controls, control_slow); /* exactly OCTET_CONTROL */
}

/* The first byte that no target may have (SP included), or end. */
static inline const char *find_target_end(const char *begin, const char *p, const char *end)
{
    return first_stop(begin, p, end, target_ends, target_slow); /* exactly what is not OCTET_TARGET */
}

/* The first byte that is not of a token, or end: an unusual byte may be of one, and others may follow. */
static inline const char *find_token_end(const char *begin, const char *p, const char *end)
{
    return token_slow(first_stop(begin, p, end, unusual, token_slow), end);
}

static enum method method_lookup(const char *p, size_t n)
{
    switch (n) {
    case 3:
        return memcmp(p, "GET", 3) == 0 ? METHOD_GET : memcmp(p, "PUT", 3) == 0 ? METHOD_PUT : METHOD_OTHER;
    case 4:
        return memcmp(p, "POST", 4) == 0   ? METHOD_POST
               : memcmp(p, "HEAD", 4) == 0 ? METHOD_HEAD
                                           : METHOD_OTHER;
    case 5:
        return memcmp(p, "PATCH", 5) == 0   ? METHOD_PATCH
               : memcmp(p, "TRACE", 5) == 0 ? METHOD_TRACE
                                            : METHOD_OTHER;
    case 6:
        return memcmp(p, "DELETE", 6) == 0 ? METHOD_DELETE : METHOD_OTHER;
    case 7:
        return memcmp(p, "OPTIONS", 7) == 0   ? METHOD_OPTIONS
               : memcmp(p, "CONNECT", 7) == 0 ? METHOD_CONNECT
                                              : METHOD_OTHER;
    default:
        return METHOD_OTHER;
    }
}

/*
 * http://authority/path and https:// too (RFC 9112 3.2.2, RFC 9110 4.2). A query right behind the authority
 * is refused, though the grammar has it: there is no `/` to forward, and no client sends it.
 */
static enum reason absolute_target(struct head *h, uint32_t at, uint32_t end)
{
    uint32_t n = end - at;
    struct slice target = {h->base + at, n};
    uint32_t scheme = 0;
    if (n > 7 && slice_equal_nocase((struct slice){target.p, 7}, SLICE("http://")))
        scheme = 7;
    else if (n > 8 && slice_equal_nocase((struct slice){target.p, 8}, SLICE("https://")))
        scheme = 8;
    if (scheme == 0)
        return REASON_BAD_TARGET;

    uint32_t i = scheme;
    while (i < n && target.p[i] != '/' && target.p[i] != '?')
        i++;
    if (!authority_valid((struct slice){target.p + scheme, i - scheme}) || (i < n && target.p[i] == '?'))
        return REASON_BAD_TARGET;
    h->target_form = TARGET_ABSOLUTE;
    h->authority_at = at + scheme;
    h->authority_len = i - scheme;
    h->path_at = at + i;
    h->path_len = n - i;
    return REASON_NONE;
}

static enum reason read_target(struct head *h, uint32_t at, uint32_t end)
{
    if (h->method == METHOD_CONNECT)
        return REASON_METHOD_REFUSED;
    char first = h->base[at];
    if (first != '/' && first != '*')
        return absolute_target(h, at, end);
    if (first == '*' && (end - at != 1 || h->method != METHOD_OPTIONS))
        return REASON_BAD_TARGET;
    h->target_form = first == '/' ? TARGET_ORIGIN : TARGET_ASTERISK;
    h->path_at = at;
    h->path_len = end - at;
    return REASON_NONE;
}

/* Is this `HTTP/` DIGIT `.` DIGIT? The digits are given. */
static bool read_version(const char *p, int *major, int *minor)
{
    if (memcmp(p, "HTTP/", 5) != 0 || !octet_is_digit(p[5]) || p[6] != '.' || !octet_is_digit(p[7]))
        return false;
    *major = p[5] - '0';
    *minor = p[7] - '0';
    return true;
}

/* The line stops inside the target. A control byte there is the target's fault; CR and LF are the line's. */
static enum reason cut_in_target(const struct reader *r, const struct line *line)
{
    if (line->ending == END_CRLF)
        return REASON_BAD_REQUEST_LINE; /* HTTP/0.9 */
    if (line->ending == END_BAD && r->buf[line->stop] != '\r' && r->buf[line->stop] != '\n')
        return REASON_BAD_TARGET;
    return REASON_NONE;
}

/* method SP target SP HTTP/1.x (RFC 9112 3). NONE also when the line is not whole and nothing is wrong so
 * far. */
static enum reason request_line(struct reader *r, const struct line *line)
{
    struct head *h = r->head;
    const char *buf = r->buf;
    bool get = line->stop - line->at >= 4 && memcmp(buf + line->at, "GET ", 4) == 0; /* known at a glance */
    uint32_t space = get ? line->at + 3 /* else not behind stop: that is a control */
                         : (uint32_t)(find_token_end(buf, buf + line->at, buf + r->n) - buf);
    if (space - line->at > MAX_METHOD)
        return REASON_BAD_REQUEST_LINE;
    if (space == line->stop)
        return line->ending == END_CRLF ? REASON_BAD_REQUEST_LINE : REASON_NONE;
    if (space == line->at || buf[space] != ' ')
        return REASON_BAD_REQUEST_LINE;

    uint32_t target = space + 1;
    uint32_t end = (uint32_t)(find_target_end(buf, buf + target, buf + r->n) - buf);
    if (end - target > r->limits->max_target)
        return REASON_TARGET_TOO_LONG;
    if (end == line->stop)
        return cut_in_target(r, line);
    if (buf[end] != ' ')
        return REASON_BAD_TARGET;
    if (end == target || line->stop - (end + 1) > VERSION_LEN)
        return REASON_BAD_REQUEST_LINE;
    if (line->ending != END_CRLF)
        return REASON_NONE;

    int major, minor;
    if (line->stop - (end + 1) != VERSION_LEN || !read_version(buf + end + 1, &major, &minor))
        return REASON_BAD_REQUEST_LINE;
    if (major != 1)
        return REASON_BAD_VERSION;
    h->minor = minor > 0;
    h->method_at = line->at;
    h->method_len = (uint16_t)(space - line->at);
    h->method = (uint8_t)method_lookup(buf + line->at, h->method_len);
    return read_target(h, target, end);
}

/* The first bytes of a whole status line, when they are as nearly always: nothing is left to find fault with.
 */
static bool usual_status(const char *p, uint32_t n)
{
    return n > 12 && memcmp(p, "HTTP/1.", 7) == 0 && octet_is_digit(p[7]) && p[8] == ' ' &&
           octet_is_digit(p[9]) && octet_is_digit(p[10]) && octet_is_digit(p[11]) && p[12] == ' ';
}

/* HTTP/1.x SP 3DIGIT [SP reason] (RFC 9112 4). The last SP may be missing when there is no phrase: many leave
 * it out. */
static enum reason status_line(struct reader *r, const struct line *line)
{
    static const char form[] = "HTTP/1.0 100 "; /* a digit stands for itself in the version, else for any */
    struct head *h = r->head;
    const char *p = r->buf + line->at;
    uint32_t n = line->stop - line->at;
    for (uint32_t i = usual_status(p, n) ? n : 0; i < n && i < sizeof(form) - 1; i++) {
        bool free_digit = i == 7 || (i >= 9 && i <= 11);
        if (free_digit ? !octet_is_digit(p[i]) : p[i] != form[i])
            return REASON_BAD_STATUS_LINE;
    }
    if (n > 9 && p[9] == '0')
        return REASON_BAD_STATUS_LINE;
    if (line->ending != END_CRLF)
        return REASON_NONE;
    if (n < 12)
        return REASON_BAD_STATUS_LINE;
    h->minor = p[7] > '0';
    h->status = (uint16_t)((p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0'));
    h->reason_at = line->at + (n > 12 ? 13 : 12);
    h->reason_len = n > 12 ? n - 13 : 0;
    return REASON_NONE;
}

/* name ":" OWS value OWS (RFC 9112 5). A line that begins with white space has no name: so folding is
 * refused. */
static enum reason field_line(struct reader *r, const struct line *line, uint32_t index)
{
    struct head *h = r->head;
    const char *buf = r->buf;
    if (line->at == line->stop)
        return REASON_NONE; /* not an empty line: that ends the head */
    if (index >= h->field_max)
        return r->side->too_many;
    uint32_t colon = (uint32_t)(find_token_end(buf, buf + line->at, buf + r->n) - buf);
    if (colon - line->at > UINT16_MAX)
        return r->side->too_large;
    if (colon == line->stop)
        return line->ending == END_CRLF ? r->side->field : REASON_NONE;
    if (colon == line->at || buf[colon] != ':')
        return r->side->field;
    if (line->ending != END_CRLF)
        return REASON_NONE;

    uint32_t value = colon + 1, end = line->stop;
    while (value < end && octet_is_blank(buf[value]))
        value++;
    while (end > value && octet_is_blank(buf[end - 1]))
        end--;
    enum field_id id = field_lookup(buf + line->at, colon - line->at);
    h->fields[index] = (struct field){.name = line->at,
                                      .value = value,
                                      .value_len = end - value,
                                      .name_len = (uint16_t)(colon - line->at),
                                      .id = (uint8_t)id,
                                      .hop = (hop_fields >> id) & 1};
    h->present |= (uint64_t)1 << id;
    return REASON_NONE;
}

static enum reason judge_line(struct reader *r, const struct line *line, uint32_t lines)
{
    return lines == 0 ? r->side->start_line(r, line) : field_line(r, line, lines - 1);
}

/* The row for the control byte that ended a line badly. */
static enum reason bad_ending(const struct reader *r, uint32_t stop, uint32_t lines)
{
    bool line_end = r->buf[stop] == '\r' || r->buf[stop] == '\n';
    if (lines == 0)
        return line_end ? r->side->start_end : r->side->start_control;
    return line_end ? r->side->field_end : r->side->field;
}

static enum ending ending_at(const struct reader *r, uint32_t stop)
{
    if (stop == r->n)
        return END_CUT;
    if (r->buf[stop] != '\r')
        return END_BAD;
    if (stop + 1 == r->n)
        return END_CUT;
    return r->buf[stop + 1] == '\n' ? END_CRLF : END_BAD;
}

/*
 * The bytes end inside a line. It is judged when that can be new: while it is short, when it passes the
 * length at which a target may become too long (whose beginning is not known here, but within MAX_METHOD),
 * and before the head is called too large.
 */
static enum reason await_more(struct reader *r, struct h1_scan *scan, const struct line *line, uint32_t lines)
{
    bool full = r->n >= r->limits->max_head;
    size_t before = scan->at > line->at ? scan->at - line->at : 0, now = r->n - line->at;
    size_t long_target = r->limits->max_target;
    bool passes = lines == 0 && now > long_target && before <= long_target + MAX_METHOD + 2;
    if (full || passes || before <= SHORT_LINE) {
        enum reason reason = judge_line(r, line, lines);
        if (reason != REASON_NONE)
            return reason;
    }
    if (full)
        return r->side->too_large;
    *scan = (struct h1_scan){.at = line->stop, .line = line->at, .lines = lines};
    return REASON_MORE;
}

static enum reason read_lines(struct reader *r, struct h1_scan *scan)
{
    uint32_t at = scan->line, from = scan->at, lines = scan->lines;
    for (;;) {
        uint32_t stop = (uint32_t)(find_control(r->buf, r->buf + from, r->buf + r->n) - r->buf);
        struct line line = {at, stop, ending_at(r, stop)};
        if (line.ending == END_CUT)
            return await_more(r, scan, &line, lines);
        bool empty = line.ending == END_CRLF && at == stop;
        if (empty && lines > 0) {
            r->head->len = stop + 2;
            r->head->field_count = (uint16_t)(lines - 1);
            return REASON_NONE;
        }
        if (!empty || at > 0 || !r->side->empty_line_first) {
            enum reason reason = judge_line(r, &line, lines);
            if (reason != REASON_NONE)
                return reason;
            if (line.ending == END_BAD)
                return bad_ending(r, stop, lines);
            lines++;
        }
        at = from = stop + 2;
    }
}

/* NONE when the head is whole and every line of it is in r->head. */
static enum reason read_head(struct reader *r, struct h1_scan *scan)
{
    struct head *h = r->head;
    *h = (struct head){.base = r->buf, .fields = h->fields, .field_max = h->field_max};
    if (scan->at > r->n)
        return REASON_MORE; /* fewer bytes than last time: nothing new */
    bool from_start = scan->lines == 0;
    enum reason reason = read_lines(r, scan);
    if (reason != REASON_NONE || from_start)
        return reason;
    /* Lines that came earlier went to the tables of those calls. */
    struct h1_scan again = {0};
    h->present = 0;
    return read_lines(r, &again);
}

/* ---- The fields that steer the connection (RFC 9110 7.6.1, RFC 9112 9.3) ---- */

struct options {
    bool close;
    bool keep_alive;
    bool upgrade;
    unsigned count;                /* of `names` */
    uint64_t ids;                  /* those named that are in field.def */
    struct slice names[MAX_NAMED]; /* the rest */
};

/* False when there are more names than we care to compare. */
static bool read_options(const struct head *h, struct options *o)
{
    struct list_cursor cursor = {0};
    struct slice member;
    while (head_list_next(h, FIELD_CONNECTION, &cursor, &member)) {
        enum field_id id;
        if (slice_equal_nocase(member, SLICE("close")))
            o->close = true;
        else if (slice_equal_nocase(member, SLICE("keep-alive")))
            o->keep_alive = true;
        else if (slice_equal_nocase(member, SLICE("upgrade")))
            o->upgrade = true;
        else if ((id = field_lookup(member.p, member.n)) != FIELD_OTHER)
            o->ids |= (uint64_t)1 << id;
        else if (o->count == MAX_NAMED)
            return false;
        else
            o->names[o->count++] = member;
    }
    return true;
}

static bool is_named(const struct head *h, const struct options *o, int field)
{
    enum field_id id = (enum field_id)h->fields[field].id;
    if (id != FIELD_OTHER)
        return ((o->ids >> id) & 1) && !field_is_kept(id);
    struct slice name = head_name(h, field);
    for (unsigned i = 0; i < o->count; i++)
        if (slice_equal_nocase(name, o->names[i]))
            return true;
    return false;
}

static bool takes_trailers(const struct head *h)
{
    struct list_cursor cursor = {0};
    struct slice member;
    while (head_list_next(h, FIELD_TE, &cursor, &member))
        if (slice_equal_nocase(member, SLICE("trailers")))
            return true;
    return false;
}

/*
 * Is `websocket` among the protocols that Upgrade names? Other protocols are neither asked for nor taken: in
 * a tunnel of h2c an HTTP/2 connection would pass that nobody here has read. `alone`: nothing else is named.
 */
static bool names_websocket(const struct head *h, bool alone)
{
    struct list_cursor cursor = {0};
    struct slice member;
    unsigned named = 0, others = 0;
    while (head_list_next(h, FIELD_UPGRADE, &cursor, &member)) {
        bool it = slice_equal_nocase(member, SLICE("websocket"));
        named += it;
        others += !it;
    }
    return named > 0 && !(alone && others > 0);
}

/* RFC 6455 4.1: the handshake is a GET, and has no body; 4.2.2: the answer takes that protocol, and no other.
 */
static bool upgrades(const struct head *h, bool asked)
{
    if (!asked || h->minor == 0 || !head_has(h, FIELD_UPGRADE))
        return false;
    bool request = h->status == 0;
    if (request && (h->method != METHOD_GET || h->body != BODY_NONE))
        return false;
    return names_websocket(h, !request);
}

/* What Connection says: sets keep_alive, upgrade and the hop marks of the fields it names. */
static bool obey_connection(struct head *h)
{
    struct options o;
    o.close = o.keep_alive = o.upgrade = false;
    o.count = 0;
    o.ids = 0;
    if (!read_options(h, &o))
        return false;
    h->keep_alive = !o.close && (h->minor > 0 || o.keep_alive);
    h->upgrade = upgrades(h, o.upgrade);
    bool named = o.count > 0 || o.ids != 0;
    for (int i = 0; named && i < h->field_count; i++)
        h->fields[i].hop |= is_named(h, &o, i);
    return true;
}

/* Sets keep_alive, upgrade, te_trailers and the fields' hop marks. */
static bool read_connection(struct head *h)
{
    h->keep_alive = h->minor > 0;
    if (head_has(h, FIELD_CONNECTION) && !obey_connection(h))
        return false;
    h->te_trailers = head_has(h, FIELD_TE) && takes_trailers(h);
    return true;
}

/* ---- Where the body ends (RFC 9112 6) ---- */

enum codings {
    CODINGS_CHUNKED,      /* exactly `chunked` */
    CODINGS_THEN_CHUNKED, /* others, and `chunked` as the last */
    CODINGS_OTHERS,       /* others alone */
    CODINGS_BAD           /* not a plain list of tokens, or one with something behind `chunked` */
};

/* HTAB is white space too, but around a coding it is seen only where somebody wants to be misread. */
static bool has_tab(const struct head *h, const struct field *f)
{
    const char *p = h->base + f->name + f->name_len;
    while (*p != '\r' && *p != '\t')
        p++;
    return *p == '\t';
}

/* Stricter than the list syntax: no empty members, no parameters. */
static bool read_coding_line(struct slice v, bool *chunked, bool *others)
{
    size_t at = 0;
    for (;;) {
        size_t start = at;
        while (at < v.n && octet_is(v.p[at], OCTET_TOKEN))
            at++;
        if (at == start || *chunked)
            return false;
        if (slice_equal_nocase((struct slice){v.p + start, at - start}, SLICE("chunked")))
            *chunked = true;
        else
            *others = true;
        while (at < v.n && v.p[at] == ' ')
            at++;
        if (at == v.n)
            return true;
        if (v.p[at++] != ',')
            return false;
        while (at < v.n && v.p[at] == ' ')
            at++;
    }
}

static enum codings read_codings(const struct head *h)
{
    bool chunked = false, others = false;
    for (int i = head_find(h, FIELD_TRANSFER_ENCODING, 0); i >= 0;
         i = head_find(h, FIELD_TRANSFER_ENCODING, i + 1))
        if (has_tab(h, &h->fields[i]) || !read_coding_line(head_value(h, i), &chunked, &others))
            return CODINGS_BAD;
    if (!chunked)
        return CODINGS_OTHERS;
    return others ? CODINGS_THEN_CHUNKED : CODINGS_CHUNKED;
}

static bool read_number(struct slice v, uint64_t *number)
{
    enum { NEVER_TOO_LARGE = 18 }; /* so many digits always fit */
    uint64_t sum = 0;
    if (v.n == 0)
        return false;
    for (size_t i = 0; i < v.n; i++) {
        if (!octet_is_digit(v.p[i]))
            return false;
        uint64_t digit = (uint64_t)(v.p[i] - '0');
        if (i >= NEVER_TOO_LARGE && sum > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *number = sum;
    return true;
}

/* One number of 63 bits; lines that repeat it are taken as one, a list is refused (RFC 9110 8.6). */
static bool read_length(struct head *h)
{
    int first = head_find(h, FIELD_CONTENT_LENGTH, 0);
    for (int i = first; i >= 0; i = head_find(h, FIELD_CONTENT_LENGTH, i + 1)) {
        uint64_t number;
        if (!read_number(head_value(h, i), &number) || (i > first && number != h->content_length)) {
            h->content_length = 0;
            return false;
        }
        h->content_length = number;
    }
    h->has_content_length = first >= 0;
    return h->has_content_length;
}

/* Of an unknown coding only the 400 is a must (RFC 9112 6.3: `chunked` is not last); else it is 501 (6.1). */
static enum reason frame_request(struct head *h)
{
    h->body = BODY_NONE;
    if (head_has(h, FIELD_TRANSFER_ENCODING)) {
        if (h->minor == 0 || head_has(h, FIELD_CONTENT_LENGTH))
            return REASON_BAD_TRANSFER_ENCODING;
        h->body = BODY_CHUNKED;
        enum codings codings = read_codings(h);
        if (codings == CODINGS_THEN_CHUNKED)
            return REASON_UNKNOWN_TRANSFER_CODING;
        return codings == CODINGS_CHUNKED ? REASON_NONE : REASON_BAD_TRANSFER_ENCODING;
    }
    if (!head_has(h, FIELD_CONTENT_LENGTH))
        return REASON_NONE;
    h->body = BODY_LENGTH;
    return read_length(h) ? REASON_NONE : REASON_BAD_CONTENT_LENGTH;
}

/*
 * A response that has no body whatever it claims. A claim that its sender could mean otherwise costs the
 * connection; 1xx and 204 may not state a length, so theirs is forgotten.
 */
static enum reason frame_bodiless(struct head *h)
{
    bool coded = head_has(h, FIELD_TRANSFER_ENCODING), sized = head_has(h, FIELD_CONTENT_LENGTH);
    bool never_sized = h->status < 200 || h->status == 204;
    h->body = BODY_NONE;
    if (sized && !read_length(h))
        h->keep_alive = false;
    if ((coded && sized) || (never_sized && (coded || h->content_length > 0)))
        h->keep_alive = false;
    if (coded || never_sized) {
        h->has_content_length = false;
        h->content_length = 0;
    }
    return REASON_NONE;
}

static enum reason frame_response(struct head *h, enum method request_method, const struct h1_limits *limits)
{
    if (request_method == METHOD_HEAD || h->status < 200 || h->status == 204 || h->status == 304)
        return frame_bodiless(h);
    if (head_has(h, FIELD_TRANSFER_ENCODING)) {
        if (h->minor == 0 || head_has(h, FIELD_CONTENT_LENGTH))
            return REASON_BAD_RESPONSE_LENGTH;
        enum codings codings = read_codings(h);
        if (codings != CODINGS_CHUNKED && !(codings == CODINGS_OTHERS && limits->unknown_coding_until_close))
            return REASON_BAD_RESPONSE_CODING;
        h->body = codings == CODINGS_CHUNKED ? BODY_CHUNKED : BODY_UNTIL_CLOSE;
    } else if (head_has(h, FIELD_CONTENT_LENGTH)) {
        if (!read_length(h))
            return REASON_BAD_RESPONSE_LENGTH;
        h->body = BODY_LENGTH;
    } else {
        h->body = BODY_UNTIL_CLOSE;
    }
    if (h->body == BODY_UNTIL_CLOSE)
        h->keep_alive = false;
    return REASON_NONE;
}

/* ---- The rules about several fields ---- */

/* Exactly one, and valid (RFC 9112 3.2); HTTP/1.0 may leave it out. */
static bool read_host(struct head *h)
{
    int i = head_find(h, FIELD_HOST, 0);
    if (i < 0)
        return h->minor == 0;
    if (head_find(h, FIELD_HOST, i + 1) >= 0 || !authority_valid(head_value(h, i)))
        return false;
    if (h->target_form != TARGET_ABSOLUTE) {
        h->authority_at = h->fields[i].value;
        h->authority_len = h->fields[i].value_len;
    }
    return true;
}

/* Only 100-continue is known (RFC 9110 10.1.1); HTTP/1.0 cannot expect anything. */
static bool read_expect(struct head *h)
{
    struct list_cursor cursor = {0};
    struct slice member;
    if (!head_has(h, FIELD_EXPECT))
        return true;
    while (h->minor > 0 && head_list_next(h, FIELD_EXPECT, &cursor, &member)) {
        if (!slice_equal_nocase(member, SLICE("100-continue")))
            return false;
        h->expect_continue = true;
    }
    return true;
}

static enum reason finish_request(struct head *h)
{
    if (!read_host(h))
        return REASON_BAD_HOST;
    enum reason reason = frame_request(h);
    if (reason != REASON_NONE)
        return reason;
    if (!read_connection(h))
        return REASON_TOO_MANY_OPTIONS;
    return read_expect(h) ? REASON_NONE : REASON_BAD_EXPECTATION;
}

static const struct side request_side = {
    .start_line = request_line,
    .empty_line_first = true,
    .start_control = REASON_BAD_REQUEST_LINE,
    .start_end = REASON_BAD_LINE_END,
    .field = REASON_BAD_FIELD,
    .field_end = REASON_BAD_LINE_END,
    .too_large = REASON_HEAD_TOO_LARGE,
    .too_many = REASON_TOO_MANY_FIELDS,
};

static const struct side response_side = {
    .start_line = status_line,
    .empty_line_first = false,
    .start_control = REASON_BAD_STATUS_LINE,
    .start_end = REASON_BAD_STATUS_LINE,
    .field = REASON_BAD_RESPONSE_FIELD,
    .field_end = REASON_BAD_RESPONSE_FIELD,
    .too_large = REASON_RESPONSE_HEAD_TOO_LARGE,
    .too_many = REASON_RESPONSE_HEAD_TOO_LARGE,
};

enum reason h1_parse_request(struct h1_scan *scan, const struct h1_limits *limits, const char *buf, size_t n,
                             struct head *head, size_t *used)
{
    uint32_t bytes = n < limits->max_head ? (uint32_t)n : limits->max_head;
    struct reader r = {buf, bytes, limits, &request_side, head};
    enum reason reason = read_head(&r, scan);
    if (reason == REASON_NONE)
        reason = finish_request(head);
    *used = reason == REASON_NONE ? head->len : 0;
    return reason;
}

enum reason h1_parse_response(struct h1_scan *scan, const struct h1_limits *limits,
                              enum method request_method, const char *buf, size_t n, struct head *head,
                              size_t *used)
{
    uint32_t bytes = n < limits->max_head ? (uint32_t)n : limits->max_head;
    struct reader r = {buf, bytes, limits, &response_side, head};
    enum reason reason = read_head(&r, scan);
    if (reason == REASON_NONE && !read_connection(head))
        reason = REASON_BAD_RESPONSE_FIELD;
    if (reason == REASON_NONE)
        reason = frame_response(head, request_method, limits);
    *used = reason == REASON_NONE ? head->len : 0;
    return reason;
}
