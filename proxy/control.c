/*
 * Start, reload, drain and stop. Invariants:
 * - nothing here is waited for by a worker; orders go through mailboxes;
 * - a publication is in force only after everything in it could be worked out; else the old one stays;
 * - the stages only go forward: starting, serving, draining, stopping.
 */
#include "proxy/control.h"

#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "metrics/custom.h"
#include "metrics/history.h"
#include "metrics/recent.h"
#include "policy/reason.h"
#include "policy/rng.h"
#include "proxy/address.h"
#include "proxy/admit.h"
#include "proxy/adviser.h"
#include "proxy/ahead.h"
#include "proxy/batcher.h"
#include "proxy/command_line.h"
#include "proxy/config_trust.h"
#include "proxy/control_internal.h"
#include "proxy/cpus.h"
#include "proxy/debug.h"
#include "proxy/frozen.h"
#include "proxy/guard.h"
#include "proxy/harden.h"
#include "proxy/history_file.h"
#include "proxy/ledger.h"
#include "proxy/listener.h"
#include "proxy/log.h"
#include "proxy/names.h"
#include "proxy/permits.h"
#include "proxy/pool.h"
#include "proxy/post.h"
#include "proxy/process.h"
#include "proxy/resolve.h"
#include "proxy/settings.h"
#include "proxy/shared.h"
#include "proxy/signer.h"
#include "proxy/store.h"
#include "proxy/tracing.h"
#include "proxy/worker.h"

tick_t control_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

static int64_t wall_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * TICK_S + t.tv_nsec;
}

/* ---- orders to the workers --------------------------------------------------------------------------- */

enum order_kind { ORDER_PUBLISH, ORDER_ADDRESSES, ORDER_LEAVE };

struct order {
    struct letter letter; /* first */
    enum order_kind kind;
    struct publication *p; /* PUBLISH: a reference */
};

static void carry_out(struct letter *letter, void *owner)
{
    struct order *o = (struct order *)letter;
    struct worker *w = owner;
    struct settings *fresh;
    switch (o->kind) {
    case ORDER_PUBLISH:
        fresh = settings_new(o->p);
        if (fresh) { /* else the old ones stay; requests go on */
            settings_unref(w->settings);
            w->settings = fresh;
            pool_renew(w->pool);
        }
        break;
    case ORDER_ADDRESSES:
        if (!w->name_known)
            w->name_known = worker_now(w);
        if (w->service->resolver) /* else this letter came too late: see finish() */
            pool_refresh(w->pool);
        break;
    case ORDER_LEAVE:
        worker_leave(w);
        break;
    }
    free(o);
}

static bool order(struct worker *w, enum order_kind kind, struct publication *p)
{
    struct order *o = malloc(sizeof(*o));
    if (!o)
        return false;
    *o = (struct order){{NULL, carry_out}, kind, p ? publication_ref(p) : NULL};
    worker_post(w, &o->letter);
    return true;
}

static void order_all(struct service *s, enum order_kind kind, struct publication *p)
{
    for (int i = 0; i < s->worker_count; i++)
        if (s->workers[i])
            (void)order(s->workers[i], kind, p);
}

static void stop_all(struct service *s, bool force)
{
    for (int i = 0; i < s->worker_count; i++)
        if (s->workers[i])
            worker_stop(s->workers[i], force);
}

/* On the resolver's thread. */
static void addresses_changed(void *arg, struct address_list *list)
{
    (void)list;
    order_all(arg, ORDER_ADDRESSES, NULL);
}

/* ---- reload ---------------------------------------------------------------------------------------------
 */

