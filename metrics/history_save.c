/*
 * History as bytes, for a file that outlives the process.
 *
 * Invariants: times are those of the wall clock; operations are told by their names, since their numbers are
 * the process's own; custom metrics are not saved. What is read is believed in nothing: every length is
 * checked, a checksum must agree, records must follow each other and lie in the past, and after an error the
 * history is as it was.
 */
#include <stdlib.h>
#include <string.h>

#include "metrics/history_inner.h"

static const char MAGIC[8] = "PPHIST1\n";
enum { NAME_MOST = 255, ENTRIES_MOST = 8192, RECORD_MOST = 1 << 22 };

static uint64_t checksum(const uint8_t *p, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* ---- writing ---- */

/* An operation's number is in the key; what is no operation of requests is left out. */
static bool saved_key(uint64_t key)
{
    return key < (uint64_t)(METRICS_MAX_OPERATIONS + 1) * HISTORY_TYPES || history_is_part(key);
}

static void put_record(struct text *t, const struct history *h, const struct history_record *r, struct text *room)
{
    const uint8_t *p = r->packed, *content, *end;
    uint64_t key;
    text_clear(room);
    while (history_entry(&p, &key, &content, &end)) {
        if (!saved_key(key))
            continue;
        history_put(room, key + 1);
        history_put(room, (uint64_t)(end - content));
        text_bytes(room, (const char *)content, (size_t)(end - content));
    }
    history_put(room, 0);
    history_put(t, (uint64_t)(r->from + h->offset));
    history_put(t, (uint64_t)(r->to - r->from));
    history_put(t, room->n);
    text_bytes(t, room->p, room->n);
    t->failed |= room->failed;
}

void history_save(const struct history *h, struct text *out)
{
    struct text room = {0};
    unsigned known = metrics_operations(h->metrics);
    text_bytes(out, MAGIC, sizeof MAGIC);
    history_put(out, known);
    for (unsigned i = 0; i < known; i++) {
        const char *name = metrics_operation_name(h->metrics, (uint16_t)i);
        size_t n = strlen(name) < NAME_MOST ? strlen(name) : NAME_MOST;
        history_put(out, n);
        text_bytes(out, name, n);
    }
    for (int i = 0; i < HISTORY_LEVELS; i++) {
        const struct history_level *l = &h->levels[i];
        history_put(out, l->count);
        for (size_t k = 0; k < l->count; k++)
            put_record(out, h, history_record_at(l, k), &room);
    }
    text_dispose(&room);
    uint64_t sum = checksum((const uint8_t *)out->p, out->n);
    text_bytes(out, (const char *)&sum, sizeof sum);
}

/* ---- reading ---- */

struct source {
    const uint8_t *p, *end;
    bool failed;
};

static uint64_t take(struct source *s)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (s->p == s->end)
            break;
        uint8_t byte = *s->p++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return v;
    }
    s->failed = true;
    return 0;
}

static const uint8_t *take_bytes(struct source *s, uint64_t n)
{
    const uint8_t *p = s->p;
    if (s->failed || n > (uint64_t)(s->end - s->p)) {
        s->failed = true;
        return NULL;
    }
    s->p += n;
    return p;
}

struct entry {
    uint64_t key;
    const uint8_t *content;
    size_t n;
};

struct loader {
    struct history *h;
    struct source in;
    uint16_t number[METRICS_MAX_OPERATIONS]; /* in this process, of what has this number in the bytes */
    unsigned known;
    struct entry *entries; /* ENTRIES_MOST */
    struct history_level levels[HISTORY_LEVELS];
};

static bool read_names(struct loader *l)
{
    char name[NAME_MOST + 1];
    uint64_t known = take(&l->in);
    if (l->in.failed || known > METRICS_MAX_OPERATIONS)
        return false;
    l->known = (unsigned)known;
    for (unsigned i = 0; i < l->known; i++) {
        uint64_t n = take(&l->in);
        const uint8_t *p = n <= NAME_MOST ? take_bytes(&l->in, n) : NULL;
        if (!p || memchr(p, 0, (size_t)n))
            return false;
        memcpy(name, p, (size_t)n);
        name[n] = '\0';
        /* The metrics are not written to, but for the name of an operation. */
        l->number[i] = metrics_operation((struct metrics *)(uintptr_t)l->h->metrics, name);
    }
    return true;
}

/* Two numbers, then tokens whose buckets exist; all of them end where the content ends. */
static bool sound_content(const uint8_t *p, size_t n)
{
    struct source s = {p, p + n, false};
    uint64_t at = 0;
    (void)take(&s);
    (void)take(&s);
    while (!s.failed && s.p < s.end) {
        uint64_t token = take(&s);
        at += token & 1 ? token >> 1 : 1;
        if (at > HIST_BUCKETS || (token >> 1) > UINT64_C(1) << 48)
            return false;
    }
    return !s.failed;
}

