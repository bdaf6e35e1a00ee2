/*
 * The credential that the sidecar holds, shown in one of the API's ways, and the check of a signature that a
 * client made itself. With tls.c the only room that knows OpenSSL.
 *
 *   bearer     Authorization: Bearer KEY
 *   signed     the same, X-PromptOps-Timestamp, and X-PromptOps-Signature: hexadecimal HMAC-SHA256 with the
 *              secret key over KEY:TIMESTAMP:METHOD:PATH, the path without its query
 *   promptops  Authorization: PromptOps KEY, X-PromptOps-Timestamp, X-PromptOps-Nonce, and
 * X-PromptOps-Signature: the same with the key itself over METHOD:PATH?QUERY:TIMESTAMP:NONCE[:SHA256 of a
 * body that is not empty]
 */
#ifndef PROXY_SIGNER_H
#define PROXY_SIGNER_H

#include "policy/client_signature.h"
#include "policy/rng.h"
#include "policy/timestamp.h"

enum signer_scheme { SIGNER_PASSTHROUGH, SIGNER_BEARER, SIGNER_SIGNED, SIGNER_PROMPTOPS };

#define SHA256_HEX_LEN   64
#define SIGNED_LINES_MAX 256 /* most bytes that signer_lines writes */

struct signer_options {
    enum signer_scheme scheme;
    enum timestamp_form form;    /* of X-PromptOps-Timestamp */
    bool replace;                /* the client's own credential is dropped */
    const char *api_key_file;    /* all but PASSTHROUGH */
    const char *secret_key_file; /* SIGNED */
};

/* Immutable, shared by all threads, one owner (a publication). */
struct signer;

/*
 * Reads the keys. NULL with a sentence in err that names the option, the file and the remedy, and nothing of
 * the keys. Reads files: not on a worker.
 */
struct signer *signer_new(const struct signer_options *options, char *err, size_t err_size) MUSTCHECK;
void signer_free(struct signer *s); /* NULL is fine */

/* Whether there is a key at all; the rest is for one that has. */
bool signer_holds_key(const struct signer *s);
bool signer_replaces(const struct signer *s);

/* The signature takes in the request's body, so that it must be at hand, whole, before the head is sent. */
bool signer_covers_body(const struct signer *s);

/* The keys are locked in memory and kept out of core dumps. True when there is none. */
bool signer_protected(const struct signer *s);

/* True when both have the same scheme and use, and the same key. */
bool signer_same_key(const struct signer *a, const struct signer *b);

/* True when only the keys (or the form of timestamps) may differ: one may sign what the other was to. */
bool signer_same_use(const struct signer *a, const struct signer *b);

/* The line `Authorization: ...`, its CRLF included. A secret: it lives in the signer's own memory, and only
 * there. */
struct slice signer_credential(const struct signer *s);

/* What is signed: the request as it goes to the upstream. */
struct signed_request {
    struct slice method;
    struct slice base_path;   /* of the upstream's URL */
    struct slice path;        /* with the query */
    struct slice body_sha256; /* hexadecimal; n = 0: no body, or an empty one */
    int64_t wall;             /* unix seconds */
};

/*
 * Writes the field lines of a signature into out[0 ... SIGNED_LINES_MAX), with a nonce of 128 bits from rng;
 * nothing for schemes without one. False: out of memory.
 */
bool signer_lines(const struct signer *s, const struct signed_request *request, struct rng *rng, char *out,
                  size_t *n) MUSTCHECK;

/*
 * Did the client that shows this key make this signature for a request without a body, and is it in its time?
 * `client->whole` is asked for. The client may have signed the path without the query: the Python client
 * does. Constant time where the signature is concerned. s: any signer.
 */
bool signer_client_good(const struct signer *s, const struct client_signature *client, struct slice method,
                        struct slice path, int64_t wall);

/* ---- the SHA-256 of a body that comes in pieces ---- */

struct body_digest;
struct body_digest *body_digest_new(const struct signer *s) MUSTCHECK; /* NULL: no memory */
bool body_digest_add(struct body_digest *d, struct slice data) MUSTCHECK;
/* At most once. */
bool body_digest_end(struct body_digest *d, char hex[SHA256_HEX_LEN]) MUSTCHECK;
void body_digest_free(struct body_digest *d);

#endif
