/*
 * The state machines of alerts. Invariants: an alert is on one state; a raise is told at most once an episode
 * (beside its repeats) and never within the cool-down of the one before; whoever was told of a raise is told
 * of the end.
 */
#include "policy/alert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN 0.1

struct alert {
    struct alert_rule rule; /* its strings lie in `text` */
    char *text;
    enum alert_state state;
    tick_t since, began, clear; /* clear: since when it has been so; TICK_NEVER: it is not */
    tick_t raised_at;           /* of the newest raise */
    tick_t told_at;
    tick_t silence;
    double value;
    uint64_t raised;
    bool told;
    bool covered; /* another alert of its group, as bad or worse, was told before it */
};

struct alerts {
    struct alert *all;
    size_t count;
    struct alert_event history[ALERT_HISTORY];
    uint64_t next;
    uint64_t unread; /* where the next step's events begin: those of a change of rules come first */
};

static const char *const states[] = {"inactive", "pending", "firing", "resolved"};
_Static_assert(ARRAY_LEN(states) == ALERT_STATE_COUNT, "one name a state");
static const char *const kinds[] = {"raised", "repeated", "resolved"};

const char *alert_state_name(int state)
{
    return state >= 0 && state < ALERT_STATE_COUNT ? states[state] : "";
}

const char *alert_event_name(int kind)
{
    return kind >= 0 && kind < (int)ARRAY_LEN(kinds) ? kinds[kind] : "";
}

struct alerts *alerts_new(void)
{
    return calloc(1, sizeof(struct alerts));
}

static void dispose(struct alert *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(all[i].text);
    free(all);
}

void alerts_free(struct alerts *a)
{
    if (!a)
        return;
    dispose(a->all, a->count);
    free(a);
}

/* ---- rules ---- */

static bool copy_rule(struct alert *a, const struct alert_rule *rule)
{
    const char **to[] = {&a->rule.id,    &a->rule.metric_name, &a->rule.message,
                         &a->rule.group, &a->rule.muted_by,    &a->rule.origin};
    const char *from[] = {rule->id,    rule->metric_name, rule->message,
                          rule->group, rule->muted_by,    rule->origin};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(from); i++)
        n += strlen(from[i]) + 1;
    char *at = a->text = malloc(n);
    if (!at)
        return false;
    a->rule = *rule;
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        size_t length = strlen(from[i]) + 1;
        *to[i] = memcpy(at, from[i], length);
        at += length;
    }
    return true;
}

static struct alert *find(const struct alerts *a, const char *id)
{
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->all[i].rule.id, id) == 0)
            return &a->all[i];
    return NULL;
}

static bool same_condition(const struct alert_rule *x, const struct alert_rule *y)
{
    return x->metric == y->metric && x->compare == y->compare && x->threshold == y->threshold &&
           strcmp(x->metric_name, y->metric_name) == 0;
}

static void note(struct alerts *a, const struct alert *of, enum alert_event_kind kind, bool told, tick_t now)
{
    struct alert_event *e = &a->history[a->next++ % ALERT_HISTORY];
    *e = (struct alert_event){.kind = kind,
                              .severity = of->rule.severity,
                              .at = now,
                              .since = of->began,
                              .value = of->value,
                              .threshold = of->rule.threshold,
                              .metric = of->rule.metric,
                              .compare = of->rule.compare,
                              .told = told};
    size_t n = strlen(of->rule.id);
    n = n < ALERT_ID_BYTES ? n : ALERT_ID_BYTES - 1;
    memcpy(e->id, of->rule.id, n);
}

/* What `was` has gone through goes over. False when it cannot. */
static bool inherit(struct alert *fresh, const struct alert *was)
{
    if (!fresh->rule.enabled || !was->rule.enabled || !same_condition(&fresh->rule, &was->rule))
        return false;
    struct alert_rule rule = fresh->rule;
    char *text = fresh->text;
    *fresh = *was;
    fresh->rule = rule;
    fresh->text = text;
    return true;
}

