/*
 * Recommendations of the running process: how a setting is changed, and who notes it. A change goes the way
 * of every live one: judged like a file, put in force whole, shown with the origin `admin`.
 */
#include <stdio.h>

#include "proxy/adviser.h"
#include "proxy/control_internal.h"

static const struct config *config_now(void *ctx)
{
    const struct control *c = ctx;
    return c->cfg;
}

static bool set(void *ctx, const char *key, const char *value, char *err, size_t err_size)
{
    struct control *c = ctx;
    struct config_errors errors = {0};
    struct config_change change = {key, value};
    const struct config *fresh = config_with_all(c->cfg, &change, 1, &errors);
    if (!fresh)
        snprintf(err, err_size, "%s", errors.count ? errors.items[0] : "out of memory");
    config_errors_free(&errors);
    if (!fresh)
        return false;
    if (control_change(c, fresh, err, err_size))
        return true;
    config_unref(fresh);
    return false;
}

static bool audit(void *ctx, const char *action, const char *detail)
{
    const struct control *c = ctx;
    return admin_audit(c->admin, action, detail);
}

bool control_advice_start(struct control *c)
{
    struct adviser_sources sources = {
        .ctx = c,
        .metrics = c->service.metrics,
        .block = metrics_block(c->service.metrics, c->service.worker_count),
        .store = c->service.store,
        .log = c->service.log,
        .config = config_now,
        .set = set,
        .audit = audit,
    };
    c->adviser = adviser_new(&sources, (uint64_t)control_now(), control_now());
    return c->adviser != NULL;
}
