/*
 * The table of the admin port's endpoints, and what is generated from it: the list at /api/v1 and the
 * OpenAPI document.
 * Invariant: nothing is said of an endpoint that does not stand in its row.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "proxy/admin_request.h"
#include "proxy/version.h"

const struct admin_endpoint admin_endpoints[] = {
#define ENDPOINT(method, path, handler, access, statuses, query, body, answer, what)                         \
    {ADMIN_##method, path, handler, ADMIN_ACCESS_##access, statuses, query, body, answer, what},
#include "proxy/admin_endpoints.def"
    {0, NULL, NULL, ADMIN_ACCESS_GUARDED, NULL, NULL, NULL, NULL, NULL}};

const char *admin_method_name(enum admin_method method)
{
    switch (method) {
    case ADMIN_GET:
        return "GET";
    case ADMIN_POST:
        return "POST";
    case ADMIN_PUT:
        return "PUT";
    case ADMIN_PATCH:
        return "PATCH";
    case ADMIN_DELETE:
        return "DELETE";
    case ADMIN_OPTIONS:
        return "OPTIONS";
    }
    return "";
}

/* ---- the list ---- */

static bool first_of_path(const struct admin_endpoint *e)
{
    for (const struct admin_endpoint *other = admin_endpoints; other < e; other++)
        if (strcmp(other->path, e->path) == 0)
            return false;
    return true;
}

void admin_show_endpoints(struct admin_request *r)
{
    struct view *v = view_new();
    if (v) {
        view_array(v, "paths");
        for (const struct admin_endpoint *e = admin_endpoints; e->path; e++) {
            view_object(v, NULL);
            view_text(v, "path", e->path);
            view_text(v, "method", admin_method_name(e->method));
            view_text(v, "what", e->what);
            view_text(v, "query", e->query);
            view_bool(v, "built", e->handle != admin_absent);
            view_end(v);
        }
        view_end(v);
    }
    admin_reply(r, 200, v);
}

/* ---- the OpenAPI document ---- */

/* One "name:type" of a row. */
struct item {
    char name[64];
    char type[64];
    char mark; /* '!', '?' or 0 */
};

/* Takes the next item off *p. False at the end. */
static bool next_item(const char **p, struct item *out)
{
    *p += strspn(*p, " ");
    size_t n = strcspn(*p, " "), name = strcspn(*p, ": ");
    if (!n)
        return false;
    size_t type = n > name ? n - name - 1 : 0;
    out->mark = '\0';
    if (type && strchr("!?", (*p)[n - 1])) {
        out->mark = (*p)[n - 1];
        type--;
    }
    snprintf(out->name, sizeof out->name, "%.*s", (int)name, *p);
    snprintf(out->type, sizeof out->type, "%.*s", (int)type, *p + name + (n > name));
    *p += n;
    return true;
}

static void put_type(struct view *v, const struct item *item)
{
    const char *type = item->type;
    bool words = strchr(type, '|') != NULL;
    const char *plain = words || strcmp(type, "duration") == 0 || strcmp(type, "time") == 0 ? "string" : type;
    if (item->mark == '?') {
        view_array(v, "type");
        view_text(v, NULL, plain);
        view_text(v, NULL, "null");
        view_end(v);
    } else {
        view_text(v, "type", plain);
    }
    if (strcmp(type, "duration") == 0)
        view_text(v, "description", "250ms, 30s, 5m, 1h, or plain seconds");
    if (strcmp(type, "time") == 0)
        view_text(v, "description", "2024-01-01T00:00:00 (UTC), seconds since 1970, or -30m");
    if (strcmp(type, "array") == 0) {
        view_object(v, "items");
        view_end(v);
    }
    if (!words)
        return;
    view_array(v, "enum");
    for (const char *p = type; *p; p += *p == '|') {
        size_t n = strcspn(p, "|");
        view_slice(v, NULL, (struct slice){p, n});
        p += n;
    }
    view_end(v);
}

/* The schema of an object: in an answer what has no mark is required, in a body what has '!'. */
static void put_schema(struct view *v, const char *members, bool body)
{
    struct item item;
    const char *p;
    bool any = false;
    view_object(v, "schema");
    view_text(v, "type", "object");
    if (strcmp(members, "*") != 0) {
        view_object(v, "properties");
        for (p = members; next_item(&p, &item);) {
            view_object(v, item.name);
            put_type(v, &item);
            view_end(v);
            any |= body ? item.mark == '!' : item.mark != '?';
        }
        view_end(v);
        if (any)
            view_array(v, "required");
        for (p = members; any && next_item(&p, &item);)
            if (body ? item.mark == '!' : item.mark != '?')
                view_text(v, NULL, item.name);
        if (any)
            view_end(v);
    }
    view_end(v);
}

static void put_content(struct view *v, const char *members, bool body)
{
    static const char *const types[] = {"application/json", "application/msgpack"};
    view_object(v, "content");
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        view_object(v, types[i]);
        put_schema(v, members, body);
        view_end(v);
    }
    view_end(v);
}

static void put_parameters(struct view *v, const struct admin_endpoint *e)
{
    const char *open = strchr(e->path, '{'), *p = e->query;
    struct item item;
    view_array(v, "parameters");
    if (open) {
        view_object(v, NULL);
        view_slice(v, "name", (struct slice){open + 1, strcspn(open + 1, "}")});
        view_text(v, "in", "path");
        view_bool(v, "required", true);
        view_json(v, "schema", "{\"type\": \"string\"}");
        view_end(v);
    }
    while (next_item(&p, &item)) {
        view_object(v, NULL);
        view_text(v, "name", item.name);
        view_text(v, "in", "query");
        view_bool(v, "required", item.mark == '!');
        view_object(v, "schema");
        put_type(v, &item);
        view_end(v);
        view_end(v);
    }
    view_end(v);
}

