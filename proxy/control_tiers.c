/*
 * The tiers of the cache as the control thread has them: started, tuned, counted and shown. Invariant: what
 * their threads count reaches the metrics by the control thread's own block alone.
 */
#include <errno.h>
#include <string.h>

#include "proxy/control_internal.h"
#include "proxy/frozen.h"
#include "proxy/level.h"
#include "proxy/settings.h"
#include "proxy/store.h"

bool control_tiers_start(struct control *c, const char **why)
{
    const struct config *cfg = c->cfg;
    struct frozen_options options = {.directory = cfg->cache_frozen_path,
                                     .max_bytes = cfg->cache_frozen_max_bytes,
                                     .origin = {c->published->origin, strlen(c->published->origin)},
                                     .store = c->service.store,
                                     .log = c->service.log};
    if (!cfg->cache_frozen_path[0])
        return true;
    *why = "out of memory";
    c->service.frozen = frozen_new(&options);
    if (!c->service.frozen)
        return false;
    control_tiers_tune(c);
    *why = "no thread";
    return frozen_start(c->service.frozen);
}

void control_tiers_tune(struct control *c)
{
    const struct config *cfg = c->cfg;
    if (c->service.frozen)
        frozen_tune(c->service.frozen, cfg->cache_enable_tiering,
                    cfg->cache_enable_compression ? cfg->cache_compression_threshold : UINT64_MAX);
}

void control_tiers_stop(struct control *c)
{
    frozen_stop(c->service.frozen);
    c->service.frozen = NULL;
}

void control_tiers_note(struct control *c)
{
    struct frozen_stats s = {0};
    struct metrics_block *b = metrics_block(c->service.metrics, c->service.worker_count);
    if (c->service.frozen)
        frozen_stats(c->service.frozen, &s);
    const struct {
        enum metric metric;
        uint64_t value;
    } rows[] = {{METRIC_FROZEN_HITS, s.hits},
                {METRIC_FROZEN_MISSES, s.misses},
                {METRIC_FROZEN_SKIPPED, s.skipped},
                {METRIC_FROZEN_STORES, s.stores},
                {METRIC_FROZEN_STORE_FAILURES, s.store_failures},
                {METRIC_FROZEN_TOO_LARGE, s.too_large},
                {METRIC_FROZEN_DAMAGED, s.damaged},
                {METRIC_FROZEN_PURGED, s.purged},
                {METRIC_FROZEN_EVICTIONS, s.evictions},
                {METRIC_CACHE_ERRORS, s.failures},
                {METRIC_COMPRESSED_FROM, s.compressed_from},
                {METRIC_COMPRESSED_TO, s.compressed_to}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        metric_set(b, rows[i].metric, rows[i].value);
}

void control_tiers_supply(struct control *c, const struct store_stats *stats, struct supplied *out)
{
    struct frozen_stats s;
    supply(out, SUPPLIED_CACHE_ENTRIES, "warm", (double)stats->entries);
    supply(out, SUPPLIED_CACHE_BYTES, "warm", (double)stats->bytes);
    if (!c->service.frozen)
        return;
    frozen_stats(c->service.frozen, &s);
    supply(out, SUPPLIED_CACHE_ENTRIES, "frozen", (double)s.entries);
    supply(out, SUPPLIED_CACHE_BYTES, "frozen", (double)s.bytes);
    supply(out, SUPPLIED_FROZEN_USABLE, NULL, s.usable);
}

void control_tiers_show(struct control *c, struct view *v)
{
    if (!c->service.frozen)
        return;
    view_object(v, "frozen");
    frozen_show(c->service.frozen, v);
    view_end(v);
}
