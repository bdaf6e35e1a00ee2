/*
 * The operations on prompts. Invariant: what is answered comes from the store as it is at that moment;
 * nothing is kept here.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tests/origin/api.h"
#include "tests/origin/jsonread.h"
#include "tests/origin/server.h"

enum { MAX_BATCH = 100 }; /* ids in a batch */

static const struct slice none = {NULL, 0};

static void reply_store(struct call *call, enum store_result r)
{
    switch (r) {
    case STORE_NO_PROMPT:
        reply_detail(call, 404, "Prompt not found");
        break;
    case STORE_NO_VERSION:
        reply_detail(call, 404, "Prompt version not found");
        break;
    case STORE_NO_ACCESS:
        reply_detail(call, 403, "No access to this prompt");
        break;
    case STORE_CONFLICT:
        reply_detail(call, 409, "This version exists already");
        break;
    default:
        reply_detail(call, 507, "The stand-in keeps no more prompts");
    }
}

/* The query's project_id in `text`; none when it is not there. */
static struct slice project_of(struct call *call, struct text *text)
{
    if (!call->request->query.n || !query_get(call->request->query, "project_id", text))
        return none;
    return (struct slice){text->p ? text->p : "", text->n};
}

static void reply_form(struct call *call, enum form form, struct slice version)
{
    struct text project = {0};
    struct blob *body = NULL;
    struct prompt_ref ref = {request_param(call, 0), version, project_of(call, &project)};
    enum store_result r = store_get(call->origin->store, &ref, form, &body);
    if (r == STORE_OK)
        reply_blob(call, 200, body);
    else
        reply_store(call, r);
    blob_unref(body);
    text_free(&project);
}

static bool is_newer_path(const struct call *call)
{
    return call->request->path.n > 4 && memcmp(call->request->path.p, "/v1/", 4) == 0;
}

