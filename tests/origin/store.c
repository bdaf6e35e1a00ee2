/*
 * The prompts. Invariants: a prompt in the table has at least one version; `latest` is the last one added;
 * rendered bodies belong to their version and are made under the writer's lock, so readers only take
 * references; the list keeps the order of creation.
 */
#include "tests/origin/store.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/origin/digest.h"
#include "tests/origin/jsonread.h"
#include "tests/origin/when.h"

enum { BUCKETS = 16384 };

struct version {
    char *name;     /* owned, "1.0.0" */
    json_t *object; /* every member */
    struct blob *full, *plain, *summary;
};

struct prompt {
    struct prompt *same_bucket;
    struct prompt *newer, *older; /* order of creation */
    char *id;                     /* owned */
    struct version *versions;     /* owned, oldest first */
    size_t count;
    struct blob *list; /* FORM_VERSIONS */
};

struct store {
    pthread_rwlock_t lock;
    struct prompt *buckets[BUCKETS];
    struct prompt *newest, *oldest;
    size_t count;
    unsigned start_count, start_size;
};

/* Members in the order in which the API gives them. */
static const char *const full_members[] = {"id",
                                           "version",
                                           "name",
                                           "description",
                                           "content",
                                           "provider_id",
                                           "target_models",
                                           "model_specific_prompts",
                                           "module_id",
                                           "created_by",
                                           "created_at",
                                           "updated_at",
                                           "mas_intent",
                                           "mas_fairness_notes",
                                           "mas_testing_notes",
                                           "mas_risk_level",
                                           NULL};
static const char *const listed_members[] = {
    "id",        "version",     "name",          "description",
    "content",   "provider_id", "target_models", "model_specific_prompts",
    "module_id", "created_by",  "created_at",    "updated_at",
    NULL};
static const char *const plain_members[] = {"id",
                                            "version",
                                            "name",
                                            "description",
                                            "content",
                                            "target_models",
                                            "model_specific_prompts",
                                            "module_id",
                                            "created_by",
                                            "created_at",
                                            "updated_at",
                                            NULL};
static const char *const summary_members[] = {
    "id", "version", "name", "description", "module_id", "created_by", "created_at", "updated_at", NULL};
static const char *const batch_members[] = {"id", "version", "name", "content", NULL};
static const char *const metadata_members[] = {"description", "module_id",      "created_by",
                                               "created_at",  "updated_at",     "target_models",
                                               "mas_intent",  "mas_risk_level", NULL};
static const char *const left_out[] = {"provider_id", "model_specific_prompts", "mas_fairness_notes",
                                       "mas_testing_notes", NULL};

static size_t bucket_of(struct slice id)
{
    uint64_t h = 1469598103934665603ull;
    for (size_t i = 0; i < id.n; i++)
        h = (h ^ (unsigned char)id.p[i]) * 1099511628211ull;
    return (size_t)((h ^ h >> 29) % BUCKETS);
}

static struct prompt *find(const struct store *store, struct slice id)
{
    struct prompt *p = store->buckets[bucket_of(id)];
    while (p && !slice_is(id, p->id))
        p = p->same_bucket;
    return p;
}

static struct version *find_version(struct prompt *p, struct slice name)
{
    if (!name.p)
        return &p->versions[p->count - 1];
    for (size_t i = p->count; i > 0; i--)
        if (slice_is(name, p->versions[i - 1].name))
            return &p->versions[i - 1];
    return NULL;
}

/* --- rendering --- */

static void add_members(struct text *t, const json_t *object, const char *const *members)
{
    for (int i = 0; members[i]; i++) {
        text_printf(t, "%s\"%s\":", i ? "," : "", members[i]);
        text_json_value(t, json_object_get(object, members[i]));
    }
}

static struct blob *render(const json_t *object, const char *const *members)
{
    struct text t = {0};
    text_puts(&t, "{");
    add_members(&t, object, members);
    text_puts(&t, "}");
    return blob_take(&t);
}