bool alerts_set_rules(struct alerts *a, const struct alert_rule *rules, size_t count, tick_t now)
{
    struct alert *all = count <= ALERT_RULES_MOST ? calloc(count + 1, sizeof *all) : NULL;
    if (!all)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!copy_rule(&all[i], &rules[i])) {
            dispose(all, i);
            return false;
        }
        all[i].value = NAN;
        all[i].clear = TICK_NEVER;
        all[i].since = now;
    }
    struct alerts fresh = {.all = all, .count = count};
    for (size_t i = 0; i < a->count; i++) {
        const struct alert *was = &a->all[i];
        struct alert *now_is = find(&fresh, was->rule.id);
        if (now_is && inherit(now_is, was))
            continue;
        if (now_is)
            now_is->silence = was->silence;
        if (was->state == ALERT_FIRING)
            note(a, was, ALERT_EVENT_RESOLVED, was->told, now);
    }
    dispose(a->all, a->count);
    a->all = all;
    a->count = count;
    return true;
}

/* ---- conditions ---- */

static bool is_share(int metric)
{
    return metric == ALERT_METRIC_CACHE_HIT_RATE || metric == ALERT_METRIC_ERROR_RATE ||
           metric == ALERT_METRIC_QUOTA_REMAINING || metric == ALERT_METRIC_POOL_STARVATION;
}

/* How far beyond the threshold it must be to be clear of it: a tenth, of what there is room for. */
static double margin_of(const struct alert_rule *r)
{
    double room = fabs(r->threshold);
    if (is_share(r->metric) && fabs(1 - r->threshold) < room)
        room = fabs(1 - r->threshold);
    return MARGIN * room;
}

bool alert_holds(const struct alert_rule *rule, double value, bool leave)
{
    double t = rule->threshold, margin = leave ? margin_of(rule) : 0;
    if (isnan(value))
        return false;
    switch (rule->compare) {
    case ALERT_ABOVE:
        return value > t - margin;
    case ALERT_AT_LEAST:
        return leave ? value > t - margin || value >= t : value >= t;
    case ALERT_BELOW:
        return value < t + margin;
    case ALERT_AT_MOST:
        return leave ? value < t + margin || value <= t : value <= t;
    case ALERT_EQUAL:
        return value == t;
    case ALERT_NOT_EQUAL:
        return value != t;
    default:
        return false;
    }
}

/* ---- what is told ---- */

static bool fires(const struct alert *a)
{
    return a->state == ALERT_FIRING;
}

/* Was as much as this told already, by another of its group that fires? */
static bool covered(const struct alerts *a, const struct alert *of)
{
    if (!*of->rule.group)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct alert *other = &a->all[i];
        if (other != of && fires(other) && other->told && other->rule.severity >= of->rule.severity &&
            strcmp(other->rule.group, of->rule.group) == 0)
            return true;
    }
    return false;
}

/* Does the one that explains it fire? Its traces in the windows outlast it: until its cool-down is over. */
static bool muted(const struct alerts *a, const struct alert *of)
{
    const struct alert *by = *of->rule.muted_by ? find(a, of->rule.muted_by) : NULL;
    return by && (fires(by) || by->state == ALERT_RESOLVED);
}

/* One that fires and was not told: may it be now? */
static bool may_tell(const struct alerts *a, const struct alert *of, tick_t now)
{
    return now >= of->silence && !muted(a, of) && !covered(a, of);
}

/* ---- states ---- */

static void enter(struct alert *a, enum alert_state state, tick_t now)
{
    a->state = state;
    a->since = now;
}

static void begin(struct alert *a, tick_t now)
{
    a->began = now;
    a->told = a->covered = false;
    a->clear = TICK_NEVER;
    enter(a, ALERT_PENDING, now);
}

static void step_idle(struct alert *a, bool holds, tick_t now)
{
    if (holds)
        begin(a, now);
    else if (a->state == ALERT_RESOLVED && now - a->raised_at >= a->rule.cooldown) {
        a->began = 0;
        enter(a, ALERT_INACTIVE, now);
    }
}

static void step_pending(struct alert *a, bool holds, tick_t now)
{
    if (!holds) {
        a->began = 0;
        enter(a, a->raised && now - a->raised_at < a->rule.cooldown ? ALERT_RESOLVED : ALERT_INACTIVE, now);
        return;
    }
    if (now - a->began < a->rule.hold || (a->raised && now - a->raised_at < a->rule.cooldown))
        return;
    enter(a, ALERT_FIRING, now);
    a->raised++;
    a->raised_at = now;
}

