/*
 * History as bytes, for a file that outlives the process.
 *
 * Invariants: times are those of the wall clock; operations and custom metrics are told by their names, since
 * their numbers are the process's own. What is read is believed in nothing: every length is checked, a
 * checksum must agree, records must follow each other and lie in the past, and after an error the history is
 * as it was.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/history_inner.h"

static const char MAGIC[8] = "PPHIST3\n";
enum { NAME_MOST = 255, JOINED_MOST = 24, ENTRIES_MOST = 8192, RECORD_MOST = 1 << 22 };

static uint64_t checksum(const uint8_t *p, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* ---- writing ---- */

static void put_name(struct text *t, const char *name)
{
    size_t n = strlen(name) < NAME_MOST ? strlen(name) : NAME_MOST;
    history_put(t, n);
    text_bytes(t, name, n);
}

static void put_custom_names(struct text *t, const struct custom *c)
{
    size_t known = c ? custom_metrics(c) : 0;
    history_put(t, known);
    for (size_t i = 0; i < known; i++) {
        put_name(t, custom_metric_at(c, i)->name);
        history_put(t, custom_metric_at(c, i)->type);
    }
}

static void put_record(struct text *t, const struct history *h, const struct history_record *r,
                       struct text *room)
{
    const uint8_t *p = r->packed, *content, *end;
    uint64_t key;
    text_clear(room);
    while (history_entry(&p, &key, &content, &end)) {
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
    history_put(out, history_names_mark(h));
    history_put(out, known);
    for (unsigned i = 0; i < known; i++)
        put_name(out, metrics_operation_name(h->metrics, (uint16_t)i));
    put_custom_names(out, h->custom);
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
    bool same_parts;                         /* their numbers mean the same here */
    unsigned known;
    int custom[CUSTOM_NAMES]; /* likewise; -1: it finds no room here */
    size_t custom_known;
    struct entry *entries; /* ENTRIES_MOST */
    struct history_level levels[HISTORY_LEVELS];
};

static bool take_name(struct source *s, char out[NAME_MOST + 1])
{
    uint64_t n = take(s);
    const uint8_t *p = n <= NAME_MOST ? take_bytes(s, n) : NULL;
    if (!p || memchr(p, 0, (size_t)n))
        return false;
    memcpy(out, p, (size_t)n);
    out[n] = '\0';
    return true;
}

static bool read_names(struct loader *l)
{
    char name[NAME_MOST + 1];
    l->same_parts = take(&l->in) == history_names_mark(l->h);
    uint64_t known = take(&l->in);
    if (l->in.failed || known > METRICS_MAX_OPERATIONS)
        return false;
    l->known = (unsigned)known;
    for (unsigned i = 0; i < l->known; i++) {
        if (!take_name(&l->in, name))
            return false;
        /* The metrics are not written to, but for the name of an operation. */
        l->number[i] = metrics_operation((struct metrics *)(uintptr_t)l->h->metrics, name);
    }
    return true;
}

static bool read_custom_names(struct loader *l)
{
    char name[NAME_MOST + 1];
    uint64_t known = take(&l->in);
    if (l->in.failed || known > CUSTOM_NAMES)
        return false;
    l->custom_known = (size_t)known;
    for (size_t i = 0; i < l->custom_known; i++) {
        if (!take_name(&l->in, name))
            return false;
        uint64_t type = take(&l->in);
        if (l->in.failed || type >= CUSTOM_TYPES)
            return false;
        l->custom[i] = l->h->custom ? custom_know(l->h->custom, name, (enum custom_type)type) : -1;
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

static double take_double(struct source *s)
{
    double v = NAN;
    const uint8_t *p = take_bytes(s, sizeof v);
    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

/* Sum, least, greatest, joinings, then steps and counts: as history_put_real() writes them. */
static bool sound_real(const uint8_t *p, size_t n)
{
    struct source s = {p, p + n, false};
    double sum = take_double(&s), least = take_double(&s), greatest = take_double(&s);
    uint64_t joined = take(&s), buckets = 0;
    int64_t at = 0;
    if (!isfinite(sum) || !isfinite(least) || !isfinite(greatest) || least > greatest || joined > JOINED_MOST)
        return false;
    for (; !s.failed && s.p < s.end; buckets++) {
        uint64_t step = take(&s), count = take(&s);
        if (step > UINT32_MAX || !count || count > UINT64_C(1) << 48 || buckets == REAL_SKETCH_BUCKETS)
            return false;
        int64_t moved = at + ((int64_t)(step >> 1) ^ -(int64_t)(step & 1));
        if ((buckets && moved <= at) || moved > REAL_SKETCH_INDEX || moved < -REAL_SKETCH_INDEX)
            return false;
        at = moved;
    }
    return !s.failed && buckets;
}

static bool moved_custom(const struct loader *l, uint64_t slot, uint64_t *key)
{
    uint64_t i = slot - 1 - HISTORY_CUSTOM;
    if (slot < 1 + HISTORY_CUSTOM || i >= l->custom_known || l->custom[i] < 0)
        return false;
    *key = history_key(HISTORY_CUSTOM + l->custom[i], METRIC_TYPE_CUSTOM_METRIC);
    return true;
}

/* The key in this process; false when it is none. */
static bool moved_key(const struct loader *l, uint64_t *key)
{
    uint64_t slot = *key / HISTORY_TYPES, type = *key % HISTORY_TYPES;
    if (type == METRIC_TYPE_CUSTOM_METRIC)
        return moved_custom(l, slot, key);
    if (type >= METRIC_TYPE_COUNT)
        return false;
    if (!slot)
        return true;
    if (history_is_part(*key))
        return l->same_parts;
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
        key--;
        if (!content || count == ENTRIES_MOST ||
            !(history_is_real(key) ? sound_real : sound_content)(content, (size_t)length))
            return NULL;
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
    if (!read_names(l) || !read_custom_names(l))
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
