/*
 * Compression of stored answers. The room of zstd. One squeezer a thread.
 */
#ifndef PROXY_SQUEEZE_H
#define PROXY_SQUEEZE_H

#include "policy/base.h"

struct squeezer;

struct squeezer *squeezer_new(void) MUSTCHECK; /* NULL: no memory */
void squeezer_free(struct squeezer *squeezer); /* NULL is fine */

/* The calling thread's own, freed with the thread. NULL: no memory. */
struct squeezer *squeezer_here(void);

/* Bytes written to out; 0 when they would not be fewer than `cap`, or there is no memory. */
size_t squeeze(struct squeezer *squeezer, struct slice in, char *out, size_t cap);

/* Gives back exactly `size` bytes. False: it was not made of that many, is damaged, or there is no memory. */
bool unsqueeze(struct squeezer *squeezer, struct slice in, char *out, size_t size) MUSTCHECK;

#endif
