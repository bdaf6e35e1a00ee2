/*
 * The settings: parsed whole from one JSON object, published whole. Invariants: a published set never changes
 * but for the counts of its `times`; a bad patch changes nothing; `source` always says what the set was made
 * from.
 */
#include "tests/origin/settings.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/origin/desks.h"
#include "tests/origin/jsonread.h"

struct settings_box {
    pthread_mutex_t lock; /* over `now` and `start` */
    atomic_ullong version;
    struct settings *now;
    json_t *start;
};

static const char *const outages[] = {"none", "refuse", "reset", "503", "hang", NULL};
static const char *const distributions[] = {"constant", "exponential", "lognormal", NULL};
static const char *const dialects[] = {"real", "documented", "forbidden", NULL};

/* --- reading --- */

static void read_operation(struct json_reader *r, const json_t *object, enum op *out)
{
    const json_t *v = json_object_get(object, "operation");
    const char *name = json_string_value(v);
    *out = OP_COUNT;
    if (!v || (name && strcmp(name, "all") == 0))
        return;
    *out = name ? op_lookup(name) : OP_COUNT;
    if (*out != OP_COUNT && *out < OP_CONTROL_GET)
        return;
    struct text list = {0};
    text_puts(&list, "must be \"all\" or one of");
    for (int i = 0; i < OP_CONTROL_GET; i++)
        text_printf(&list, "%s %s", i ? "," : "", op_name((enum op)i));
    read_fail(r, "operation", text_cstr(&list));
    text_free(&list);
}

static void read_latency(struct json_reader *r, const json_t *object, struct rule *rule)
{
    size_t mark;
    int distribution = DIST_CONSTANT;
    const json_t *o = read_enter(r, object, "latency", &mark);
    rule->latency.sigma = rule->latency.rate = 1;
    if (o) {
        read_members(r, o, (const char *const[]){"mean_ms", "distribution", "sigma", "rate", NULL});
        read_number(r, o, "mean_ms", (double[2]){0, 600000}, &rule->latency.mean_ms);
        read_number(r, o, "sigma", (double[2]){0, 5}, &rule->latency.sigma);
        read_rate(r, o, "rate", &rule->latency.rate);
        read_choice(r, o, "distribution", distributions, &distribution);
        rule->latency.distribution = (enum distribution)distribution;
    }
    read_leave(r, mark);
}

static void read_errors(struct json_reader *r, const json_t *object, struct rule *rule)
{
    size_t mark;
    const char *key;
    json_t *value;
    const json_t *o = read_enter(r, object, "errors", &mark);
    if (o && json_object_size(o) > MAX_ERRORS)
        read_fail(r, "", "at most 16 statuses");
    if (o) {
        json_object_foreach((json_t *)o, key, value)
        {
            uint64_t status = 0;
            if (!parse_number((struct slice){key, strlen(key)}, 599, &status) || status < 400)
                read_fail(r, key, "must be a status from 400 to 599");
            if (r->failed)
                break;
            rule->errors[rule->error_count].status = (int)status;
            read_rate(r, o, key, &rule->errors[rule->error_count].rate);
            rule->error_count++;
        }
    }
    read_leave(r, mark);
}

static void read_slow_body(struct json_reader *r, const json_t *object, struct rule *rule)
{
    size_t mark;
    int64_t speed = 1000;
    const json_t *o = read_enter(r, object, "slow_body", &mark);
    if (o) {
        rule->slow_body.rate = 1;
        read_members(r, o, (const char *const[]){"rate", "bytes_per_second", NULL});
        read_rate(r, o, "rate", &rule->slow_body.rate);
        read_integer(r, o, "bytes_per_second", (int64_t[2]){1, 1000000000}, &speed);
    }
    rule->slow_body.bytes_per_second = (uint64_t)speed;
    read_leave(r, mark);
}

static void read_rate_limited(struct json_reader *r, const json_t *object, struct rule *rule)
{
    size_t mark;
    int dialect = DIALECT_REAL;
    rule->rate_limited.retry_after = -1;
    const json_t *o = read_enter(r, object, "rate_limited", &mark);
    if (o) {
        rule->rate_limited.rate = 1;
        read_members(r, o, (const char *const[]){"rate", "dialect", "retry_after", NULL});
        read_rate(r, o, "rate", &rule->rate_limited.rate);
        read_choice(r, o, "dialect", dialects, &dialect);
        read_integer(r, o, "retry_after", (int64_t[2]){-1, 86400}, &rule->rate_limited.retry_after);
    }
    rule->rate_limited.dialect = (enum dialect)dialect;
    read_leave(r, mark);
}

