/*
 * promptops-origin: a stand-in for the PromptOps API. Reads the command line, starts the threads, and waits
 * for a signal. Invariant: signals are blocked in every thread and taken by this one alone.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/origin/server.h"

struct options {
    struct server_plan plan;
    struct settings_start start;
    const char *cert, *key;
    unsigned prompts, prompt_size;
    struct keyring *keyring;
};

static const char usage_text[] =
    "usage: promptops-origin [--listen ADDRESS:PORT] [option]...\n"
    "  --listen ADDRESS:PORT    where to listen; port 0 takes a free one (127.0.0.1:8000)\n"
    "  --control ADDRESS:PORT   a second, plain port on which no fault or outage applies\n"
    "  --threads N              1 to 64 (1)\n"
    "  --tls-cert F --tls-key F speak TLS, with this chain and key (PEM)\n"
    "  --prompts N              prompts there from the start, prompt-1 ... prompt-N (100)\n"
    "  --prompt-size BYTES      of the content of each (400)\n"
    "  --api-key KEY:SECRET     accept this key as well (may be repeated)\n"
    "  --no-auth                answer without a credential\n"
    "  --require-signature      refuse a Bearer key without timestamp and signature\n"
    "  --no-limits              no rate limits\n"
    "  --limits M,H,D           calls a minute, an hour and a day (60,3600,86400)\n"
    "  --dialect real|documented  over the limit: 401 as the real server, or 429 with X-RateLimit fields "
    "(real)\n"
    "  --idle-timeout MS        close idle connections after this time (0: never)\n"
    "The key that is always there: " DEMO_API_KEY ", its secret " DEMO_SECRET_KEY "\n";

static bool read_unsigned(const char *s, unsigned max, unsigned *out)
{
    uint64_t n;
    if (!parse_number((struct slice){s, strlen(s)}, max, &n))
        return false;
    *out = (unsigned)n;
    return true;
}

static bool read_limits(const char *s, uint32_t limits[3])
{
    char tail;
    return sscanf(s, "%9u,%9u,%9u%c", &limits[0], &limits[1], &limits[2], &tail) == 3;
}

static bool read_key(struct keyring *ring, const char *s)
{
    char key[64];
    const char *colon = strchr(s, ':');
    if (!colon || colon == s || (size_t)(colon - s) >= sizeof(key))
        return false;
    memcpy(key, s, (size_t)(colon - s));
    key[colon - s] = 0;
    return keyring_add(ring, key, colon + 1);
}

static bool read_dialect(const char *s, struct settings_start *start)
{
    start->dialect = strcmp(s, "documented") == 0 ? DIALECT_DOCUMENTED : DIALECT_REAL;
    return start->dialect == DIALECT_DOCUMENTED || strcmp(s, "real") == 0;
}

enum {
    OPT_LISTEN = 1,
    OPT_CONTROL,
    OPT_THREADS,
    OPT_CERT,
    OPT_KEY,
    OPT_PROMPTS,
    OPT_SIZE,
    OPT_API_KEY,
    OPT_NO_AUTH,
    OPT_SIGNATURE,
    OPT_NO_LIMITS,
    OPT_LIMITS,
    OPT_DIALECT,
    OPT_IDLE,
    OPT_HELP
};

static const struct option long_options[] = {
    {"listen", 1, NULL, OPT_LISTEN},       {"control", 1, NULL, OPT_CONTROL},
    {"threads", 1, NULL, OPT_THREADS},     {"tls-cert", 1, NULL, OPT_CERT},
    {"tls-key", 1, NULL, OPT_KEY},         {"prompts", 1, NULL, OPT_PROMPTS},
    {"prompt-size", 1, NULL, OPT_SIZE},    {"api-key", 1, NULL, OPT_API_KEY},
    {"no-auth", 0, NULL, OPT_NO_AUTH},     {"require-signature", 0, NULL, OPT_SIGNATURE},
    {"no-limits", 0, NULL, OPT_NO_LIMITS}, {"limits", 1, NULL, OPT_LIMITS},
    {"dialect", 1, NULL, OPT_DIALECT},     {"idle-timeout", 1, NULL, OPT_IDLE},
    {"help", 0, NULL, OPT_HELP},           {NULL, 0, NULL, 0},
};

/* One option; false when its value is wrong. */
static bool read_option(struct options *o, int option, const char *value)
{
    switch (option) {
    case OPT_LISTEN:
        o->plan.listen = value;
        return true;
    case OPT_CONTROL:
        o->plan.control = value;
        return true;
    case OPT_THREADS:
        return read_unsigned(value, 64, (unsigned *)&o->plan.threads) && o->plan.threads > 0;
    case OPT_CERT:
        o->cert = value;
        return true;
    case OPT_KEY:
        o->key = value;
        return true;
    case OPT_PROMPTS:
        return read_unsigned(value, MAX_PROMPTS, &o->prompts);
    case OPT_SIZE:
        return read_unsigned(value, 1024 * 1024, &o->prompt_size);
    case OPT_API_KEY:
        return read_key(o->keyring, value);
    case OPT_NO_AUTH:
        return o->start.no_auth = true;
    case OPT_SIGNATURE:
        return o->start.signature_required = true;
    case OPT_NO_LIMITS:
        return o->start.no_limits = true;
    case OPT_LIMITS:
        return read_limits(value, o->start.limits);
    case OPT_DIALECT:
        return read_dialect(value, &o->start);
    case OPT_IDLE:
        return read_unsigned(value, 86400000, &o->start.idle_timeout_ms);
    default:
        return false;
    }
}

