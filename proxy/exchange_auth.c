/*
 * Whose credential goes up with a request, what signs it, and what that means for the cache and for retries.
 * Invariants:
 * - it is settled once, when the request begins (`held_key`), and told to the cache by
 * exchange_store_request; what is signed is written anew for every attempt, last of all;
 * - where the sidecar's credential goes up, none of the client's own does, nor any field of a signature;
 * - an answer that was fetched with one credential is found under that one only; a request that its client
 *   signed finds it only when the signature could be checked here and is good;
 * - a nonce of the client's goes up at most once, a signature of the client's not after its time;
 * - the key itself is in the signer's memory and, until it is flushed, in the codec's head buffer.
 */
#include <stdlib.h>
#include <string.h>

#include "metrics/counters.h"
#include "proxy/compose.h"
#include "proxy/exchange_internal.h"
#include "proxy/log.h"
#include "proxy/service.h"
#include "proxy/signer.h"

#define CREDENTIALS (FIELD_BIT(AUTHORIZATION) | FIELD_BIT(X_API_KEY))
#define SIGNATURE                                                                                            \
    (FIELD_BIT(X_PROMPTOPS_TIMESTAMP) | FIELD_BIT(X_PROMPTOPS_NONCE) | FIELD_BIT(X_PROMPTOPS_SIGNATURE))

static const struct signer *signer_of(const struct exchange *x)
{
    return x->settings->p->signer;
}

/* ---- whose credential ---------------------------------------------------------------------------------- */

static void note_client_signature(struct exchange *x)
{
    struct client_signature s;
    client_signature_read(&x->req, &s);
    if (!s.there)
        return;
    x->client_signed = true;
    x->client_nonce = s.nonce_there;
    int64_t left = client_signature_left(&s, worker_wall(x->w));
    x->signature_until = x->began + (left > 0 ? left * TICK_S : 0);
}

void exchange_settle_credential(struct exchange *x)
{
    const struct signer *s = signer_of(x);
    x->signature_until = TICK_NEVER;
    x->held_key = signer_holds_key(s) && (signer_replaces(s) || !(x->req.present & CREDENTIALS));
    if (!x->held_key && (x->req.present & (SIGNATURE | FIELD_BIT(AUTHORIZATION))))
        note_client_signature(x);
}

void exchange_inherit_credential(struct exchange *x, const struct exchange *from)
{
    x->held_key = from->held_key;
    x->client_signed = from->client_signed;
    x->client_nonce = from->client_nonce;
    x->signature_until = from->signature_until;
}

struct slice exchange_held_credential(const struct exchange *x)
{
    return x->held_key ? signer_credential(signer_of(x)) : (struct slice){NULL, 0};
}

uint64_t exchange_dropped_fields(const struct exchange *x)
{
    return x->held_key ? CREDENTIALS | SIGNATURE : 0;
}

bool exchange_credential_checked(struct exchange *x)
{
    struct client_signature s;
    if (!x->client_signed)
        return true;
    client_signature_read(&x->req, &s);
    if (s.whole &&
        signer_client_good(signer_of(x), &s, head_method(&x->req), head_path(&x->req), worker_wall(x->w)))
        return true;
    x->unchecked = true;
    metric_add(x->w->metrics, METRIC_SIGNATURES_UNCHECKED, 1);
    return false;
}

/* ---- attempts -------------------------------------------------------------------------------------------
 */

bool exchange_may_resend(const struct exchange *x)
{
    return !x->client_nonce;
}

/* A key that was swapped since the request began signs it, where nothing but the key has changed. */
static const struct signer *newest_signer(const struct exchange *x)
{
    const struct signer *mine = signer_of(x), *now = x->w->settings->p->signer;
    return signer_same_use(mine, now) ? now : mine;
}

bool exchange_sign(struct exchange *x, const struct call *call, char *out, struct slice runs[2])
{
    runs[0] = runs[1] = (struct slice){NULL, 0};
    if (!x->held_key)
        return true;
    const struct signer *s = newest_signer(x);
    struct signed_request request = {
        .method = call->method,
        .base_path = call->base_path,
        .path = call->path,
        .body_sha256 = {x->body_sha256, x->body_hashed ? SHA256_HEX_LEN : 0},
        .wall = worker_wall(x->w),
    };
    runs[0] = signer_credential(s);
    runs[1].p = out;
    return signer_lines(s, &request, &x->w->rng, out, &runs[1].n);
}

