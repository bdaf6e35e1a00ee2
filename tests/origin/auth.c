/*
 * Credentials and limits. Invariants: one lock over all; a key is never freed before the keyring, so a
 * request may hold on to it; a nonce is remembered only after its signature was found good, so nobody fills
 * the memory of a stranger's key.
 */
#include "tests/origin/auth.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/origin/digest.h"
#include "tests/origin/jsonread.h"
#include "tests/origin/nonce.h"
#include "tests/origin/server.h"
#include "tests/origin/when.h"

enum { MAX_KEYS = 1000, WINDOWS = 3, VALID_SECONDS = 300 };

static const int64_t window_ns[WINDOWS] = {INT64_C(60000000000), INT64_C(3600000000000),
                                           INT64_C(86400000000000)};
static const char *const window_names[WINDOWS] = {"minute", "hour", "day"};

struct key {
    char id[24], api_key[64], secret[64], name[128];
    int64_t created, last_used; /* ns since 1970 */
    bool revoked, kept;         /* kept: there from the start */
    bool own_limits;
    uint32_t limits[WINDOWS];
    struct {
        int64_t index; /* which minute, hour or day */
        uint32_t count;
    } windows[WINDOWS];
};

struct keyring {
    pthread_mutex_t lock;
    struct key *keys[MAX_KEYS];
    int count;
    struct nonces *nonces;
};

static bool copy_string(char *to, size_t size, const char *from)
{
    size_t n = strlen(from);
    if (n == 0 || n >= size)
        return false;
    memcpy(to, from, n + 1);
    return true;
}

static struct key *add_key(struct keyring *ring, const char *api_key, const char *secret)
{
    struct key *k = ring->count < MAX_KEYS ? calloc(1, sizeof(*k)) : NULL;
    if (!k)
        return NULL;
    if (!copy_string(k->api_key, sizeof(k->api_key), api_key) ||
        !copy_string(k->secret, sizeof(k->secret), secret) || !random_name(k->id, sizeof(k->id) - 1)) {
        free(k);
        return NULL;
    }
    ring->keys[ring->count++] = k;
    return k;
}

struct keyring *keyring_new(void)
{
    struct keyring *ring = calloc(1, sizeof(*ring));
    if (!ring)
        return NULL;
    pthread_mutex_init(&ring->lock, NULL);
    ring->nonces = nonces_new();
    if (ring->nonces && keyring_add(ring, DEMO_API_KEY, DEMO_SECRET_KEY))
        return ring;
    keyring_free(ring);
    return NULL;
}

void keyring_free(struct keyring *ring)
{
    if (!ring)
        return;
    for (int i = 0; i < ring->count; i++)
        free(ring->keys[i]);
    nonces_free(ring->nonces);
    pthread_mutex_destroy(&ring->lock);
    free(ring);
}

bool keyring_add(struct keyring *ring, const char *api_key, const char *secret)
{
    struct key *k = add_key(ring, api_key, secret);
    if (!k)
        return false;
    k->kept = true;
    memcpy(k->name, "given at the start", 19);
    return true;
}

void keyring_reset(struct keyring *ring)
{
    pthread_mutex_lock(&ring->lock);
    for (int i = 0; i < ring->count; i++) {
        struct key *k = ring->keys[i];
        memset(k->windows, 0, sizeof(k->windows));
        k->revoked = !k->kept;
        k->last_used = 0;
    }
    nonces_clear(ring->nonces);
    pthread_mutex_unlock(&ring->lock);
}

/* Under the lock. */
static struct key *find_key(struct keyring *ring, struct slice api_key)
{
    for (int i = 0; i < ring->count; i++)
        if (slice_is(api_key, ring->keys[i]->api_key))
            return ring->keys[i];
    return NULL;
}

/* --- signatures --- */

static bool refuse(struct call *call, int status, const char *detail)
{
    COUNT(&call->origin->counts, unauthorized);
    if (status == 401)
        reply_field(call, "www-authenticate", "Bearer");
    reply_detail(call, status, detail);
    return false;
}

