/*
 * resilience-sim: the sidecar's retry, breaker, quota, limiter, hedging and pool code in a simulated world,
 * in virtual time and without sockets. Exit codes: 0 good, 1 an expectation of the scenario was not met, 2
 * usage or a bad scenario.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/units.h"
#include "tests/sim/resilience/sim.h"

static const char usage[] =
    "usage: resilience-sim --scenario FILE.yaml [--seed N] [--help]\n"
    "Runs the sidecar's retry, breaker, quota, limiter, hedge and pool code against a simulated API in\n"
    "virtual time, and prints one JSON object: offered, good, goodput, amplification, latency, breaker\n"
    "transitions, refusals, and beside them what an oracle would have reached.\n"
    "A commented scenario with every key: tests/sim/reference.yaml; more in tests/sim/scenarios.\n"
    "Durations: 250ms, 30s, 5m, 1h or plain seconds; shares: 0 to 1; defaults in parentheses.\n"
    "Exit codes: 0 good, 1 an expectation (`expect:`) was not met, 2 usage or a bad scenario.\n";

static int run(struct scenario *s)
{
    struct sim *m = calloc(1, sizeof *m), *bare = s->without ? calloc(1, sizeof *bare) : NULL;
    bool good = m && (!s->without || bare) && sim_run(m, s, false) && (!bare || sim_run(bare, s, true));
    int code = 1;
    if (good)
        code = report_print(m, bare) ? 0 : 1;
    else
        fprintf(stderr, "resilience-sim: out of memory\n");
    if (m)
        sim_free(m);
    if (bare)
        sim_free(bare);
    free(m);
    free(bare);
    return code;
}

int main(int argc, char **argv)
{
    struct config_errors errors = {0};
    const char *path = NULL;
    int64_t seed = -1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            printf("%s\n", usage);
            scenario_help();
            return 0;
        }
        if (strcmp(argv[i], "--scenario") == 0 && i + 1 < argc) {
            path = argv[++i];
        } else if (strncmp(argv[i], "--scenario=", 11) == 0) {
            path = argv[i] + 11;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc && units_parse_int(argv[i + 1], &seed) &&
                   seed >= 0) {
            i++;
        } else {
            fprintf(stderr, "resilience-sim: cannot make anything of %s\n%s", argv[i], usage);
            return 2;
        }
    }
    if (!path) {
        fputs(usage, stderr);
        return 2;
    }
    struct scenario *s = calloc(1, sizeof *s);
    int code = 2;
    if (s && scenario_read(path, s, &errors)) {
        if (seed >= 0)
            s->seed = seed;
        if (!*s->name)
            snprintf(s->name, sizeof s->name, "%.60s", path);
        code = run(s);
    }
    for (size_t i = 0; i < errors.count; i++)
        fprintf(stderr, "%s\n", errors.items[i]);
    config_errors_free(&errors);
    if (s)
        scenario_dispose(s);
    free(s);
    return code;
}