/* Looks at the files before they are read, so that a change while they are read is seen as one. */
static void watch_files(struct control *c, const struct config *cfg, struct file_watch *watch)
{
    const char *files[] = {
        cfg->listen_tls_certificate_file, cfg->listen_tls_key_file,           cfg->listen_tls_client_ca_file,
        cfg->upstream_tls_ca_file,        cfg->upstream_tls_certificate_file, cfg->upstream_tls_key_file,
        cfg->auth_api_key_file,           cfg->auth_secret_key_file,          cfg->admin_tls_certificate_file,
        cfg->admin_tls_key_file,
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (!file_watch_add(watch, files[i]))
            log_write(c->service.log, LOG_WARNING, "control", "cannot watch %s: reload by HUP", files[i]);
}

static void apply_shared(struct control *c)
{
    const struct config *cfg = c->cfg;
    static const enum evict_strategy strategies[] = {
        [CONFIG_CACHE_STRATEGY_LRU] = EVICT_LRU,
        [CONFIG_CACHE_STRATEGY_LFU] = EVICT_LFU,
        [CONFIG_CACHE_STRATEGY_FIFO] = EVICT_FIFO,
        [CONFIG_CACHE_STRATEGY_ADAPTIVE] = EVICT_ADAPTIVE,
        [CONFIG_CACHE_STRATEGY_PREDICTIVE] = EVICT_PREDICTIVE,
    };
    struct store_limits limits = {(uint64_t)cfg->cache_max_size, cfg->cache_max_memory_bytes,
                                  cfg->cache_max_object_bytes, strategies[cfg->cache_strategy]};
    store_set_limits(c->service.store, &limits);
    permits_set_max(c->service.permits, (unsigned)cfg->pool_max_size);
    metrics_set_sampling(c->service.metrics, cfg->performance_enabled, cfg->performance_sample_rate);
    guard_tune(c->service.guard, cfg, control_now());
    admit_tune(c->service.admit, cfg, control_now());
    ahead_tune(c->service.ahead, cfg);
    log_set_level(c->service.log, (enum log_level)(LOG_ERROR - (int)cfg->log_level));
    log_set_access(c->service.log, cfg->log_access);
    control_alerts_tune(c);
    control_tiers_tune(c);
    control_telemetry_tune(c);
    log_set_text(c->service.log, cfg->log_format == CONFIG_LOG_FORMAT_TEXT);
    if (c->service.resolver)
        resolver_set_refresh(c->service.resolver, cfg->upstream_dns_refresh);
}

static void log_errors(struct control *c, const struct config_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++)
        log_write(c->service.log, LOG_ERROR, "config", "%s", errors->items[i]);
}

static bool warned_of(const struct config *cfg, const char *warning)
{
    for (size_t i = 0; cfg && config_warning(cfg, i); i++)
        if (strcmp(config_warning(cfg, i), warning) == 0)
            return true;
    return false;
}

/* What is allowed, but hardly what was meant. Of what `before` (may be NULL) was warned of nothing is said
 * again. */
static void warn(struct control *c, const struct config *before, bool protected_before)
{
    for (size_t i = 0; config_warning(c->cfg, i); i++)
        if (!warned_of(before, config_warning(c->cfg, i)))
            log_write(c->service.log, LOG_WARNING, "config", "%s", config_warning(c->cfg, i));
    char text[4352];
    int option;
    for (size_t i = 0; config_trust_warning(c->cfg, i, &option, text, sizeof text); i++)
        if (!before || !config_same_value(c->cfg, before, option))
            log_write(c->service.log, LOG_WARNING, "config", "%s", text);
    if (protected_before && !signer_protected(c->published->signer))
        log_write(c->service.log, LOG_WARNING, "auth",
                  "the keys could not be locked in memory, or kept out of core dumps: they may reach swap; "
                  "raise the limit of "
                  "locked memory (ulimit -l) to 64 KiB or more");
}

/* What the operator has set and this version does not act on is said, not passed over in silence. */
static void name_ineffective(struct control *c, const struct config *before)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        if (!config_option_row(i)->effective && config_place_of(c->cfg, i)->source != CONFIG_FROM_DEFAULT &&
            !(before && config_same_value(c->cfg, before, i)))
            log_write(c->service.log, LOG_WARNING, "config", "%s has no effect in this version yet",
                      config_option_row(i)->key);
}