static struct blob *render_list(const struct prompt *p)
{
    struct text t = {0};
    text_puts(&t, "[");
    for (size_t i = 0; i < p->count; i++) {
        text_puts(&t, i ? "," : "");
        text_puts(&t, "{");
        add_members(&t, p->versions[i].object, listed_members);
        text_puts(&t, "}");
    }
    text_puts(&t, "]");
    return blob_take(&t);
}

/* --- making and unmaking --- */

static void version_dispose(struct version *v)
{
    free(v->name);
    json_decref(v->object);
    blob_unref(v->full);
    blob_unref(v->plain);
    blob_unref(v->summary);
    *v = (struct version){0};
}

/* Takes the object. False when out of memory. */
static bool version_make(struct version *v, json_t *object)
{
    const char *name = json_string_value(json_object_get(object, "version"));
    *v = (struct version){.object = object};
    v->name = strdup(name ? name : "");
    v->full = render(object, full_members);
    v->plain = render(object, plain_members);
    v->summary = render(object, summary_members);
    if (v->name && v->full && v->plain && v->summary)
        return true;
    version_dispose(v);
    return false;
}

static void prompt_free(struct prompt *p)
{
    for (size_t i = 0; i < p->count; i++)
        version_dispose(&p->versions[i]);
    free(p->versions);
    blob_unref(p->list);
    free(p->id);
    free(p);
}

static void unlink_prompt(struct store *store, struct prompt *p)
{
    struct prompt **at = &store->buckets[bucket_of((struct slice){p->id, strlen(p->id)})];
    while (*at != p)
        at = &(*at)->same_bucket;
    *at = p->same_bucket;
    *(p->newer ? &p->newer->older : &store->newest) = p->older;
    *(p->older ? &p->older->newer : &store->oldest) = p->newer;
    store->count--;
}

static void link_prompt(struct store *store, struct prompt *p)
{
    size_t b = bucket_of((struct slice){p->id, strlen(p->id)});
    p->same_bucket = store->buckets[b];
    store->buckets[b] = p;
    p->newer = NULL;
    p->older = store->newest;
    *(p->older ? &p->older->newer : &store->oldest) = p;
    store->newest = p;
    store->count++;
}

/* Adds a version to p and renders the list anew. Takes v's members. */
static bool append_version(struct prompt *p, struct version *v)
{
    struct version *grown = realloc(p->versions, (p->count + 1) * sizeof(*grown));
    if (!grown)
        return false;
    p->versions = grown;
    p->versions[p->count++] = *v;
    struct blob *list = render_list(p);
    if (!list) {
        p->count--;
        return false;
    }
    blob_unref(p->list);
    p->list = list;
    return true;
}

/* --- reading --- */

static bool in_project(const struct version *v, struct slice project)
{
    const char *own = json_string_value(json_object_get(v->object, "project_id"));
    return !project.p || (own && slice_is(project, own));
}

static enum store_result look_up(struct store *store, const struct prompt_ref *ref, struct version **out)
{
    struct prompt *p = find(store, ref->id);
    if (!p)
        return STORE_NO_PROMPT;
    *out = find_version(p, ref->version);
    if (!*out)
        return STORE_NO_VERSION;
    return in_project(*out, ref->project) ? STORE_OK : STORE_NO_ACCESS;
}

enum store_result store_get(struct store *store, const struct prompt_ref *ref, enum form form,
                            struct blob **body)
{
    struct version *v = NULL;
    pthread_rwlock_rdlock(&store->lock);
    enum store_result r = look_up(store, ref, &v);
    if (r == STORE_OK && form == FORM_VERSIONS)
        *body = blob_ref(find(store, ref->id)->list);
    else if (r == STORE_OK)
        *body = blob_ref(form == FORM_FULL ? v->full : v->plain);
    pthread_rwlock_unlock(&store->lock);
    return r;
}

enum store_result store_copy(struct store *store, const struct prompt_ref *ref, json_t **object)
{
    struct version *v = NULL;
    pthread_rwlock_rdlock(&store->lock);
    enum store_result r = look_up(store, ref, &v);
    *object = r == STORE_OK ? json_deep_copy(v->object) : NULL;
    pthread_rwlock_unlock(&store->lock);
    return r;
}

