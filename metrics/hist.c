/*
 * Records and reads the log-linear histogram of hist.h.
 *
 * Invariants: only the owner writes, so that a load and a store make an addition. A page is
 * published with release once it is all zero, and never taken back before hist_dispose().
 * The number of records is the sum of the buckets: no reader can see the two disagree.
 */
#include "metrics/hist.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct hist_page {
    _Alignas(64) _Atomic uint64_t v[HIST_PAGE];
};

static unsigned page_shift(unsigned index)
{
    unsigned page = index >> HIST_SUB_BITS;
    return page ? page - 1 : 0;
}

uint64_t hist_lower(unsigned index)
{
    if (index < HIST_PAGE)
        return index;
    return (uint64_t)(HIST_PAGE + (index & (HIST_PAGE - 1))) << page_shift(index);
}

uint64_t hist_upper(unsigned index)
{
    return index >= HIST_BUCKETS - 1 ? UINT64_MAX : hist_lower(index) + (UINT64_C(1) << page_shift(index));
}

double hist_middle(unsigned index)
{
    return (double)hist_lower(index) + (double)((UINT64_C(1) << page_shift(index)) - 1) / 2;
}

static struct hist_page *page_add(struct hist *h, unsigned number)
{
    struct hist_page *page = aligned_alloc(64, sizeof *page);
    if (!page)
        return NULL;
    memset(page, 0, sizeof *page);
    atomic_store_explicit(&h->pages[number], page, memory_order_release);
    return page;
}

bool hist_record(struct hist *h, int64_t value)
{
    uint64_t v = value > 0 ? (uint64_t)value : 0;
    unsigned index = hist_index(v);
    unsigned number = index >> HIST_SUB_BITS;
    struct hist_page *page = atomic_load_explicit(&h->pages[number], memory_order_relaxed);
    if (__builtin_expect(!page, 0) && !(page = page_add(h, number)))
        return false;
    _Atomic uint64_t *bucket = &page->v[index & (HIST_PAGE - 1)];
    atomic_store_explicit(bucket, atomic_load_explicit(bucket, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&h->sum, atomic_load_explicit(&h->sum, memory_order_relaxed) + v,
                          memory_order_relaxed);
    if (v > atomic_load_explicit(&h->max, memory_order_relaxed))
        atomic_store_explicit(&h->max, v, memory_order_relaxed);
    return true;
}

void hist_dispose(struct hist *h)
{
    for (unsigned i = 0; i < HIST_PAGES; i++)
        free(atomic_load_explicit(&h->pages[i], memory_order_relaxed));
    memset(h, 0, sizeof *h);
}

void hist_read(const struct hist *h, struct hist_counts *into)
{
    for (unsigned i = 0; i < HIST_PAGES; i++) {
        struct hist_page *page = atomic_load_explicit(&h->pages[i], memory_order_acquire);
        if (!page)
            continue;
        uint64_t *to = &into->v[i << HIST_SUB_BITS];
        for (unsigned k = 0; k < HIST_PAGE; k++) {
            uint64_t n = atomic_load_explicit(&page->v[k], memory_order_relaxed);
            to[k] += n;
            into->count += n;
        }
    }
    into->sum += atomic_load_explicit(&h->sum, memory_order_relaxed);
    uint64_t max = atomic_load_explicit(&h->max, memory_order_relaxed);
    if (max > into->max)
        into->max = max;
}

void hist_merge(struct hist_counts *into, const struct hist_counts *b)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        into->v[i] += b->v[i];
    into->count += b->count;
    into->sum += b->sum;
    if (b->max > into->max)
        into->max = b->max;
}

double hist_quantile(const struct hist_counts *c, double q)
{
    if (!c->count)
        return 0;
    double wanted = ceil(q * (double)c->count);
    uint64_t rank = wanted < 1 ? 1 : (uint64_t)wanted;
    if (rank >= c->count)
        return (double)c->max;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS - 1; i++) {
        seen += c->v[i];
        if (seen >= rank)
            return fmin(hist_middle(i), (double)c->max);
    }
    return (double)c->max; /* in the last bucket, which has no upper end */
}

double hist_mean(const struct hist_counts *c)
{
    return c->count ? (double)c->sum / (double)c->count : 0;
}
