/*
 * When prompts that are asked for one by one may be fetched together by the API's batch_get, and when an
 * answer of the one form may stand for the other. Pure: requests are read, and states are moved, by what the
 * caller tells.
 *
 * A batch answer stands for single ones only while that is proven: BATCH_PROOF_NEEDED prompts, asked for both
 * ways with the same credential, had the same bytes once the members were put into the other form's order.
 * The first difference refutes it; it is looked at again later, and while it is in use it is sampled.
 */
#ifndef POLICY_BATCH_H
#define POLICY_BATCH_H

#include "policy/head.h"

#define BATCH_PATH "/v1/client/prompts/batch"

enum {
    BATCH_ID_MAX = 128, /* bytes of a prompt's or project's name; longer ones are asked for alone */
    BATCH_PROOF_NEEDED = 4,
};

/* ---- requests ---- */

/* GET /v1/client/prompts/{id}[?project_id=...]. */
struct batch_target {
    struct slice id;
    struct slice project; /* p NULL: none was named */
};

/*
 * Reads a path with its query. True only when both names are made of unreserved characters (RFC 3986 2.3), so
 * that they read the same in a path and in JSON, when project_id is the whole of the query, and when the path
 * is not that of another operation.
 */
bool batch_target_read(struct slice path, struct batch_target *out);

/* May this name be put into a path or a batch as it is? */
bool batch_name_is_plain(struct slice name);

/* Is this the path of batch_get itself, with no query? */
bool batch_path_is(struct slice path);

/*
 * Does this field have a say in what the answer is? Not those of this hop, of the request's own identity, or
 * of its body. Requests go together only when all fields that have are the same, byte for byte.
 */
bool batch_field_counts(const struct head *request, int index);

/*
 * Is this field about the call and not about what was asked for? Both forms of an answer may differ in these,
 * and must be the same in all others: `ETag`, say, speaks of one prompt, and no batch can bring it.
 */
bool batch_field_of_call(struct slice name);

/* ---- may one form stand for the other? ---- */

enum batch_proof_state { BATCH_UNPROVEN, BATCH_PROVEN, BATCH_REFUTED };

struct batch_proof { /* all zero: nothing is known */
    enum batch_proof_state state;
    unsigned equal;     /* in a row, of those needed */
    unsigned refuted;   /* how many times */
    uint64_t compared;  /* in all */
    tick_t compared_at; /* the last time */
    tick_t again_at;    /* REFUTED: not looked at sooner */
};

/* One prompt was compared. The second returns true when this is what refuted it. */
void batch_proof_equal(struct batch_proof *p, tick_t now);
bool batch_proof_differs(struct batch_proof *p, tick_t now);

/* Should answers be compared now, `candidates` prompts being at hand? */
bool batch_proof_due(const struct batch_proof *p, unsigned candidates, tick_t now);

/* It is in use, and nothing was compared for long: let one prompt be asked for singly, to compare it. */
bool batch_proof_wants_sample(const struct batch_proof *p, tick_t now);

const char *batch_proof_name(enum batch_proof_state state);

/* ---- batches that fail ---- */

struct batch_pause { /* all zero: none failed */
    unsigned failures;
    tick_t until;
};

/* A batch brought no usable answer: none is made for a while, longer each time, a minute at most. */
void batch_pause_failed(struct batch_pause *p, tick_t now);
void batch_pause_worked(struct batch_pause *p);

/* ---- one miss ---- */

struct batch_facts {
    bool proven;       /* the batch's answer may stand for the single one */
    bool tight;        /* the key has no quota, or the upstream no place, to spare */
    bool paused;       /* batch_pause.until has not come */
    unsigned gathered; /* misses that wait in the batch to be, and could be joined by this one */
    unsigned alone;    /* misses of this kind that were sent singly and are under way */
};

/*
 * Go alone (false), or wait for others for the window? A miss waits where calls are scarce; or where
 * another is under way or waiting, since then a third is likely and the wait may save a call. A lone miss
 * with quota to spare loses no time.
 */
bool batch_worth_waiting(const struct batch_facts *f);

#endif