static void read_times(struct json_reader *r, const json_t *object, struct rule *rule)
{
    int64_t times = -1;
    read_integer(r, object, "times", (int64_t[2]){1, 1000000000}, &times);
    if (times < 0 || r->failed)
        return;
    rule->left = malloc(sizeof(*rule->left));
    if (rule->left)
        atomic_init(rule->left, times);
    else
        read_fail(r, "times", "out of memory");
}

static void read_rule(struct json_reader *r, const json_t *o, struct rule *rule)
{
    static const char *const members[] = {"operation",    "times",         "latency",  "errors",
                                          "reset_before", "reset_in_body", "truncate", "hang",
                                          "slow_body",    "rate_limited",  NULL};
    read_members(r, o, members);
    read_operation(r, o, &rule->op);
    read_latency(r, o, rule);
    read_errors(r, o, rule);
    read_rate(r, o, "reset_before", &rule->reset_before);
    read_rate(r, o, "reset_in_body", &rule->reset_in_body);
    read_rate(r, o, "truncate", &rule->truncate);
    read_rate(r, o, "hang", &rule->hang);
    read_slow_body(r, o, rule);
    read_rate_limited(r, o, rule);
    read_times(r, o, rule);
}

static void read_faults(struct json_reader *r, const json_t *source, struct settings *s)
{
    const json_t *list = json_object_get(source, "faults");
    if (!json_is_array(list) || json_array_size(list) > MAX_RULES)
        read_fail(r, "faults", "must be a list of at most 64 objects");
    for (size_t i = 0; !r->failed && i < json_array_size(list); i++) {
        size_t mark;
        const json_t *o = read_element(r, list, "faults", i, &mark);
        struct rule *rule = &s->rules[s->rule_count];
        if (o) {
            s->rule_count++;
            read_rule(r, o, rule);
        }
        read_leave(r, mark);
    }
}

