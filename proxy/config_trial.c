/*
 * Tries the certificates and keys of a configuration, as a start would. Invariant: nothing is kept.
 */
#include "proxy/config_trial.h"

#include <stdio.h>
#include <string.h>

#include "proxy/admin.h"
#include "proxy/settings.h"
#include "proxy/tls.h"

/* A sentence of tls.h begins with the name of the key at fault, as far as it is one's. */
static int option_at_fault(const char *group, const char *sentence)
{
    char key[64];
    int option;
    snprintf(key, sizeof key, "%s%.*s", group, (int)strcspn(sentence, " "), sentence);
    option = config_option_find(key);
    if (option >= 0)
        return option;
    snprintf(key, sizeof key, "%scertificate_file", group);
    return config_option_find(key);
}

void config_try_tls(const struct config *cfg, struct config_errors *errors)
{
    static const struct {
        const char *group;
        bool (*make)(const struct config *cfg, struct tls_context **out, char *err, size_t err_size);
    } trials[] = {
        {"listen.tls.", settings_server_tls},
        {"upstream.tls.", settings_client_tls},
        {"admin.tls.", admin_tls},
    };
    for (size_t i = 0; i < ARRAY_LEN(trials); i++) {
        char why[512] = "";
        struct tls_context *context = NULL;
        if (!trials[i].make(cfg, &context, why, sizeof why)) {
            int option = option_at_fault(trials[i].group, why);
            config_errors_add(errors, config_place_of(cfg, option), config_option_row(option)->key,
                              "%s, allowed: PEM files that belong together", why);
        }
        tls_context_unref(context);
    }
}
