/*
 * What the exchange_batch*.c files share: calls of the sidecar's own to batch_get (and to get_prompt, to look
 * again), and how both forms of an answer are compared. See policy/batch.h and batcher.h.
 */
#ifndef PROXY_EXCHANGE_BATCH_H
#define PROXY_EXCHANGE_BATCH_H

#include "proxy/batcher.h"
#include "proxy/exchange_internal.h"
#include "proxy/service.h"

/* ---- heads of requests: exchange_batch_head.c ---- */

/* The same client's request, for other paths: its fields without what is of the call. */
struct batch_head;

/* From a get_prompt or batch_get. `drop`: FIELD_BITs that do not go up. NULL: no memory. */
struct batch_head *batch_head_new(const struct head *from, uint64_t drop);
void batch_head_free(struct batch_head *h);

/* POST of batch_get with a JSON body of n bytes; asks for no content coding. Stays as long as h. */
const struct head *batch_head_post(struct batch_head *h, uint64_t n);
/* GET of one prompt; until the next call. */
const struct head *batch_head_get(struct batch_head *h, struct slice id, struct slice project);

/* ---- heads of answers ---- */

/* A copy of an answer's head, counted. */
struct batch_result *batch_result_new(const struct head *response);
struct batch_result *batch_result_ref(struct batch_result *r);
void batch_result_unref(struct batch_result *r); /* NULL is fine */
const struct head *batch_result_head(const struct batch_result *r);

/*
 * A hash of the fields that say something of what was asked for. False: there is one that no other answer can
 * have (Set-Cookie), or a content coding.
 */
bool batch_fields_of_head(const struct batcher *b, const struct head *response, struct hash128 *out);
bool batch_fields_of_entry(const struct batcher *b, struct slice stored, struct hash128 *out);

/* ---- calls ---- */

enum batch_purpose {
    CALL_BATCH,   /* for clients that wait */
    CALL_COMPARE, /* to compare with single answers that are stored */
    CALL_AGAIN,   /* get_prompt: did it change between the two answers that differed? */
    CALL_TEE,     /* a client's own batch_get, relayed and read along */
    CALL_REST,    /* a client's own batch_get, of which only what is not stored is asked for */
};

struct batch_call {
    enum batch_purpose purpose;
    struct exchange *exchange;
    struct batch_kind *kind; /* a reference */
    unsigned form;
    struct batch_head *head;
    struct slice project; /* of head's memory, or {NULL, 0} */
    char project_bytes[BATCH_ID_MAX];
    struct batch_wanted *wanted;
    unsigned count;
    struct text answer;
    struct batch_result *result; /* a 200 came, and its body is wanted */
    bool captured;               /* the answer is read here instead of being relayed; TEE: as well as */
    bool whole;
    struct batch_gather gather;         /* BATCH */
    bool closed;                        /* BATCH: nobody joins any more */
    struct batch_candidates candidates; /* COMPARE; AGAIN: the one */
    struct text single;                 /* AGAIN: what the single call had answered before */
    struct batch_comparison comparison; /* AGAIN: what it came to; without shapes */
    struct batch_client *client;        /* TEE, REST */
};

/* A new exchange without client that makes a call as x would, with the fields of `from`. Takes over a
 * reference on the kind. NULL: no memory. */
struct exchange *batch_call_new(struct exchange *x, const struct head *from, struct batch_kind *kind,
                                struct slice project, enum batch_purpose purpose);
/* Sends the POST for call->wanted. / Sends a GET of one prompt. */
void batch_call_send(struct exchange *c);
void batch_call_get(struct exchange *c, struct slice id);
void batch_call_free(struct batch_call *call, struct batcher *b);

static inline struct batcher *batcher_of(const struct exchange *x)
{
    return x->w->service->batcher;
}

/* Writes what the single call would have given. False: this item does not look like those compared. */
bool batch_compose(const struct batch_known *known, struct slice item, struct text *out);
/* Does the answer's head look as those that were compared? */
bool batch_head_is_known(struct exchange *c, const struct batch_known *known);

/* Which requests may go together with x, whose prompts are of this project. */
struct hash128 batch_kind_id(struct exchange *x, struct slice project);

/* ---- a client's own batch_get: exchange_batch_client.c ---- */

/* The answer for the rest is whole. True: the client has its answer, or the request goes up anew as it came.
 */
bool batch_rest_over(struct exchange *x);
/* It cannot be had: the request goes up as it came. */
void batch_rest_failed(struct exchange *x);
/* The end: what came is compared and stored. */
void batch_client_over(struct exchange *x);
void batch_client_free(struct batch_call *call);

/* ---- comparing: exchange_batch_proof.c ---- */

/* The answer to a COMPARE, or none, is there; likewise to an AGAIN. */
void batch_compare_over(struct exchange *c);
void batch_again_over(struct exchange *c);
/* What is stored for this prompt, fresh; its body is appended to `body`. NULL: nothing. The caller's
 * reference. */
struct entry *batch_stored(struct exchange *c, const struct head *get, struct text *body);
/* Compares all that are in an answer with what is stored for them, and notes it; the first difference is
 * looked into. */
void batch_compare(struct exchange *c, const struct batch_wanted *wanted, unsigned count, unsigned form,
                   const struct batch_envelope *envelope);

#endif
