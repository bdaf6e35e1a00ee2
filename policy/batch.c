/*
 * Batches: which requests can go together, when that pays, and whether it is allowed. Invariants: a name that
 * needs an escape anywhere is never put into a batch; a proof is only ever won by BATCH_PROOF_NEEDED equal
 * answers in a row, and lost by the first that differs.
 */
#include "policy/batch.h"

#include <string.h>

static const tick_t SAMPLE_CHEAP = 60 * TICK_S; /* prompts at hand are compared so often */
static const tick_t SAMPLE_DEAR = 600 * TICK_S; /* and one is asked for singly so often */
static const tick_t AGAIN_FIRST = 600 * TICK_S; /* after a difference, doubling up to a day */
static const tick_t AGAIN_MOST = 24 * 3600 * TICK_S;
static const tick_t PAUSE_FIRST = TICK_S;
static const tick_t PAUSE_MOST = 60 * TICK_S;

/* ---- requests ---- */

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* A name that is the same in a path, in a query and in a JSON string. */
bool batch_name_is_plain(struct slice s)
{
    bool only_dots = true;
    if (s.n == 0 || s.n > BATCH_ID_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!unreserved(s.p[i]))
            return false;
        only_dots = only_dots && s.p[i] == '.';
    }
    return !only_dots;
}

static bool begins(struct slice s, struct slice with)
{
    return s.n >= with.n && memcmp(s.p, with.p, with.n) == 0;
}

static struct slice behind(struct slice s, size_t n)
{
    return (struct slice){s.p + n, s.n - n};
}

bool batch_target_read(struct slice path, struct batch_target *out)
{
    static const struct slice collection = {"/v1/client/prompts/", 19}, project = {"project_id=", 11};
    *out = (struct batch_target){0};
    if (!begins(path, collection))
        return false;
    out->id = behind(path, collection.n);
    const char *query = out->id.n ? memchr(out->id.p, '?', out->id.n) : NULL;
    if (query) {
        struct slice q = behind(out->id, (size_t)(query - out->id.p) + 1);
        out->id.n = (size_t)(query - out->id.p);
        if (!begins(q, project))
            return false;
        out->project = behind(q, project.n);
        if (!batch_name_is_plain(out->project))
            return false;
    }
    return batch_name_is_plain(out->id);
}

bool batch_path_is(struct slice path)
{
    return slice_equal(path, SLICE(BATCH_PATH));
}

/* Is the name one of these, or does it begin like one that ends in a hyphen? */
static bool listed(struct slice name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct slice one = {names[i], strlen(names[i])};
        bool family = one.p[one.n - 1] == '-';
        if (family && name.n > one.n && slice_equal_nocase((struct slice){name.p, one.n}, one))
            return true;
        if (!family && slice_equal_nocase(name, one))
            return true;
    }
    return false;
}

/* What instrumented clients add to tell their calls apart. */
static bool tells_calls_apart(struct slice name)
{
    static const char *const names[] = {"baggage",
                                        "b3",
                                        "x-b3-",
                                        "x-correlation-id",
                                        "x-trace-id",
                                        "x-datadog-",
                                        "sentry-trace",
                                        "uber-trace-id",
                                        "x-amzn-trace-id",
                                        "newrelic",
                                        "x-span-id",
                                        "elastic-apm-traceparent",
                                        "x-cloud-trace-context"};
    return listed(name, names, ARRAY_LEN(names));
}

bool batch_field_counts(const struct head *request, int index)
{
    const struct field *f = &request->fields[index];
    if (f->hop)
        return false;
    switch ((enum field_id)f->id) {
    case FIELD_CONTENT_LENGTH:
    case FIELD_CONTENT_TYPE:
    case FIELD_HOST:
    case FIELD_EXPECT:
    case FIELD_MAX_FORWARDS:
    case FIELD_VIA:
    case FIELD_TRACEPARENT:
    case FIELD_TRACESTATE:
    case FIELD_X_REQUEST_ID:
    case FIELD_X_RETRY_COUNT:
    case FIELD_IDEMPOTENCY_KEY:
        return false;
    case FIELD_OTHER:
        return !tells_calls_apart(head_name(request, index));
    default:
        return true;
    }
}

bool batch_field_of_call(struct slice name)
{
    static const char *const names[] = {"date",
                                        "age",
                                        "via",
                                        "server-timing",
                                        "x-request-id",
                                        "retry-after",
                                        "cache-status",
                                        "traceparent",
                                        "tracestate",
                                        "x-process-time",
                                        "x-runtime",
                                        "x-response-time",
                                        "x-retry-count",
                                        "x-ratelimit-",
                                        "ratelimit",
                                        "ratelimit-",
                                        "x-amzn-requestid",
                                        "x-amz-cf-id",
                                        "content-length",
                                        "connection",
                                        "keep-alive",
                                        "transfer-encoding",
                                        "cf-ray"};
    return listed(name, names, ARRAY_LEN(names)) || tells_calls_apart(name);
}

/* ---- proofs ---- */

void batch_proof_equal(struct batch_proof *p, tick_t now)
{
    if (p->state == BATCH_REFUTED) { /* looked at again, and from the beginning */
        p->state = BATCH_UNPROVEN;
        p->equal = 0;
    }
    p->compared++;
    p->compared_at = now;
    if (p->equal < BATCH_PROOF_NEEDED)
        p->equal++;
    if (p->equal == BATCH_PROOF_NEEDED)
        p->state = BATCH_PROVEN;
}

bool batch_proof_differs(struct batch_proof *p, tick_t now)
{
    bool news = p->state != BATCH_REFUTED;
    tick_t wait = AGAIN_FIRST;
    for (unsigned i = 0; i < p->refuted && wait < AGAIN_MOST; i++)
        wait *= 2;
    p->state = BATCH_REFUTED;
    p->equal = 0;
    p->refuted++;
    p->compared++;
    p->compared_at = now;
    p->again_at = now + (wait < AGAIN_MOST ? wait : AGAIN_MOST);
    return news;
}

bool batch_proof_due(const struct batch_proof *p, unsigned candidates, tick_t now)
{
    switch (p->state) {
    case BATCH_PROVEN:
        return candidates > 0 && now - p->compared_at >= SAMPLE_CHEAP;
    case BATCH_REFUTED:
        return candidates >= BATCH_PROOF_NEEDED && now >= p->again_at;
    case BATCH_UNPROVEN:
        break;
    }
    return candidates >= BATCH_PROOF_NEEDED - p->equal;
}

bool batch_proof_wants_sample(const struct batch_proof *p, tick_t now)
{
    return p->state == BATCH_PROVEN && now - p->compared_at >= SAMPLE_DEAR;
}

const char *batch_proof_name(enum batch_proof_state state)
{
    static const char *const names[] = {
        [BATCH_UNPROVEN] = "unproven", [BATCH_PROVEN] = "proven", [BATCH_REFUTED] = "refuted"};
    return names[state];
}

/* ---- batches that fail ---- */

void batch_pause_failed(struct batch_pause *p, tick_t now)
{
    tick_t wait = PAUSE_FIRST;
    for (unsigned i = 0; i < p->failures && wait < PAUSE_MOST; i++)
        wait *= 2;
    p->failures++;
    p->until = now + (wait < PAUSE_MOST ? wait : PAUSE_MOST);
}

void batch_pause_worked(struct batch_pause *p)
{
    *p = (struct batch_pause){0};
}

/* ---- one miss ---- */

bool batch_worth_waiting(const struct batch_facts *f)
{
    if (!f->proven || f->paused)
        return false;
    return f->gathered > 0 || f->tight || f->alone > 0;
}
