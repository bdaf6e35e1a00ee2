/*
 * The tiers of the cache as the control thread has them: started, tuned, counted and shown. Invariant: what
 * their threads count reaches the metrics by the control thread's own block alone.
 */
#include <errno.h>
#include <string.h>

#include "proxy/control_internal.h"
#include "proxy/frozen.h"
#include "proxy/level.h"
#include "proxy/log.h"
#include "proxy/settings.h"
#include "proxy/store.h"
#include "proxy/tiers.h"

bool control_tiers_start(struct control *c, const char **why)
{
    const struct config *cfg = c->cfg;
    struct frozen_options options = {.directory = cfg->cache_frozen_path,
                                     .max_bytes = cfg->cache_frozen_max_bytes,
                                     .origin = {c->published->origin, strlen(c->published->origin)},
                                     .store = c->service.store,
                                     .log = c->service.log};
    *why = "no memory or thread for the tiers";
    c->service.tiers = tiers_start(c->service.store);
    if (!c->service.tiers)
        return false;
    control_tiers_tune(c);
    if (!cfg->cache_frozen_path[0])
        return true;
    c->service.frozen = frozen_new(&options);
    if (!c->service.frozen)
        return false;
    control_tiers_tune(c);
    return frozen_start(c->service.frozen);
}

/* What a miss costs: the mean time to the first byte of an answer, in ns; 0: none came yet. */
static uint64_t fetch_ns(struct control *c)
{
    static struct hist_counts counts; /* the control thread's */
    memset(&counts, 0, sizeof(counts));
    if (!metrics_histogram(c->service.metrics, HISTOGRAM_FIRST_BYTE, 0, &counts) || counts.count == 0)
        return 0;
    return counts.sum / counts.count;
}

static void tune(struct control *c, uint64_t fetch)
{
    const struct config *cfg = c->cfg;
    if (c->service.tiers)
        tiers_tune(c->service.tiers, cfg->cache_enable_tiering && cfg->cache_enable_compression,
                   cfg->cache_compression_threshold, fetch);
    if (c->service.frozen)
        frozen_tune(c->service.frozen, cfg->cache_enable_tiering,
                    cfg->cache_enable_compression ? cfg->cache_compression_threshold : UINT64_MAX);
}

void control_tiers_tune(struct control *c)
{
    tune(c, 0);
}

void control_tiers_stop(struct control *c)
{
    tiers_stop(c->service.tiers);
    c->service.tiers = NULL;
    frozen_stop(c->service.frozen);
    c->service.frozen = NULL;
}

void control_tiers_settle(struct control *c)
{
    if (c->service.frozen && !frozen_settle(c->service.frozen, TICK_S))
        log_write(c->service.log, LOG_WARNING, "frozen",
                  "a purge is carried out, but not on the disk yet: it is as soon as the disk allows");
}

void control_tiers_second(struct control *c)
{
    tune(c, fetch_ns(c));
    control_tiers_note(c);
}

void control_tiers_note(struct control *c)
{
    struct frozen_stats s = {0};
    struct tiers_stats t = {0};
    struct metrics_block *b = metrics_block(c->service.metrics, c->service.worker_count);
    if (c->service.frozen)
        frozen_stats(c->service.frozen, &s);
    if (c->service.tiers)
        tiers_stats(c->service.tiers, &t);
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
                {METRIC_COMPRESSED_FROM, s.compressed_from + t.compressed_from},
                {METRIC_COMPRESSED_TO, s.compressed_to + t.compressed_to}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        metric_set(b, rows[i].metric, rows[i].value);
}

void control_tiers_supply(struct control *c, const struct store_stats *stats, struct supplied *out)
{
    struct frozen_stats s;
    for (unsigned i = 0; i < TIER_COUNT; i++) {
        supply(out, SUPPLIED_CACHE_ENTRIES, tier_name((enum tier)i), (double)stats->tier_entries[i]);
        supply(out, SUPPLIED_CACHE_BYTES, tier_name((enum tier)i), (double)stats->tier_bytes[i]);
    }
    if (!c->service.frozen)
        return;
    frozen_stats(c->service.frozen, &s);
    supply(out, SUPPLIED_CACHE_ENTRIES, "frozen", (double)s.entries);
    supply(out, SUPPLIED_CACHE_BYTES, "frozen", (double)s.bytes);
    supply(out, SUPPLIED_FROZEN_USABLE, NULL, s.usable);
}

/* `tiers`: what lies in memory in which form, and what that was decided by. */
static void show_memory(struct control *c, const struct store_stats *stats, struct view *v)
{
    struct tiers_stats t = {0};
    if (c->service.tiers)
        tiers_stats(c->service.tiers, &t);
    view_object(v, "tiers");
    for (unsigned i = 0; i < TIER_COUNT; i++) {
        view_object(v, tier_name((enum tier)i));
        view_uint(v, "entries", stats->tier_entries[i]);
        view_uint(v, "bytes", stats->tier_bytes[i]);
        view_end(v);
    }
    view_uint(v, "cold_hits", stats->cold_hits);
    view_uint(v, "compressed", t.chilled);
    view_real(v, "compression_ratio",
              t.compressed_to ? (double)t.compressed_from / (double)t.compressed_to : 1);
    view_real(v, "thaw_ns_per_byte", t.market.unpack_ns);
    view_real(v, "price_ns_per_byte_second", t.market.price);
    view_end(v);
}

void control_tiers_show(struct control *c, const struct store_stats *stats, struct view *v)
{
    show_memory(c, stats, v);
    if (!c->service.frozen)
        return;
    view_object(v, "frozen");
    frozen_show(c->service.frozen, v);
    view_end(v);
}
