/*
 * Any bytes as a request head. The first four bytes choose limits and cuts, the rest is the message.
 * Held: the result is the same however the bytes are cut; nothing behind them is read; an accepted head is
 * one by a second, plain reading; a refused one has a row that blames the client.
 */
#include "tests/fuzz/h1_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 4 || n > 20000)
        return 0;
    struct head_case c = {.p = (const char *)data + 4, .n = n - 4, .field_max = 40};
    c.limits = (struct h1_limits){.max_head = 65536, .max_target = 8192, .max_trailer = 1000};
    if (data[0] & 1)
        c.limits.max_head = data[1] * 4u;
    if (data[0] & 2)
        c.limits.max_target = data[1];
    if (data[0] & 4)
        c.field_max = data[1] % 8;
    struct head_result r;
    claim_head(&c, data[2], data[3], &r);
    head_result_free(&r);
    return 0;
}
