/*
 * cache-sim: the cache's own decisions on a request trace, without sockets. Reads the whole trace first, so
 * that the time it reports is that of the decisions alone. Exit codes: 0 good, 1 a bad trace or no memory, 2
 * usage.
 */
#include "policy/hash.h"
#include "policy/units.h"
#include "tests/sim/cache.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char usage[] =
    "usage: cache-sim --policy lru|lfu|fifo|adaptive|predictive (--max-size N | --max-bytes N)\n"
    "                 [--prefetch none|always|adaptive|predictive] [--predict X] < TRACE\n"
    "\n"
    "Runs the sidecar's own eviction code on a trace and prints one JSON object.\n"
    "\n"
    "  --policy NAME    which strategy decides\n"
    "  --max-size N     limit in entries\n"
    "  --max-bytes N    limit in bytes (64KiB, 100MiB or plain bytes); both limits may be given\n"
    "  --predict X      also predict the hit ratio at X times the size, from what a running sidecar could "
    "know\n"
    "  --prefetch NAME  none, always, adaptive or predictive; with the sidecar's defaults, the whole trace "
    "being one\n"
    "                   client's, and fetches completing at once: what it gains is the most that could come "
    "in time\n"
    "  --help           this text\n"
    "\n"
    "TRACE: lines of time,key,size[,cost]: seconds, any text without a comma, bytes, seconds to fetch it\n"
    "(1 where there is none). Empty lines and lines that begin with # are skipped.\n";

#define TIME_MOST 9e9 /* seconds: the clock counts nanoseconds in 63 bits; later ones are taken for this */

struct trace {
    struct cache_record *records;
    size_t count, room;
};

static int usage_error(const char *what, const char *value)
{
    fprintf(stderr, "cache-sim: %s%s%s (see --help)\n", what, value ? ": " : "", value ? value : "");
    return 2;
}

/* ---- the trace ---- */

static bool number_in(const char *text, double most, double *out)
{
    char *end;
    if (*text == '\0' || strchr(" \t\v\f\r\n", *text))
        return false;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out) && *out >= 0 && *out <= most;
}

/* What is wrong with the line, or NULL. Cuts the line up. */
static const char *read_line(char *line, struct cache_record *out)
{
    static const struct hash_key key = {0x70726f6d70746f70, 0x7363616368657369};
    char *fields[4] = {line}, *at = line;
    int count = 1;
    while ((at = strchr(at, ',')) != NULL) {
        *at++ = '\0';
        if (count == 4)
            return "more than four fields";
        fields[count++] = at;
    }
    double time, size, cost = 1;
    if (count < 3)
        return "fewer than three fields; wanted time,key,size[,cost]";
    if (!number_in(fields[0], 1e300, &time))
        return "the time is no number of seconds";
    if (*fields[1] == '\0')
        return "the key is empty";
    if (!number_in(fields[2], 1e15, &size) || size > floor(size))
        return "the size is no whole number of bytes";
    if (count == 4 && !number_in(fields[3], 1e9, &cost))
        return "the cost is no number of seconds";
    *out = (struct cache_record){.hash = hash_bytes(key, fields[1], strlen(fields[1])).lo,
                                 .bytes = (uint64_t)size,
                                 .cost = (float)cost,
                                 .time = (tick_t)((time < TIME_MOST ? time : TIME_MOST) * (double)TICK_S)};
    return NULL;
}

static bool append(struct trace *trace, const struct cache_record *record)
{
    if (trace->count == trace->room) {
        size_t room = trace->room ? trace->room * 2 : 4096;
        struct cache_record *more = realloc(trace->records, room * sizeof *more);
        if (!more)
            return false;
        trace->records = more;
        trace->room = room;
    }
    trace->records[trace->count++] = *record;
    return true;
}

static bool read_trace(FILE *in, struct trace *trace)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    bool ok = true;
    for (uint64_t number = 1; ok && (n = getline(&line, &room, in)) >= 0; number++) {
        struct cache_record record;
        const char *wrong = strlen(line) != (size_t)n ? "a NUL byte" : NULL;
        line[strcspn(line, "\r\n")] = '\0';
        if (!wrong && (*line == '\0' || *line == '#'))
            continue;
        wrong = wrong ? wrong : read_line(line, &record);
        if (!wrong && !append(trace, &record))
            wrong = "out of memory";
        if (wrong) {
            fprintf(stderr, "cache-sim: line %" PRIu64 ": %s\n", number, wrong);
            ok = false;
        }
    }
    if (ok && ferror(in)) {
        fprintf(stderr, "cache-sim: the trace cannot be read: %s\n", strerror(errno));
        ok = false;
    }
    free(line);
    return ok;
}

/* ---- the answer ---- */

static double share(double part, double all)
{
    return all > 0 ? part / all : 0;
}

