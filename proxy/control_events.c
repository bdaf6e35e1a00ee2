/*
 * What the live stream is told of at once: changes of breakers, of recommendations, of the configuration, and
 * alerts. Invariants: looking whether there is something new costs an atomic load; nothing is put together
 * while nobody listens.
 */
#include <string.h>

#include "proxy/adviser.h"
#include "proxy/control_internal.h"
#include "proxy/guard.h"
#include "proxy/log.h"
#include "proxy/sentry.h"

void control_put_change(const struct control *c, struct view *v, const struct guard_change *change)
{
    char when[LOG_TIME_BYTES];
    log_time(sentry_wall(change->at, control_now()), when);
    view_text(v, "time", when);
    view_text(v, "name", control_circuit_name(c, change->operation));
    view_text(v, "from", breaker_state_name(change->from));
    view_text(v, "to", breaker_state_name(change->to));
    view_text(v, "cause", change->to == BREAKER_OPEN ? breaker_cause_name(change->cause) : NULL);
}

static void tell_breakers(struct control *c)
{
    struct guard_change change;
    uint64_t next = guard_changes(c->service.guard);
    for (; c->told.breaker < next; c->told.breaker++) {
        struct view *v = NULL;
        if (admin_heard(c->admin) && guard_change(c->service.guard, c->told.breaker, &change) &&
            (v = view_new()))
            control_put_change(c, v, &change);
        admin_event(c->admin, "breaker", v);
    }
}

void control_events_turn(struct control *c)
{
    tell_breakers(c);
}

void control_events_second(struct control *c)
{
    struct adviser_view one;
    for (int kind = 0; c->adviser && kind < ADVISE_KINDS; kind++) {
        uint8_t state = ADVISER_NONE;
        if (adviser_look(c->adviser, (enum advise_kind)kind, &one))
            state = (uint8_t)one.state;
        if (state == c->told.advice[kind])
            continue;
        c->told.advice[kind] = state;
        struct view *v = admin_heard(c->admin) ? view_new() : NULL;
        if (v) {
            view_text(v, "id", adviser_id((enum advise_kind)kind));
            view_text(v, "state", adviser_state_name(state));
        }
        admin_event(c->admin, "recommendation", v);
    }
}

void control_events_config(struct control *c, const struct config *before)
{
    struct view *v = admin_heard(c->admin) ? view_new() : NULL;
    if (v) {
        view_array(v, "changed");
        for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
            if (!config_same_value(c->cfg, before, i))
                view_text(v, NULL, config_option_row(i)->key);
        view_end(v);
    }
    admin_event(c->admin, "config", v);
}

void control_events_alerts(struct control *c, const struct alert_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct view *v = admin_heard(c->admin) ? view_new() : NULL;
        if (v)
            admin_put_alert_event(v, &events[i], control_now());
        admin_event(c->admin, "alert", v);
    }
}