bool control_adopt(struct control *c, const struct config *fresh, struct file_watch *watch, char *err,
                   size_t err_size)
{
    struct publication *p = publication_new(fresh, c->published, c->service.metrics, err, err_size);
    int error = p ? log_set_file(c->service.log, fresh->log_file) : 0;
    if (error)
        snprintf(err, err_size, "log.file: %s: %s", fresh->log_file, strerror(error));
    if (!p || error || !admin_retune(c->admin, fresh, err, err_size)) {
        if (p && !error && log_set_file(c->service.log, c->cfg->log_file) != 0)
            log_write(c->service.log, LOG_ERROR, "log", "the log stays in %s", fresh->log_file);
        publication_unref(p);
        return false;
    }
    bool another_key = signer_holds_key(p->signer) && !signer_same_key(p->signer, c->published->signer);
    order_all(&c->service, ORDER_PUBLISH, p);
    if (another_key)
        log_write(c->service.log, LOG_INFO, "auth", "from now on requests are sent with another key");
    publication_unref(c->published);
    c->published = p;
    const struct config *before = c->cfg;
    c->cfg = fresh;
    apply_shared(c);
    control_events_config(c, before);
    config_unref(before);
    file_watch_dispose(&c->watch);
    c->watch = *watch;
    return true;
}

bool control_change(void *ctx, const struct config *fresh, char *err, size_t err_size)
{
    struct control *c = ctx;
    struct file_watch watch;
    if (file_watch_changed(&c->watch)) /* seen now, since it is looked at anew below */
        event_active(c->signals[SIGNAL_RELOAD], EV_SIGNAL, 1);
    file_watch_init(&watch);
    if (!file_watch_add(&watch, c->sources->file)) {
        snprintf(err, err_size, "out of memory");
        return false;
    }
    watch_files(c, fresh, &watch);
    const struct config *before = config_ref(c->cfg);
    bool was_protected = signer_protected(c->published->signer);
    bool good = control_adopt(c, fresh, &watch, err, err_size);
    if (good) {
        warn(c, before, was_protected);
        name_ineffective(c, before);
    } else {
        file_watch_dispose(&watch);
    }
    config_unref(before);
    return good;
}

static void reload_files(struct control *c)
{
    struct config_errors errors = {0};
    char err[512] = "out of memory";
    struct config_pending pending = {.count = 0};
    struct file_watch watch;
    file_watch_init(&watch);
    if (!file_watch_add(&watch, c->sources->file))
        log_write(c->service.log, LOG_WARNING, "control", "cannot watch %s: reload by HUP", c->sources->file);
    const struct config *fresh = config_reload(c->sources, c->cfg, &errors, &pending);
    if (fresh)
        watch_files(c, fresh, &watch);
    bool good = fresh && control_adopt(c, fresh, &watch, err, sizeof(err));
    struct metrics_block *block = metrics_block(c->service.metrics, c->service.worker_count);
    log_errors(c, &errors);
    config_errors_free(&errors);
    c->reload_failed = !good;
    metric_add(block, good ? METRIC_RELOADS : METRIC_RELOADS_FAILED, 1);
    if (!good) {
        if (fresh)
            log_write(c->service.log, LOG_ERROR, "config", "%s", err);
        log_write(c->service.log, LOG_ERROR, "config",
                  "reload refused: the old configuration stays in force");
        file_watch_dispose(&watch);
        config_unref(fresh);
        return;
    }
    warn(c, NULL, true);
    name_ineffective(c, NULL);
    log_write(c->service.log, LOG_INFO, "config", "reloaded");
    for (size_t i = 0; i < pending.count; i++)
        log_write(c->service.log, LOG_WARNING, "config",
                  "%s has changed and takes effect at the next start only",
                  config_option_row(pending.options[i])->key);
}

static void reload(struct control *c)
{
    supervisor_reloading(control_now());
    reload_files(c);
    supervisor_tell("READY=1");
}

/* ---- stopping --------------------------------------------------------------------------------------------
 */

static void set_stage(struct control *c, enum stage stage)
{
    c->stage = stage;
    c->since = control_now();
    atomic_store(&c->service.draining, stage >= STAGE_DRAINING);
}

static void stop_now(struct control *c)
{
    if (c->stage >= STAGE_STOPPING)
        return;
    set_stage(c, STAGE_STOPPING);
    supervisor_tell("STOPPING=1");
    log_write(c->service.log, LOG_INFO, "control", "stopping: what is in flight is finished first");
    admin_say_goodbye(c->admin);
    stop_all(&c->service, false);
}