/* Letters, digits, '_' and '-': all that get_prompt takes in an id, by its newer path. */
static bool is_plain_id(struct slice id)
{
    for (size_t i = 0; i < id.n; i++) {
        char c = id.p[i], l = (char)(c | 0x20);
        if (!(l >= 'a' && l <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-')
            return false;
    }
    return true;
}

void op_get_prompt(struct call *call)
{
    struct text project = {0};
    bool good = is_plain_id(request_param(call, 0)), own = is_plain_id(project_of(call, &project));
    text_free(&project);
    if (is_newer_path(call) && (!good || !own)) {
        reply_detail(call, 400, good ? "Invalid project ID format" : "Invalid prompt ID format");
        return;
    }
    reply_form(call, FORM_FULL, none);
}

void op_list_versions(struct call *call)
{
    reply_form(call, FORM_VERSIONS, none);
}

/* The older paths give every member, the newer one leaves the mas_ members out. */
void op_get_prompt_version(struct call *call)
{
    reply_form(call, is_newer_path(call) ? FORM_VERSION : FORM_FULL, request_param(call, 1));
}

/* --- lists --- */

struct search_texts {
    struct text query, project, module, sort_by, order, number;
};

static void free_texts(struct search_texts *t)
{
    text_free(&t->query);
    text_free(&t->project);
    text_free(&t->module);
    text_free(&t->sort_by);
    text_free(&t->order);
    text_free(&t->number);
}

static const char *query_text(struct call *call, const char *name, struct text *text)
{
    return query_get(call->request->query, name, text) ? text_cstr(text) : NULL;
}

static bool query_count(struct call *call, const char *name, struct text *text, uint64_t *out)
{
    if (!query_get(call->request->query, name, text))
        return true;
    return parse_number((struct slice){text->p ? text->p : "", text->n}, 1000000, out);
}

static void reply_bad_number(struct call *call, const char *name)
{
    struct text json = {0};
    text_printf(&json,
                "{\"detail\":[{\"loc\":[\"query\",\"%s\"],\"msg\":\"value is not a valid integer\","
                "\"type\":\"type_error.integer\"}]}",
                name);
    reply_json(call, 422, &json);
}

void op_search_prompts(struct call *call)
{
    struct search_texts t = {0};
    struct search s = {.limit = 50};
    struct text json = {0};
    uint64_t total = 0;
    s.query = query_text(call, "query", &t.query);
    s.project_id = query_text(call, "project_id", &t.project);
    s.module_id = query_text(call, "module_id", &t.module);
    s.sort_by = query_text(call, "sort_by", &t.sort_by);
    const char *order = query_text(call, "sort_order", &t.order);
    s.descending = !order || strcmp(order, "desc") == 0;
    if (!s.sort_by || (strcmp(s.sort_by, "updated_at") != 0 && strcmp(s.sort_by, "name") != 0))
        s.sort_by = "created_at";
    if (!query_count(call, "limit", &t.number, &s.limit)) {
        reply_bad_number(call, "limit");
    } else if (!query_count(call, "offset", &t.number, &s.offset)) {
        reply_bad_number(call, "offset");
    } else {
        text_puts(&json, "{\"prompts\":");
        store_search(call->origin->store, &s, false, &json, &total);
        text_printf(&json,
                    ",\"total\":%" PRIu64 ",\"limit\":%" PRIu64 ",\"offset\":%" PRIu64 ",\"has_more\":%s}",
                    total, s.limit, s.offset, s.offset + s.limit < total ? "true" : "false");
        reply_json(call, 200, &json);
    }
    free_texts(&t);
}

/* The older paths answer a bare list. */
void op_list_prompts(struct call *call)
{
    struct search_texts t = {0};
    struct search s = {.limit = 100, .sort_by = "created_at"};
    struct text json = {0};
    uint64_t total = 0;
    s.module_id = query_text(call, "module_id", &t.module);
    s.project_id = query_text(call, "project_id", &t.project);
    if (!query_count(call, "limit", &t.number, &s.limit)) {
        reply_bad_number(call, "limit");
    } else if (!query_count(call, "skip", &t.number, &s.offset)) {
        reply_bad_number(call, "skip");
    } else {
        store_search(call->origin->store, &s, true, &json, &total);
        reply_json(call, 200, &json);
    }
    free_texts(&t);
}

/* --- models --- */

static const json_t *find_model(const json_t *object, struct slice provider, struct slice name)
{
    const json_t *list = json_object_get(object, "model_specific_prompts"), *m;
    size_t i;
    json_array_foreach((json_t *)list, i, m)
    {
        const char *p = json_string_value(json_object_get(m, "model_provider"));
        const char *n = json_string_value(json_object_get(m, "model_name"));
        if (p && n && slice_is(provider, p) && (!name.p || slice_is(name, n)))
            return m;
    }
    return NULL;
}

static void add_member(struct text *json, const char *name, const json_t *value)
{
    text_printf(json, "%s\"%s\":", json->n > 1 ? "," : "", name);
    text_json_value(json, value);
}

void op_get_model_prompt(struct call *call)
{
    struct text project = {0}, json = {0};
    json_t *o = NULL;
    struct prompt_ref ref = {request_param(call, 0), none, project_of(call, &project)};
    enum store_result r = store_copy(call->origin->store, &ref, &o);
    text_free(&project);
    if (r != STORE_OK || !o) {
        reply_store(call, r);
        return;
    }
    const json_t *m = find_model(o, request_param(call, 1), request_param(call, 2));
    const json_t *instructions = json_object_get(m, "instructions");
    text_puts(&json, "{");
    add_member(&json, "id", json_object_get(o, "id"));
    add_member(&json, "version", json_object_get(o, "version"));
    add_member(&json, "name", json_object_get(o, "name"));
    add_member(&json, "description", instructions ? instructions : json_object_get(o, "description"));
    add_member(&json, "content", json_object_get(m ? m : o, "content"));
    text_printf(&json, ",\"is_model_specific\":%s,\"provider\":", m ? "true" : "false");
    text_json(&json, request_param(call, 1));
    text_puts(&json, ",\"model\":");
    text_json(&json, request_param(call, 2));
    if (m) {
        add_member(&json, "expected_output_format", json_object_get(m, "expected_output_format"));
        add_member(&json, "instructions", instructions);
    }
    text_puts(&json, "}");
    json_decref(o);
    reply_json(call, 200, &json);
}

void op_compatibility(struct call *call)
{
    struct text json = {0};
    json_t *o = NULL;
    struct prompt_ref ref = {.id = request_param(call, 0)};
    enum store_result r = store_copy(call->origin->store, &ref, &o);
    if (r != STORE_OK || !o) {
        reply_store(call, r);
        return;
    }
    const json_t *m = find_model(o, request_param(call, 1), request_param(call, 2));
    text_puts(&json, "{\"prompt_id\":");
    text_json_value(&json, json_object_get(o, "id"));
    text_puts(&json, ",\"provider\":");
    text_json(&json, request_param(call, 1));
    text_puts(&json, ",\"model\":");
    text_json(&json, request_param(call, 2));
    const char *fits = m ? "true" : "false";
    text_printf(&json, ",\"compatible\":%s,\"is_compatible\":%s}", fits, fits);
    json_decref(o);
    reply_json(call, 200, &json);
}

/* --- bodies --- */

/* The request's body as a JSON object; NULL: the reply says what is wrong. The caller owns it. */
static json_t *body_object(struct call *call)
{
    struct request *r = call->request;
    json_t *o = json_loadb(r->body.n ? r->body.p : "", r->body.n, 0, NULL);
    if (json_is_object(o))
        return o;
    json_decref(o);
    reply_missing(call, NULL);
    return NULL;
}

static void add_batch(struct call *call, const json_t *ids, const struct batch *batch, struct text *json)
{
    struct text errors = {0};
    size_t i, found = 0;
    const json_t *v;
    text_puts(json, "{\"prompts\":{");
    json_array_foreach((json_t *)ids, i, v)
    {
        struct slice id = {json_string_value(v), json_string_length(v)};
        struct text item = {0};
        enum store_result r =
            id.p ? store_batch_item(call->origin->store, id, batch, &item) : STORE_NO_PROMPT;
        text_puts(r == STORE_OK ? json : &errors, (r == STORE_OK ? found : errors.n) ? "," : "");
        if (r == STORE_OK) {
            text_json_value(json, v);
            text_puts(json, ":");
            text_add(json, item.p, item.n);
            found++;
        } else {
            text_puts(&errors, "{\"prompt_id\":");
            text_json_value(&errors, v);
            text_printf(&errors, ",\"error\":\"%s\"}",
                        r == STORE_NO_ACCESS ? "No access to this prompt" : "Prompt not found");
        }
        text_free(&item);
    }
    text_puts(json, "},\"errors\":[");
    text_add(json, errors.p, errors.n);
    text_printf(json, "],\"total_requested\":%zu,\"total_found\":%zu}", json_array_size(ids), found);
    text_free(&errors);
}

/* What FastAPI says of prompt_ids that are no list, or have not 1 to MAX_BATCH members. */
static void reply_unfit_ids(struct call *call, const json_t *ids)
{
    struct text json = {0};
    bool none_there = json_array_size(ids) < 1;
    text_puts(&json, "{\"detail\":[{\"loc\":[\"body\",\"prompt_ids\"],");
    if (!json_is_array(ids))
        text_puts(&json, "\"msg\":\"value is not a valid list\",\"type\":\"type_error.list\"}]}");
    else
        text_printf(&json,
                    "\"msg\":\"ensure this value has at %s %d items\",\"type\":\"value_error.list.%s_items\","
                    "\"ctx\":{\"limit_value\":%d}}]}",
                    none_there ? "least" : "most", none_there ? 1 : MAX_BATCH, none_there ? "min" : "max",
                    none_there ? 1 : MAX_BATCH);
    reply_json(call, 422, &json);
}

void op_batch_get(struct call *call)
{
    json_t *o = body_object(call);
    if (!o)
        return;
    const json_t *ids = json_object_get(o, "prompt_ids");
    const char *project = json_string_value(json_object_get(o, "project_id"));
    struct batch batch = {
        .project_id = {project, project ? strlen(project) : 0},
        .include_versions = json_is_true(json_object_get(o, "include_versions")),
        .include_metadata = json_is_true(json_object_get(o, "include_metadata")),
        .whole = call->settings->whole_batches,
    };
    struct text json = {0};
    size_t count = json_array_size(ids);
    if (ids && (!json_is_array(ids) || count < 1 || count > MAX_BATCH)) {
        reply_unfit_ids(call, ids);
    } else if (ids) {
        add_batch(call, ids, &batch, &json);
        reply_json(call, 200, &json);
    } else {
        reply_missing(call, "prompt_ids");
    }
    json_decref(o);
}

static void put_prompt(struct call *call, bool update)
{
    json_t *o = body_object(call);
    struct blob *body = NULL;
    if (!o)
        return;
    struct store_write w = {
        .id = update ? request_param(call, 0) : none,
        .object = o,
        .must_exist = update,
        .now = settings_clock(call->settings),
    };
    enum store_result r = store_put(call->origin->store, &w, &body);
    if (r == STORE_OK)
        reply_blob(call, update ? 200 : 201, body);
    else if (r == STORE_INVALID)
        reply_detail(call, 422, w.why);
    else
        reply_store(call, r);
    blob_unref(body);
    json_decref(o);
}

void op_create_prompt(struct call *call)
{
    put_prompt(call, false);
}

void op_update_prompt(struct call *call)
{
    put_prompt(call, true);
}

static void delete_prompt(struct call *call, struct slice version)
{
    struct text json = {0};
    enum store_result r = store_delete(call->origin->store, request_param(call, 0), version);
    if (r != STORE_OK) {
        reply_store(call, r);
        return;
    }
    text_puts(&json, "{\"message\":\"Prompt deleted successfully\"}");
    reply_json(call, 200, &json);
}

void op_delete_prompt(struct call *call)
{
    delete_prompt(call, none);
}

void op_delete_version(struct call *call)
{
    delete_prompt(call, request_param(call, 1));
}

/* --- rendering --- */

/* Puts values in the place of {name}. False: `missing` (into `content`) has no value. */
static bool substitute(const char *content, const json_t *variables, struct text *out, struct slice *missing)
{
    while (*content) {
        const char *open = strchr(content, '{'), *close = open ? strchr(open, '}') : NULL;
        if (!close) {
            text_puts(out, content);
            return true;
        }
        text_add(out, content, (size_t)(open - content));
        char *name = strndup(open + 1, (size_t)(close - open - 1));
        const json_t *value = name ? json_object_get(variables, name) : NULL;
        free(name);
        *missing = (struct slice){open + 1, (size_t)(close - open - 1)};
        if (!value)
            return false;
        if (json_is_string(value))
            text_puts(out, json_string_value(value));
        else
            text_json_value(out, value);
        content = close + 1;
    }
    return true;
}

static void reply_rendered(struct call *call, const json_t *prompt, const json_t *ask)
{
    struct text content = {0}, json = {0};
    struct slice missing = none;
    const char *provider = json_string_value(json_object_get(ask, "model_provider"));
    const char *name = json_string_value(json_object_get(ask, "model_name"));
    const json_t *inputs = json_object_get(ask, "inputs"); /* so the TypeScript client */
    const json_t *variables = inputs ? inputs : json_object_get(ask, "variables");
    const json_t *nested = json_object_get(variables, "variables");
    const json_t *m = provider ? find_model(prompt, (struct slice){provider, strlen(provider)},
                                            (struct slice){name, name ? strlen(name) : 0})
                               : NULL;
    const char *template = json_string_value(json_object_get(m ? m : prompt, "content"));
    if (!substitute(template ? template : "", json_is_object(nested) ? nested : variables, &content,
                    &missing)) {
        text_printf(&json, "Missing required variable: %.*s", (int)missing.n, missing.p);
        reply_detail(call, 422, text_cstr(&json));
        text_free(&json);
        text_free(&content);
        return;
    }
    json_t *text = json_stringn(content.p ? content.p : "", content.n);
    text_puts(&json, "{\"messages\":[{\"role\":\"user\",\"content\":");
    text_json_value(&json, text);
    text_puts(&json, "}],\"rendered_content\":");
    text_json_value(&json, text);
    text_puts(&json, ",\"prompt_id\":");
    text_json_value(&json, json_object_get(prompt, "id"));
    add_member(&json, "version", json_object_get(prompt, "version"));
    add_member(&json, "template_id", json_object_get(prompt, "id"));
    if (json_is_object(inputs))
        add_member(&json, "inputs_used", inputs);
    text_puts(&json, ",\"applied_policies\":[],\"cached\":false}");
    json_decref(text);
    text_free(&content);
    reply_json(call, 200, &json);
}

void op_render(struct call *call)
{
    json_t *ask = body_object(call), *prompt = NULL;
    if (!ask)
        return;
    const json_t *other = json_object_get(ask, "id"); /* with `alias`, a version or `latest` */
    const char *id = json_string_value(other ? other : json_object_get(ask, "prompt_id"));
    const char *version = json_string_value(json_object_get(ask, other ? "alias" : "version"));
    if (version && strcmp(version, "latest") == 0)
        version = NULL;
    if (!id) {
        reply_missing(call, "prompt_id");
        json_decref(ask);
        return;
    }
    struct prompt_ref ref = {
        .id = {id, strlen(id)},
        .version = {version, version ? strlen(version) : 0},
    };
    enum store_result r = store_copy(call->origin->store, &ref, &prompt);
    if (r == STORE_OK && prompt)
        reply_rendered(call, prompt, ask);
    else
        reply_store(call, r);
    json_decref(prompt);
    json_decref(ask);
}
