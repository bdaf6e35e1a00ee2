/*
 * Writing of field lines into a bounded buffer. Overflow is a state, looked at once at the end.
 */
#ifndef PROXY_COMPOSE_H
#define PROXY_COMPOSE_H

#include <string.h>

#include "policy/head.h"

struct compose {
    char *p, *start, *end;
    bool full;
};

static inline struct compose compose_into(char *p, size_t cap)
{
    return (struct compose){p, p, p + cap, false};
}

static inline void compose_add(struct compose *c, const char *p, size_t n)
{
    if (n > (size_t)(c->end - c->p)) {
        c->full = true;
        c->end = c->p; /* nothing fits any more */
        return;
    }
    if (n)
        memcpy(c->p, p, n);
    c->p += n;
}

#define COMPOSE(c, literal) compose_add(c, literal, sizeof(literal) - 1)

static inline void compose_slice(struct compose *c, struct slice s)
{
    compose_add(c, s.p, s.n);
}

/* A line `name: value`. */
static inline void compose_line(struct compose *c, struct slice name, struct slice value)
{
    compose_slice(c, name);
    COMPOSE(c, ": ");
    compose_slice(c, value);
    COMPOSE(c, "\r\n");
}

void compose_number(struct compose *c, uint64_t v);

/* Copies the end-to-end fields of a head as lines, in order, leaving out those whose id is in `drop`. */
void compose_fields(struct compose *c, const struct head *head, uint64_t drop);

static inline size_t compose_size(const struct compose *c)
{
    return (size_t)(c->p - c->start);
}

#define FIELD_BIT(id) ((uint64_t)1 << FIELD_##id)

#endif