/* A field that somebody adds to answers: no framing, nothing that breaks the head. */
static bool field_allowed(const char *name, const char *value)
{
    static const char *const ours[] = {"content-length", "transfer-encoding", "connection", "content-type",
                                       "date",           "upgrade",           NULL};
    if (!name[0] || !value || strpbrk(value, "\r\n") ||
        strspn(name, "!#$%&'*+-.^_`|~0123456789"
                     "abcdefghijklmnopqrstuvwxyz"
                     "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(name))
        return false;
    for (int i = 0; ours[i]; i++)
        if (slice_is_nocase((struct slice){name, strlen(name)}, ours[i]))
            return false;
    return true;
}

static void read_field_lines(struct json_reader *r, const json_t *object, struct field_rule *rule)
{
    size_t mark;
    const char *key;
    json_t *value;
    struct text lines = {0};
    const json_t *o = read_enter(r, object, "set", &mark);
    if (o) {
        json_object_foreach((json_t *)o, key, value)
        {
            if (!field_allowed(key, json_string_value(value)))
                read_fail(r, key,
                          "must be a field other than those of framing, with a string without line ends");
            else
                text_printf(&lines, "%s: %s\r\n", key, json_string_value(value));
        }
    }
    read_leave(r, mark);
    text_cstr(&lines);
    if (lines.failed) {
        read_fail(r, "set", "out of memory");
        text_free(&lines);
        return;
    }
    rule->lines = lines.p;
}

static void read_fields(struct json_reader *r, const json_t *source, struct settings *s)
{
    const json_t *list = json_object_get(source, "fields");
    if (!json_is_array(list) || json_array_size(list) > MAX_EXTRA_FIELDS)
        read_fail(r, "fields", "must be a list of at most 16 objects");
    for (size_t i = 0; !r->failed && i < json_array_size(list); i++) {
        size_t mark;
        const json_t *o = read_element(r, list, "fields", i, &mark);
        if (o) {
            struct field_rule *rule = &s->fields[s->field_count++];
            read_members(r, o, (const char *const[]){"operation", "set", "etag", "last_modified", NULL});
            read_operation(r, o, &rule->op);
            read_field_lines(r, o, rule);
            read_bool(r, o, "etag", &rule->etag);
            read_bool(r, o, "last_modified", &rule->last_modified);
        }
        read_leave(r, mark);
    }
}

static void read_rate_limit(struct json_reader *r, const json_t *source, struct settings *s)
{
    static const char *const members[] = {"enabled", "headers", "dialect", "retry_after",
                                          "minute",  "hour",    "day",     NULL};
    size_t mark;
    int dialect = DIALECT_REAL;
    const json_t *o = read_enter(r, source, "rate_limit", &mark);
    for (int i = 0; o && i < 3; i++) {
        int64_t limit = 0;
        read_integer(r, o, members[4 + i], (int64_t[2]){0, 1000000000}, &limit);
        s->rate_limit.limits[i] = (uint32_t)limit;
    }
    if (o) {
        read_members(r, o, members);
        read_bool(r, o, "enabled", &s->rate_limit.enabled);
        read_bool(r, o, "headers", &s->rate_limit.headers);
        read_choice(r, o, "dialect", dialects, &dialect);
        read_integer(r, o, "retry_after", (int64_t[2]){-1, 86400}, &s->rate_limit.retry_after);
    }
    s->rate_limit.dialect = (enum dialect)dialect;
    read_leave(r, mark);
}

static void read_auth(struct json_reader *r, const json_t *source, struct settings *s)
{
    size_t mark;
    const json_t *o = read_enter(r, source, "auth", &mark);
    if (o) {
        read_members(r, o, (const char *const[]){"required", "signature_required", NULL});
        read_bool(r, o, "required", &s->auth_required);
        read_bool(r, o, "signature_required", &s->signature_required);
    }
    read_leave(r, mark);
}

static void read_batch(struct json_reader *r, const json_t *source, struct settings *s)
{
    size_t mark;
    const json_t *o = read_enter(r, source, "batch", &mark);
    if (o) {
        read_members(r, o, (const char *const[]){"whole", NULL});
        read_bool(r, o, "whole", &s->whole_batches);
    }
    read_leave(r, mark);
}

static void read_clock(struct json_reader *r, const json_t *source, struct settings *s)
{
    size_t mark;
    s->clock_freeze = -1;
    const json_t *o = read_enter(r, source, "clock", &mark);
    if (o) {
        read_members(r, o, (const char *const[]){"offset", "freeze", NULL});
        read_integer(r, o, "offset", (int64_t[2]){-1000000000, 1000000000}, &s->clock_offset);
        read_integer(r, o, "freeze", (int64_t[2]){-1, 4000000000}, &s->clock_freeze);
    }
    read_leave(r, mark);
}

/* --- sets --- */

static void settings_dispose(struct settings *s)
{
    for (int i = 0; i < s->rule_count; i++)
        free(s->rules[i].left);
    for (int i = 0; i < s->field_count; i++)
        free(s->fields[i].lines);
    json_decref(s->source);
    free(s);
}

void settings_unref(struct settings *s)
{
    if (s && atomic_fetch_sub(&s->refs, 1) == 1)
        settings_dispose(s);
}

/* Takes `source`. */
static struct settings *settings_parse(json_t *source, struct text *why)
{
    static const char *const members[] = {"faults",          "fields", "rate_limit", "auth",    "clock",
                                          "idle_timeout_ms", "outage", "batch",      "workers", NULL};
    struct settings *s = calloc(1, sizeof(*s));
    if (!s) {
        json_decref(source);
        text_puts(why, "out of memory");
        return NULL;
    }
    struct json_reader reader = {.why = why}, *r = &reader;
    int outage = OUTAGE_NONE;
    int64_t idle = 0, workers = 0;
    atomic_init(&s->refs, 1);
    s->source = source;
    read_members(r, source, members);
    read_faults(r, source, s);
    read_fields(r, source, s);
    read_rate_limit(r, source, s);
    read_auth(r, source, s);
    read_clock(r, source, s);
    read_batch(r, source, s);
    read_choice(r, source, "outage", outages, &outage);
    read_integer(r, source, "idle_timeout_ms", (int64_t[2]){0, 86400000}, &idle);
    s->outage = (enum outage)outage;
    s->idle_timeout_ms = (uint32_t)idle;
    read_integer(r, source, "workers", (int64_t[2]){0, MAX_DESKS}, &workers);
    s->workers = (uint32_t)workers;
    if (!r->failed)
        return s;
    settings_dispose(s);
    return NULL;
}

static json_t *start_source(const struct settings_start *start)
{
    return json_pack("{s:[], s:[], s:{s:b, s:b, s:s, s:i, s:i, s:i, s:i}, s:{s:b, s:b}, s:{s:i, s:i}, s:i, "
                     "s:s, s:{s:b}, s:i}",
                     "faults", "fields", "rate_limit", "enabled", !start->no_limits, "headers",
                     start->dialect == DIALECT_DOCUMENTED, "dialect", dialects[start->dialect], "retry_after",
                     -1, "minute", (int)start->limits[0], "hour", (int)start->limits[1], "day",
                     (int)start->limits[2], "auth", "required", !start->no_auth, "signature_required",
                     start->signature_required, "clock", "offset", 0, "freeze", -1, "idle_timeout_ms",
                     (int)start->idle_timeout_ms, "outage", "none", "batch", "whole", 0, "workers", 0);
}

struct settings_box *settings_box_new(const struct settings_start *start)
{
    struct settings_box *box = calloc(1, sizeof(*box));
    struct text why = {0};
    if (!box)
        return NULL;
    pthread_mutex_init(&box->lock, NULL);
    atomic_init(&box->version, 1);
    box->start = start_source(start);
    json_t *copy = json_deep_copy(box->start);
    box->now = copy ? settings_parse(copy, &why) : NULL;
    text_free(&why);
    if (box->now)
        return box;
    settings_box_free(box);
    return NULL;
}

void settings_box_free(struct settings_box *box)
{
    if (!box)
        return;
    settings_unref(box->now);
    json_decref(box->start);
    pthread_mutex_destroy(&box->lock);
    free(box);
}

struct settings *settings_get(struct settings_box *box, uint64_t *seen)
{
    pthread_mutex_lock(&box->lock);
    struct settings *s = box->now;
    atomic_fetch_add(&s->refs, 1);
    *seen = atomic_load(&box->version);
    pthread_mutex_unlock(&box->lock);
    return s;
}

bool settings_is_newer(struct settings_box *box, uint64_t seen)
{
    return atomic_load_explicit(&box->version, memory_order_acquire) != seen;
}

/* Under the lock. */
static void publish(struct settings_box *box, struct settings *s)
{
    settings_unref(box->now);
    box->now = s;
    atomic_fetch_add(&box->version, 1);
}

/* Objects are merged member by member, everything else is replaced. */
static bool lay_over(json_t *source, json_t *patch)
{
    const char *key;
    json_t *value;
    json_object_foreach(patch, key, value)
    {
        json_t *old = json_object_get(source, key);
        int failed = json_is_object(old) && json_is_object(value) ? json_object_update(old, value)
                                                                  : json_object_set(source, key, value);
        if (failed)
            return false;
    }
    return true;
}

static void keep_times(const struct settings *old, struct settings *s)
{
    for (int i = 0; i < s->rule_count && i < old->rule_count; i++)
        if (s->rules[i].left && old->rules[i].left)
            atomic_store(s->rules[i].left, atomic_load(old->rules[i].left));
}

bool settings_patch(struct settings_box *box, json_t *patch, struct text *why)
{
    if (!json_is_object(patch)) {
        text_puts(why, "the body must be a JSON object");
        return false;
    }
    pthread_mutex_lock(&box->lock);
    json_t *source = json_deep_copy(box->now->source);
    struct settings *s = NULL;
    if (source && lay_over(source, patch)) {
        s = settings_parse(source, why);
    } else {
        json_decref(source);
        text_puts(why, "out of memory");
    }
    if (s) {
        if (!json_object_get(patch, "faults"))
            keep_times(box->now, s);
        publish(box, s);
    }
    pthread_mutex_unlock(&box->lock);
    return s != NULL;
}

bool settings_reset(struct settings_box *box)
{
    struct text why = {0};
    pthread_mutex_lock(&box->lock);
    json_t *copy = json_deep_copy(box->start);
    struct settings *s = copy ? settings_parse(copy, &why) : NULL;
    if (s)
        publish(box, s);
    pthread_mutex_unlock(&box->lock);
    text_free(&why);
    return s != NULL;
}

int64_t settings_clock(const struct settings *s)
{
    struct timespec t;
    if (s->clock_freeze >= 0)
        return s->clock_freeze * 1000000000;
    clock_gettime(CLOCK_REALTIME, &t);
    return ((int64_t)t.tv_sec + s->clock_offset) * 1000000000 + t.tv_nsec;
}
