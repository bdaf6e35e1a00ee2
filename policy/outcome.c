/*
 * The classification of every attempt. Invariants: each reason and each status has exactly one outcome; what
 * throttles is never a failure of the upstream nor of the credentials.
 */
#include "policy/outcome.h"

#include <string.h>

#include "policy/head.h"

static const struct outcome_row rows[OUTCOME_COUNT] = {
#define OUTCOME(id, name, breaker, scope, load, charged, retry, sentence)                                    \
    [OUTCOME_##id] = {name,                                                                                  \
                      BREAKER_##breaker,                                                                     \
                      OUTCOME_SCOPE_##scope,                                                                 \
                      OUTCOME_LOAD_##load,                                                                   \
                      charged,                                                                               \
                      OUTCOME_RETRY_##retry,                                                                 \
                      sentence},
#include "policy/outcome.def"
#undef OUTCOME
};

const struct outcome_row *outcome_row(enum outcome outcome)
{
    return &rows[(unsigned)outcome < OUTCOME_COUNT ? outcome : OUTCOME_LOCAL];
}

enum outcome outcome_of_status(int status)
{
    if (status < 100 || status > 599)
        return OUTCOME_BAD_ANSWER;
    switch (status) {
    case 401:
    case 403:
        return OUTCOME_BAD_CREDENTIALS;
    case 429:
        return OUTCOME_THROTTLED;
    case 501:
        return OUTCOME_LASTING_ERROR;
    case 503:
    case 504:
        return OUTCOME_UNAVAILABLE;
    default:
        return status >= 500 ? OUTCOME_SERVER_ERROR : status >= 400 ? OUTCOME_CLIENT_ERROR : OUTCOME_OK;
    }
}

enum outcome outcome_when_lasting(enum outcome outcome, bool stated)
{
    bool error = outcome == OUTCOME_SERVER_ERROR || outcome == OUTCOME_UNAVAILABLE;
    return error && stated ? OUTCOME_LASTING_ERROR : outcome;
}

enum outcome outcome_of_reason(enum reason reason, bool pooled_unanswered)
{
    switch (reason) {
    case REASON_NONE:
        return OUTCOME_OK;
    case REASON_DNS_FAILED:
    case REASON_CONNECT_FAILED:
    case REASON_TLS_FAILED:
    case REASON_TLS_CERTIFICATE:
        return OUTCOME_CONNECT_FAILED;
    case REASON_DNS_PENDING:
    case REASON_CONNECT_TIMEOUT:
        return OUTCOME_CONNECT_TIMEOUT;
    case REASON_STALE_CONNECTION:
    case REASON_EARLY_RESPONSE:
        return OUTCOME_STALE_CONNECTION;
    case REASON_RESET_BEFORE_ANSWER:
        return pooled_unanswered ? OUTCOME_STALE_CONNECTION : OUTCOME_RESET_BEFORE;
    case REASON_RESET_IN_ANSWER:
        return OUTCOME_RESET_AFTER;
    case REASON_RESPONSE_TIMEOUT:
        return OUTCOME_RESPONSE_TIMEOUT;
    case REASON_STREAM_IDLE:
        return OUTCOME_STREAM_TIMEOUT;
    case REASON_CLIENT_GONE:
    case REASON_CLIENT_STALLED:
    case REASON_CLIENT_IDLE:
        return OUTCOME_CLIENT_GONE;
    default:
        return reason_row(reason)->fault == FAULT_UPSTREAM ? OUTCOME_BAD_ANSWER : OUTCOME_LOCAL;
    }
}

/* --- Disguises. --- */

bool outcome_disguise_parse(struct slice text, struct outcome_disguise *out)
{
    int status = 0;
    if (text.n < 5 || text.n > 104 || text.p[3] != ':' || text.p[4] == ' ')
        return false;
    for (int i = 0; i < 3; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        status = status * 10 + (text.p[i] - '0');
    }
    if (status < 400 || status > 599)
        return false;
    *out = (struct outcome_disguise){status, {text.p + 4, text.n - 4}};
    return true;
}

void outcome_disguises_read(struct outcome_disguises *out, const char *const *items, size_t count)
{
    *out = (struct outcome_disguises){0};
    for (size_t i = 0; i < count && out->count < OUTCOME_DISGUISES; i++)
        if (outcome_disguise_parse((struct slice){items[i], strlen(items[i])}, &out->item[out->count]))
            out->count++;
}

bool outcome_may_be_disguised(const struct outcome_disguises *d, int status)
{
    for (int i = 0; i < d->count; i++)
        if (d->item[i].status == status)
            return true;
    return false;
}

static bool has_words(struct slice body, struct slice words)
{
    for (size_t i = 0; words.n && i + words.n <= body.n; i++)
        if (slice_equal_nocase((struct slice){body.p + i, words.n}, words))
            return true;
    return false;
}

enum outcome outcome_of_answer(const struct outcome_disguises *d, int status, struct slice body)
{
    for (int i = 0; i < d->count; i++)
        if (d->item[i].status == status && has_words(body, d->item[i].words))
            return OUTCOME_THROTTLED;
    return outcome_of_status(status);
}