/* True when it is over. */
static bool step_firing(struct alert *a, tick_t now)
{
    if (alert_holds(&a->rule, a->value, true)) {
        a->clear = TICK_NEVER;
        return false;
    }
    if (a->clear == TICK_NEVER)
        a->clear = now;
    if (now - a->clear < a->rule.keep)
        return false;
    enter(a, ALERT_RESOLVED, now);
    return true;
}

/* The state of one alert; raises are told afterwards, when all states are known. */
static void step_one(struct alerts *all, struct alert *a, tick_t now)
{
    bool holds = alert_holds(&a->rule, a->value, false);
    if (a->state == ALERT_INACTIVE || a->state == ALERT_RESOLVED)
        step_idle(a, holds, now);
    if (a->state == ALERT_PENDING)
        step_pending(a, holds, now);
    else if (a->state == ALERT_FIRING && step_firing(a, now))
        note(all, a, ALERT_EVENT_RESOLVED, a->told, now);
}

/* What fires and was not told, the worst first, so that it covers the others of its group. */
static void tell(struct alerts *a, struct alert *one, tick_t now)
{
    bool fresh = one->since == now;
    if (one->told) {
        bool due = now - one->told_at >= ALERT_REPEAT && now >= one->silence;
        if (due && one->rule.severity >= ALERT_ERROR && one->clear == TICK_NEVER) {
            one->told_at = now;
            note(a, one, ALERT_EVENT_REPEATED, true, now);
        }
        return;
    }
    if (!one->covered && covered(a, one))
        one->covered = true; /* for this episode, also when the other ends first: it was told of */
    bool go = !one->covered && may_tell(a, one, now);
    if (go || fresh) {
        note(a, one, ALERT_EVENT_RAISED, go, now);
        a->history[(a->next - 1) % ALERT_HISTORY].late = !fresh;
    }
    if (go) {
        one->told = true;
        one->told_at = now;
    }
}

size_t alerts_step(struct alerts *a, alert_value *value, void *ctx, tick_t now, uint64_t *first)
{
    *first = a->unread;
    for (size_t i = 0; i < a->count; i++)
        if (a->all[i].rule.enabled) {
            a->all[i].value = value(ctx, &a->all[i].rule);
            step_one(a, &a->all[i], now);
        }
    for (int severity = ALERT_SEVERITY_COUNT - 1; severity >= 0; severity--)
        for (size_t i = 0; i < a->count; i++)
            if (fires(&a->all[i]) && a->all[i].rule.severity == severity)
                tell(a, &a->all[i], now);
    if (a->next - *first > ALERT_HISTORY)
        *first = a->next - ALERT_HISTORY;
    a->unread = a->next;
    return (size_t)(a->next - *first);
}

bool alerts_silence(struct alerts *a, const char *id, tick_t until)
{
    struct alert *one = find(a, id);
    if (one)
        one->silence = until;
    return one != NULL;
}

/* ---- looking ---- */

size_t alerts_count(const struct alerts *a)
{
    return a->count;
}

static void look(const struct alert *one, struct alert_view *out)
{
    *out = (struct alert_view){.rule = &one->rule,
                               .state = one->state,
                               .since = one->since,
                               .began = one->began,
                               .silence = one->silence,
                               .value = one->value,
                               .raised = one->raised,
                               .told = one->told};
}

void alerts_look(const struct alerts *a, size_t i, struct alert_view *out)
{
    look(&a->all[i], out);
}

bool alerts_find(const struct alerts *a, const char *id, struct alert_view *out)
{
    const struct alert *one = find(a, id);
    if (one)
        look(one, out);
    return one != NULL;
}

void alerts_firing(const struct alerts *a, unsigned out[ALERT_SEVERITY_COUNT])
{
    memset(out, 0, ALERT_SEVERITY_COUNT * sizeof *out);
    for (size_t i = 0; i < a->count; i++)
        if (fires(&a->all[i]))
            out[a->all[i].rule.severity]++;
}

uint64_t alerts_history(const struct alerts *a)
{
    return a->next;
}

bool alerts_event(const struct alerts *a, uint64_t number, struct alert_event *out)
{
    if (number >= a->next || a->next - number > ALERT_HISTORY)
        return false;
    *out = a->history[number % ALERT_HISTORY];
    return true;
}