static bool recent(int64_t then, int64_t now)
{
    int64_t apart = now - then;
    return apart <= VALID_SECONDS * INT64_C(1000000000) && apart >= -VALID_SECONDS * INT64_C(1000000000);
}

static void add_slice(struct text *t, struct slice s)
{
    text_add(t, s.p, s.n);
}

static bool signature_fits(struct slice key, struct text *message, struct slice given)
{
    char hex[65];
    if (message->failed)
        return false;
    hmac_sha256(key, (struct slice){message->p, message->n}, hex);
    return digest_equal(hex, given);
}

/* {api_key}:{timestamp}:{METHOD}:{path}, with the secret key. */
static bool documented_fits(const struct key *k, struct slice timestamp, struct slice method,
                            struct slice path, struct slice signature)
{
    struct text m = {0};
    text_puts(&m, k->api_key);
    text_puts(&m, ":");
    add_slice(&m, timestamp);
    text_puts(&m, ":");
    add_slice(&m, method);
    text_puts(&m, ":");
    add_slice(&m, path);
    bool good = signature_fits((struct slice){k->secret, strlen(k->secret)}, &m, signature);
    text_free(&m);
    return good;
}

static bool check_documented(struct call *call, const struct key *k, int64_t now)
{
    struct request *r = call->request;
    struct slice timestamp = request_field(r, "x-promptops-timestamp");
    struct slice signature = request_field(r, "x-promptops-signature");
    int64_t then;
    if (!timestamp.p && !signature.p && !call->settings->signature_required)
        return true; /* the TypeScript client: the key alone */
    if (!timestamp.p || !signature.p)
        return refuse(call, 401, "Missing signature or timestamp headers");
    if (!when_parse_naive(timestamp, &then) || !recent(then, now))
        return refuse(call, 401, "Invalid or expired timestamp");
    if (!documented_fits(k, timestamp, head_method(&r->head), r->path, signature))
        return refuse(call, 401, "Invalid signature");
    return true;
}

/* {METHOD}:{path?query}:{timestamp}:{nonce}[:{sha256 of body}], with the API key. */
static bool client_fits(struct call *call, const struct key *k, struct slice target, struct slice signature)
{
    struct request *r = call->request;
    struct text m = {0};
    struct digest *d = r->body.n ? digest_new() : NULL;
    add_slice(&m, head_method(&r->head));
    text_puts(&m, ":");
    add_slice(&m, target);
    text_puts(&m, ":");
    add_slice(&m, request_field(r, "x-promptops-timestamp"));
    text_puts(&m, ":");
    add_slice(&m, request_field(r, "x-promptops-nonce"));
    if (d) {
        char hex[65];
        digest_add(d, r->body.p, r->body.n);
        digest_end(d, hex);
        text_puts(&m, ":");
        text_puts(&m, hex);
    }
    bool good = signature_fits((struct slice){k->api_key, strlen(k->api_key)}, &m, signature);
    text_free(&m);
    return good;
}

static bool check_client(struct call *call, const struct key *k, int64_t now)
{
    struct request *r = call->request;
    struct slice timestamp = request_field(r, "x-promptops-timestamp");
    struct slice nonce = request_field(r, "x-promptops-nonce");
    struct slice signature = request_field(r, "x-promptops-signature");
    uint64_t seconds;
    if (!timestamp.p || !nonce.p || !signature.p || nonce.n == 0)
        return refuse(call, 401, "Missing signature, timestamp or nonce headers");
    if (!parse_number(timestamp, 9000000000u, &seconds) || !recent((int64_t)seconds * 1000000000, now))
        return refuse(call, 401, "Invalid or expired timestamp");
    /* The client signs before its library adds the query, so the path alone is good as well. */
    if (!client_fits(call, k, head_path(&r->head), signature) && !client_fits(call, k, r->path, signature))
        return refuse(call, 401, "Invalid signature");
    if (nonces_add(call->origin->keyring->nonces, nonce, now))
        return true;
    COUNT(&call->origin->counts, replays);
    return refuse(call, 401, "Nonce already used");
}

/* --- limits --- */

static uint32_t limit_of(const struct key *k, const struct settings *s, int w)
{
    return k->own_limits ? k->limits[w] : s->rate_limit.limits[w];
}

