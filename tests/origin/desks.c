/*
 * When each worker is free again is all that a queue of known work needs. Invariant: free_at never goes back.
 */
#include "tests/origin/desks.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct desks {
    pthread_mutex_t lock;
    uint64_t free_at[MAX_DESKS]; /* microseconds of the monotonic clock */
};

struct desks *desks_new(void)
{
    struct desks *d = calloc(1, sizeof(*d));
    if (d)
        pthread_mutex_init(&d->lock, NULL);
    return d;
}

void desks_free(struct desks *d)
{
    if (!d)
        return;
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t desks_take(struct desks *d, uint32_t workers, uint64_t work_us)
{
    uint32_t first = 0;
    pthread_mutex_lock(&d->lock);
    uint64_t now = now_us();
    for (uint32_t i = 1; i < workers && i < MAX_DESKS; i++)
        if (d->free_at[i] < d->free_at[first])
            first = i;
    uint64_t begins = d->free_at[first] > now ? d->free_at[first] : now;
    d->free_at[first] = begins + work_us;
    pthread_mutex_unlock(&d->lock);
    return begins + work_us - now;
}
