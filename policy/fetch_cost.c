/*
 * Invariants: means are over what still counts, the newest MOST at most; a slot's key is kept for HELD
 * fetches, so that keys that come again after a while are met, and not only those in greatest demand.
 */
#include "policy/fetch_cost.h"

#include <math.h>

enum { HELD = FETCH_COST_KEYS * 64 };

#define MOST       1000.0
#define MOST_PAIRS 100.0
#define DOUBT      4.0 /* pairs' worth of the belief that half is luck, before any was seen */
#define LEAST      1e-6
#define LONGEST    1e5
#define ALIKE      1e-4 /* mean square distance of logarithms (1 %) below which nothing differs */

double fetch_cost_own(const struct fetch_cost *costs)
{
    if (costs->square < ALIKE)
        return 1;
    double within = (costs->within * costs->pairs + costs->square / 2 * DOUBT) / (costs->pairs + DOUBT);
    return within < costs->square ? 1 - within / costs->square : 0;
}

static void note_pair(struct fetch_cost *costs, uint64_t hash, double log_seconds)
{
    struct fetch_cost_seen *slot = &costs->seen[(hash >> 16) % FETCH_COST_KEYS];
    if (++costs->fetches == 0) /* 0 says that a slot is empty */
        costs->fetches = 1;
    if (slot->at != 0 && slot->hash != hash && costs->fetches - slot->at < HELD)
        return;
    if (slot->at != 0 && slot->hash == hash) {
        double difference = log_seconds - (double)slot->log;
        costs->pairs = costs->pairs < MOST_PAIRS ? costs->pairs + 1 : MOST_PAIRS;
        costs->within += (difference * difference / 2 - costs->within) / costs->pairs;
    }
    *slot = (struct fetch_cost_seen){hash, (float)log_seconds, costs->fetches};
}

static double log_of(double seconds)
{
    return log(seconds < LEAST ? LEAST : seconds > LONGEST ? LONGEST : seconds);
}

float fetch_cost_of(const struct fetch_cost *costs, double seconds)
{
    double x = seconds > 0 ? log_of(seconds) : costs->mean; /* log 1 = 0 while there is none */
    double mean = costs->weight > 0 ? costs->mean : x;
    return (float)exp(mean + fetch_cost_own(costs) * (x - mean));
}

float fetch_cost_note(struct fetch_cost *costs, uint64_t hash, double seconds)
{
    if (seconds > 0) {
        double x = log_of(seconds), before = x - costs->mean;
        costs->weight = costs->weight < MOST ? costs->weight + 1 : MOST;
        costs->mean += before / costs->weight;
        costs->square += (before * (x - costs->mean) - costs->square) / costs->weight;
        note_pair(costs, hash, x);
    }
    return fetch_cost_of(costs, seconds);
}
