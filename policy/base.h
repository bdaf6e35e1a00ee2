/*
 * The bottom of the house: time, byte ranges and the few attributes that every
 * module uses. Pure C11; includes nothing of ours.
 */
#ifndef POLICY_BASE_H
#define POLICY_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Nanoseconds on a monotonic clock. Policy never reads a clock: it is told. */
typedef int64_t tick_t;

#define TICK_NEVER INT64_MAX
#define TICK_US    ((tick_t)1000)
#define TICK_MS    ((tick_t)1000000)
#define TICK_S     ((tick_t)1000000000)

/* A range of bytes that somebody else owns. Not terminated by a NUL. */
struct slice {
    const char *p;
    size_t n;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})

#define MUSTCHECK    __attribute__((warn_unused_result))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