static bool text_matches(const struct version *v, const char *query)
{
    static const char *const members[] = {"name", "description", "content"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const char *s = json_string_value(json_object_get(v->object, members[i]));
        if (s && strcasestr(s, query))
            return true;
    }
    return false;
}

static bool member_is(const struct version *v, const char *name, const char *value)
{
    const char *s = json_string_value(json_object_get(v->object, name));
    return !value || (s && strcmp(s, value) == 0);
}

static bool search_matches(const struct version *v, const struct search *s)
{
    return member_is(v, "project_id", s->project_id) && member_is(v, "module_id", s->module_id) &&
           (!s->query || text_matches(v, s->query));
}

struct found {
    const struct version *version;
    const char *by;
};

static int by_member(const void *a, const void *b)
{
    return strcmp(((const struct found *)a)->by, ((const struct found *)b)->by);
}

/* Everything that matches, in the order of creation; NULL when out of memory or nothing. */
static struct found *collect(struct store *store, const struct search *s, size_t *count)
{
    struct found *list = malloc((store->count + 1) * sizeof(*list));
    *count = 0;
    for (struct prompt *p = store->oldest; list && p; p = p->newer) {
        struct version *v = find_version(p, (struct slice){NULL, 0});
        const char *by = json_string_value(json_object_get(v->object, s->sort_by));
        if (search_matches(v, s))
            list[(*count)++] = (struct found){v, by ? by : ""};
    }
    return list;
}

void store_search(struct store *store, const struct search *s, bool full, struct text *out, uint64_t *total)
{
    size_t count = 0;
    pthread_rwlock_rdlock(&store->lock);
    struct found *list = collect(store, s, &count);
    if (list && strcmp(s->sort_by, "created_at") != 0)
        qsort(list, count, sizeof(*list), by_member);
    *total = count;
    text_puts(out, "[");
    for (uint64_t i = s->offset, n = 0; i < count && n < s->limit; i++, n++) {
        const struct version *v = list[s->descending ? count - 1 - i : i].version;
        const struct blob *b = full ? v->full : v->summary;
        text_puts(out, n ? "," : "");
        text_add(out, b->p, b->n);
    }
    text_puts(out, "]");
    pthread_rwlock_unlock(&store->lock);
    free(list);
}

enum store_result store_batch_item(struct store *store, struct slice id, const struct batch *batch,
                                   struct text *out)
{
    struct version *v = NULL;
    pthread_rwlock_rdlock(&store->lock);
    struct prompt_ref ref = {.id = id, .project = batch->project_id};
    enum store_result r = look_up(store, &ref, &v);
    if (r == STORE_OK) {
        struct prompt *p = find(store, id);
        text_puts(out, "{");
        add_members(out, v->object, batch_members);
        for (size_t i = 0; batch->include_versions && i < p->count; i++) {
            text_puts(out, i ? ",{" : ",\"versions\":[{");
            add_members(out, p->versions[i].object, (const char *const[]){"version", "created_at", NULL});
            text_puts(out, i + 1 == p->count ? "}]" : "}");
        }
        if (batch->include_metadata) {
            text_puts(out, ",");
            add_members(out, v->object, metadata_members);
            if (batch->whole) {
                text_puts(out, ",");
                add_members(out, v->object, left_out);
            }
        }
        text_puts(out, "}");
    }
    pthread_rwlock_unlock(&store->lock);
    return r;
}

/* --- writing --- */

/* The version after `last`: its second number plus one. */
static void next_version(const char *last, char out[32])
{
    unsigned major = 1, minor = 0;
    if (sscanf(last, "%u.%u", &major, &minor) < 1)
        snprintf(out, 32, "1.0.0");
    else
        snprintf(out, 32, "%u.%u.0", major % 1000000, (minor + 1) % 1000000);
}

