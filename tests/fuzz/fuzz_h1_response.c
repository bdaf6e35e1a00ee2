/*
 * Any bytes as a response head. The first four bytes choose limits, the request's method and cuts, the rest
 * is the message. Held: as for fuzz_h1_request.c, with rows that blame the upstream.
 */
#include "tests/fuzz/h1_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 4 || n > 20000)
        return 0;
    struct head_case c = {.p = (const char *)data + 4, .n = n - 4, .field_max = 40, .response = true};
    c.limits = (struct h1_limits){.max_head = 65536, .max_target = 8192, .max_trailer = 1000};
    if (data[0] & 1)
        c.limits.max_head = data[1] * 4u;
    if (data[0] & 4)
        c.field_max = data[1] % 8;
    c.limits.unknown_coding_until_close = (data[0] & 8) != 0;
    c.request_method = data[0] & 16 ? METHOD_HEAD : METHOD_GET;
    struct head_result r;
    claim_head(&c, data[2], data[3], &r);
    head_result_free(&r);
    return 0;
}
