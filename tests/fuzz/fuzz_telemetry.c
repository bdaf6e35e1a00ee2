/*
 * Feeds any bytes as a collector's answer, as its grpc-status-details-bin, and as the lists of the
 * environment. Whatever they hold: a verdict, no delay beyond five minutes, pairs without empty keys.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/telemetry_answer.h"
#include "proxy/telemetry_resource.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_pair(void *ctx, const char *key, const char *value)
{
    (void)ctx;
    assert(*key && value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1);
    tick_t after = -1;
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    copy[size] = '\0';
    struct post_result r = {.status = 200,
                            .grpc_status = size ? data[0] % 17 : -1,
                            .grpc_details = copy,
                            .retry_after = -1,
                            .answer = (const char *)data,
                            .answer_n = size};
    (void)telemetry_judge(true, &r, &after);
    assert(after >= -1 && after <= 300 * TICK_S);
    (void)telemetry_rejected(true, &r);
    (void)telemetry_rejected(false, &r);
    assert(telemetry_pairs(copy, one_pair, NULL) >= -1);
    free(copy);
    return 0;
}
