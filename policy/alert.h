/*
 * Alerts: when is one raised, and when is it over? For each rule a state machine
 *
 *     INACTIVE -> PENDING (`for`) -> FIRING -> RESOLVED -> INACTIVE
 *
 * - PENDING falls back when the condition fails once: `for` means all the time.
 * - FIRING ends only when the value has been clear of the threshold by a margin (hysteresis), or unknown, for
 *   `keep`: one that dithers at the threshold is one episode. ("keep_firing_for" of Prometheus.)
 * - A new episode is not raised within the cool-down after the one before was raised; until then it is
 * PENDING.
 * - Within a group only what is worse than what was told already is told (a burnt error budget and a high
 * error rate are one incident); an alert is not told while the one that explains it fires (`muted_by`).
 * - A silenced alert goes its way untold; when it still fires at the silence's end it is told then.
 *
 * Rules, values and time are given; what is to be told comes out as events. Single owner.
 */
#ifndef POLICY_ALERT_H
#define POLICY_ALERT_H

#include "policy/alert_spec.h"

enum { ALERT_ID_BYTES = 65, ALERT_RULES_MOST = 1280, ALERT_HISTORY = 512 };

enum alert_state { ALERT_INACTIVE, ALERT_PENDING, ALERT_FIRING, ALERT_RESOLVED, ALERT_STATE_COUNT };

/* What one is judged by. Strings are copied where one is kept. */
struct alert_rule {
    const char *id;
    int metric;              /* enum alert_metric */
    const char *metric_name; /* CUSTOM_METRIC: whose; else "" */
    int compare;             /* enum alert_compare */
    double threshold;
    int severity; /* enum alert_severity */
    const char *message;
    const char *group;    /* those of one cause; "" = it stands alone */
    const char *muted_by; /* id of the alert that explains this one; "" = none */
    const char *origin;   /* "built-in", "configuration" or "admin" */
    tick_t hold, cooldown;
    tick_t keep; /* how long it must be clear before it is over */
    bool enabled;
};

enum alert_event_kind {
    ALERT_EVENT_RAISED,
    ALERT_EVENT_REPEATED, /* an error or worse that still fires, ALERT_REPEAT after it was told last */
    ALERT_EVENT_RESOLVED
};

#define ALERT_REPEAT (4 * 3600 * TICK_S)

struct alert_event {
    enum alert_event_kind kind;
    char id[ALERT_ID_BYTES];
    int severity;
    tick_t at, since; /* since: the episode's beginning */
    double value;     /* NAN: unknown */
    double threshold;
    int metric, compare;
    bool told; /* goes to receivers; else silenced, or covered by another */
    bool late; /* RAISED: it was before, and is told only now */
};

/* One alert, for showing. */
struct alert_view {
    const struct alert_rule *rule; /* valid until the rules change */
    enum alert_state state;
    tick_t since;   /* of the state */
    tick_t began;   /* of the episode: when the condition became true; 0 when INACTIVE */
    tick_t silence; /* until when; 0: not silenced */
    double value;   /* last seen; NAN: unknown */
    uint64_t raised;
    bool told; /* this episode was */
};

struct alerts; /* private */

/* NULL: out of memory. */
struct alerts *alerts_new(void);
void alerts_free(struct alerts *a);

/*
 * Other rules; all are copied. What an alert of the same id, metric, comparison and threshold has gone
 * through stays; others begin anew, and one that fired and is gone is resolved in the next step. False: out
 * of memory, or more than ALERT_RULES_MOST; nothing has changed.
 */
bool alerts_set_rules(struct alerts *a, const struct alert_rule *rules, size_t count, tick_t now) MUSTCHECK;

/* Is the condition true of this value? With `leave`, is it clear of the threshold by less than the margin?
 * NAN: false. */
bool alert_holds(const struct alert_rule *rule, double value, bool leave);

/*
 * Judges all rules at `now`; `value` gives what a rule measures, NAN when it is not known (no data is not
 * zero). Events lie in the history afterwards: those from `*first` on, of the numbers of alerts_history().
 * Returns how many.
 */
typedef double alert_value(void *ctx, const struct alert_rule *rule);
size_t alerts_step(struct alerts *a, alert_value *value, void *ctx, tick_t now, uint64_t *first);

/* Untold until then; 0 ends a silence. False: no such alert. */
bool alerts_silence(struct alerts *a, const char *id, tick_t until) MUSTCHECK;

size_t alerts_count(const struct alerts *a);
void alerts_look(const struct alerts *a, size_t i, struct alert_view *out); /* i < alerts_count */
bool alerts_find(const struct alerts *a, const char *id, struct alert_view *out);

/* Alerts that fire now, by severity. */
void alerts_firing(const struct alerts *a, unsigned out[ALERT_SEVERITY_COUNT]);

/* Events are numbered from 0; the newest ALERT_HISTORY are kept. Returns the number of the next one. */
uint64_t alerts_history(const struct alerts *a);
/* False: not there any more, or not yet. */
bool alerts_event(const struct alerts *a, uint64_t number, struct alert_event *out);

/* "inactive", ...; "raised", ... "" for a number out of range. */
const char *alert_state_name(int state);
const char *alert_event_name(int kind);

#endif
