/*
 * Which operation a request is, and what the configuration says about it: user's rows first, then
 * the preset's, the first that matches wins. Compiled once into sets of bits; finding a route takes
 * time by the length of the path, not by the number of rows, and allocates nothing.
 *
 * Templates: "/v1/prompts/{prompt_id}". A {name} is one segment that is not empty; {name#} one that
 * names a version by number (1, 1.2.0, v3: a digit first, or `v` and a digit); a last {name...} is the rest,
 * slashes included, empty allowed. Segments are compared as raw bytes (RFC 3986 3.3): %2F is not a slash. But
 * servers are known that decode before they route (uvicorn), and so read a longer path: where a path has a
 * %2F, no row of the preset that lends a lifetime matches, and what it invalidates is widened, see
 * route_invalidate. A path with a "." or ".." segment, percent-encoded or not, matches no row, because the
 * next hop may read it differently. A row for GET is one for HEAD too (RFC 9110 9.3.2). The query is left out
 * of the match.
 */
#ifndef POLICY_ROUTE_H
#define POLICY_ROUTE_H

#include "policy/base.h"
#include "policy/head.h"
#include "policy/route_spec.h"

#define ROUTE_MAX_ROWS       1024 /* user's and preset's together */
#define ROUTE_MAX_SEGMENTS   16
#define ROUTE_MAX_CAPTURES   8
#define ROUTE_MAX_OPERATIONS 64 /* `other` included */
#define ROUTE_MAX_NAME       48 /* bytes of an operation's name, its NUL included */

enum { ROUTE_OTHER = 0 }; /* the operation of a request that no row matches */

struct route_program; /* a compiled tag */

struct route {         /* one row, compiled: read only */
    uint8_t operation; /* 1 ... routes_operations() - 1; ROUTE_OTHER for no row */
    bool no_store;
    bool safe;
    bool has_ttl;
    tick_t ttl;
    int max_attempts; /* 0 = as configured */
    tick_t timeout;   /* 0 = as configured */
    uint16_t number;  /* 1 ... routes_rows(); 0 for no row */
    const char *path; /* the template as it was written; NULL for no row. Lives as long as the routes */
    uint8_t tags;     /* how many */
    uint8_t invalidates;
    /* private */
    uint8_t captures;
    uint8_t capture_at[ROUTE_MAX_CAPTURES];
    bool rest;      /* the last capture is a {name...} */
    bool one_slash; /* takes no path with a %2F */
    const struct route_program *tag[ROUTE_MAX_TAGS];
    const struct route_program *purge[ROUTE_MAX_TAGS];
};

struct routes; /* immutable: threads share it freely */

struct route_error {
    int row;           /* index into the specs; -1: not one row's fault */
    char message[200]; /* one sentence */
};

struct route_match {
    const struct route *route;                /* never NULL; lives as long as the routes */
    struct slice capture[ROUTE_MAX_CAPTURES]; /* raw bytes of the request's path */
    size_t path_n;                            /* bytes of the path before its query */
};

/*
 * Compiles `count` rows, then the built-in preset `promptops` when asked. Copies all it needs. An operation
 * that `previous` (or NULL) knew keeps its number, so that counters by number stay right over a reload.
 * NULL with *error filled in (row -1 and "out of memory" too). Free with routes_free.
 */
struct routes *routes_compile(const struct route_spec *specs, size_t count, bool preset,
                              const struct routes *previous, struct route_error *error) MUSTCHECK;

/* NULL is fine. */
void routes_free(struct routes *r);

/*
 * Finds the row for a request. `path` as head_path gives it, with or without its query. True when a row
 * matched.
 */
bool routes_find(const struct routes *r, enum method method, struct slice path, struct route_match *match);

/* How many operations there are, and the name of each; 0 is "other". */
int routes_operations(const struct routes *r);
const char *routes_operation_name(const struct routes *r, int operation);

/* How many rows there are, and each (0 ... routes_rows() - 1), in the order in which they are tried. */
size_t routes_rows(const struct routes *r);
const struct route *routes_row(const struct routes *r, size_t i);

/*
 * Writes tag i (0 ... route->tags-1) of a match into buf, captures put in with unreserved characters decoded
 * and hex digits in capitals (RFC 3986 6.2.2), so that one resource has one tag. Returns the bytes it takes;
 * when that is more than `room`, the buffer holds only a part and must not be used. No NUL is added.
 * {name~} in a tag is the capture without any -v1.2.0 at its end: the API stores each version of a prompt
 * under an id of its own, `greeting-v1.2.0`, and answers with it to whoever asks for `greeting`, so all have
 * one tag.
 */
size_t route_tag(const struct route_match *match, int i, char *buf, size_t room);

/*
 * The same for what a success invalidates; *prefix: all tags that begin so are meant, since the template
 * ended in `*`, or the tag was cut before a %2F, which the upstream may have read as the end of that name.
 */
size_t route_invalidate(const struct route_match *match, int i, char *buf, size_t room, bool *prefix);

/* The rows of the preset, for tests, documents and --print-config. */
const struct route_spec *route_preset(size_t *count);

#endif
