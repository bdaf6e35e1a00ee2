/*
 * Entries for the second level. Invariants: what is read back went through the same strict parser as an
 * upstream's answer and through entry_make, so that nothing gets into memory that an answer could not bring;
 * an age only grows on the way, whatever the two clocks say; every number is bounded before it is used.
 */
#include "proxy/pack_entry.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/h1.h"
#include "proxy/store_inner.h"

enum {
    FLAG_MUST_REVALIDATE = 1,
    FLAG_NO_CACHE = 2,
    FLAG_IMMUTABLE = 4,
    FLAG_LEARNABLE = 8,
    FIELDS_MAX = 1024,
    HEAD_MAX = 1 << 20,
    WHO_BYTES = 16,
    MEMBERS_INDEX = 7,
    MEMBERS_ENTRY_1 = 18, /* of version 1 */
    MEMBERS_ENTRY = 20,
    CLOCKS_APART = 60 * 1000 /* ms that another machine's clock may be ahead */
};

static const int64_t TIME_MAX = INT64_C(50) * 366 * 86400; /* s: no lifetime or age goes longer */

/* ---- writing ---- */

static int put(void *data, const char *bytes, size_t n)
{
    struct text *out = data;
    text_bytes(out, bytes, n);
    return out->failed ? -1 : 0;
}

static void put_bin(msgpack_packer *p, struct slice bytes)
{
    msgpack_pack_bin(p, bytes.n);
    msgpack_pack_bin_body(p, bytes.n ? bytes.p : "", bytes.n);
}

static void put_front(msgpack_packer *p, size_t members, enum pack_kind kind, const struct pack_note *note,
                      struct slice names)
{
    msgpack_pack_array(p, members);
    msgpack_pack_uint32(p, PACK_VERSION);
    msgpack_pack_uint32(p, (uint32_t)kind);
    msgpack_pack_uint64(p, note->stamps[0]);
    msgpack_pack_uint64(p, note->stamps[1]);
    put_bin(p, (struct slice){(const char *)&note->who, WHO_BYTES});
    put_bin(p, names);
}

static unsigned flags_of(const struct freshness *f)
{
    return (f->must_revalidate ? FLAG_MUST_REVALIDATE : 0u) | (f->no_cache ? FLAG_NO_CACHE : 0u) |
           (f->immutable ? FLAG_IMMUTABLE : 0u) | (f->learnable ? FLAG_LEARNABLE : 0u);
}

static void put_body(msgpack_packer *p, const struct entry *entry, struct text *out)
{
    uint64_t length = entry_length(entry), at = 0;
    msgpack_pack_bin(p, length);
    while (at < length && !out->failed) {
        struct iovec iov[8];
        int count = entry_body_iov(entry, at, length - at, iov, 8);
        for (int i = 0; i < count; i++) {
            text_bytes(out, iov[i].iov_base, iov[i].iov_len);
            at += iov[i].iov_len;
        }
        if (count == 0)
            out->failed = true; /* shorter than it says */
    }
}

static int64_t ms_of(tick_t time)
{
    int64_t ms = time / TICK_MS;
    return ms < 0 ? 0 : ms < TIME_MAX * 1000 ? ms : TIME_MAX * 1000;
}

/* Its numbers as they are, most significant octet first; nothing when there is nothing. */
static void put_learnt(msgpack_packer *p, const struct change_rate *learnt)
{
    unsigned char bytes[sizeof(*learnt)];
    uint32_t words[sizeof(*learnt) / 4];
    memcpy(words, learnt, sizeof(words));
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(words[i / 4] >> (24 - 8 * (i % 4)));
    put_bin(p, (struct slice){(const char *)bytes, learnt->history > 0 ? sizeof(bytes) : 0});
}

bool pack_entry(const struct entry *entry, const struct pack_note *note, tick_t now, int64_t wall,
                struct text *out)
{
    const struct freshness *f = &entry->fresh;
    const int64_t numbers[] = {
        wall, ms_of(freshness_age(f, now)), ms_of(f->lifetime), ms_of(f->swr), ms_of(f->sie), f->date};
    msgpack_packer p;
    msgpack_packer_init(&p, out, put);
    put_front(&p, MEMBERS_ENTRY, PACK_ENTRY, note, entry_span(entry, entry->names));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        msgpack_pack_int64(&p, numbers[i]);
    if (f->last_modified == INT64_MIN)
        msgpack_pack_nil(&p);
    else
        msgpack_pack_int64(&p, f->last_modified);
    msgpack_pack_uint32(&p, flags_of(f));
    put_bin(&p, entry_span(entry, entry->uri));
    put_bin(&p, entry_span(entry, entry->tag_text));
    put_bin(&p, entry_head(entry));
    put_body(&p, entry, out);
    msgpack_pack_uint32(&p, entry->fetch_us);
    put_learnt(&p, &entry->learnt);
    return !out->failed;
}