void control_drain(struct control *c)
{
    if (c->stage >= STAGE_DRAINING)
        return;
    set_stage(c, STAGE_DRAINING);
    log_write(c->service.log, LOG_INFO, "control",
              "draining: not ready any more, still serving the local application");
}

void control_leave(struct control *c)
{
    struct service *s = &c->service;
    c->leaving = true;
    set_stage(c, STAGE_DRAINING);
    for (int i = 0; i < s->worker_count; i++)
        if (!order(s->workers[i], ORDER_LEAVE, NULL))
            worker_stop(s->workers[i], false); /* without memory it ends at once, in order */
}

uint64_t control_gauge(struct control *c, enum metric m)
{
    return metrics_sum(c->service.metrics, m);
}

/* While draining: the application is idle when no request came, and none is under way, for drain_idle. */
static void check_drain(struct control *c)
{
    tick_t now = control_now();
    tick_t last = atomic_load(&c->service.last_request);
    if (last < c->since)
        last = c->since;
    bool idle =
        now - last >= c->cfg->drain_idle && metric_signed(control_gauge(c, METRIC_ACTIVE_REQUESTS)) == 0;
    /* Connections that are kept open are theirs to close: they may be about to ask. Not for long, when others
     * wait until we have ended. */
    if (c->leaving)
        idle = atomic_load(&c->service.clients) == 0 || (c->supervised && idle);
    if (c->stage == STAGE_DRAINING && (idle || now - c->since >= c->cfg->drain_timeout))
        stop_now(c);
    else if (c->stage == STAGE_STOPPING && !c->forced && now - c->since >= c->cfg->drain_timeout) {
        c->forced = true;
        stop_all(&c->service, true);
    }
}

/* ---- events
 * ------------------------------------------------------------------------------------------------ */

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    struct control *c = arg;
    (void)what;
    switch (number) {
    case SIGTERM:
        if (c->stage >= STAGE_DRAINING)
            stop_now(c);
        else if (!control_yield(c))
            control_drain(c);
        return;
    case SIGINT:
        stop_now(c);
        return;
    case SIGHUP:
        reload(c);
        return;
    case SIGUSR1:
        if (log_reopen(c->service.log) != 0)
            log_write(c->service.log, LOG_ERROR, "log",
                      "the log file could not be opened again; the old one stays in use");
        return;
    default:
        return;
    }
}

static bool all_left(struct control *c)
{
    for (int i = 0; i < c->service.worker_count; i++)
        if (!atomic_load(&c->service.workers[i]->left))
            return false;
    return true;
}

static void on_drain_check(evutil_socket_t fd, short what, void *arg)
{
    struct control *c = arg;
    (void)fd;
    (void)what;
    control_telemetry_turn(c);
    control_events_turn(c);
    if (c->stage >= STAGE_DRAINING)
        check_drain(c);
    if (c->stage == STAGE_STOPPING && all_left(c) && control_telemetry_ended(c, control_now()))
        event_base_loopbreak(c->base);
}

#define HISTORY_SAVE (300 * TICK_S)

static void tick_history(struct control *c, tick_t now)
{
    struct process_values process = {0};
    if (!c->cfg->performance_enabled || !c->cfg->performance_enable_historical_analysis) {
        custom_second_over(c->custom);
        return;
    }
    process_read(&process);
    bool limited = c->cfg->concurrency_mode != CONFIG_CONCURRENCY_MODE_OFF;
    struct history_gauges gauges = {
        .resident_bytes = process.resident_bytes,
        .cpu_ns = process.cpu_ns,
        .limit = limited ? (uint64_t)admit_concurrency_limit(c->service.admit) : 0,
        .in_flight = (uint64_t)admit_in_flight(c->service.admit),
    };
    history_retain(c->history, (int64_t)c->cfg->performance_max_metrics_retention_hours * 3600 * TICK_S);
    if (!history_tick(c->history, now, &gauges))
        log_write(c->service.log, LOG_WARNING, "metrics",
                  "out of memory: a second is missing in the time series");
    if (*c->cfg->performance_history_file && now - c->history_saved >= HISTORY_SAVE) {
        c->history_saved = now;
        (void)history_file_save(c->history, c->cfg->performance_history_file, c->service.log);
    }
}