static const char *check_object(const json_t *o)
{
    static const char *const strings[] = {"id",         "version",       "name",       "description",
                                          "content",    "module_id",     "project_id", "created_by",
                                          "mas_intent", "mas_risk_level"};
    if (!json_is_object(o))
        return "The body must be a JSON object.";
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) {
        const json_t *v = json_object_get(o, strings[i]);
        if (v && !json_is_string(v))
            return "id, version, name, description, content, module_id, project_id, created_by, mas_intent "
                   "and "
                   "mas_risk_level must be strings.";
    }
    const json_t *models = json_object_get(o, "model_specific_prompts");
    if (models && !json_is_array(models))
        return "model_specific_prompts must be a list.";
    const char *version = json_string_value(json_object_get(o, "version"));
    if (version && (strlen(version) > 31 || !version[0]))
        return "version must have 1 to 31 characters.";
    return NULL;
}

static json_t *defaults(void)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:n, s:[s,s], s:[], s:s, s:s, s:s, s:s, s:s, s:n, s:s}", "name",
                     "Untitled", "description", "", "content", "", "version", "1.0.0", "provider_id",
                     "target_models", "openai", "anthropic", "model_specific_prompts", "module_id",
                     "module-1", "project_id", "project-1", "created_by", "user-1", "mas_intent", "general",
                     "mas_fairness_notes", "Not assessed", "mas_testing_notes", "mas_risk_level", "low");
}