bool pack_index(struct slice names, const struct pack_note *note, uint64_t generation, struct text *out)
{
    msgpack_packer p;
    msgpack_packer_init(&p, out, put);
    put_front(&p, MEMBERS_INDEX, PACK_INDEX, note, names);
    msgpack_pack_uint64(&p, generation);
    return !out->failed;
}

/* ---- reading ---- */

static bool get_bin(const msgpack_object *o, struct slice *out)
{
    if (o->type != MSGPACK_OBJECT_BIN)
        return false;
    *out = (struct slice){o->via.bin.ptr, o->via.bin.size};
    return true;
}

static bool get_uint(const msgpack_object *o, uint64_t max, uint64_t *out)
{
    if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER || o->via.u64 > max)
        return false;
    *out = o->via.u64;
    return true;
}

static bool get_int(const msgpack_object *o, int64_t min, int64_t max, int64_t *out)
{
    if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        if (o->via.u64 > (uint64_t)max)
            return false;
        *out = (int64_t)o->via.u64;
        return true;
    }
    if (o->type != MSGPACK_OBJECT_NEGATIVE_INTEGER || o->via.i64 < min)
        return false;
    *out = o->via.i64;
    return true;
}

/* Milliseconds, not negative. */
static bool get_time(const msgpack_object *o, tick_t *out)
{
    int64_t ms;
    if (!get_int(o, 0, TIME_MAX * 1000, &ms))
        return false;
    *out = ms < INT64_MAX / TICK_MS ? ms * TICK_MS : INT64_MAX / 2;
    return *out >= 0;
}

/* Each with a newline behind it. */
static bool get_tags(const msgpack_object *o, struct packed *out)
{
    struct slice text;
    if (!get_bin(o, &text) || text.n > HEAD_MAX || (text.n > 0 && text.p[text.n - 1] != '\n'))
        return false;
    while (text.n > 0) {
        size_t n = (size_t)((const char *)memchr(text.p, '\n', text.n) - text.p);
        if (out->tag_count == PACK_TAGS_MAX)
            return false;
        out->tags[out->tag_count++] = (struct slice){text.p, n};
        text = (struct slice){text.p + n + 1, text.n - n - 1};
    }
    return true;
}

/* Only sums that change_rate could have made. */
static bool get_learnt(const msgpack_object *o, struct change_rate *out)
{
    const float most = 2e10F; /* 20 polls of 10^9 s still count */
    struct slice bytes;
    uint32_t words[sizeof(*out) / 4] = {0};
    if (!get_bin(o, &bytes) || (bytes.n != 0 && bytes.n != sizeof(*out)))
        return false;
    for (size_t i = 0; i < bytes.n; i++)
        words[i / 4] = words[i / 4] << 8 | (unsigned char)bytes.p[i];
    memcpy(out, words, sizeof(*out));
    const float sums[] = {out->polls,          out->changes,        out->seconds, out->recent_polls,
                          out->recent_changes, out->recent_seconds, out->history};
    for (size_t i = 0; i < ARRAY_LEN(sums); i++)
        if (!(sums[i] >= 0 && sums[i] <= most))
            return false;
    return out->changes <= out->polls && out->recent_changes <= out->recent_polls;
}

