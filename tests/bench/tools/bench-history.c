/*
 * Writes a file for performance.history_file: a day of fifty operations at ten requests a second, up to now.
 * So an export of everything is as long as it gets. Invariant: the file is written whole, or the exit code
 * is 1.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "metrics/history.h"
#include "metrics/text.h"

enum { OPERATIONS = 50, DAY = 86400, A_SECOND = 10 };
#define SECOND INT64_C(1000000000)

static int64_t clock_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static double chance(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*seed >> 11) + 0.5) / 9007199254740992.0;
}

/* Latencies are log-normal around 20 ms; one request in a hundred fails. */
static bool live_a_day(struct metrics *m, struct history *h, int64_t begin)
{
    static const double TURN = 6.283185307179586;
    const struct history_gauges gauges = {.resident_bytes = 8000000, .cpu_ns = 0};
    uint16_t operations[OPERATIONS];
    uint64_t seed = 7;
    for (int i = 0; i < OPERATIONS; i++) {
        char name[24];
        snprintf(name, sizeof name, "operation_%d", i);
        operations[i] = metrics_operation(m, name);
    }
    for (int second = 0; second < DAY; second++) {
        for (int i = 0; i < A_SECOND; i++) {
            double bell = sqrt(-2 * log(chance(&seed))) * cos(TURN * chance(&seed));
            struct observation o = {.operation = operations[(second * A_SECOND + i) % OPERATIONS],
                                    .status = chance(&seed) < 0.01 ? 503 : 200,
                                    .cache = VERDICT_MISS,
                                    .total = (int64_t)(20e6 * exp(bell))};
            metrics_observe(metrics_block(m, 0), &o);
        }
        if (!history_tick(h, begin + (second + 1) * SECOND, &gauges))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"other"};
    struct metrics_config config = {1, names, 1, names, 1, NULL, 0};
    struct metrics *m = metrics_new(&config);
    int64_t begin = clock_of(CLOCK_MONOTONIC) - DAY * SECOND, wall = clock_of(CLOCK_REALTIME) - DAY * SECOND;
    struct history *h = m ? history_new(m, begin, wall, HISTORY_BUDGET) : NULL;
    struct text out = {0};
    if (argc != 2) {
        fputs("usage: bench-history FILE\n", stderr);
        return 2;
    }
    bool good = h && live_a_day(m, h, begin);
    if (good)
        history_save(h, &out);
    FILE *file = good && !out.failed ? fopen(argv[1], "wb") : NULL;
    good = file && fwrite(out.p, 1, out.n, file) == out.n;
    good = file && fclose(file) == 0 && good;
    if (good)
        printf("%zu bytes, of %zu in memory\n", out.n, history_bytes(h));
    text_dispose(&out);
    history_free(h);
    metrics_free(m);
    return good ? 0 : 1;
}
