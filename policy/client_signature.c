/*
 * Finds a client's signature in its request. Invariant: `whole` only when there is one reading: a field that
 * comes twice is one that the API might read otherwise.
 */
#include "policy/client_signature.h"

#include "policy/timestamp.h"

#define BIT(id) ((uint64_t)1 << FIELD_##id)

/* The value of a field that is there exactly once; else empty. */
static struct slice only(const struct head *request, enum field_id id)
{
    int at = head_find(request, id, 0);
    if (at < 0 || head_find(request, id, at + 1) >= 0)
        return (struct slice){NULL, 0};
    return head_value(request, at);
}

/* The credential behind the scheme `PromptOps` (RFC 9110 11.4), or {NULL, 0}. */
static struct slice promptops_key(struct slice authorization)
{
    const struct slice scheme = SLICE("PromptOps ");
    if (authorization.n <= scheme.n || !slice_equal_nocase((struct slice){authorization.p, scheme.n}, scheme))
        return (struct slice){NULL, 0};
    struct slice key = {authorization.p + scheme.n, authorization.n - scheme.n};
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] <= ' ' || key.p[i] > '~')
            return (struct slice){NULL, 0};
    return key;
}

/* Any Authorization of the Python client's scheme, however malformed behind it. */
static bool promptops_scheme(const struct head *request)
{
    const struct slice scheme = SLICE("PromptOps");
    for (int at = head_find(request, FIELD_AUTHORIZATION, 0); at >= 0;
         at = head_find(request, FIELD_AUTHORIZATION, at + 1)) {
        struct slice v = head_value(request, at);
        if (v.n >= scheme.n && slice_equal_nocase((struct slice){v.p, scheme.n}, scheme))
            return true;
    }
    return false;
}

void client_signature_read(const struct head *request, struct client_signature *out)
{
    const uint64_t fields = BIT(X_PROMPTOPS_TIMESTAMP) | BIT(X_PROMPTOPS_NONCE) | BIT(X_PROMPTOPS_SIGNATURE);
    *out = (struct client_signature){0};
    out->there = (request->present & fields) || promptops_scheme(request);
    if (!out->there)
        return;
    out->nonce_there = head_has(request, FIELD_X_PROMPTOPS_NONCE);
    out->timestamp = only(request, FIELD_X_PROMPTOPS_TIMESTAMP);
    out->nonce = only(request, FIELD_X_PROMPTOPS_NONCE);
    out->signature = only(request, FIELD_X_PROMPTOPS_SIGNATURE);
    out->key = promptops_key(only(request, FIELD_AUTHORIZATION));
    out->dated = timestamp_read(out->timestamp, &out->signed_at);
    out->whole = out->key.n && out->timestamp.n && out->nonce.n && out->signature.n;
}

int64_t client_signature_left(const struct client_signature *s, int64_t wall)
{
    if (!s->dated || s->signed_at > wall + CLIENT_SIGNATURE_SECONDS)
        return 0;
    return s->signed_at + CLIENT_SIGNATURE_SECONDS - wall;
}
