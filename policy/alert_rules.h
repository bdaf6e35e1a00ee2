/*
 * Which alerts there are: the built-in ones (alert_rules.def), those of the configuration, and those set by
 * the admin port, each of which replaces one of the same id before it.
 */
#ifndef POLICY_ALERT_RULES_H
#define POLICY_ALERT_RULES_H

#include "policy/alert.h"

struct alert_rules_setup {
    const struct alert_spec *configured, *admin; /* of the configuration, and set while running */
    size_t configured_count, admin_count;
    tick_t cooldown; /* performance.alert_cooldown_seconds, for those that do not say */
};

/*
 * Writes at most `room` rules. Returns how many there are. Strings are borrowed from the setup. A spec that
 * is off and names a built-in one switches that off; it keeps what it does not say.
 */
size_t alert_rules(const struct alert_rules_setup *setup, struct alert_rule *out, size_t room);

/* How many are built in. */
size_t alert_rules_built_in(void);

#endif