static uint32_t used_in(const struct key *k, int w, int64_t now)
{
    return k->windows[w].index == now / window_ns[w] ? k->windows[w].count : 0;
}

static uint32_t left_in(const struct key *k, const struct settings *s, int w, int64_t now)
{
    uint32_t limit = limit_of(k, s, w), used = used_in(k, w, now);
    return used < limit ? limit - used : 0;
}

static int64_t window_end(int w, int64_t now)
{
    return (now / window_ns[w] + 1) * window_ns[w];
}

/* Counts one call: minute, then hour, then day, until one is over its limit. The index of that one, or -1. */
static int spend(struct key *k, const struct settings *s, int64_t now)
{
    for (int w = 0; w < WINDOWS; w++) {
        k->windows[w].count = used_in(k, w, now) + 1;
        k->windows[w].index = now / window_ns[w];
        if (k->windows[w].count > limit_of(k, s, w))
            return w;
    }
    return -1;
}

static void add_limit_fields(struct call *call, const struct key *k, int64_t now)
{
    static const char *const names[WINDOWS] = {"Minute", "Hour", "Day"};
    struct text *fields = &call->reply->fields;
    for (int w = 0; w < WINDOWS; w++) {
        char reset[40];
        when_text(window_end(w, now), true, reset);
        text_printf(fields, "X-RateLimit-Limit-%s: %" PRIu32 "\r\n", names[w],
                    limit_of(k, call->settings, w));
        text_printf(fields, "X-RateLimit-Remaining-%s: %" PRIu32 "\r\n", names[w],
                    left_in(k, call->settings, w, now));
        text_printf(fields, "X-RateLimit-Reset-%s: %s\r\n", names[w], reset);
    }
}

void auth_answer_limited(struct call *call, enum dialect dialect, int64_t retry_after)
{
    char seconds[24];
    COUNT(&call->origin->counts, rate_limited);
    if (retry_after >= 0) {
        snprintf(seconds, sizeof(seconds), "%" PRId64, retry_after);
        reply_field(call, "retry-after", seconds);
    }
    if (dialect == DIALECT_REAL) {
        reply_field(call, "www-authenticate", "Bearer");
        reply_detail(call, 401, "Rate limit exceeded");
    } else {
        reply_error(call, dialect == DIALECT_DOCUMENTED ? 429 : 403, "Rate limit exceeded");
    }
}

/* Under the lock. */
static bool check_limits(struct call *call, struct key *k, int64_t now)
{
    const struct settings *s = call->settings;
    if (!s->rate_limit.enabled)
        return true;
    int over = spend(k, s, now);
    if (s->rate_limit.headers)
        add_limit_fields(call, k, now);
    if (over < 0)
        return true;
    int64_t retry_after = s->rate_limit.retry_after;
    if (retry_after == 0)
        retry_after = (window_end(over, now) - now + 999999999) / 1000000000;
    auth_answer_limited(call, s->rate_limit.dialect, retry_after);
    return false;
}

/* The text behind the scheme's name; {NULL, 0} when it is another scheme. */
static struct slice after_scheme(struct slice credential, const char *scheme)
{
    size_t n = strlen(scheme);
    if (credential.n <= n + 1 || credential.p[n] != ' ' ||
        !slice_is_nocase((struct slice){credential.p, n}, scheme))
        return (struct slice){NULL, 0};
    return (struct slice){credential.p + n + 1, credential.n - n - 1};
}

/* Under the lock. */
static bool check_locked(struct call *call, int64_t now)
{
    struct slice credential = head_first(&call->request->head, FIELD_AUTHORIZATION);
    struct slice bearer = after_scheme(credential, "Bearer"), client = after_scheme(credential, "PromptOps");
    if (!credential.p)
        return refuse(call, 403, "Not authenticated");
    if (!bearer.p && !client.p)
        return refuse(call, 403, "Invalid authentication credentials");
    struct key *k = find_key(call->origin->keyring, bearer.p ? bearer : client);
    if (!k)
        return refuse(call, 401, "Invalid API key");
    if (k->revoked)
        return refuse(call, 401, "API key is revoked");
    if (bearer.p ? !check_documented(call, k, now) : !check_client(call, k, now))
        return false;
    if (!check_limits(call, k, now))
        return false;
    k->last_used = now;
    call->key = k;
    return true;
}