/* The object of the new version: what was before, with the given members over it. */
static json_t *compose(const struct prompt *old, const struct store_write *w, struct slice id)
{
    char now[40], version[32] = "1.0.0";
    const struct version *last = old ? &old->versions[old->count - 1] : NULL;
    json_t *o = last ? json_deep_copy(last->object) : defaults();
    when_text(w->now, true, now);
    if (last)
        next_version(last->name, version);
    if (!o || json_object_set_new(o, "version", json_string(version)) || json_object_update(o, w->object) ||
        json_object_set_new(o, "id", json_stringn(id.p, id.n)) ||
        json_object_set_new(o, "created_at",
                            last ? json_incref(json_object_get(last->object, "created_at"))
                                 : json_string(now)) ||
        json_object_set_new(o, "updated_at", json_string(now))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static struct prompt *new_prompt(struct slice id)
{
    struct prompt *p = calloc(1, sizeof(*p));
    if (p)
        p->id = strndup(id.p, id.n);
    if (p && p->id)
        return p;
    free(p);
    return NULL;
}

/* Under the writer's lock. */
static enum store_result put_locked(struct store *store, struct store_write *w, struct slice id,
                                    struct blob **body)
{
    struct prompt *p = find(store, id);
    struct version v;
    if (!p && w->must_exist)
        return STORE_NO_PROMPT;
    if ((!p && store->count >= MAX_PROMPTS) || (p && p->count >= MAX_VERSIONS))
        return STORE_FULL;
    const char *given = json_string_value(json_object_get(w->object, "version"));
    if (p && given && find_version(p, (struct slice){given, strlen(given)}))
        return STORE_CONFLICT;
    json_t *object = compose(p, w, id);
    if (!object || !version_make(&v, object))
        return STORE_FULL;
    bool fresh = !p;
    if (fresh)
        p = new_prompt(id);
    if (!p || !append_version(p, &v)) {
        version_dispose(&v);
        if (fresh && p)
            prompt_free(p);
        return STORE_FULL;
    }
    if (fresh)
        link_prompt(store, p);
    *body = blob_ref(p->versions[p->count - 1].full);
    return STORE_OK;
}

enum store_result store_put(struct store *store, struct store_write *w, struct blob **body)
{
    char made[40] = "prompt-";
    struct slice id = w->id;
    w->why = check_object(w->object);
    if (w->why)
        return STORE_INVALID;
    const char *given = json_string_value(json_object_get(w->object, "id"));
    if (!id.p && given)
        id = (struct slice){given, strlen(given)};
    if (!id.p && random_name(made + 7, 16)) {
        made[23] = 0;
        id = (struct slice){made, 23};
    }
    if (id.n == 0 || id.n > MAX_ID || memchr(id.p, 0, id.n)) {
        w->why = "id must have 1 to 200 characters.";
        return STORE_INVALID;
    }
    pthread_rwlock_wrlock(&store->lock);
    enum store_result r = put_locked(store, w, id, body);
    pthread_rwlock_unlock(&store->lock);
    return r;
}

static enum store_result delete_locked(struct store *store, struct slice id, struct slice version)
{
    struct prompt *p = find(store, id);
    if (!p)
        return STORE_NO_PROMPT;
    struct version *v = find_version(p, version);
    if (!v)
        return STORE_NO_VERSION;
    if (!version.p || p->count == 1) {
        unlink_prompt(store, p);
        prompt_free(p);
        return STORE_OK;
    }
    version_dispose(v);
    memmove(v, v + 1, (size_t)(p->versions + p->count - (v + 1)) * sizeof(*v));
    p->count--;
    struct blob *list = render_list(p);
    if (!list)
        return STORE_FULL;
    blob_unref(p->list);
    p->list = list;
    return STORE_OK;
}

enum store_result store_delete(struct store *store, struct slice id, struct slice version)
{
    pthread_rwlock_wrlock(&store->lock);
    enum store_result r = delete_locked(store, id, version);
    pthread_rwlock_unlock(&store->lock);
    return r;
}

/* --- the whole --- */

static void clear(struct store *store)
{
    while (store->newest) {
        struct prompt *p = store->newest;
        unlink_prompt(store, p);
        prompt_free(p);
    }
}

/* Text of `size` characters for prompt i, with a variable to render. */
static char *sample_content(unsigned i, unsigned size)
{
    static const char line[] =
        "You are a careful assistant. Answer {question} briefly, and say so when unsure. ";
    char *s = malloc((size_t)size + 1);
    if (!s)
        return NULL;
    for (unsigned at = 0; at < size; at++)
        s[at] = line[(at + i * 7) % (sizeof(line) - 1)];
    if (size >= sizeof(line))
        memcpy(s, line, sizeof(line) - 1);
    s[size] = 0;
    return s;
}

static bool add_sample(struct store *store, unsigned i)
{
    char id[32], name[48], project[32];
    struct blob *body = NULL;
    char *content = sample_content(i, store->start_size);
    snprintf(id, sizeof(id), "prompt-%u", i);
    snprintf(name, sizeof(name), "Sample prompt %u", i);
    snprintf(project, sizeof(project), "project-%u", (i - 1) % 4 + 1);
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:[{s:s, s:s, s:s, s:s}]}", "id", id, "name", name,
                  "description", "A prompt of the stand-in", "content", content ? content : "", "project_id",
                  project, "module_id", i % 2 ? "module-1" : "module-2", "model_specific_prompts",
                  "model_provider", "openai", "model_name", "gpt-4", "content",
                  "Answer {question} as GPT-4 would.", "instructions", "Be concise and professional");
    struct store_write w = {.object = o, .now = INT64_C(1704067200000000000) + (int64_t)i * 60000000000};
    bool good = content && o && store_put(store, &w, &body) == STORE_OK;
    blob_unref(body);
    json_decref(o);
    free(content);
    return good;
}

static bool fill(struct store *store)
{
    for (unsigned i = 1; i <= store->start_count; i++)
        if (!add_sample(store, i))
            return false;
    return true;
}

struct store *store_new(unsigned count, unsigned size)
{
    struct store *store = calloc(1, sizeof(*store));
    if (!store)
        return NULL;
    pthread_rwlock_init(&store->lock, NULL);
    store->start_count = count;
    store->start_size = size;
    if (fill(store))
        return store;
    store_free(store);
    return NULL;
}

void store_free(struct store *store)
{
    if (!store)
        return;
    clear(store);
    pthread_rwlock_destroy(&store->lock);
    free(store);
}

bool store_reset(struct store *store)
{
    pthread_rwlock_wrlock(&store->lock);
    clear(store);
    pthread_rwlock_unlock(&store->lock);
    return fill(store);
}
