/*
 * API keys, the three ways to show one, replays, and the limits of each key.
 */
#ifndef ORIGIN_AUTH_H
#define ORIGIN_AUTH_H

#include <jansson.h>

#include "tests/origin/call.h"
#include "tests/origin/settings.h"

struct keyring;

/* A keyring with one key (api_key and secret NULL: the demonstration's key). NULL when out of memory. */
struct keyring *keyring_new(void);
void keyring_free(struct keyring *ring);
/* Adds a key whose text is known. False when out of memory or too many. */
bool keyring_add(struct keyring *ring, const char *api_key, const char *secret);
/* Forgets nonces and spent limits, and revokes the keys that were made since. */
void keyring_reset(struct keyring *ring);

#define DEMO_API_KEY    "po_demoDemo0000000000000001"
#define DEMO_SECRET_KEY "demo-secret-key-of-the-stand-in"

/*
 * Decides whether the request may go on, by its credential and its key's limits. False: the reply is set.
 * On true call->key may still be NULL (credentials are not required).
 */
bool auth_check(struct call *call, const struct settings *settings);
/* Answers as one over the limit is answered. `now` in ns since 1970, for the time of the reset. */
void auth_answer_limited(struct call *call, enum dialect dialect, int64_t retry_after);

/* Handlers. */
handler op_list_keys, op_create_key, op_delete_key, op_validate_key, op_check_key, op_usage_limits;

#endif
