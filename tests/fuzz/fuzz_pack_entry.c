/*
 * Feeds anything to the reader of packed entries: whatever it takes must become an entry that is well formed,
 * and pack again to something that reads back the same.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/pack_entry.h"
#include "proxy/store_inner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct store *store;

static void check_entry(const struct packed *packed, const struct head *request)
{
    const tick_t now = 1000 * TICK_S;
    const int64_t wall = INT64_C(1700000000000);
    struct text again = {0};
    struct packed second;
    struct entry *e = packed_entry(store, packed, request, now, wall);
    if (!e)
        return;
    struct slice head = entry_head(e);
    assert(entry_length(e) == packed->body.n && head.n > 2 && memcmp(head.p + head.n - 2, "\r\n", 2) == 0);
    assert(memchr(head.p, '\0', head.n) == NULL);
    assert(freshness_age(&e->fresh, now) >= packed->age);
    assert(pack_entry(e, &packed->note, now, wall, &again));
    packed_read((struct slice){again.p, again.n}, &second);
    assert(second.kind == PACK_ENTRY && second.lifetime == packed->lifetime && second.age >= packed->age);
    assert(slice_equal(second.body, packed->body) && slice_equal(second.names, packed->names));
    assert(second.tag_count == packed->tag_count && slice_equal(second.head, head));
    text_dispose(&again);
    entry_release(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "GET /p HTTP/1.1\r\n\r\n";
    struct head request = {.base = text, .len = sizeof text - 1, .method = METHOD_GET};
    struct packed packed;
    if (!store) {
        struct store_limits limits = {0, 0, 0, EVICT_LRU};
        store = store_new(&limits, (struct hash_key){1, 2});
    }
    request.path_at = 4;
    request.path_len = 2;
    packed_read((struct slice){(const char *)data, size}, &packed);
    if (packed.kind == PACK_ENTRY && store)
        check_entry(&packed, &request);
    return 0;
}
