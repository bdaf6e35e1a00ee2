/*
 * The list of rules put together. Invariants: ids are unique in it; a later source replaces an earlier one.
 */
#include "policy/alert_rules.h"

#include <string.h>

struct row {
    const char *id;
    int metric;
    const char *condition;
    int severity;
    int hold, keep; /* seconds */
    const char *group, *muted_by, *message;
};

static const struct row rows[] = {
#define ALERT(id, metric, condition, severity, hold, keep, group, muted_by, message)                         \
    {id, ALERT_METRIC_##metric, condition, ALERT_##severity, hold, keep, group, muted_by, message},
#include "policy/alert_rules.def"
};

#define KEEP (60 * TICK_S)

size_t alert_rules_built_in(void)
{
    return ARRAY_LEN(rows);
}

static struct alert_rule built_in(const struct row *row, tick_t cooldown)
{
    struct alert_rule r = {.id = row->id,
                           .metric = row->metric,
                           .metric_name = "",
                           .severity = row->severity,
                           .message = row->message,
                           .group = row->group,
                           .muted_by = row->muted_by,
                           .origin = "built-in",
                           .hold = row->hold * TICK_S,
                           .keep = row->keep * TICK_S,
                           .cooldown = cooldown,
                           .enabled = true};
    if (!alert_condition_parse(row->condition, &r.compare, &r.threshold))
        r.enabled = false; /* the table's test would have found it */
    return r;
}

/* An alert of the user's stands alone: no group, nothing mutes it. It is over once it has been clear for a
 * minute, or for its cool-down when that is shorter. */
static struct alert_rule written(const struct alert_spec *s, const struct alert_rule *was, const char *origin,
                                 tick_t cooldown)
{
    struct alert_rule r = was ? *was : (struct alert_rule){.metric_name = "", .group = "", .muted_by = ""};
    r.id = s->id;
    r.origin = origin;
    r.severity = s->severity;
    r.enabled = s->enabled && s->metric_type >= 0 && s->compare >= 0;
    if (s->metric_type >= 0) {
        r.metric = s->metric_type;
        r.metric_name = s->metric_name;
    }
    if (s->compare >= 0) {
        r.compare = s->compare;
        r.threshold = s->threshold;
    }
    if (*s->message || !was)
        r.message = s->message;
    if (r.enabled || !was) {
        r.hold = s->hold;
        r.cooldown = s->cooldown_period >= 0 ? s->cooldown_period : cooldown;
        r.keep = r.cooldown < KEEP ? r.cooldown : KEEP;
        r.group = r.muted_by = "";
    }
    return r;
}

static size_t put_all(const struct alert_spec *specs, size_t n, const char *origin, tick_t cooldown,
                      struct alert_rule *out, size_t count, size_t room)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;
        while (at < count && strcmp(out[at].id, specs[i].id) != 0)
            at++;
        if (at == room)
            continue;
        out[at] = written(&specs[i], at < count ? &out[at] : NULL, origin, cooldown);
        count += at == count;
    }
    return count;
}

size_t alert_rules(const struct alert_rules_setup *setup, struct alert_rule *out, size_t room)
{
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows) && count < room; i++)
        out[count++] = built_in(&rows[i], setup->cooldown);
    count = put_all(setup->configured, setup->configured_count, "configuration", setup->cooldown, out, count,
                    room);
    return put_all(setup->admin, setup->admin_count, "admin", setup->cooldown, out, count, room);
}