/* `misses`: without prefetching, of which coverage is a share. */
static void print_result(const struct cache_setup *setup, const struct cache_result *r, double misses,
                         double ns)
{
    printf(
        "{\"requests\": %" PRIu64 ", \"hits\": %" PRIu64
        ", \"hit_ratio\": %.6f, \"byte_hit_ratio\": %.6f, \"cost_saved_ratio\": %.6f, \"evictions\": %" PRIu64
        ", \"prefetch\": {\"issued\": %" PRIu64 ", \"used\": %" PRIu64
        ", \"precision\": %.6f, \"coverage\": %.6f}"
        ", \"ns_per_request\": %.1f, \"bytes_per_entry\": %.1f",
        r->requests, r->hits, share((double)r->hits, (double)r->requests), share(r->hit_bytes, r->bytes),
        share(r->hit_cost, r->cost), r->evictions, r->prefetched, r->prefetch_used,
        share((double)r->prefetch_used, (double)r->prefetched), share((double)r->prefetch_used, misses),
        share(ns, (double)r->requests), share((double)r->memory, (double)r->most_entries));
    if (setup->predict > 0)
        printf(", \"predicted_hit_ratio\": %.6f", r->predicted);
    printf("}\n");
}

static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* The same without prefetching: what there was to gain. False: out of memory. */
static bool misses_without(const struct cache_setup *setup, const struct trace *trace, double *misses)
{
    struct cache_setup plain = *setup;
    struct cache_result result;
    plain.prefetch = PREFETCH_NONE;
    plain.predict = 0;
    if (!cache_run(&plain, trace->records, trace->count, &result))
        return false;
    *misses = (double)(result.requests - result.hits);
    return true;
}

static int run(const struct cache_setup *setup)
{
    struct trace trace = {NULL, 0, 0};
    struct cache_result result;
    if (!read_trace(stdin, &trace)) {
        free(trace.records);
        return 1;
    }
    double before = cpu_ns();
    bool ok = cache_run(setup, trace.records, trace.count, &result);
    double ns = cpu_ns() - before, misses = 0;
    ok = ok && (setup->prefetch == PREFETCH_NONE || misses_without(setup, &trace, &misses));
    free(trace.records);
    if (!ok) {
        fprintf(stderr, "cache-sim: out of memory\n");
        return 1;
    }
    print_result(setup, &result, misses, ns);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    fprintf(stderr, "cache-sim: the result cannot be written: %s\n", strerror(errno));
    return 1;
}

/* ---- the command line ---- */

static bool policy_named(const char *name, enum evict_strategy *out)
{
    static const struct {
        const char *name;
        enum evict_strategy strategy;
    } names[] = {{"lru", EVICT_LRU},
                 {"lfu", EVICT_LFU},
                 {"fifo", EVICT_FIFO},
                 {"adaptive", EVICT_ADAPTIVE},
                 {"predictive", EVICT_PREDICTIVE}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i].name) == 0) {
            *out = names[i].strategy;
            return true;
        }
    }
    return false;
}

static bool prefetch_named(const char *name, enum prefetch_strategy *out)
{
    static const char *const names[] = {
        [PREFETCH_NONE] = "none",
        [PREFETCH_ALWAYS] = "always",
        [PREFETCH_ADAPTIVE] = "adaptive",
        [PREFETCH_PREDICTIVE] = "predictive",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum prefetch_strategy)i;
            return true;
        }
    }
    return false;
}

static bool count_in(const char *text, uint64_t *out)
{
    double value;
    if (!number_in(text, 1e12, &value) || value < 1 || value > floor(value))
        return false;
    *out = (uint64_t)value;
    return true;
}

static bool bytes_in(const char *text, uint64_t *out)
{
    uint64_t bytes;
    if (!units_parse_size(text, &bytes) || bytes < 1)
        return false;
    *out = bytes;
    return true;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"policy", required_argument, NULL, 'p'},
                                            {"max-bytes", required_argument, NULL, 'b'},
                                            {"max-size", required_argument, NULL, 's'},
                                            {"prefetch", required_argument, NULL, 'f'},
                                            {"predict", required_argument, NULL, 'x'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct cache_setup setup = {.max_entries = 0};
    bool policy = false;
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h')
            return fputs(usage, stdout) < 0;
        if (option == 'p' && !(policy = policy_named(optarg, &setup.strategy)))
            return usage_error("--policy is lru, lfu, fifo, adaptive or predictive, not", optarg);
        if (option == 's' && !count_in(optarg, &setup.max_entries))
            return usage_error("--max-size is a whole number of entries, at least 1, not", optarg);
        if (option == 'b' && !bytes_in(optarg, &setup.max_bytes))
            return usage_error("--max-bytes is a size such as 100MiB, at least 1, not", optarg);
        if (option == 'x' && (!number_in(optarg, 64, &setup.predict) || setup.predict <= 0))
            return usage_error("--predict is a multiple above 0, at most 64, not", optarg);
        if (option == 'f' && !prefetch_named(optarg, &setup.prefetch))
            return usage_error("--prefetch is none, always, adaptive or predictive, not", optarg);
        if (option == '?')
            return usage_error("the command line is wrong", NULL);
    }
    if (optind < argc)
        return usage_error("not an option", argv[optind]);
    if (!policy)
        return usage_error("--policy is missing", NULL);
    if (!setup.max_entries && !setup.max_bytes)
        return usage_error("--max-size or --max-bytes is missing", NULL);
    return run(&setup);
}