static bool get_entry(const msgpack_object *m, uint32_t count, struct packed *out)
{
    uint64_t fetch_us = 0;
    const int64_t far = TIME_MAX * 100;
    uint64_t flags;
    out->last_modified = INT64_MIN;
    bool ok = get_int(&m[6], 0, far * 1000, &out->wall) && get_time(&m[7], &out->age) &&
              get_time(&m[8], &out->lifetime) && get_time(&m[9], &out->swr) && get_time(&m[10], &out->sie) &&
              get_int(&m[11], -far, far, &out->date) &&
              (m[12].type == MSGPACK_OBJECT_NIL || get_int(&m[12], -far, far, &out->last_modified)) &&
              get_uint(&m[13], 15, &flags) && get_bin(&m[14], &out->uri) && get_tags(&m[15], out) &&
              get_bin(&m[16], &out->head) && get_bin(&m[17], &out->body);
    if (ok && count == MEMBERS_ENTRY)
        ok = get_uint(&m[18], UINT32_MAX, &fetch_us) && get_learnt(&m[19], &out->learnt);
    out->fetch_us = (uint32_t)fetch_us;
    if (!ok)
        return false;
    out->flags = (unsigned)flags;
    return out->uri.n <= HEAD_MAX && out->head.n <= HEAD_MAX;
}

static enum pack_kind read_members(const msgpack_object *o, struct packed *out)
{
    uint64_t version, kind;
    struct slice who;
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size == 0)
        return PACK_DAMAGED;
    const msgpack_object *m = o->via.array.ptr;
    if (!get_uint(&m[0], UINT32_MAX, &version))
        return PACK_DAMAGED;
    if (version != PACK_VERSION && version != PACK_VERSION_READ)
        return PACK_FOREIGN;
    if (o->via.array.size < MEMBERS_INDEX || !get_uint(&m[1], PACK_INDEX, &kind) ||
        !get_uint(&m[2], UINT64_MAX, &out->note.stamps[0]) ||
        !get_uint(&m[3], UINT64_MAX, &out->note.stamps[1]) || !get_bin(&m[4], &who) || who.n != WHO_BYTES ||
        !get_bin(&m[5], &out->names) || out->names.n > VARY_NAMES_CAP)
        return PACK_DAMAGED;
    memcpy(&out->note.who, who.p, WHO_BYTES);
    if (kind == PACK_INDEX)
        return o->via.array.size == MEMBERS_INDEX && get_uint(&m[6], UINT64_MAX, &out->generation) &&
                       out->names.n > 0
                   ? PACK_INDEX
                   : PACK_DAMAGED;
    uint32_t wanted = version == PACK_VERSION ? MEMBERS_ENTRY : MEMBERS_ENTRY_1;
    return o->via.array.size == wanted && get_entry(m, wanted, out) ? PACK_ENTRY : PACK_DAMAGED;
}

/* Bytes of one plain member (number, nil, bytes) at the front; 0: it is none, or cut. */
static size_t member_size(struct slice at)
{
    static const uint8_t number[] = {2, 3, 5, 9}; /* of 8, 16, 32, 64 bits */
    const unsigned char *b = (const unsigned char *)at.p;
    size_t n = 0;
    if (at.n == 0)
        return 0;
    if (b[0] < 0x80 || b[0] >= 0xe0 || b[0] == 0xc0)
        return 1;
    if (b[0] >= 0xcc && b[0] <= 0xd3)
        return number[b[0] & 3] <= at.n ? number[b[0] & 3] : 0;
    if (b[0] < 0xc4 || b[0] > 0xc6)
        return 0;
    size_t length = (size_t)1 << (b[0] - 0xc4);
    if (at.n < 1 + length)
        return 0;
    for (size_t i = 1; i <= length; i++)
        n = n << 8 | b[i];
    return n <= at.n - 1 - length ? 1 + length + n : 0;
}

/* One array of plain members, and nothing behind it: msgpack-c makes room for whatever a header announces, so
 * that nested ones could ask for much. */
static bool is_flat(struct slice bytes)
{
    const unsigned char *b = (const unsigned char *)bytes.p;
    unsigned count;
    size_t at;
    if (bytes.n >= 1 && (b[0] & 0xf0) == 0x90) {
        count = b[0] & 0x0f;
        at = 1;
    } else if (bytes.n >= 3 && b[0] == 0xdc && b[1] == 0) {
        count = b[2];
        at = 3;
    } else {
        return false;
    }
    for (; count > 0; count--) {
        size_t n = member_size((struct slice){bytes.p + at, bytes.n - at});
        if (n == 0)
            return false;
        at += n;
    }
    return at == bytes.n;
}

void packed_read(struct slice bytes, struct packed *out)
{
    msgpack_unpacked u;
    size_t used = 0;
    memset(out, 0, sizeof(*out));
    out->kind = PACK_DAMAGED;
    if (!is_flat(bytes))
        return;
    msgpack_unpacked_init(&u);
    if (msgpack_unpack_next(&u, bytes.p, bytes.n, &used) == MSGPACK_UNPACK_SUCCESS && used == bytes.n)
        out->kind = read_members(&u.data, out);
    msgpack_unpacked_destroy(&u);
}