/* How long the name's lookups took: the resolver's thread has no block to count in. */
static void note_lookups(struct control *c)
{
    tick_t times[RESOLVER_TIMES];
    unsigned n = resolver_times(c->service.resolver, &c->lookups, times);
    for (unsigned i = 0; i < n; i++)
        metrics_lookup(metrics_block(c->service.metrics, c->service.worker_count), times[i]);
}

static void on_second(evutil_socket_t fd, short what, void *arg)
{
    struct control *c = arg;
    tick_t now = control_now();
    (void)fd;
    (void)what;
    debug_tick(c->service.debug, now);
    note_lookups(c);
    metric_set(metrics_block(c->service.metrics, c->service.worker_count), METRIC_DENIED_CALLS,
               harden_report(c->service.log));
    if (c->watchdog && now - c->watched >= c->watchdog / 2) {
        c->watched = now;
        supervisor_tell("WATCHDOG=1");
    }
    if (file_watch_changed(&c->watch)) {
        log_write(c->service.log, LOG_INFO, "config", "a watched file has changed");
        reload(c);
    }
    if (now - c->noted >= RECENT_SECONDS * TICK_S) {
        c->noted = now;
        process_note(metrics_block(c->service.metrics, c->service.worker_count));
        if (!recent_tick(c->recent, now))
            log_write(c->service.log, LOG_WARNING, "metrics",
                      "out of memory: a note of the last seconds joins the next");
    }
    control_tiers_second(c);
    tick_history(c, now);
    control_alerts_second(c, now);
    control_telemetry_second(c, now);
    adviser_second(c->adviser, now);
    control_events_second(c);
}

static bool listen_for_events(struct control *c)
{
    static const int numbers[] = {SIGTERM, SIGINT, [SIGNAL_RELOAD] = SIGHUP, SIGUSR1};
    struct timeval second = {1, 0}, check = {0, 50000};
    sigset_t heard;
    sigemptyset(&heard); /* who started us may have blocked them, and a mask is inherited */
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        sigaddset(&heard, numbers[i]);
    pthread_sigmask(SIG_UNBLOCK, &heard, NULL);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        signal(numbers[i],
               SIG_IGN); /* so it is again at the end: who asks twice must not break off a clean stop */
        c->signals[i] = evsignal_new(c->base, numbers[i], on_signal, c);
        if (!c->signals[i] || event_add(c->signals[i], NULL) != 0)
            return false;
    }
    c->second = event_new(c->base, -1, EV_PERSIST, on_second, c);
    c->drain_check = event_new(c->base, -1, EV_PERSIST, on_drain_check, c);
    return c->second && c->drain_check && event_add(c->second, &second) == 0 &&
           event_add(c->drain_check, &check) == 0;
}

/* ---- start
 * -------------------------------------------------------------------------------------------------- */

