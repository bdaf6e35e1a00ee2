/*
 * The rows of `routes:`. Invariants: a path template is made of whole segments, each variable in it
 * once; every {name} of a tag is one of the path's, so that compiling a route cannot fail for what
 * was written here.
 */
#include <string.h>

#include "policy/config_items.h"
#include "policy/head.h"

#define MAX_PATH     1024u
#define MAX_SEGMENTS 32u
#define MAX_NAME     32u

static const struct config_option_row text_row = {.type = CONFIG_TYPE_STRING};
static const struct config_option_row bool_row = {.type = CONFIG_TYPE_BOOL};
static const struct config_option_row ttl_row = {
    .type = CONFIG_TYPE_DURATION, .least = "0s", .most = "8760h"};
static const struct config_option_row timeout_row = {
    .type = CONFIG_TYPE_DURATION, .least = "1ms", .most = "24h"};
static const struct config_option_row attempts_row = {.type = CONFIG_TYPE_INT, .least = "1", .most = "20"};

/* Length of "{name" behind the brace when it is a good name that ends before `end`; 0 when not. */
static size_t name_length(const char *p)
{
    size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return n <= MAX_NAME && !(*p >= '0' && *p <= '9') ? n : 0;
}

/* True when the path template has the variable. */
static bool has_variable(const char *path, const char *name, size_t n)
{
    for (const char *p = strchr(path, '{'); p; p = strchr(p + 1, '{'))
        if (strncmp(p + 1, name, n) == 0 && (p[n + 1] == '}' || p[n + 1] == '.'))
            return true;
    return false;
}

/* One segment of n bytes: plain text, "{name}", or as the last one "{name...}". NULL when good. */
static const char *check_segment(const char *p, size_t n, bool last)
{
    if (!memchr(p, '{', n) && !memchr(p, '}', n))
        return strcspn(p, "?# ") < n ? "has a query, a fragment or a space" : NULL;
    size_t name = *p == '{' ? name_length(p + 1) : 0;
    if (name == 0)
        return "has a { or } that is not a whole segment {name}, names being letters, digits and _";
    if (n == name + 2 && p[name + 1] == '}')
        return NULL;
    if (n == name + 5 && strncmp(p + name + 1, "...}", 4) == 0)
        return last ? NULL : "has a {name...} that is not its last segment";
    return "has a { or } that is not a whole segment {name}, names being letters, digits and _";
}

static const char *check_path(const char *path)
{
    size_t segments = 0;
    if (*path != '/' || strlen(path) > MAX_PATH)
        return "must begin with / and have at most 1024 bytes";
    for (const char *p = path + 1;; p++) {
        size_t n = strcspn(p, "/");
        const char *wrong = check_segment(p, n, p[n] == '\0');
        if (wrong)
            return wrong;
        if (++segments > MAX_SEGMENTS)
            return "has more than 32 segments";
        if (*p == '{' && has_variable(p + n, p + 1, name_length(p + 1)))
            return "has the same variable twice";
        p += n;
        if (*p == '\0')
            return NULL;
    }
}

static bool set_path(struct config_parse *parse, void *item, const char *text)
{
    struct route_spec *r = item;
    char shown[CONFIG_SHOWN];
    const char *wrong = check_path(text);
    if (wrong)
        return config_refuse(parse, "%s %s, allowed: a template such as /v1/client/prompts/{prompt_id}",
                             config_shown(text, shown), wrong);
    return config_value_parse(parse, &text_row, text, &r->path);
}

static bool set_method(struct config_parse *parse, void *item, const char *text)
{
    static const struct {
        const char *name;
        enum method method;
    } methods[] = {
        {"GET", METHOD_GET},       {"HEAD", METHOD_HEAD},   {"POST", METHOD_POST},       {"PUT", METHOD_PUT},
        {"DELETE", METHOD_DELETE}, {"PATCH", METHOD_PATCH}, {"OPTIONS", METHOD_OPTIONS},
    };
    struct route_spec *r = item;
    char shown[CONFIG_SHOWN];
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (strcmp(methods[i].name, text) == 0) {
            r->methods |= 1u << methods[i].method;
            return true;
        }
    }
    return config_refuse(parse, "%s is not known, allowed: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS",
                         config_shown(text, shown));
}

static bool set_operation(struct config_parse *parse, void *item, const char *text)
{
    struct route_spec *r = item;
    char shown[CONFIG_SHOWN];
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    if (n == 0 || n > 64 || text[n] != '\0')
        return config_refuse(parse, "%s is not a name, allowed: up to 64 letters, digits, _ . and -",
                             config_shown(text, shown));
    return config_value_parse(parse, &text_row, text, &r->operation);
}

static bool set_cached(struct config_parse *parse, void *item, const char *text)
{
    bool enabled = true;
    bool good = config_value_parse(parse, &bool_row, text, &enabled);
    ((struct route_spec *)item)->no_store = !enabled;
    return good;
}

static bool set_ttl(struct config_parse *parse, void *item, const char *text)
{
    struct route_spec *r = item;
    r->has_ttl = true;
    return config_value_parse(parse, &ttl_row, text, &r->ttl);
}

