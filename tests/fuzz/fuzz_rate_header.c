/*
 * Fuzzes the reader of rate limit fields: lines "name: value", then what came out is held against its own
 * bounds, and the quota governor is given it.
 */
#include <assert.h>
#include <string.h>

#include "policy/quota.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void wake(struct quota_waiter *w, bool go, tick_t at, void *arg)
{
    (void)go;
    (void)at;
    (void)arg;
    assert(!w->queued);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct quota_rules rules = {true, QUOTA_PACE, 5 * TICK_S, {60, 3600, 86400}, true, true};
    const int64_t wall = 1700000000;
    const char *p = (const char *)data, *end = p + size;
    struct rate_reading r;
    struct quota q;
    struct quota_waiter waiter = {0};
    rate_reading_begin(&r);
    while (p < end) {
        const char *line = memchr(p, '\n', (size_t)(end - p)), *stop = line ? line : end;
        const char *colon = memchr(p, ':', (size_t)(stop - p));
        if (colon)
            rate_reading_field(&r, (struct slice){p, (size_t)(colon - p)},
                               (struct slice){colon + 1, (size_t)(stop - colon - 1)}, wall);
        p = line ? line + 1 : end;
    }
    rate_reading_end(&r, wall);
    assert(r.count >= 0 && r.count <= RATE_WINDOWS);
    assert(r.retry_after >= -1 && r.retry_after <= 400 * 86400 * TICK_S);
    for (int i = 0; i < r.count; i++) {
        assert(r.window[i].limit >= -1 && r.window[i].limit <= RATE_MANY);
        assert(r.window[i].remaining >= -1 && r.window[i].remaining <= RATE_MANY);
        assert(r.window[i].reset >= -1 && r.window[i].reset <= 400 * 86400 * TICK_S);
        for (int k = 0; k < i; k++)
            assert(r.window[i].key != r.window[k].key);
    }
    tick_t now = 100 * TICK_S;
    quota_init(&q, &rules, now, wall * TICK_S);
    struct quota_answer a = {.charged = true, .throttled = size & 1, .sent_at = now, .reading = &r};
    for (int i = 0; i < 4; i++, now += TICK_S) {
        struct quota_call call = {.flow = 1, .deadline = TICK_NEVER};
        quota_leave(&q, &waiter);
        struct quota_verdict v = quota_ask(&q, &call, &waiter, wake, NULL, now);
        assert(v.kind == QUOTA_GO ? !waiter.queued : v.at >= now);
        if (v.kind == QUOTA_GO)
            quota_end(&q, &a, now + TICK_MS);
        assert(quota_turn(&q, wake, NULL, now + 2 * TICK_MS) > now);
        assert(q.count <= QUOTA_WINDOWS);
    }
    return 0;
}
