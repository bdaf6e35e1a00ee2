/*
 * The preset `promptops`: the operations of the PromptOps API, its older paths included. The API sends no
 * freshness of its own, so the rows say how long an answer may be served, and which writes end that.
 *
 * Invariants: only a version named by number lives for long ({version#}), because a published version does
 * not change while `latest`, a label or a list may; whatever reads a prompt has the tag prompt:{prompt_id~},
 * every list has the tag `prompts`, and every write of a prompt purges both. A create names its prompt in its
 * body alone and may be a new version of one that is there: it purges `latest`, which has all that a new
 * version can change. Usage, keys and health are never stored.
 */
#include "policy/route.h"

/* clang-format off: a table */
#define BIT(method) (UINT32_C(1) << METHOD_##method)
#define READ        BIT(GET)
#define WRITE       (BIT(POST) | BIT(PUT) | BIT(PATCH) | BIT(DELETE))
#define CHANGE      (BIT(PUT) | BIT(PATCH))

#define PROMPT_TAG "prompt:{prompt_id~}"

#define LIST_TTL    (30 * TICK_S)
#define PROMPT_TTL  (60 * TICK_S)
#define VERSION_TTL (24 * 3600 * TICK_S)

#define STORED(template, name, how_long, ...)                                                                \
    {                                                                                                        \
        .path = template, .methods = READ, .operation = name, .has_ttl = true, .ttl = how_long, .tags = {    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }

#define LIVE(template, which, name)                                                                          \
    {                                                                                                        \
        .path = template, .methods = which, .operation = name, .no_store = true                              \
    }

#define WRITES(template, which, name)                                                                        \
    {                                                                                                        \
        .path = template, .methods = which, .operation = name, .no_store = true, .invalidates = {            \
            PROMPT_TAG,                                                                                      \
            "prompts"                                                                                        \
        }                                                                                                    \
    }

#define CREATES(template)                                                                                    \
    {                                                                                                        \
        .path = template, .methods = BIT(POST), .operation = "create_prompt", .no_store = true,              \
        .invalidates = {                                                                                     \
            "prompts",                                                                                       \
            "latest"                                                                                         \
        }                                                                                                    \
    }

/* What every generation of the API has under its collection of prompts. */
#define PROMPTS(base)                                                                                        \
    {.path = base "/batch", .methods = BIT(POST), .operation = "batch_get", .no_store = true, .safe = true}, \
        STORED(base, "search_prompts", LIST_TTL, "prompts"),                                                 \
        STORED(base "/", "search_prompts", LIST_TTL, "prompts"), CREATES(base), CREATES(base "/"),           \
        STORED(base "/{prompt_id}", "get_prompt", PROMPT_TTL, PROMPT_TAG, "latest"),                         \
        STORED(base "/{prompt_id}/versions", "list_versions", PROMPT_TTL, PROMPT_TAG, "latest"),             \
        STORED(base "/{prompt_id}/versions/{version#}", "get_prompt_version", VERSION_TTL, PROMPT_TAG),      \
        STORED(base "/{prompt_id}/versions/{version}", "get_prompt_version", PROMPT_TTL, PROMPT_TAG,         \
               "latest"),                                                                                    \
        STORED(base "/{prompt_id}/model/{provider}/{name}", "get_model_prompt", PROMPT_TTL, PROMPT_TAG,      \
               "latest"),                                                                                    \
        LIVE(base "/{prompt_id}/render", BIT(POST), "render_prompt"),                                        \
        WRITES(base "/{prompt_id}", BIT(DELETE), "delete_prompt"),                                           \
        WRITES(base "/{prompt_id}", BIT(POST) | CHANGE, "update_prompt"),                                    \
        WRITES(base "/{prompt_id}/{rest...}", WRITE, "update_prompt")

/* The older clients name a version right behind the prompt. */
#define OLDER(base)                                                                                          \
    PROMPTS(base),                                                                                           \
        STORED(base "/{prompt_id}/compatibility/{provider}/{model}", "check_compatibility", PROMPT_TTL,      \
               PROMPT_TAG, "latest"),                                                                        \
        STORED(base "/{prompt_id}/latest", "get_prompt", PROMPT_TTL, PROMPT_TAG, "latest"),                  \
        STORED(base "/{prompt_id}/{version#}", "get_prompt_version", VERSION_TTL, PROMPT_TAG)

static const struct route_spec preset[] = {
    PROMPTS("/v1/client/prompts"),
    LIVE("/v1/client/usage/log", BIT(POST), "log_usage"),
    LIVE("/v1/client/usage/stats", READ, "usage_stats"),
    LIVE("/v1/client/usage/limits", READ, "usage_limits"),
    LIVE("/v1/client/usage/{rest...}", 0, "usage"),
    LIVE("/v1/client/auth/api-keys", READ, "list_keys"),
    LIVE("/v1/client/auth/api-keys", BIT(POST), "create_key"),
    LIVE("/v1/client/auth/api-keys/{key_id}", BIT(DELETE), "delete_key"),
    LIVE("/v1/client/auth/validate", BIT(POST), "validate_key"),
    LIVE("/v1/client/auth/{rest...}", 0, "keys"),
    LIVE("/auth/{rest...}", 0,
         "keys"), /* the TypeScript client asks /auth/validate whether its key is good */
    LIVE("/api/v1/auth/{rest...}", 0, "keys"),
    LIVE("/health", 0, "health"),
    OLDER("/api/prompts"),
    OLDER("/prompts"),
    OLDER("/api/v1/prompts"),
    OLDER("/v1/prompts"),
    LIVE("/render", BIT(POST), "render_prompt"),
    LIVE("/v1/render", BIT(POST), "render_prompt"),
};

const struct route_spec *route_preset(size_t *count)
{
    *count = ARRAY_LEN(preset);
    return preset;
}