static bool fail(struct control *c, const char *what, const char *why)
{
    if (c->service.log)
        log_write(c->service.log, LOG_ERROR, "control", "cannot start: %s%s%s", what, why ? ": " : "",
                  why ? why : "");
    else
        fprintf(stderr, "promptops-sidecar: cannot start: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    return false;
}

static bool open_log(struct control *c)
{
    int error = 0;
    struct log_config config = {
        .file = c->cfg->log_file,
        .level = (enum log_level)(LOG_ERROR - (int)c->cfg->log_level),
        .text = c->cfg->log_format == CONFIG_LOG_FORMAT_TEXT,
        .access = c->cfg->log_access,
    };
    c->service.log = log_open(&config, &error);
    return c->service.log ? true : fail(c, c->cfg->log_file, strerror(error));
}

static bool make_metrics(struct control *c, int workers)
{
    c->service.metrics = names_metrics_new(workers);
    if (c->service.metrics &&
        !metrics_make_room(c->service.metrics, (size_t)c->cfg->performance_metrics_buffer_size))
        return fail(c, "performance.metrics_buffer_size: out of memory", NULL);
    c->recent = c->service.metrics ? recent_new(c->service.metrics, control_now()) : NULL;
    c->noted = control_now();
    c->began_wall = (int64_t)time(NULL) * TICK_S;
    c->history = c->recent ? history_new(c->service.metrics, c->noted, wall_now(), HISTORY_BUDGET) : NULL;
    c->custom = custom_new();
    if (!c->history || !c->custom)
        return fail(c, "out of memory", NULL);
    history_follow(c->history, c->custom);
    c->history_saved = c->noted;
    if (*c->cfg->performance_history_file)
        history_file_load(c->history, c->cfg->performance_history_file, c->service.log, c->noted);
    return true;
}

static bool make_shared(struct control *c)
{
    struct service *s = &c->service;
    uint64_t seed[4];
    struct store_limits limits = {0};
    if (getrandom(seed, sizeof(seed), 0) != sizeof(seed))
        return fail(c, "no randomness", strerror(errno));
    snprintf(s->instance, sizeof(s->instance), "%016llx", (unsigned long long)seed[3]);
    s->store = store_new(&limits, (struct hash_key){seed[0], seed[1]});
    s->permits = permits_new((unsigned)c->cfg->pool_max_size);
    s->guard = guard_new(c->cfg, control_now(), seed[2]);
    s->admit =
        admit_new(c->cfg, (struct hash_key){seed[1], seed[2]}, control_now(), (int64_t)time(NULL) * TICK_S);
    s->debug = debug_new(s->log);
    s->ahead = s->store ? ahead_new(s->store, c->cfg, (struct hash_key){seed[2], seed[0]}) : NULL;
    s->batcher = batcher_new((struct hash_key){seed[2], seed[0]}, s->log);
    return s->debug && s->ahead && s->batcher && s->permits && s->guard && s->admit
               ? true
               : fail(c, "out of memory", NULL);
}

/* The levels below memory, in the order in which they are asked. */
static bool start_levels(struct control *c)
{
    struct level levels[LEVELS_MAX];
    unsigned count = 0;
    const char *origin = c->published->origin;
    struct shared_options shared = {.url = c->cfg->cache_redis_url,
                                    .origin = {origin, strlen(origin)},
                                    .store = c->service.store,
                                    .log = c->service.log,
                                    .seed = (uint64_t)control_now()};
    char err[512];
    const char *why;
    if (!control_tiers_start(c, &why))
        return fail(c, "cache.frozen_path", why);
    if (c->service.frozen)
        frozen_level(c->service.frozen, &levels[count++]);
    if (shared.url[0]) {
        if (getrandom(&shared.seed, sizeof(shared.seed), 0) != sizeof(shared.seed))
            return fail(c, "no randomness", strerror(errno));
        c->service.shared = shared_new(&shared, err, sizeof(err));
        if (!c->service.shared)
            return fail(c, "cache.redis_url", err);
        shared_level(c->service.shared, &levels[count++]);
    }
    store_set_levels(c->service.store, levels, count);
    if (c->service.shared && !shared_start(c->service.shared))
        return fail(c, "no thread", strerror(errno));
    return true;
}

/* The budget that sidecars share. */
static bool start_ledger(struct control *c)
{
    const char *origin = c->published->origin;
    struct ledger_options options = {.url = c->cfg->cache_redis_url,
                                     .origin = {origin, strlen(origin)},
                                     .admit = c->service.admit,
                                     .log = c->service.log};
    char err[512];
    if (!c->cfg->rate_limit_share_through_redis)
        return true;
    if (getrandom(&options.seed, sizeof(options.seed), 0) != sizeof(options.seed))
        return fail(c, "no randomness", strerror(errno));
    c->service.ledger = ledger_new(&options, err, sizeof(err));
    if (!c->service.ledger)
        return fail(c, "rate_limit.share_through_redis", err);
    return ledger_start(c->service.ledger) ? true : fail(c, "no thread", strerror(errno));
}

static bool start_resolver(struct control *c)
{
    struct endpoint endpoint = {
        .kind = ENDPOINT_TCP, .tls = c->cfg->upstream_url.tls, .port = c->cfg->upstream_url.port};
    struct resolver_options options = {
        .refresh = c->cfg->upstream_dns_refresh,
        .seed = (uint64_t)control_now(),
        .changed = addresses_changed,
        .changed_arg = &c->service,
    };
    char err[256];
    snprintf(endpoint.host, sizeof(endpoint.host), "%s", c->cfg->upstream_url.host);
    if (*c->cfg->upstream_connect_to) {
        if (!endpoint_parse(c->cfg->upstream_connect_to, &endpoint, err, sizeof(err)))
            return fail(c, "upstream.connect_to", err);
        endpoint.tls = c->cfg->upstream_url.tls;
    }
    c->service.resolver = resolver_start(&endpoint, &options, err, sizeof(err));
    return c->service.resolver ? true : fail(c, "the upstream's name", err);
}

static bool start_workers(struct control *c, int count)
{
    struct service *s = &c->service;
    char err[512] = "";
    s->workers = calloc((size_t)count, sizeof(struct worker *));
    if (!s->workers)
        return fail(c, "out of memory", NULL);
    s->worker_count =
        count; /* before the first is made, so that finish() frees those that were when another is not */
    if (!control_inherit(c, err, sizeof(err)) || !control_listen(c, count, err, sizeof(err)))
        return fail(c, err, NULL);
    if (!start_resolver(c))
        return false;
    char name[ADDRESS_TEXT_MAX];
    listener_name(c->sockets[0], name, sizeof(name));
    for (int i = 0; i < count; i++) {
        if (!worker_start(s->workers[i]))
            return fail(c, "no thread", strerror(errno));
        c->workers_running++;
    }
    log_event(s->log, "listening", name);
    return true;
}

static bool start_admin(struct control *c)
{
    struct admin_options options = {
        .address = c->cfg->admin_address.text,
        .fd = c->inherited.admin > 0 ? c->inherited.admin : 0,
        .cfg = c->cfg,
        .log = c->service.log,
        .block = metrics_block(c->service.metrics, c->service.worker_count),
    };
    struct admin_sources sources = {0};
    char err[512], text[ADDRESS_TEXT_MAX + 32];
    control_sources(c, &sources);
    c->admin = admin_new(c->base, &options, &sources, err, sizeof(err));
    if (!c->admin)
        return fail(c, "the admin port", err);
    c->inherited.admin = -1;
    if (admin_port(c->admin)) {
        struct endpoint e;
        char ignored[128];
        if (endpoint_parse(options.address, &e, ignored, sizeof(ignored))) {
            e.port = admin_port(c->admin);
            endpoint_format(&e, text, sizeof(text));
        }
    } else {
        snprintf(text, sizeof(text), "%s", options.address);
    }
    log_event(c->service.log, "admin_listening", text);
    return true;
}

static void raise_limits(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* The last step of a start: nothing below needs more than the filter allows. */
static void harden(struct control *c)
{
    char err[256];
    if (c->cfg->security_seccomp && !harden_filter(err, sizeof(err)))
        log_write(c->service.log, LOG_WARNING, "security", "no seccomp filter: %s", err);
}

static void tell_ready(struct control *c)
{
    char text[64];
    control_handover(c);
    c->watchdog = supervisor_watchdog();
    c->watched = control_now();
    snprintf(text, sizeof(text), "READY=1\nMAINPID=%ld", (long)getpid());
    supervisor_tell(text);
}

/*
 * Tables made at the start are filled as they are used, if ever. glibc's calloc() clears what it takes from
 * the top of its heap, which makes it resident; fresh mappings are clear as they come. So the start maps each
 * table, and work, whose blocks come and go, does not.
 */
static void map_tables(bool yes)
{
    mallopt(M_MMAP_THRESHOLD, yes ? 16 << 10 : 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
}

static bool start(struct control *c)
{
    char err[512];
    int workers = c->cfg->workers ? (int)c->cfg->workers : cpus_available();
    map_tables(true);
    raise_limits();
    signal(SIGPIPE, SIG_IGN);
    c->base = event_base_new();
    if (!c->base || !open_log(c))
        return c->base ? false : fail(c, "no event loop", NULL);
    c->post = post_new(c->base);
    if (!c->post)
        return fail(c, "out of memory", NULL);
    if (!make_metrics(c, workers) || !make_shared(c))
        return false;
    c->service.tracing = tracing_new(workers);
    if (!c->service.tracing)
        return fail(c, "out of memory", NULL);
    file_watch_init(&c->watch);
    if (!file_watch_add(&c->watch, c->sources->file))
        return fail(c, "out of memory", NULL);
    watch_files(c, c->cfg, &c->watch);
    c->published = publication_new(c->cfg, NULL, c->service.metrics, err, sizeof(err));
    if (!c->published)
        return fail(c, err, NULL);
    apply_shared(c);
    warn(c, NULL, true);
    name_ineffective(c, NULL);
    if (!start_levels(c) || !start_ledger(c) || !listen_for_events(c) || !start_workers(c, workers))
        return false;
    if (!control_alerts_start(c) || !control_advice_start(c) ||
        !control_telemetry_start(c)) /* behind the workers, whose number says which block is ours */
        return fail(c, "out of memory", NULL);
    if (!start_admin(c))
        return false;
    cpus_give_way(); /* behind the workers: a scrape or an export must not be felt on the data path */
    harden(c);
    map_tables(false);
    set_stage(c, STAGE_SERVING);
    tell_ready(c);
    return true;
}

/* ---- end
 * ------------------------------------------------------------------------------------------------------ */

static void finish(struct control *c)
{
    struct service *s = &c->service;
    control_sockets_end(c);
    admin_free(c->admin);
    if (c->stage == STAGE_STOPPING && *c->cfg->performance_history_file && c->cfg->performance_enabled &&
        c->cfg->performance_enable_historical_analysis)
        (void)history_file_save(c->history, c->cfg->performance_history_file, s->log);
    if (c->stage != STAGE_STOPPING)
        stop_all(s, true);
    for (unsigned i = 0; i < c->workers_running; i++)
        pthread_join(s->workers[i]->thread, NULL);
    /* Behind the workers, which ask it, and before their mailboxes go, into which it writes. */
    if (s->resolver)
        resolver_stop(s->resolver);
    s->resolver = NULL;
    if (s->store)
        store_set_levels(s->store, NULL, 0); /* what ends from here on tells no level */
    ledger_stop(s->ledger);
    s->ledger = NULL;
    shared_stop(s->shared);
    s->shared = NULL;
    control_tiers_stop(c);
    for (int i = 0; s->workers && i < s->worker_count; i++)
        worker_free(s->workers[i]);
    free(s->workers);
    tracing_free(s->tracing);
    s->tracing = NULL;
    ahead_free(s->ahead);
    if (s->store)
        store_free(s->store);
    batcher_free(s->batcher);
    admit_free(s->admit);
    guard_free(s->guard);
    permits_free(s->permits);
    publication_unref(c->published);
    control_alerts_stop(c);
    control_telemetry_stop(c);
    adviser_free(c->adviser);
    recent_free(c->recent);
    history_free(c->history);
    custom_free(c->custom);
    metrics_free(s->metrics);
    file_watch_dispose(&c->watch);
    for (size_t i = 0; i < ARRAY_LEN(c->signals); i++)
        if (c->signals[i])
            event_free(c->signals[i]);
    if (c->second)
        event_free(c->second);
    if (c->drain_check)
        event_free(c->drain_check);
    post_free(c->post);
    if (c->base)
        event_base_free(c->base);
    debug_free(s->debug);
    (void)harden_report(s->log);
    log_close(s->log);
    config_unref(c->cfg);
}

int control_run(const struct config_sources *sources)
{
    struct control c = {.sources = sources, .handover_fd = -1, .inherited = {.admin = -1}};
    struct config_errors errors = {0};
    c.cfg = config_load(sources, &errors);
    if (!c.cfg) {
        config_print_errors(&errors, stderr);
        config_errors_free(&errors);
        return EXIT_USAGE;
    }
    config_errors_free(&errors);
    if (!harden_process(c.cfg->security_core_dumps))
        fputs("promptops-sidecar: the kernel refused to give up core dumps or new privileges\n", stderr);
    bool ok = start(&c);
    if (ok)
        event_base_dispatch(c.base);
    if (ok)
        log_write(c.service.log, LOG_INFO, "control", "stopped");
    finish(&c);
    return ok ? EXIT_GOOD : EXIT_RUN_TIME;
}