/* ---- entries ---- */

static bool fresh_of(const struct packed *packed, tick_t now, int64_t wall, struct freshness *out)
{
    int64_t passed = wall - packed->wall; /* ms */
    if (passed < -CLOCKS_APART || passed > TIME_MAX * 1000)
        return false;
    tick_t more = passed > 0 ? (passed < INT64_MAX / 4 / TICK_MS ? passed * TICK_MS : INT64_MAX / 4) : 0;
    *out =
        (struct freshness){.lifetime = packed->lifetime,
                           .initial_age = (packed->age < INT64_MAX / 4 ? packed->age : INT64_MAX / 4) + more,
                           .received = now,
                           .swr = packed->swr,
                           .sie = packed->sie,
                           .date = packed->date,
                           .last_modified = packed->last_modified,
                           .must_revalidate = packed->flags & FLAG_MUST_REVALIDATE,
                           .no_cache = packed->flags & FLAG_NO_CACHE,
                           .immutable = packed->flags & FLAG_IMMUTABLE,
                           .learnable = packed->flags & FLAG_LEARNABLE};
    return true;
}

static struct body *body_of(struct store *store, struct slice bytes)
{
    struct body *body = body_new(&store->budget, bytes.n, bytes.n);
    if (body && (bytes.n == 0 || body_append(body, bytes.p, bytes.n)))
        return body_finish(body);
    body_unref(body);
    return NULL;
}

/* The head with an empty line behind it, parsed; the text stays in *text. */
static bool parse_head(const struct packed *packed, struct head *head, char **text)
{
    struct h1_scan scan = {0};
    struct h1_limits limits = {.max_head = HEAD_MAX + 8, .max_target = HEAD_MAX, .max_trailer = 1024};
    size_t n = packed->head.n + 2, used = 0;
    *text = malloc(n);
    if (!*text)
        return false;
    memcpy(*text, packed->head.p, packed->head.n);
    memcpy(*text + packed->head.n, "\r\n", 2);
    return h1_parse_response(&scan, &limits, METHOD_GET, *text, n, head, &used) == REASON_NONE && used == n;
}

static struct entry *make(struct store *store, const struct packed *packed, const struct head *request,
                          const struct head *head, const struct freshness *fresh, int64_t wall)
{
    char names[VARY_NAMES_CAP];
    struct vary_key vary = {{0, 0}, 0, 0};
    int n = vary_names(head, names, sizeof(names));
    if (head->status < 200 || head->status > 599 || head->status == 206 || head->status == 304 || n < 0 ||
        !slice_equal((struct slice){names, (size_t)n}, packed->names) || !entry_can_hold(head, false))
        return NULL;
    if (n > 0)
        vary_select(packed->names, request, store->seed_vary, &vary);
    struct entry_recipe recipe = {.uri = packed->uri,
                                  .names = packed->names,
                                  .vary = &vary,
                                  .fresh = fresh,
                                  .tags = packed->tags,
                                  .tag_count = packed->tag_count,
                                  .wall = wall / 1000};
    struct entry *entry = entry_make(&recipe, head);
    struct body *body = entry ? body_of(store, packed->body) : NULL;
    if (!body) {
        entry_release(entry);
        return NULL;
    }
    entry->fetch_us = packed->fetch_us;
    entry->learnt = packed->learnt;
    entry->fresh.has_validator = entry->etag.n > 0 || fresh->last_modified != INT64_MIN;
    entry_complete(entry, body);
    return entry;
}

struct entry *packed_entry(struct store *store, const struct packed *packed, const struct head *request,
                           tick_t now, int64_t wall)
{
    struct freshness fresh;
    struct entry *entry = NULL;
    char *text = NULL;
    struct field *fields = calloc(FIELDS_MAX, sizeof(*fields));
    struct head head = {.fields = fields, .field_max = FIELDS_MAX};
    if (fields && packed->kind == PACK_ENTRY && fresh_of(packed, now, wall, &fresh) &&
        slice_equal(packed->uri, head_path(request)) && parse_head(packed, &head, &text))
        entry = make(store, packed, request, &head, &fresh, wall);
    free(text);
    free(fields);
    return entry;
}