static bool set_safe(struct config_parse *parse, void *item, const char *text)
{
    return config_value_parse(parse, &bool_row, text, &((struct route_spec *)item)->safe);
}

static bool set_attempts(struct config_parse *parse, void *item, const char *text)
{
    int64_t attempts = 0;
    bool good = config_value_parse(parse, &attempts_row, text, &attempts);
    ((struct route_spec *)item)->max_attempts = (int)attempts;
    return good;
}

static bool set_timeout(struct config_parse *parse, void *item, const char *text)
{
    return config_value_parse(parse, &timeout_row, text, &((struct route_spec *)item)->timeout);
}

static bool add_tag(struct config_parse *parse, const char **tags, const char *text)
{
    size_t n = 0;
    while (n < ROUTE_MAX_TAGS && tags[n])
        n++;
    if (n == ROUTE_MAX_TAGS)
        return config_refuse(parse, "more tags than %d, allowed: at most %d", ROUTE_MAX_TAGS, ROUTE_MAX_TAGS);
    if (*text == '\0' || strlen(text) > 256)
        return config_refuse(parse, "a tag has from 1 to 256 bytes, such as prompt:{prompt_id}");
    return config_value_parse(parse, &text_row, text, &tags[n]);
}

static bool set_tag(struct config_parse *parse, void *item, const char *text)
{
    return add_tag(parse, ((struct route_spec *)item)->tags, text);
}

static bool set_invalidated(struct config_parse *parse, void *item, const char *text)
{
    return add_tag(parse, ((struct route_spec *)item)->invalidates, text);
}

/* Every {name} of a tag must be a variable of the path; `star`: a last * stands for anything. */
static bool check_tag(struct config_parse *parse, const char *path, const char *tag, bool star)
{
    char shown[CONFIG_SHOWN];
    const char *p = tag;
    while (*(p += strcspn(p, "{}*")) != '\0') {
        size_t n = *p == '{' ? name_length(p + 1) : 0;
        if (*p == '*' && (!star || p[1] != '\0'))
            return config_refuse(parse,
                                 "the tag %s has a *, which is allowed only at the end of one in invalidates",
                                 config_shown(tag, shown));
        if (*p == '*')
            return true;
        if (n == 0 || p[n + 1] != '}' || !has_variable(path, p + 1, n))
            return config_refuse(parse, "the tag %s has a {name} that is not in match.path",
                                 config_shown(tag, shown));
        p += n + 2;
    }
    return true;
}

static void begin(void *item)
{
    *(struct route_spec *)item = (struct route_spec){0};
}

static bool finish(struct config_parse *parse, void *item)
{
    const struct route_spec *r = item;
    if (!r->path)
        return config_refuse(parse,
                             "has no match.path, allowed: a template such as /v1/client/prompts/{prompt_id}");
    for (size_t i = 0; i < ROUTE_MAX_TAGS && r->tags[i]; i++)
        if (!check_tag(parse, r->path, r->tags[i], false))
            return false;
    for (size_t i = 0; i < ROUTE_MAX_TAGS && r->invalidates[i]; i++)
        if (!check_tag(parse, r->path, r->invalidates[i], true))
            return false;
    if (r->no_store && (r->has_ttl || r->tags[0]))
        return config_refuse(
            parse, "cache.enabled is false, so cache.ttl and cache.tags have no meaning; leave them out");
    return true;
}

static const struct config_item_field fields[] = {
    {"match", CONFIG_MAPPING, "", NULL},
    {"match.path", CONFIG_SCALAR,
     "Template of the path; `{name}` is one segment, a last `{name...}` the rest.", set_path},
    {"match.methods", CONFIG_SEQUENCE, "Methods; none = all.", set_method},
    {"operation", CONFIG_SCALAR, "Name in metrics and logs; left out = made from the path.", set_operation},
    {"safe", CONFIG_SCALAR, "`true`: a POST that only reads; it may be retried.", set_safe},
    {"cache", CONFIG_MAPPING, "", NULL},
    {"cache.enabled", CONFIG_SCALAR, "`false`: answers are never stored.", set_cached},
    {"cache.ttl", CONFIG_SCALAR, "How long an answer is fresh when the origin does not say.", set_ttl},
    {"cache.tags", CONFIG_SEQUENCE, "Tags of the stored answer, for purging; may use the path's `{name}`s.",
     set_tag},
    {"retry", CONFIG_MAPPING, "", NULL},
    {"retry.max_attempts", CONFIG_SCALAR, "As `retry.max_attempts`, for this route.", set_attempts},
    {"timeout", CONFIG_SCALAR, "For the whole request, all attempts together.", set_timeout},
    {"invalidates", CONFIG_SEQUENCE, "Tags that a success purges; may use `{name}`s and a last `*`.",
     set_invalidated},
    {NULL, CONFIG_SCALAR, NULL, NULL},
};

const struct config_item_field *config_route_fields(void)
{
    return fields;
}

void config_routes_read(struct config_build *build, const struct config_run *run)
{
    static const struct config_item_kind kind = {fields, sizeof(struct route_spec), begin, finish};
    struct config_routes *routes = &build->cfg->routes;
    routes->items = config_items_read(build, run, &kind, &routes->count);
}
