/*
 * Which operation a request means. The table is operations.def.
 */
#ifndef ORIGIN_ROUTE_H
#define ORIGIN_ROUTE_H

#include "policy/head.h"
#include "tests/origin/bytes.h"

enum op {
#define OP(id, name) OP_##id,
#include "tests/origin/operations.def"
#undef OP
    OP_COUNT
};

#define ROUTE_PARAMS 4

struct route_match {
    enum op op;
    bool needs_key;
    bool other_method;                 /* the path is known, but not with this method: 405 */
    struct slice params[ROUTE_PARAMS]; /* the {} segments, percent-decoded; point into the path or `decoded` */
};

/*
 * Finds the operation of `path` (origin form, without the query). Segments that needed decoding are
 * written to `decoded` (emptied first), which must live as long as the match.
 */
void route_find(enum method method, struct slice path, struct text *decoded, struct route_match *match);

const char *op_name(enum op op);
/* OP_COUNT when there is none of that name. */
enum op op_lookup(const char *name);

/* The value of a query parameter, percent-decoded into `out` (emptied first); false when it is not there. */
bool query_get(struct slice query, const char *name, struct text *out);

#endif