/* ---- a body that the signature covers ---------------------------------------------------------------------
 */

static bool too_long(const struct exchange *x, uint64_t n)
{
    return n > x_config(x)->retry_max_buffered_body;
}

/* A client that waits for 100 (Continue) would wait for ever: the upstream hears of the request only
 * afterwards. */
static void ask_for_body(struct exchange *x)
{
    struct reply go_on = {.status = 100};
    if (x->req.expect_continue && x->down)
        x->down->ops->interim(x->down, &go_on);
    x->req.expect_continue = false;
}

bool exchange_hold(struct exchange *x)
{
    if (!x->held_key || x->req.body == BODY_NONE || x->body_hashed || !signer_covers_body(signer_of(x)))
        return false;
    if (x->req.body == BODY_LENGTH && x->req.content_length == 0)
        return false;
    if (x->req.body == BODY_LENGTH && too_long(x, x->req.content_length)) {
        exchange_answer(x, REASON_BODY_UNSIGNABLE, 0);
        return true;
    }
    x->digest = body_digest_new(signer_of(x));
    if (!x->digest) {
        exchange_answer(x, REASON_OUT_OF_MEMORY, 0);
        return true;
    }
    exchange_set_phase(x, PHASE_HOLDING);
    exchange_arm(x, TICK_NEVER);
    if (x->body.len > 0 && !body_digest_add(x->digest, (struct slice){x->body.p, x->body.len}))
        exchange_request_failed(x, REASON_OUT_OF_MEMORY);
    else if (x->body_whole) /* all of it is at hand */
        exchange_hold_end(x);
    else
        ask_for_body(x);
    return true;
}

bool exchange_hash_body(struct exchange *x)
{
    if (!x->held_key || !signer_covers_body(signer_of(x)))
        return true;
    struct body_digest *d = body_digest_new(signer_of(x));
    x->body_hashed =
        d && body_digest_add(d, (struct slice){x->body.p, x->body.len}) && body_digest_end(d, x->body_sha256);
    body_digest_free(d);
    return x->body_hashed;
}

void exchange_hold_data(struct exchange *x, struct slice data)
{
    if (x->reads_batch) {
        exchange_batch_read_data(x, data);
        return;
    }
    if (too_long(x, (uint64_t)x->body.len + data.n))
        exchange_request_failed(x, REASON_BODY_UNSIGNABLE);
    else if (!exchange_buffer_body(x, data) || !body_digest_add(x->digest, data))
        exchange_request_failed(x, REASON_OUT_OF_MEMORY);
}

void exchange_hold_end(struct exchange *x)
{
    if (x->reads_batch) {
        exchange_batch_read_end(x);
        return;
    }
    if (x->body.len > 0) {
        x->body_hashed = body_digest_end(x->digest, x->body_sha256);
        if (!x->body_hashed) {
            exchange_request_failed(x, REASON_OUT_OF_MEMORY);
            return;
        }
    }
    body_digest_free(x->digest);
    x->digest = NULL;
    exchange_attempt(x);
}

/* ---- the API refuses the sidecar's own credential
 * ------------------------------------------------------------ */

void exchange_credential_refused(struct exchange *x)
{
    static const tick_t QUIET = 60 * TICK_S;
    _Atomic int64_t *told = &x->w->service->refusal_told;
    int64_t now = worker_now(x->w), last = atomic_load_explicit(told, memory_order_relaxed);
    if (!x->held_key)
        return;
    metric_add(x->w->metrics, METRIC_AUTH_REFUSED, 1);
    if (x->a.status != 401)
        return; /* 403: who asks is known, and may not have this; that says nothing about the key */
    if ((last == 0 || now - last >= QUIET) && atomic_compare_exchange_strong(told, &last, now))
        log_write(x->w->service->log, LOG_WARNING, "auth",
                  "the API answered %d to the key that the sidecar holds: look at auth.api_key_file, "
                  "auth.secret_key_file, "
                  "auth.scheme, auth.timestamp_format and the clock of this machine",
                  x->a.status);
}