static void put_error(struct view *v, const char *status, const char *what)
{
    view_object(v, status);
    view_text(v, "description", what);
    view_json(v, "content",
              "{\"application/json\": {\"schema\": {\"$ref\": \"#/components/schemas/Error\"}},"
              " \"application/msgpack\": {\"schema\": {\"$ref\": \"#/components/schemas/Error\"}}}");
    view_end(v);
}

static const struct {
    const char *status, *what;
    bool guarded; /* not for what is open */
    bool change;  /* for changes only */
} common[] = {
    {"400", "malformed: what is wrong and what to send instead", false, false},
    {"401", "the token is missing or wrong", true, false},
    {"403", "a change that came from another page", true, true},
    {"413", "the body is too large", false, true},
    {"421", "the Host field names another host", true, false},
    {"429", "too many requests; Retry-After says when", true, false},
    {"503", "out of memory, or the audit log cannot be written", false, false},
};

static const char *error_text(const char *status)
{
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        if (strcmp(common[i].status, status) == 0)
            return common[i].what;
    return strcmp(status, "404") == 0   ? "there is nothing of this name"
           : strcmp(status, "409") == 0 ? "not while things are as they are"
           : strcmp(status, "501") == 0 ? "not built in this version"
                                        : "an error";
}

static void put_good(struct view *v, const struct admin_endpoint *e, const char *status)
{
    view_object(v, status);
    view_text(v, "description", e->what);
    if (strcmp(e->answer, "page") == 0)
        view_json(v, "content", "{\"text/html\": {\"schema\": {\"type\": \"string\"}}}");
    else if (strcmp(e->answer, "text") == 0)
        view_json(v, "content", "{\"text/plain\": {\"schema\": {\"type\": \"string\"}}}");
    else
        put_content(v, e->answer, false);
    view_end(v);
}

/* True when `status` is among the words of the list. */
static bool listed(const char *list, const char *status)
{
    const char *at = strstr(list, status);
    return at && (at == list || at[-1] == ' ');
}

static void put_responses(struct view *v, const struct admin_endpoint *e)
{
    char status[8];
    bool health = e->access == ADMIN_ACCESS_OPEN;
    view_object(v, "responses");
    for (const char *p = e->statuses; *p; p += *p == ' ') {
        size_t n = strcspn(p, " ");
        snprintf(status, sizeof status, "%.*s", (int)n, p);
        if (*status == '2' || (health && strcmp(status, "503") == 0))
            put_good(v, e, status); /* health says why in the same form */
        else
            put_error(v, status, error_text(status));
        p += n;
    }
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        if (!(common[i].guarded && health) && !(common[i].change && e->method == ADMIN_GET) &&
            !listed(e->statuses, common[i].status))
            put_error(v, common[i].status, common[i].what);
    view_end(v);
}

static void put_operation(struct view *v, const struct admin_endpoint *e)
{
    char name[8] = "", id[128];
    const char *method = admin_method_name(e->method);
    for (size_t i = 0; method[i] && i + 1 < sizeof name; i++)
        name[i] = (char)tolower((unsigned char)method[i]);
    size_t n = (size_t)snprintf(id, sizeof id, "%s", name);
    for (const char *p = e->path; *p && n + 1 < sizeof id; p++)
        id[n++] = (char)(isalnum((unsigned char)*p) ? *p : '_');
    id[n] = '\0';
    view_object(v, name);
    view_text(v, "operationId", id);
    view_text(v, "summary", e->what);
    view_bool(v, "x-built", e->handle != admin_absent);
    put_parameters(v, e);
    if (*e->body) {
        view_object(v, "requestBody");
        view_bool(v, "required", true);
        put_content(v, e->body, true);
        view_end(v);
    }
    put_responses(v, e);
    if (e->access == ADMIN_ACCESS_GUARDED || e->access == ADMIN_ACCESS_LIVE)
        view_json(v, "security", "[{}, {\"token\": []}, {\"session\": []}]");
    view_end(v);
}

void admin_show_openapi(struct admin_request *r)
{
    struct view *v = view_new();
    if (v) {
        view_text(v, "openapi", "3.1.0");
        view_object(v, "info");
        view_text(v, "title", "promptops-sidecar admin port");
        view_text(v, "version", PROMPTOPS_SIDECAR_VERSION);
        view_end(v);
        view_object(v, "paths");
        for (const struct admin_endpoint *e = admin_endpoints; e->path; e++) {
            if (!first_of_path(e))
                continue;
            view_object(v, e->path);
            for (const struct admin_endpoint *same = e; same->path; same++)
                if (strcmp(same->path, e->path) == 0)
                    put_operation(v, same);
            view_end(v);
        }
        view_end(v);
        view_json(v, "components",
                  "{\"securitySchemes\": {\"token\": {\"type\": \"http\", \"scheme\": \"bearer\"}, "
                  "\"session\": {\"type\": \"apiKey\", \"in\": \"cookie\", \"name\": \"promptops_session\"}},"
                  " \"schemas\": {\"Error\": {\"type\": \"object\", \"required\": [\"success\", \"error\","
                  " \"remedy\", \"status_code\"], \"properties\": {\"success\": {\"type\": \"boolean\"},"
                  " \"error\": {\"type\": \"string\"}, \"remedy\": {\"type\": \"string\"},"
                  " \"status_code\": {\"type\": \"integer\"}}}}}");
    }
    admin_reply(r, 200, v);
}
