/*
 * The JSON of batch_get and of single prompts, taken apart and put together: with view.c, pack.c and admin*.c
 * the room that knows jansson. Values are never made anew: what a value is, jansson says, and its bytes are
 * carried over as they came, so that numbers and escapes are those of the API. Everything read here comes
 * from outside: texts are at most BATCH_TEXT_MAX long and BATCH_DEPTH_MAX deep, strict JSON in UTF-8, without
 * duplicate names.
 */
#ifndef PROXY_BATCH_JSON_H
#define PROXY_BATCH_JSON_H

#include "metrics/text.h"
#include "policy/base.h"

#define BATCH_TEXT_MAX    ((size_t)4 * 1024 * 1024)
#define BATCH_DEPTH_MAX   64
#define BATCH_MEMBERS_MAX 48   /* of one prompt */
#define BATCH_IDS_MAX     1000 /* of one batch */

/* ---- an object, member by member; everything points into its text ---- */

struct batch_member {
    struct slice lead;  /* what stands between the value before, or the beginning, and this value */
    struct slice name;  /* with its quotes */
    struct slice value; /* any JSON value */
};

struct batch_object {
    unsigned count;
    struct batch_member members[BATCH_MEMBERS_MAX];
    struct slice tail; /* behind the last value */
};

/* False: not one object, or beyond a limit. */
bool batch_object_read(struct slice text, struct batch_object *out) MUSTCHECK;

/*
 * How an API writes one kind of object: names, their order, and what stands between the values. Immutable,
 * counted, shared by threads.
 */
struct batch_shape;
struct batch_shape *batch_shape_new(const struct batch_object *o) MUSTCHECK; /* NULL: out of memory */
struct batch_shape *batch_shape_ref(struct batch_shape *s);
void batch_shape_unref(struct batch_shape *s); /* NULL is fine */

/* Is the object written like this? */
bool batch_shape_fits(const struct batch_shape *s, const struct batch_object *o);

/* Appends the values of `o` in this shape, but for members that only `o` has. False: a member is missing, or
 * no memory. */
bool batch_shape_write(const struct batch_shape *s, const struct batch_object *o, struct text *out) MUSTCHECK;

/* ---- an answer to batch_get ---- */

struct batch_wanted {
    struct slice id;
    struct slice item; /* its value under `prompts`; p NULL: not there */
};

struct batch_answer {
    struct slice errors; /* the value, [] when there are none */
    int64_t total_requested, total_found;
};

/*
 * Takes an answer for these ids apart; wanted[].item is filled in. False: it is not an answer to this,
 * whatever else: a prompt that was not asked for, one twice, one in the place of another by their own ids,
 * other members, beyond a limit.
 */
bool batch_answer_read(struct slice text, struct batch_wanted *wanted, unsigned count,
                       struct batch_answer *out) MUSTCHECK;

/* How the API writes the rest of an answer. */
struct batch_envelope {
    uint8_t order[4]; /* of prompts, errors, total_requested, total_found */
    char comma[8], colon[8];
};

/* Learns it from an answer that was read. False unless the same bytes come out when the answer is written
 * again from its parts. */
bool batch_envelope_learn(struct slice text, const struct batch_wanted *wanted, unsigned count,
                          const struct batch_answer *answer, struct batch_envelope *out) MUSTCHECK;

/* Appends an answer: the items that are there in the order of `wanted`. False: no memory. */
bool batch_envelope_write(const struct batch_envelope *e, const struct batch_wanted *wanted, unsigned count,
                          struct slice errors, struct text *out) MUSTCHECK;

/* ---- a request for batch_get ---- */

enum batch_say { BATCH_UNSAID, BATCH_FALSE, BATCH_TRUE }; /* a member that may be left out */

#define BATCH_FORMS 9 /* each pair of these is a form of its own */

struct batch_request {
    unsigned count;
    struct slice *ids; /* owned, with the bytes that it points to */
    struct slice project;
    bool has_project, null_project;
    enum batch_say versions, metadata;
};

static inline unsigned batch_form(enum batch_say versions, enum batch_say metadata)
{
    return (unsigned)versions * 3 + (unsigned)metadata;
}

/* The form that the sidecar asks in. */
#define BATCH_FORM_OWN ((unsigned)BATCH_FALSE * 3 + (unsigned)BATCH_TRUE)

/* False: not such a request, members that are unknown here, an id twice, too many. Free it when true. */
bool batch_request_read(struct slice text, struct batch_request *out) MUSTCHECK;
void batch_request_free(struct batch_request *r);

/* Appends the text of a request for these ids, each of unreserved characters, else as `like` says. */
bool batch_request_write(const struct batch_request *like, const struct batch_wanted *wanted, unsigned count,
                         struct text *out) MUSTCHECK;

#endif
