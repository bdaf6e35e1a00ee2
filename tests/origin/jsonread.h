/*
 * Reads JSON that somebody wrote by hand: every wrong or unknown member is refused with its name and what is allowed.
 * A reader that failed stays failed, and every further call does nothing: so calls are written one below the other.
 */
#ifndef ORIGIN_JSONREAD_H
#define ORIGIN_JSONREAD_H

#include <jansson.h>

#include "tests/origin/bytes.h"

struct json_reader {
    struct text *why; /* where the fault is described */
    char path[160];   /* of the object being read, as in `faults[0].latency` */
    bool failed;
};

/* `name` is a member of the object at reader->path. */
void read_fail(struct json_reader *r, const char *name, const char *sentence);
/* Members other than those in `allowed` (NULL at its end) are faults. */
void read_members(struct json_reader *r, const json_t *object, const char *const *allowed);
/* These leave *out alone when the member is not there. */
void read_number(struct json_reader *r, const json_t *object, const char *name, double bounds[2], double *out);
void read_integer(struct json_reader *r, const json_t *object, const char *name, int64_t bounds[2], int64_t *out);
void read_bool(struct json_reader *r, const json_t *object, const char *name, bool *out);
/* `names` ends with NULL; *out becomes the index. */
void read_choice(struct json_reader *r, const json_t *object, const char *name, const char *const *names, int *out);
/* A share from 0 to 1. */
void read_rate(struct json_reader *r, const json_t *object, const char *name, double *out);

/* Steps into a member that is an object: NULL when it is not there, or not one. Leave with read_leave. */
const json_t *read_enter(struct json_reader *r, const json_t *object, const char *name, size_t *mark);
/* Steps into element i of the list `name`. */
const json_t *read_element(struct json_reader *r, const json_t *list, const char *name, size_t i, size_t *mark);
void read_leave(struct json_reader *r, size_t mark);

/* Adds a value as compact JSON, members in the order they were set. NULL adds null. */
void text_json_value(struct text *t, const json_t *value);

#endif
