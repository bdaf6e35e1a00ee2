/*
 * A request that its client has signed for the PromptOps API, in one of the API's two schemes:
 *   documented     Authorization: Bearer KEY, X-PromptOps-Timestamp, X-PromptOps-Signature made with a secret
 *                  that goes over no wire: only the API can check it
 *   Python client  Authorization: PromptOps KEY, the same two and X-PromptOps-Nonce; the signature is made
 *                  with KEY, so that whoever has the request can check it
 * A signature is good for CLIENT_SIGNATURE_SECONDS around its timestamp, a nonce once.
 */
#ifndef POLICY_CLIENT_SIGNATURE_H
#define POLICY_CLIENT_SIGNATURE_H

#include "policy/head.h"

#define CLIENT_SIGNATURE_SECONDS 300

struct client_signature {
    bool there;       /* any field of a signature, or a credential of the Python client's scheme */
    bool whole;       /* Python client's scheme, each field once: can be checked here */
    bool nonce_there; /* whoever sees the request twice may refuse it */
    struct slice key; /* when whole: the API key, which is the key of the signature too */
    struct slice timestamp, nonce, signature; /* as sent; n = 0: not there */
    bool dated;                               /* the timestamp could be read */
    int64_t signed_at;                        /* when dated: unix seconds */
};

/* Cheap when the request has none. The slices point into the request. */
void client_signature_read(const struct head *request, struct client_signature *out);

/*
 * How long the API will still take it, by our clock, in seconds: 0 and less when it is over, when the
 * timestamp lies too far ahead, or when there is none to read.
 */
int64_t client_signature_left(const struct client_signature *s, int64_t wall);

#endif