/* The key in this process; false when it is none. */
static bool moved_key(const struct loader *l, uint64_t *key)
{
    uint64_t slot = *key / HISTORY_TYPES, type = *key % HISTORY_TYPES;
    if (type >= METRIC_TYPE_COUNT || type == METRIC_TYPE_CUSTOM_METRIC)
        return false;
    if (!slot || history_is_part(*key))
        return true;
    if (slot > l->known || !l->number[slot - 1])
        return slot == 1 && !l->number[0]; /* `other` has the number 0 everywhere */
    *key = history_key(l->number[slot - 1], (enum metric_type)type);
    return true;
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = ((const struct entry *)a)->key, y = ((const struct entry *)b)->key;
    return x < y ? -1 : x > y;
}

/* The bytes of a record with this process's keys, in their order. NULL: damaged, or out of memory. */
static uint8_t *read_packed(struct loader *l, const uint8_t *p, uint64_t n, size_t *size)
{
    struct source s = {p, p + n, false};
    struct text out = {0};
    size_t count = 0;
    for (;;) {
        uint64_t key = take(&s);
        if (s.failed || !key)
            break;
        uint64_t length = take(&s);
        const uint8_t *content = take_bytes(&s, length);
        if (!content || count == ENTRIES_MOST || !sound_content(content, (size_t)length))
            return NULL;
        key--;
        if (moved_key(l, &key))
            l->entries[count++] = (struct entry){key, content, (size_t)length};
    }
    if (s.failed || s.p != s.end)
        return NULL;
    if (count)
        qsort(l->entries, count, sizeof *l->entries, by_key);
    for (size_t i = 0; i < count; i++) {
        if (i && l->entries[i].key == l->entries[i - 1].key)
            continue; /* two names became one (`other`): the first counts */
        history_put(&out, l->entries[i].key + 1);
        history_put(&out, l->entries[i].n);
        text_bytes(&out, (const char *)l->entries[i].content, l->entries[i].n);
    }
    history_put(&out, 0);
    if (out.failed) {
        text_dispose(&out);
        return NULL;
    }
    *size = out.n;
    return (uint8_t *)out.p;
}

static bool read_level(struct loader *l, int i, int64_t now)
{
    struct history_level *level = &l->levels[i];
    uint64_t count = take(&l->in);
    int64_t before = INT64_MIN;
    *level = (struct history_level){.cap = l->h->levels[i].cap, .open = now};
    level->records = calloc(level->cap, sizeof *level->records);
    if (!level->records || l->in.failed || count > level->cap)
        return false;
    for (uint64_t k = 0; k < count; k++) {
        uint64_t from = take(&l->in), length = take(&l->in), n = take(&l->in);
        const uint8_t *p = n <= RECORD_MOST ? take_bytes(&l->in, n) : NULL;
        struct history_record *r = &level->records[level->count];
        if (!p || from > INT64_MAX / 2 || length > INT64_MAX / 4 || !length)
            return false;
        r->from = (int64_t)from - l->h->offset;
        r->to = r->from + (int64_t)length;
        if (r->to > now)
            continue; /* the clock was set back: what lies ahead is left */
        if (r->from < before || !(r->packed = read_packed(l, p, n, &r->n)))
            return false;
        before = r->to;
        level->count++;
    }
    return true;
}

static void free_levels(struct history_level *levels)
{
    for (int i = 0; i < HISTORY_LEVELS; i++) {
        for (size_t k = 0; levels[i].records && k < levels[i].cap; k++)
            free(levels[i].records[k].packed);
        free(levels[i].records);
        levels[i].records = NULL;
    }
}

static bool read_all(struct loader *l, int64_t now)
{
    if (!read_names(l))
        return false;
    for (int i = 0; i < HISTORY_LEVELS; i++)
        if (!read_level(l, i, now))
            return false;
    return true;
}

bool history_load(struct history *h, const void *bytes, size_t n, int64_t now)
{
    const uint8_t *p = bytes;
    uint64_t sum;
    if (n < sizeof MAGIC + sizeof sum || memcmp(p, MAGIC, sizeof MAGIC) != 0)
        return false;
    memcpy(&sum, p + n - sizeof sum, sizeof sum);
    if (sum != checksum(p, n - sizeof sum))
        return false;
    struct loader *l = calloc(1, sizeof *l);
    if (l)
        l->entries = malloc(ENTRIES_MOST * sizeof *l->entries);
    bool good = l && l->entries;
    if (good) {
        l->h = h;
        l->in = (struct source){p + sizeof MAGIC, p + n - sizeof sum, false};
        good = read_all(l, now);
    }
    if (good)
        history_take_over(h, l->levels, now);
    if (l) {
        free_levels(l->levels);
        free(l->entries);
    }
    free(l);
    return good;
}
