/*
 * One row of `routes:` as it was written, before it is compiled for matching:
 * what the configuration reader delivers and the router (route.h) takes.
 */
#ifndef POLICY_ROUTE_SPEC_H
#define POLICY_ROUTE_SPEC_H

#include "policy/base.h"

#define ROUTE_MAX_TAGS 8

struct route_spec {
    const char *path; /* template: "/v1/client/prompts/{prompt_id}"; a {name} is one segment; a last {name...}
                         the rest */
    uint32_t methods; /* bit i: enum method i; 0 = all */
    const char *operation; /* name in metrics and logs; NULL = made from the path */
    bool no_store;         /* cache: {enabled: false} */
    bool safe;             /* a POST that only reads: may be retried as if idempotent */
    bool has_ttl;
    tick_t ttl;                              /* cache.ttl, when the origin says nothing */
    const char *tags[ROUTE_MAX_TAGS];        /* "prompt:{prompt_id}"; NULL ends */
    const char *invalidates[ROUTE_MAX_TAGS]; /* tags that a success purges; may use {names} and a last `*` */
    int max_attempts;                        /* 0 = as configured */
    tick_t timeout;                          /* for the whole request, all attempts; 0 = as configured */
};

#endif
