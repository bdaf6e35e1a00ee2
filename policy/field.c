/*
 * Turns field names into numbers. Invariant: for every row of field.def, slots[hash(name)]
 * is its number, so that one load and one comparison decide; test_head.c checks it, and
 * prints a new HASH_FACTOR and table when a new row of field.def does not fit.
 */
#include <string.h>

#include "policy/head.h"

enum { HOP = 1, KEEP = 2, NAME_MAX_LEN = 21 };

#define HASH_FACTOR 0xbab9f87fu

static const struct name_row {
    char name[NAME_MAX_LEN + 1];
    uint8_t n;
    uint8_t flags;
} names[FIELD_COUNT] = {
    {"", 0, 0},
#define FIELD(id, name, flags) {name, sizeof(name) - 1, flags},
#include "policy/field.def"
#undef FIELD
};

#define FIELD(id, name, flags) _Static_assert(sizeof(name) - 1 <= NAME_MAX_LEN, "raise NAME_MAX_LEN");
#include "policy/field.def"
#undef FIELD

static const uint8_t slots[256] = {
    [0] = FIELD_SERVER_TIMING,
    [3] = FIELD_TE,
    [4] = FIELD_TRAILER,
    [7] = FIELD_TRACEPARENT,
    [12] = FIELD_EXPIRES,
    [15] = FIELD_IF_RANGE,
    [25] = FIELD_ETAG,
    [26] = FIELD_AGE,
    [38] = FIELD_IF_UNMODIFIED_SINCE,
    [39] = FIELD_TRACESTATE,
    [52] = FIELD_X_PROMPTOPS_TIMESTAMP,
    [54] = FIELD_PROXY_AUTHENTICATE,
    [59] = FIELD_DATE,
    [64] = FIELD_AUTHORIZATION,
    [80] = FIELD_PROXY_CONNECTION,
    [82] = FIELD_VARY,
    [85] = FIELD_CACHE_STATUS,
    [86] = FIELD_IF_MODIFIED_SINCE,
    [91] = FIELD_IF_NONE_MATCH,
    [97] = FIELD_CONTENT_LOCATION,
    [105] = FIELD_CACHE_CONTROL,
    [113] = FIELD_PROXY_AUTHORIZATION,
    [120] = FIELD_CONTENT_TYPE,
    [122] = FIELD_X_RETRY_COUNT,
    [128] = FIELD_CONTENT_ENCODING,
    [130] = FIELD_KEEP_ALIVE,
    [132] = FIELD_SET_COOKIE,
    [134] = FIELD_X_PROMPTOPS_SIGNATURE,
    [139] = FIELD_ACCEPT_ENCODING,
    [148] = FIELD_RANGE,
    [157] = FIELD_EXPECT,
    [163] = FIELD_X_PROMPTOPS_NONCE,
    [164] = FIELD_CONTENT_LANGUAGE,
    [166] = FIELD_PRAGMA,
    [170] = FIELD_UPGRADE,
    [176] = FIELD_ACCEPT_LANGUAGE,
    [183] = FIELD_TRANSFER_ENCODING,
    [185] = FIELD_X_API_KEY,
    [201] = FIELD_LOCATION,
    [204] = FIELD_CONTENT_LENGTH,
    [205] = FIELD_HTTP2_SETTINGS,
    [209] = FIELD_PROXY_STATUS,
    [217] = FIELD_CDN_CACHE_CONTROL,
    [218] = FIELD_IDEMPOTENCY_KEY,
    [221] = FIELD_CONNECTION,
    [230] = FIELD_MAX_FORWARDS,
    [235] = FIELD_X_REQUEST_ID,
    [237] = FIELD_LAST_MODIFIED,
    [244] = FIELD_COOKIE,
    [245] = FIELD_RETRY_AFTER,
    [247] = FIELD_CONTENT_RANGE,
    [249] = FIELD_IF_MATCH,
    [251] = FIELD_HOST,
    [253] = FIELD_VIA,
};

/* Length and three letters tell all names of field.def apart. */
static inline unsigned hash(const char *name, size_t n)
{
    uint32_t key =
        (uint8_t)name[0] | (uint32_t)(uint8_t)name[n / 2] << 8 | (uint32_t)(uint8_t)name[n - 1] << 16;
    return ((key | 0x202020u | (uint32_t)n << 24) * HASH_FACTOR) >> 24;
}

/*
 * Eight bytes against eight of a name in lower case. Our names are of [a-z0-9-], which all have
 * bit 5; setting it folds case, and bytes that had neither bit 5 nor 6 (controls) must not match.
 */
static inline bool same8(const char *got, const char *want)
{
    uint64_t g, w;
    memcpy(&g, got, 8);
    memcpy(&w, want, 8);
    return (g | 0x2020202020202020u) == w && ((g | g << 1) & 0x4040404040404040u) == 0x4040404040404040u;
}

static inline bool same4(const char *got, const char *want)
{
    uint32_t g, w;
    memcpy(&g, got, 4);
    memcpy(&w, want, 4);
    return (g | 0x20202020u) == w && ((g | g << 1) & 0x40404040u) == 0x40404040u;
}

static inline bool same(const char *got, const char *want, size_t n)
{
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8)
            if (!same8(got + i, want + i))
                return false;
        return same8(got + n - 8, want + n - 8);
    }
    if (n >= 4)
        return same4(got, want) && same4(got + n - 4, want + n - 4);
    for (size_t i = 0; i < n; i++) {
        char c = got[i] >= 'A' && got[i] <= 'Z' ? (char)(got[i] | 0x20) : got[i];
        if (c != want[i])
            return false;
    }
    return true;
}

enum field_id field_lookup(const char *name, size_t n)
{
    if (n == 0 || n > NAME_MAX_LEN)
        return FIELD_OTHER;
    unsigned id = slots[hash(name, n)];
    if (id == FIELD_OTHER || names[id].n != n || !same(name, names[id].name, n))
        return FIELD_OTHER;
    return (enum field_id)id;
}

struct slice field_name(enum field_id id)
{
    if ((unsigned)id >= FIELD_COUNT)
        id = FIELD_OTHER;
    return (struct slice){names[id].name, names[id].n};
}

bool field_is_hop(enum field_id id)
{
    return (unsigned)id < FIELD_COUNT && (names[id].flags & HOP) != 0;
}

bool field_is_kept(enum field_id id)
{
    return (unsigned)id < FIELD_COUNT && (names[id].flags & KEEP) != 0;
}
