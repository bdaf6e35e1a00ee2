/*
 * Recommendations of a running sidecar: gathers the facts, keeps what policy says of them, and tries one at a
 * time: in turns with the old setting, or against a miniature of the cache with the old setting. What is not
 * shown to be better, or does harm, is taken back. Control thread only.
 */
#ifndef PROXY_ADVISER_H
#define PROXY_ADVISER_H

#include "metrics/observe.h"
#include "policy/advise.h"
#include "policy/curve.h"
#include "policy/experiment.h"

struct adviser;
struct config;
struct log;
struct store;

/* All are required. */
struct adviser_sources {
    void *ctx;
    const struct metrics *metrics;
    struct metrics_block *block; /* the control thread's */
    struct store *store;
    struct log *log;
    const struct config *(*config)(void *ctx); /* in force; borrowed */
    /* Puts a value in force; NULL takes back what was changed while running. False with the reason. */
    bool (*set)(void *ctx, const char *key, const char *value, char *err, size_t err_size);
    /* Notes a change for the operator. False: it cannot be noted, so it must not be made. */
    bool (*audit)(void *ctx, const char *action, const char *detail);
};

/* Sources are copied. NULL: out of memory. */
struct adviser *adviser_new(const struct adviser_sources *sources, uint64_t seed, tick_t now);
void adviser_free(struct adviser *a);

/* Once a second. */
void adviser_second(struct adviser *a, tick_t now);

enum adviser_state {
    ADVISER_NONE, /* nothing to show */
    ADVISER_PROPOSED,
    ADVISER_TRYING,
    ADVISER_APPLIED,  /* shown to be better, and kept */
    ADVISER_REVERTED, /* taken back: by itself, or by hand */
    ADVISER_DISMISSED,
    ADVISER_STATE_COUNT
};

struct adviser_view {
    enum advise_kind kind;
    enum adviser_state state;
    struct advise_view advice; /* as it was when it was applied, once it was */
    const char *key;           /* "": there is no setting of ours */
    char from[64], to[64];
    bool measured; /* the following are known */
    double improvement, margin;
    unsigned pairs;
    int verdict;       /* enum experiment_verdict, while and after it was tried */
    const char *why;   /* a sentence about the end, or "" */
    uint64_t requests; /* of the windows that it rests on */
};

/* False: that kind has nothing to show. */
bool adviser_look(const struct adviser *a, enum advise_kind kind, struct adviser_view *out);

/* "cache-size", ... */
const char *adviser_id(enum advise_kind kind);
const char *adviser_state_name(int state);

enum adviser_answer {
    ADVISER_DONE,
    ADVISER_UNKNOWN,
    ADVISER_BUSY,
    ADVISER_NOT_NOW,
    ADVISER_REFUSED,
    ADVISER_NO_SETTING /* it is for somebody else to follow */
};

/* BUSY: another is tried; NOT_NOW: its state does not allow it; REFUSED: the setting could not be changed. */
enum adviser_answer adviser_apply(struct adviser *a, const char *id, tick_t now) MUSTCHECK;
enum adviser_answer adviser_dismiss(struct adviser *a, const char *id, tick_t now) MUSTCHECK;
enum adviser_answer adviser_revert(struct adviser *a, const char *id, tick_t now) MUSTCHECK;

/* The cache's predicted hit ratio by size, of the newest window. Returns how many points. */
unsigned adviser_curve(const struct adviser *a, const struct curve_point **out, double *rate);

#endif