/* -1: go on; else the exit code. */
static int read_options(struct options *o, int argc, char **argv)
{
    int option, index = 0;
    while ((option = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (option == OPT_HELP) {
            fputs(usage_text, stdout);
            return 0;
        }
        if (option == '?' || !read_option(o, option, optarg)) {
            if (option != '?')
                fprintf(stderr, "promptops-origin: --%s: `%s` is not allowed\n", long_options[index].name,
                        optarg ? optarg : "");
            fputs(usage_text, stderr);
            return 2;
        }
    }
    if (optind < argc || !o->cert != !o->key) {
        fputs(usage_text, stderr);
        return 2;
    }
    return -1;
}

static int serve(struct origin *origin, struct options *o, const sigset_t *signals)
{
    const char *why;
    int got;
    if (o->cert && !(origin->tls = io_tls_new(o->cert, o->key, &why))) {
        fprintf(stderr, "promptops-origin: %s, %s: %s\n", o->cert, o->key, why);
        return 2;
    }
    struct server *server = server_start(origin, &o->plan, &why);
    if (!server) {
        fprintf(stderr, "promptops-origin: %s: %s\n", o->plan.listen, why);
        return 1;
    }
    if (o->plan.control)
        printf("promptops-origin: control on %s\n", o->plan.control_at);
    printf("promptops-origin: listening on %s\n", o->plan.listen_at);
    fflush(stdout);
    sigwait(signals, &got);
    server_stop(server);
    return 0;
}

int main(int argc, char **argv)
{
    struct origin origin = {0};
    struct options o = {
        .plan = {.listen = "127.0.0.1:8000", .threads = 1},
        .start = {.limits = {60, 3600, 86400}},
        .prompts = 100,
        .prompt_size = 400,
    };
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    o.keyring = origin.keyring = keyring_new();
    int code = origin.keyring ? read_options(&o, argc, argv) : 1;
    if (code < 0) {
        origin.store = store_new(o.prompts, o.prompt_size);
        origin.usage = usage_new();
        origin.desks = desks_new();
        origin.settings = settings_box_new(&o.start);
        code = 1;
        if (origin.store && origin.usage && origin.desks && origin.settings)
            code = serve(&origin, &o, &signals);
        else
            fputs("promptops-origin: out of memory\n", stderr);
    }
    settings_box_free(origin.settings);
    usage_free(origin.usage);
    desks_free(origin.desks);
    store_free(origin.store);
    keyring_free(origin.keyring);
    io_tls_free(origin.tls);
    return code;
}
