/*
 * The check of an LMDB file. Invariants: every number is compared with its bounds before it is used; no page
 * is entered twice (a bit for each), and none deeper than LMDB's own stack is, so that the walk ends whatever
 * the file says.
 *
 * The format, in the byte order and with the alignment of this machine, as LMDB leaves it there:
 *   page:  number u64, pad u16, flags u16, then lower u16, upper u16 (tree) or pages u32 (overflow); 16 bytes
 *   tree:  places of its nodes u16 each from byte 16 up to `lower`; the nodes from `upper` to the end
 *   node:  lo u16, hi u16, flags u16, size of the key u16, the key, in a leaf the data
 *   table: pad u32, flags u16, depth u16, then u64 each: branch pages, leaves, overflow pages, records, root
 *   meta:  (pages 0 and 1, the one with the greater transaction counts) magic u32, version u32, address u64,
 *          map size u64, table of free pages, table of tables, last page u64, transaction u64
 */
#include "proxy/disk_check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEAD = 16,
    NODE = 8,
    TABLE = 48,
    META_END = HEAD + 24 + 2 * TABLE + 16,
    DEPTH_MAX = 32,
    KEY_MAX = 511,
    SMALLEST_PAGE = 4096,
    FLAG_BRANCH = 1,
    FLAG_LEAF = 2,
    FLAG_OVERFLOW = 4,
    FLAG_META = 8,
    DATA_OVERFLOW = 1,
    DATA_TABLE = 2
};

#define MAGIC     UINT32_C(0xBEEFC0DE)
#define NO_ROOT   UINT64_MAX
#define PAGES_MAX (UINT64_C(1) << 34)

struct table {
    uint16_t flags, depth;
    uint64_t branches, leaves, overflows, records, root;
};

struct walk {
    const struct disk_source *source;
    struct disk_check *out;
    size_t page_size;
    uint64_t last;       /* page */
    unsigned char *seen; /* a bit a page */
    char *pages;         /* one for each level of depth, and one for an overflow page's head */
    bool is_free_list;   /* the table being walked */
    bool is_directory;   /* its records are tables */
    struct table got;    /* counted in it */
};