bool auth_check(struct call *call, const struct settings *settings)
{
    struct keyring *ring = call->origin->keyring;
    if (!settings->auth_required)
        return true;
    pthread_mutex_lock(&ring->lock);
    bool good = check_locked(call, settings_clock(settings));
    pthread_mutex_unlock(&ring->lock);
    return good;
}

/* --- operations on keys --- */

static json_t *key_json(const struct key *k, const struct settings *s)
{
    char created[40];
    when_text(k->created, true, created);
    return json_pack("{s:s, s:s, s:s%, s:i, s:i, s:i, s:s, s:s, s:[s,s]}", "id", k->id, "name", k->name,
                     "api_key_prefix", k->api_key, (size_t)(strlen(k->api_key) < 9 ? strlen(k->api_key) : 9),
                     "rate_limit_per_minute", (int)limit_of(k, s, 0), "rate_limit_per_hour",
                     (int)limit_of(k, s, 1), "rate_limit_per_day", (int)limit_of(k, s, 2), "status",
                     k->revoked ? "revoked" : "active", "created_at", created, "allowed_scopes", "read",
                     "write");
}

void op_list_keys(struct call *call)
{
    struct keyring *ring = call->origin->keyring;
    struct text json = {0};
    json_t *list = json_array();
    pthread_mutex_lock(&ring->lock);
    for (int i = 0; i < ring->count; i++)
        json_array_append_new(list, key_json(ring->keys[i], call->settings));
    pthread_mutex_unlock(&ring->lock);
    text_json_value(&json, list);
    json_decref(list);
    reply_json(call, 200, &json);
}

/* Limits that the creator of a key gave; false when one is wrong. */
static bool read_limits(struct call *call, const json_t *o, struct key *k)
{
    static const char *const names[] = {"rate_limit_per_minute", "rate_limit_per_hour", "rate_limit_per_day"};
    for (int w = 0; w < WINDOWS; w++) {
        const json_t *v = json_object_get(o, names[w]);
        json_int_t n = v ? json_integer_value(v) : (json_int_t)call->settings->rate_limit.limits[w];
        if ((v && !json_is_integer(v)) || n < 0 || n > 1000000000)
            return false;
        k->limits[w] = (uint32_t)n;
        k->own_limits |= v != NULL;
    }
    return true;
}

static void create_key(struct call *call, const json_t *o, const char *name)
{
    struct keyring *ring = call->origin->keyring;
    char api_key[28] = "po_", secret[41];
    struct key wanted = {0};
    struct text json = {0};
    if (!read_limits(call, o, &wanted)) {
        reply_detail(call, 422,
                     "rate_limit_per_minute, _hour and _day must be whole numbers from 0 to 1000000000");
        return;
    }
    bool named = random_name(api_key + 3, 24) && random_name(secret, 40);
    api_key[27] = secret[40] = 0;
    pthread_mutex_lock(&ring->lock);
    struct key *k = named ? add_key(ring, api_key, secret) : NULL;
    if (k) {
        snprintf(k->name, sizeof(k->name), "%s", name);
        memcpy(k->limits, wanted.limits, sizeof(k->limits));
        k->own_limits = wanted.own_limits;
        k->created = settings_clock(call->settings);
        json_t *data = key_json(k, call->settings);
        text_printf(&json, "{\"api_key\":\"%s\",\"secret_key\":\"%s\",\"api_key_data\":", api_key, secret);
        text_json_value(&json, data);
        text_puts(&json, "}");
        json_decref(data);
    }
    pthread_mutex_unlock(&ring->lock);
    if (k)
        reply_json(call, 200, &json);
    else
        reply_detail(call, 507, "The stand-in keeps no more keys");
}

