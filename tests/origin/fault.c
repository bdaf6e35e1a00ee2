/*
 * Faults. Invariants: an error or a rate limit takes the place of the operation, which then has no effect; a
 * reset, a hang or a cut loses the answer of an operation that had its effect (the harder case for whoever
 * wants to retry).
 */
#include "tests/origin/fault.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/origin/auth.h"
#include "tests/origin/server.h"
#include "tests/origin/when.h"

static double uniform(struct call *call)
{
    return worker_random(call->worker);
}

bool fault_outage(struct call *call)
{
    switch (call->settings->outage) {
    case OUTAGE_NONE:
        return false;
    case OUTAGE_503:
        reply_detail(call, 503, "Service Unavailable");
        return true;
    case OUTAGE_HANG:
        call->reply->hang = true;
        return true;
    default:
        call->reply->reset_before = true;
        return true;
    }
}

static double draw_latency(struct call *call, const struct rule *rule)
{
    double mean = rule->latency.mean_ms, sigma = rule->latency.sigma;
    if (mean <= 0 || rule->latency.distribution == DIST_CONSTANT)
        return mean;
    double u = 1.0 - uniform(call); /* in (0, 1] */
    if (rule->latency.distribution == DIST_EXPONENTIAL)
        return -mean * log(u);
    double normal = sqrt(-2.0 * log(u)) * cos(6.283185307179586 * uniform(call));
    return exp(log(mean) - sigma * sigma / 2 + sigma * normal); /* its mean is `mean` */
}

/* Whether the rule still applies, and one fewer time from now on. */
static bool take_time(const struct rule *rule)
{
    if (!rule->left)
        return true;
    if (atomic_load_explicit(rule->left, memory_order_relaxed) <= 0)
        return false;
    return atomic_fetch_sub_explicit(rule->left, 1, memory_order_relaxed) > 0;
}

static bool drawn(struct call *call, double rate)
{
    return rate > 0 && uniform(call) < rate;
}

static void draw_rule(struct call *call, const struct rule *rule, struct fault_draw *draw)
{
    if (rule->latency.rate >= 1 || drawn(call, rule->latency.rate))
        draw->latency_ms += draw_latency(call, rule);
    for (int i = 0; i < rule->error_count && !draw->status; i++)
        if (drawn(call, rule->errors[i].rate))
            draw->status = rule->errors[i].status;
    if (drawn(call, rule->rate_limited.rate)) {
        draw->rate_limited = true;
        draw->dialect = rule->rate_limited.dialect;
        draw->retry_after = rule->rate_limited.retry_after;
    }
    draw->reset_before |= drawn(call, rule->reset_before);
    draw->hang |= drawn(call, rule->hang);
    if (drawn(call, rule->truncate))
        draw->cut = CUT_CLOSE;
    if (drawn(call, rule->reset_in_body))
        draw->cut = CUT_RESET;
    if (drawn(call, rule->slow_body.rate))
        draw->bytes_per_second = rule->slow_body.bytes_per_second;
}

void fault_draw(struct call *call, struct fault_draw *draw)
{
    const struct settings *s = call->settings;
    for (int i = 0; i < s->rule_count; i++) {
        const struct rule *rule = &s->rules[i];
        if ((rule->op == OP_COUNT || rule->op == call->request->match.op) && take_time(rule))
            draw_rule(call, rule, draw);
    }
}

bool fault_answer(struct call *call, const struct fault_draw *draw)
{
    if (draw->rate_limited) {
        auth_answer_limited(call, (enum dialect)draw->dialect, draw->retry_after);
        return true;
    }
    if (draw->status) {
        reply_error(call, draw->status, "A fault on demand");
        return true;
    }
    return false;
}

/* Where in the body (as on the wire) a cut falls: in its middle. */
static uint64_t middle(const struct reply *reply)
{
    switch (reply->source) {
    case FROM_BLOB:
        return reply->blob->n / 2;
    case FROM_EVENTS:
        return reply->length / 2 * 30 + 5;
    default:
        return reply->length / 2;
    }
}

void fault_apply(struct call *call, const struct fault_draw *draw)
{
    struct reply *reply = call->reply;
    bool bodiless = reply->source == FROM_NOTHING || call->request->head.method == METHOD_HEAD ||
                    reply->upgrade || (reply->source == FROM_BLOB && reply->blob->n == 0);
    uint64_t work_us = (uint64_t)(draw->latency_ms * 1000);
    uint32_t workers = call->settings->workers;
    reply->delay_us += workers && work_us ? desks_take(call->origin->desks, workers, work_us) : work_us;
    reply->hang |= draw->hang;
    reply->reset_before |= draw->reset_before || (draw->cut != CUT_NOT && bodiless);
    if (bodiless)
        return;
    reply->cut = draw->cut;
    reply->cut_at = middle(reply);
    reply->bytes_per_second = draw->bytes_per_second;
}

/* --- fields --- */

static void make_etag(const struct blob *b, char out[24])
{
    uint64_t h = 1469598103934665603ull;
    for (size_t i = 0; i < b->n; i++)
        h = (h ^ (unsigned char)b->p[i]) * 1099511628211ull;
    snprintf(out, 24, "\"%016" PRIx64 "\"", h);
}

static void add_last_modified(struct call *call, bool *matched, bool weigh)
{
    /* When it changed is not kept; a fixed day serves: whoever asks for changes since then gets 304. */
    char line[40];
    when_http(INT64_C(1704067200000000000), line);
    reply_field(call, "last-modified", line);
    struct slice since = head_first(&call->request->head, FIELD_IF_MODIFIED_SINCE);
    if (weigh && since.p && slice_is(since, line))
        *matched = true;
}

static void add_validators(struct call *call, const struct field_rule *rule)
{
    struct reply *reply = call->reply;
    bool matched = false,
         reading = call->request->head.method == METHOD_GET || call->request->head.method == METHOD_HEAD;
    struct slice none = head_first(&call->request->head, FIELD_IF_NONE_MATCH);
    if (rule->etag && reply->source == FROM_BLOB) {
        char etag[24];
        make_etag(reply->blob, etag);
        reply_field(call, "etag", etag);
        matched = none.p && (slice_is(none, "*") || memmem(none.p, none.n, etag, strlen(etag)));
    }
    if (rule->last_modified)
        add_last_modified(call, &matched, !none.p);
    if (!matched || !reading)
        return;
    reply->status = 304;
    reply->content_type = NULL;
    reply->source = FROM_NOTHING;
    blob_unref(reply->blob);
    reply->blob = NULL;
}

void fault_fields(struct call *call)
{
    const struct settings *s = call->settings;
    if (call->reply->status >= 400)
        return;
    for (int i = 0; i < s->field_count; i++) {
        const struct field_rule *rule = &s->fields[i];
        if (rule->op != OP_COUNT && rule->op != call->request->match.op)
            continue;
        text_puts(&call->reply->fields, rule->lines ? rule->lines : "");
        if (call->reply->status == 200 && (rule->etag || rule->last_modified))
            add_validators(call, rule);
    }
}
