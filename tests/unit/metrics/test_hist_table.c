/* metrics/hist_table.c: keys, the fold, the sums. */
#include "metrics/hist_table.h"

#include "main.h"

START_TEST(each_key_has_its_own)
{
    enum { ROOM = 20 };
    struct hist_table *t = hist_table_new(ROOM);
    uint64_t all = 0, other = 0, keys = 0;
    for (uint64_t key = 1; key <= 2 * ROOM; key++)
        for (uint64_t i = 0; i < key; i++)
            ck_assert(hist_table_record(t, key << 40 | 1, (int64_t)key));
    for (size_t i = 0; i < hist_table_places(t); i++) {
        uint64_t key;
        const struct hist *h;
        struct hist_counts counts = {.count = 0};
        if (!hist_table_at(t, i, &key, &h))
            continue;
        hist_read(h, &counts);
        all += counts.count;
        if (key == HIST_TABLE_OTHER) {
            other = counts.count;
            continue;
        }
        keys++;
        ck_assert_uint_eq(counts.count, key >> 40);
        ck_assert_uint_eq(counts.max, key >> 40);
    }
    ck_assert_uint_eq(keys, ROOM);
    ck_assert_uint_eq(all, 2 * ROOM * (2 * ROOM + 1) / 2);
    ck_assert_uint_eq(other, all - ROOM * (ROOM + 1) / 2);
    hist_table_free(t);
    hist_table_free(NULL);
}
END_TEST

SUITE("metrics/hist_table", each_key_has_its_own)
