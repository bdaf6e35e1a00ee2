/*
 * Heads for the sidecar's own calls, made of a client's, and copies and sums of answers' heads. Invariants:
 * what goes up for one client is made of that client's fields alone; of an answer every field counts that is
 * not known to be about the call.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/compose.h"
#include "proxy/exchange_batch.h"

/* ---- requests ---- */

enum { PATH_AT = 8, PATH_ROOM = 19 + BATCH_ID_MAX + 12 + BATCH_ID_MAX, TARGET_ROOM = PATH_AT + PATH_ROOM };

static const char POST[] = "POST", GET[] = "GET", PROMPTS[] = "/v1/client/prompts/",
                  PROJECT[] = "?project_id=", TYPE_NAME[] = "Content-Type", TYPE[] = "application/json";

struct batch_head {
    struct head post, get;
    char *base; /* two rooms for targets, Content-Type, then the bytes of the client's head */
    struct field fields[];
};

static void add_field(struct head *h, const struct field *f, uint32_t moved)
{
    struct field *to = &h->fields[h->field_count++];
    *to = *f;
    to->name += moved;
    to->value += moved;
    h->present |= (uint64_t)1 << f->id;
}

static void add_fields(struct head *h, const struct head *from, uint64_t drop, uint32_t moved)
{
    for (int i = 0; i < from->field_count; i++)
        if (batch_field_counts(from, i) && !((drop >> from->fields[i].id) & 1))
            add_field(h, &from->fields[i], moved);
}

static void begin(struct head *h, struct batch_head *b, uint32_t at, const char *method,
                  const struct head *from, uint32_t moved)
{
    *h = (struct head){
        .base = b->base,
        .len = moved + from->len,
        .method_len = (uint16_t)strlen(method),
        .method_at = at,
        .path_at = at + PATH_AT,
        .authority_at = from->authority_at + moved,
        .authority_len = from->authority_len,
        .minor = 1,
        .keep_alive = true,
    };
    memcpy(b->base + at, method, strlen(method));
}

struct batch_head *batch_head_new(const struct head *from, uint64_t drop)
{
    size_t fields = 2 * ((size_t)from->field_count + 1) * sizeof(struct field);
    uint32_t type_at = 2 * TARGET_ROOM, moved = type_at + sizeof TYPE_NAME + sizeof TYPE;
    struct batch_head *b = malloc(sizeof *b + fields + moved + from->len);
    if (!b)
        return NULL;
    b->base = (char *)b + sizeof *b + fields;
    memset(b->base, 0, 2 * TARGET_ROOM);
    memcpy(b->base + type_at, TYPE_NAME, sizeof TYPE_NAME);
    memcpy(b->base + type_at + sizeof TYPE_NAME, TYPE, sizeof TYPE);
    memcpy(b->base + moved, from->base, from->len);
    begin(&b->post, b, 0, POST, from, moved);
    begin(&b->get, b, TARGET_ROOM, GET, from, moved);
    b->post.method = METHOD_POST;
    b->get.method = METHOD_GET;
    b->post.fields = b->fields;
    b->get.fields = b->fields + from->field_count + 1;
    b->post.field_max = b->get.field_max = (uint16_t)(from->field_count + 1);
    add_fields(&b->get, from, drop, moved);
    add_fields(&b->post, from, drop | FIELD_BIT(ACCEPT_ENCODING), moved);
    struct field type = {.name = type_at,
                         .name_len = sizeof TYPE_NAME - 1,
                         .value = type_at + sizeof TYPE_NAME,
                         .value_len = sizeof TYPE - 1,
                         .id = FIELD_CONTENT_TYPE};
    add_field(&b->post, &type, 0);
    return b;
}

void batch_head_free(struct batch_head *h)
{
    free(h);
}

const struct head *batch_head_post(struct batch_head *h, uint64_t n)
{
    memcpy(h->base + PATH_AT, BATCH_PATH, sizeof BATCH_PATH - 1);
    h->post.path_len = sizeof BATCH_PATH - 1;
    h->post.body = BODY_LENGTH;
    h->post.content_length = n;
    h->post.has_content_length = true;
    return &h->post;
}

const struct head *batch_head_get(struct batch_head *h, struct slice id, struct slice project)
{
    struct compose c = compose_into(h->base + TARGET_ROOM + PATH_AT, PATH_ROOM);
    compose_add(&c, PROMPTS, sizeof PROMPTS - 1);
    compose_slice(&c, id);
    if (project.p) {
        compose_add(&c, PROJECT, sizeof PROJECT - 1);
        compose_slice(&c, project);
    }
    h->get.path_len = (uint32_t)compose_size(&c);
    return &h->get;
}

/* ---- answers ---- */

struct batch_result {
    _Atomic unsigned refs;
    struct head head;
    char bytes[]; /* the fields, then the bytes of the head */
};

struct batch_result *batch_result_new(const struct head *response)
{
    size_t fields = sizeof(struct field) * response->field_count;
    struct batch_result *r = malloc(sizeof *r + fields + response->len);
    if (!r)
        return NULL;
    atomic_init(&r->refs, 1);
    r->head = *response;
    memcpy(r->bytes, response->fields, fields);
    memcpy(r->bytes + fields, response->base, response->len);
    r->head.fields = (struct field *)(void *)r->bytes;
    r->head.base = r->bytes + fields;
    return r;
}

struct batch_result *batch_result_ref(struct batch_result *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void batch_result_unref(struct batch_result *r)
{
    if (r && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1)
        free(r);
}

const struct head *batch_result_head(const struct batch_result *r)
{
    return &r->head;
}

/* False: with this field no answer is like another. */
static bool add_to_sum(struct hash_state *sum, struct slice name, struct slice value)
{
    if (slice_equal_nocase(name, SLICE("set-cookie")) || slice_equal_nocase(name, SLICE("content-encoding")))
        return false;
    if (!batch_field_of_call(name)) {
        hash_feed_text_nocase(sum, name);
        hash_feed_text(sum, value);
    }
    return true;
}

bool batch_fields_of_head(const struct batcher *b, const struct head *response, struct hash128 *out)
{
    struct hash_state sum;
    batcher_hash(b, &sum);
    for (int i = 0; i < response->field_count; i++)
        if (!response->fields[i].hop && !add_to_sum(&sum, head_name(response, i), head_value(response, i)))
            return false;
    *out = hash_end(&sum);
    return true;
}

/* Cuts the next line off. */
static struct slice next_line(struct slice *rest)
{
    const char *end = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
    size_t n = end ? (size_t)(end - rest->p) + 1 : rest->n;
    struct slice line = {rest->p, n};
    rest->p += n;
    rest->n -= n;
    while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
        line.n--;
    return line;
}

bool batch_fields_of_entry(const struct batcher *b, struct slice stored, struct hash128 *out)
{
    struct hash_state sum;
    batcher_hash(b, &sum);
    (void)next_line(&stored); /* the status */
    while (stored.n) {
        struct slice line = next_line(&stored);
        const char *colon = line.n ? memchr(line.p, ':', line.n) : NULL;
        if (!colon)
            continue;
        struct slice name = {line.p, (size_t)(colon - line.p)};
        struct slice value = {colon + 1, line.n - name.n - 1};
        while (value.n && value.p[0] == ' ') {
            value.p++;
            value.n--;
        }
        if (!add_to_sum(&sum, name, value))
            return false;
    }
    *out = hash_end(&sum);
    return true;
}
