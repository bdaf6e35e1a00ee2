/*
 * Greedy-Dual-Size-Frequency (Cherkasova, HPL-98-69R1): rank = inflation + uses * cost / size (or the root of
 * the cost, between saving most and hitting most), least goes first, and leaves its rank behind as the
 * inflation that newcomers start from. A hit only counts; the rank is raised when the entry comes to be the
 * least. Invariants: a parent's rank is not above its children's; heap[n].node->at is n. Inflation is taken
 * off all ranks before it could swallow small differences.
 */
#include "policy/evict_private.h"

#include <math.h>
#include <stdlib.h>

enum { CHILDREN = 4 };

unsigned evict_look(struct evict_node *node)
{
    unsigned hits = __atomic_load_n(&node->hits, __ATOMIC_RELAXED);
    if (hits == 0)
        return 0;
    __atomic_store_n(&node->hits, 0, __ATOMIC_RELAXED);
    unsigned uses = node->uses + hits;
    node->uses = (uint8_t)(uses > EVICT_USES_MAX ? EVICT_USES_MAX : uses);
    return hits;
}

static double rank_of(const struct evict_index *index, const struct evict_node *node)
{
    double cost = index->rule.share < 100 ? sqrt((double)node->cost) : (double)node->cost;
    return index->inflation + (double)node->uses * cost / evict_weight(index, node);
}

static void put(struct evict_index *index, size_t at, struct heap_slot slot)
{
    index->heap[at] = slot;
    slot.node->at = (uint32_t)at;
}

static void sift_up(struct evict_index *index, size_t at, struct heap_slot slot)
{
    while (at > 0) {
        size_t parent = (at - 1) / CHILDREN;
        if (index->heap[parent].rank <= slot.rank)
            break;
        put(index, at, index->heap[parent]);
        at = parent;
    }
    put(index, at, slot);
}

static void sift_down(struct evict_index *index, size_t at, struct heap_slot slot)
{
    for (;;) {
        size_t first = at * CHILDREN + 1, least = first;
        if (first >= index->heap_count)
            break;
        for (size_t i = first + 1; i < first + CHILDREN && i < index->heap_count; i++)
            if (index->heap[i].rank < index->heap[least].rank)
                least = i;
        if (index->heap[least].rank >= slot.rank)
            break;
        put(index, at, index->heap[least]);
        at = least;
    }
    put(index, at, slot);
}

static bool heap_reserve(struct evict_index *index, size_t count)
{
    if (count <= index->heap_room)
        return true;
    if (count > UINT32_MAX / 2)
        return false;
    size_t room = count + count / 8 + 16;
    struct heap_slot *heap = realloc(index->heap, room * sizeof *heap);
    if (!heap)
        return false;
    index->heap = heap;
    index->heap_room = room;
    return true;
}

bool heap_insert(struct evict_index *index, struct evict_node *node)
{
    if (!heap_reserve(index, index->heap_count + 1))
        return false;
    node->queue = QUEUE_HEAP;
    node->prev = node->next = node;
    sift_up(index, index->heap_count++, (struct heap_slot){rank_of(index, node), node});
    return true;
}

void heap_remove(struct evict_index *index, struct evict_node *node)
{
    size_t at = node->at;
    struct heap_slot last = index->heap[--index->heap_count];
    if (at < index->heap_count) {
        if (at > 0 && index->heap[(at - 1) / CHILDREN].rank > last.rank)
            sift_up(index, at, last);
        else
            sift_down(index, at, last);
    }
    node->prev = node->next = NULL;
}

/* Another node, or another size, stands at a place. */
void heap_moved(struct evict_index *index, struct evict_node *node)
{
    index->heap[node->at].node = node;
    node->prev = node->next = node;
}

static void deflate(struct evict_index *index)
{
    if (index->inflation < 1e12)
        return;
    for (size_t i = 0; i < index->heap_count; i++)
        index->heap[i].rank -= index->inflation;
    index->inflation = 0;
}

struct evict_node *heap_pop(struct evict_index *index)
{
    for (;;) {
        struct heap_slot least = index->heap[0];
        index->inflation = least.rank > index->inflation ? least.rank : index->inflation;
        if (evict_look(least.node) > 0) {
            sift_down(index, 0, (struct heap_slot){rank_of(index, least.node), least.node});
            continue;
        }
        heap_remove(index, least.node);
        deflate(index);
        return least.node;
    }
}
