/*
 * POST /api/v1/custom-metrics: what the application counts itself, one object or a list of them.
 * Invariant: a body is judged whole before anything of it counts.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/custom.h"
#include "proxy/admin_request.h"

enum { LIST_MOST = 512, NUMBER_BYTES = 32 };

#define HOW                                                                                                  \
    "Send {\"name\": \"app.jobs\", \"value\": 1, \"type\": \"counter\", \"attributes\": {\"queue\": "        \
    "\"a\"}}, "                                                                                              \
    "or a list of up to 512 of them."

struct parsed {
    struct custom_sample *samples;
    char (*numbers)[CUSTOM_ATTRIBUTES][NUMBER_BYTES]; /* attributes that came as numbers, as text */
    size_t n;
    bool list;
};

static bool wrong(struct custom_error *e, const char *field, const char *what)
{
    snprintf(e->field, sizeof e->field, "%s", field);
    snprintf(e->what, sizeof e->what, "%s", what);
    snprintf(e->remedy, sizeof e->remedy, "%s", HOW);
    return false;
}

/* A string without a NUL in it, or NULL. */
static const char *text_of(const json_t *value)
{
    const char *text = json_string_value(value);
    return text && strlen(text) == json_string_length(value) ? text : NULL;
}

static const char *attribute_text(const json_t *value, char number[NUMBER_BYTES])
{
    if (json_is_boolean(value))
        return json_is_true(value) ? "true" : "false";
    if (json_is_integer(value))
        snprintf(number, NUMBER_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(number, NUMBER_BYTES, "%.15g", json_real_value(value));
    else
        return text_of(value);
    return number;
}

static bool read_attributes(const json_t *from, struct custom_sample *out,
                            char numbers[CUSTOM_ATTRIBUTES][NUMBER_BYTES], struct custom_error *e)
{
    const char *key;
    json_t *value;
    char field[96];
    if (!json_is_object(from))
        return wrong(e, "attributes", "is not an object");
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        size_t i = out->attribute_count;
        snprintf(field, sizeof field, "attributes.%.64s", key);
        if (i == CUSTOM_ATTRIBUTES)
            return wrong(e, "attributes", "has more than 8 members");
        const char *text = attribute_text(value, numbers[i]);
        if (!text)
            return wrong(e, field, "is none of text, number, true and false");
        out->attributes[i] = (struct custom_attribute){key, text};
        out->attribute_count++;
    }
    return true;
}

static bool read_member(const char *key, const json_t *value, struct custom_sample *out,
                        char numbers[CUSTOM_ATTRIBUTES][NUMBER_BYTES], struct custom_error *e)
{
    char field[96];
    if (strcmp(key, "name") == 0) {
        out->name = text_of(value);
        return out->name || wrong(e, "name", "is not text");
    }
    if (strcmp(key, "value") == 0) {
        out->value = json_number_value(value);
        return json_is_number(value) || wrong(e, "value", "is not a number");
    }
    if (strcmp(key, "type") == 0)
        return (text_of(value) && custom_type_find(text_of(value), &out->type)) ||
               wrong(e, "type", "is none of counter, gauge and histogram");
    if (strcmp(key, "attributes") == 0)
        return json_is_null(value) || read_attributes(value, out, numbers, e);
    snprintf(field, sizeof field, "%.90s", key);
    return wrong(e, field, "is no member of a custom metric");
}

static bool read_sample(const json_t *from, struct custom_sample *out,
                        char numbers[CUSTOM_ATTRIBUTES][NUMBER_BYTES], struct custom_error *e)
{
    static const char *const required[] = {"name", "value", "type"};
    const char *key;
    json_t *value;
    if (!json_is_object(from))
        return wrong(e, "", "is not an object");
    for (size_t i = 0; i < ARRAY_LEN(required); i++)
        if (!json_object_get(from, required[i]))
            return wrong(e, required[i], "is missing");
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        if (!read_member(key, value, out, numbers, e))
            return false;
    }
    return true;
}

static bool read_body(const json_t *body, struct parsed *out, struct custom_error *e)
{
    out->list = json_is_array(body);
    out->n = out->list ? json_array_size(body) : 1;
    if (out->n == 0 || out->n > LIST_MOST)
        return wrong(e, "", out->n ? "is a list of more than 512" : "is an empty list");
    out->samples = calloc(out->n, sizeof *out->samples);
    out->numbers = calloc(out->n, sizeof *out->numbers);
    for (size_t i = 0; out->samples && out->numbers && i < out->n; i++) {
        e->sample = i;
        if (!read_sample(out->list ? json_array_get(body, i) : body, &out->samples[i], out->numbers[i], e))
            return false;
    }
    return true;
}

static void refuse(struct admin_request *r, const struct custom_error *e, bool list)
{
    char what[400];
    int n = 0;
    if (list && *e->what && (*e->field || e->sample))
        n = snprintf(what, sizeof what, "Item %zu: ", e->sample);
    if (*e->field)
        snprintf(what + n, sizeof what - (size_t)n, "`%s` %s.", e->field, e->what);
    else
        snprintf(what + n, sizeof what - (size_t)n, "The body %s.", e->what);
    admin_reply_error(r, e->no_room ? 409 : 400, what, e->remedy);
}

static void count(struct admin_request *r, const struct parsed *p)
{
    struct custom *c = r->sources->custom;
    int64_t now = r->sources->now(r->sources->ctx);
    uint64_t folded = 0, lost = 0;
    for (size_t i = 0; i < p->n; i++) {
        bool other = false;
        lost += !custom_add(c, &p->samples[i], now, &other);
        folded += other;
    }
    if (r->block) {
        metric_add(r->block, METRIC_POSTED_VALUES, p->n - lost);
        metric_add(r->block, METRIC_POSTED_FOLDED, folded);
    }
    struct view *v = lost < p->n ? view_new() : NULL;
    if (v) {
        view_uint(v, "accepted", p->n - lost);
        view_uint(v, "folded", folded);
    }
    admin_reply(r, v ? 200 : 503, v);
}

void admin_custom_metrics(struct admin_request *r)
{
    struct parsed p = {0};
    struct custom_error error = {0};
    if (!r->sources->custom) {
        admin_absent(r);
        return;
    }
    json_t *body = admin_body_or_list(r);
    if (!body)
        return;
    if (!read_body(body, &p, &error))
        refuse(r, &error, p.list);
    else if (!p.samples || !p.numbers)
        admin_reply(r, 503, NULL);
    else if (!custom_check(r->sources->custom, p.samples, p.n, &error))
        refuse(r, &error, p.list);
    else
        count(r, &p);
    free(p.samples);
    free(p.numbers);
    json_decref(body);
}