static uint16_t u16(const char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static uint32_t u32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t u64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static bool wrong(struct walk *w, uint64_t page, const char *what)
{
    w->out->what = what;
    w->out->page = page;
    return false;
}

/* Marks pages as in use by one thing. */
static bool mark(struct walk *w, uint64_t page, uint64_t count)
{
    if (page < 2 || page > w->last || count > w->last - page + 1)
        return wrong(w, page, "is not in the file");
    for (uint64_t i = page; i < page + count; i++) {
        if (w->seen[i / 8] & 1 << i % 8)
            return wrong(w, i, "belongs to two things");
        w->seen[i / 8] |= (unsigned char)(1 << i % 8);
    }
    return true;
}

static bool read_at(struct walk *w, uint64_t page, size_t n, char *out)
{
    if (page > PAGES_MAX || !w->source->read(w->source->arg, page * w->page_size, n, out))
        return wrong(w, page, "cannot be read");
    return true;
}

static struct table table_at(const char *p)
{
    return (struct table){u16(p + 4),  u16(p + 6),  u64(p + 8), u64(p + 16),
                          u64(p + 24), u64(p + 32), u64(p + 40)};
}

static bool walk_table(struct walk *w, const struct table *table, bool free_list, bool directory);

/* ---- leaves ---- */

/* A list of free pages: how many, and their numbers. `data` has n bytes, at no particular place. */
static bool check_free_pages(struct walk *w, uint64_t page, const char *data, uint64_t n)
{
    if (n < 8 || u64(data) != n / 8 - 1 || n % 8 != 0)
        return wrong(w, page, "holds a list of free pages of another length");
    for (uint64_t i = 1; i < n / 8; i++)
        if (!mark(w, u64(data + 8 * i), 1))
            return false;
    return true;
}

/* Data on pages of its own. */
static bool check_overflow(struct walk *w, uint64_t page, uint64_t at, uint64_t size)
{
    uint64_t pages = (HEAD - 1 + size) / w->page_size + 1;
    char head[HEAD];
    if (!mark(w, at, pages) || !read_at(w, at, HEAD, head))
        return false;
    if (u64(head) != at || u16(head + 10) != FLAG_OVERFLOW || u32(head + 12) != pages)
        return wrong(w, at, "is not the long record that it should be");
    char last;
    if (size && !w->source->read(w->source->arg, at * w->page_size + HEAD + size - 1, 1, &last))
        return wrong(w, at, "holds a record that was cut short");
    w->got.overflows += pages;
    if (!w->is_free_list)
        return true;
    char *data = malloc(size + 1);
    bool good = data && w->source->read(w->source->arg, at * w->page_size + HEAD, size, data) &&
                check_free_pages(w, page, data, size);
    free(data);
    return good || w->out->what || wrong(w, at, "cannot be read");
}

static bool check_record(struct walk *w, uint64_t page, const char *node, size_t room)
{
    uint64_t size = u16(node) | (uint64_t)u16(node + 2) << 16;
    uint16_t flags = u16(node + 4), key = u16(node + 6);
    const char *data = node + NODE + key;
    bool overflow = flags & DATA_OVERFLOW;
    if (key < 1 || key > KEY_MAX || flags & ~(DATA_OVERFLOW | DATA_TABLE) ||
        (size_t)NODE + key + (overflow ? 8 : size) > room)
        return wrong(w, page, "holds a record that does not fit");
    w->got.records++;
    if (((flags & DATA_TABLE) != 0) != w->is_directory || (w->is_directory && size != TABLE))
        return wrong(w, page, "holds a record of another kind");
    if (overflow)
        return check_overflow(w, page, u64(data), size);
    return !w->is_free_list || check_free_pages(w, page, data, size);
}

/* ---- pages of a tree ---- */

static int compare(const struct walk *w, const char *a, const char *b)
{
    uint16_t an = u16(a + 6), bn = u16(b + 6);
    if (w->is_free_list && an == 8 && bn == 8) {
        uint64_t x = u64(a + NODE), y = u64(b + NODE);
        return x < y ? -1 : x > y;
    }
    int c = memcmp(a + NODE, b + NODE, an < bn ? an : bn);
    return c ? c : (int)an - (int)bn;
}

/* All nodes lie within the page, one behind the other as far as their sum tells, their keys in order. */
static bool check_nodes(struct walk *w, uint64_t page, const char *p, bool leaf, unsigned *count)
{
    uint16_t lower = u16(p + 12), upper = u16(p + 14);
    size_t sum = 0;
    if (lower < HEAD || lower % 2 || lower > upper || upper > w->page_size)
        return wrong(w, page, "has impossible bounds");
    *count = (unsigned)(lower - HEAD) / 2;
    for (unsigned i = 0; i < *count; i++) {
        uint16_t at = u16(p + HEAD + 2 * i);
        if (at < upper || at % 2 || at > w->page_size - NODE)
            return wrong(w, page, "has a record out of its bounds");
        const char *node = p + at;
        uint64_t size = leaf ? u16(node) | (uint64_t)u16(node + 2) << 16 : 0;
        size_t n = (size_t)NODE + u16(node + 6) + (leaf && u16(node + 4) & DATA_OVERFLOW ? 8 : size);
        if (n > w->page_size - at)
            return wrong(w, page, "has a record out of its bounds");
        sum += n + n % 2;
        bool first = i == (leaf ? 0 : 1); /* a branch's first key is never looked at */
        if (i > 0 && !first && compare(w, p + u16(p + HEAD + 2 * i - 2), node) >= 0)
            return wrong(w, page, "has keys out of order");
    }
    return sum == w->page_size - upper || wrong(w, page, "has records that lie over each other");
}

static bool walk_page(struct walk *w, uint64_t page, unsigned depth, unsigned leaves_at)
{
    char *p = w->pages + (size_t)depth * w->page_size;
    unsigned count;
    if (!mark(w, page, 1) || !read_at(w, page, w->page_size, p))
        return false;
    bool leaf = depth + 1 == leaves_at;
    if (u64(p) != page || u16(p + 10) != (leaf ? FLAG_LEAF : FLAG_BRANCH))
        return wrong(w, page, "is not the page that it should be");
    if (!check_nodes(w, page, p, leaf, &count))
        return false;
    if (count < (leaf ? 1u : 2u))
        return wrong(w, page, "has too few records");
    *(leaf ? &w->got.leaves : &w->got.branches) += 1;
    for (unsigned i = 0; i < count; i++) {
        uint16_t at = u16(p + HEAD + 2 * i);
        const char *node = p + at;
        if (leaf && !check_record(w, page, node, w->page_size - at))
            return false;
        if (!leaf && !walk_page(w, u16(node) | (uint64_t)u16(node + 2) << 16 | (uint64_t)u16(node + 4) << 32,
                                depth + 1, leaves_at))
            return false;
    }
    return true;
}

/* ---- tables ---- */

static bool walk_table(struct walk *w, const struct table *table, bool free_list, bool directory)
{
    w->is_free_list = free_list;
    w->is_directory = directory;
    w->got = (struct table){0};
    if ((table->root == NO_ROOT) != (table->depth == 0) || table->depth >= DEPTH_MAX)
        return wrong(w, table->root, "is the root of a tree without a depth");
    if (table->depth > 0 && !walk_page(w, table->root, 0, table->depth))
        return false;
    const struct table *got = &w->got;
    w->out->records += got->records;
    return (got->records == table->records && got->branches == table->branches &&
            got->leaves == table->leaves && got->overflows == table->overflows) ||
           wrong(w, table->root, "is the root of a tree with another number of records");
}

/* The directory has few tables: they fit into its root. */
static bool walk_directory(struct walk *w, const struct table *directory)
{
    struct table tables[16];
    unsigned count = 0;
    if (!walk_table(w, directory, false, true))
        return false;
    if (directory->depth > 1 || directory->records > ARRAY_LEN(tables))
        return wrong(w, directory->root, "has more tables than were ever made");
    for (; count < directory->records; count++) {
        const char *node = w->pages + u16(w->pages + HEAD + 2 * count);
        tables[count] = table_at(node + NODE + u16(node + 6));
        if (tables[count].flags != 0)
            return wrong(w, directory->root, "has a table of another kind");
    }
    for (unsigned i = 0; i < count; i++)
        if (!walk_table(w, &tables[i], false, false))
            return false;
    return true;
}

static bool read_metas(struct walk *w, char best[META_END])
{
    char meta[META_END];
    w->page_size = SMALLEST_PAGE;
    for (unsigned i = 0; i < 2; i++) {
        if (!read_at(w, i, META_END, meta))
            return false;
        if (!(u16(meta + 10) & FLAG_META) || u32(meta + HEAD) != MAGIC ||
            (u32(meta + HEAD + 4) & 0xffff) != 1)
            return wrong(w, i, "does not begin such a file");
        if (i == 0) {
            w->page_size = u32(meta + HEAD + 24);
            if (w->page_size < SMALLEST_PAGE || w->page_size > DISK_CHECK_PAGE_MAX ||
                (w->page_size & (w->page_size - 1)))
                return wrong(w, i, "has pages of an impossible size");
        }
        if (i == 0 || u64(meta + META_END - 8) > u64(best + META_END - 8))
            memcpy(best, meta, META_END);
    }
    return u32(best + HEAD + 24) == w->page_size || wrong(w, 0, "has pages of two sizes");
}

bool disk_check(const struct disk_source *source, struct disk_check *out)
{
    char meta[META_END] = {0};
    struct walk w = {.source = source, .out = out};
    *out = (struct disk_check){NULL, 0, 0};
    if (source->size == 0)
        return true;
    if (!read_metas(&w, meta))
        return false;
    w.last = u64(meta + META_END - 16);
    if (w.last < 1 || w.last > PAGES_MAX || w.last > source->size / w.page_size + (1 << 16))
        return wrong(&w, w.last, "would be the last, and the file is much shorter");
    w.seen = calloc(1, w.last / 8 + 1);
    w.pages = malloc(w.page_size * DEPTH_MAX);
    struct table free_list = table_at(meta + HEAD + 24), directory = table_at(meta + HEAD + 24 + TABLE);
    bool good = w.seen && w.pages ? walk_directory(&w, &directory) && walk_table(&w, &free_list, true, false)
                                  : wrong(&w, 0, "there is no memory to check it");
    free(w.seen);
    free(w.pages);
    return good;
}

/* ---- files ---- */

static bool read_file(void *arg, uint64_t at, size_t n, void *out)
{
    return pread(*(int *)arg, out, n, (off_t)at) == (ssize_t)n;
}

bool disk_check_file(const char *path, struct disk_check *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    *out = (struct disk_check){NULL, 0, 0};
    if (fd < 0)
        return true; /* LMDB says better why */
    struct disk_source source = {read_file, &fd, fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0};
    bool good = disk_check(&source, out);
    close(fd);
    return good;
}