void op_create_key(struct call *call)
{
    struct request *r = call->request;
    json_t *o = json_loadb(r->body.n ? r->body.p : "", r->body.n, 0, NULL);
    const char *name = json_string_value(json_object_get(o, "name"));
    if (!json_is_object(o) || !name)
        reply_missing(call, json_is_object(o) ? "name" : NULL);
    else
        create_key(call, o, name);
    json_decref(o);
}

void op_delete_key(struct call *call)
{
    struct keyring *ring = call->origin->keyring;
    struct text json = {0};
    bool found = false;
    pthread_mutex_lock(&ring->lock);
    for (int i = 0; i < ring->count; i++) {
        if (!slice_is(request_param(call, 0), ring->keys[i]->id))
            continue;
        ring->keys[i]->revoked = true;
        found = true;
    }
    pthread_mutex_unlock(&ring->lock);
    if (!found) {
        reply_detail(call, 404, "API key not found");
        return;
    }
    text_puts(&json, "{\"message\":\"API key revoked successfully\"}");
    reply_json(call, 200, &json);
}

static struct slice member(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return (struct slice){s, s ? strlen(s) : 0};
}

/* Under the lock. What is wrong, or NULL and the key. */
static const char *validate(struct keyring *ring, const json_t *o, const struct key **out)
{
    const struct key *k = find_key(ring, member(o, "api_key"));
    *out = k;
    if (!k)
        return "Invalid API key";
    if (k->revoked)
        return "API key is revoked";
    return documented_fits(k, member(o, "timestamp"), member(o, "method"), member(o, "endpoint"),
                           member(o, "signature"))
               ? NULL
               : "Invalid signature";
}

void op_validate_key(struct call *call)
{
    static const char *const needed[] = {"api_key", "signature", "timestamp", "method", "endpoint"};
    struct request *r = call->request;
    struct text json = {0};
    const struct key *k = NULL;
    json_t *o = json_loadb(r->body.n ? r->body.p : "", r->body.n, 0, NULL);
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        if (member(o, needed[i]).p)
            continue;
        reply_missing(call, json_is_object(o) ? needed[i] : NULL);
        json_decref(o);
        return;
    }
    pthread_mutex_lock(&call->origin->keyring->lock);
    const char *error = validate(call->origin->keyring, o, &k);
    if (error)
        text_printf(&json, "{\"valid\":false,\"error\":\"%s\"}", error);
    else
        text_printf(
            &json,
            "{\"valid\":true,\"api_key_id\":\"%s\",\"user_id\":\"user-1\",\"tenant_id\":\"tenant-1\","
            "\"scopes\":[\"read\",\"write\"],\"allowed_projects\":null,\"rate_limits\":{\"minute\":%" PRIu32
            ",\"hour\":%" PRIu32 ",\"day\":%" PRIu32 "}}",
            k->id, limit_of(k, call->settings, 0), limit_of(k, call->settings, 1),
            limit_of(k, call->settings, 2));
    pthread_mutex_unlock(&call->origin->keyring->lock);
    json_decref(o);
    reply_json(call, 200, &json);
}

/* Whoever comes here has a key that is good. */
void op_check_key(struct call *call)
{
    struct text json = {0};
    text_puts(&json, "{\"valid\":true}");
    reply_json(call, 200, &json);
}

void op_usage_limits(struct call *call)
{
    struct keyring *ring = call->origin->keyring;
    struct text json = {0};
    int64_t now = settings_clock(call->settings);
    pthread_mutex_lock(&ring->lock);
    const struct key *k = call->key ? call->key : ring->keys[0];
    text_puts(&json, "{");
    for (int w = 0; w < WINDOWS; w++) {
        char reset[40];
        const char *name = window_names[w];
        when_text(window_end(w, now), false, reset);
        text_printf(&json, "%s\"current_usage_%s\":%" PRIu32 ",\"limits_%s\":%" PRIu32, w ? "," : "", name,
                    used_in(k, w, now), name, limit_of(k, call->settings, w));
        text_printf(&json, ",\"remaining_%s\":%" PRIu32 ",\"reset_time_%s\":\"%s\"", name,
                    left_in(k, call->settings, w, now), name, reset);
    }
    text_puts(&json, "}");
    pthread_mutex_unlock(&ring->lock);
    reply_json(call, 200, &json);
}
