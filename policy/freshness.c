/*
 * What a cache may do by RFC 9111. Invariants: every number of seconds from outside is clamped at
 * CC_SECONDS_MAX before it is used, so that no sum of ticks wraps; the age of an entry grows with the
 * monotonic clock alone, so that a jump of the wall clock makes nothing fresh again.
 */
#include "policy/freshness.h"

#include "policy/http_date.h"

/* Heuristic freshness never exceeds a day: it is a guess (RFC 9111 4.2.2). */
#define HEURISTIC_MAX ((tick_t)86400 * TICK_S)

static tick_t ticks(int64_t seconds)
{
    if (seconds <= 0)
        return 0;
    return (seconds > CC_SECONDS_MAX ? CC_SECONDS_MAX : seconds) * TICK_S;
}

static tick_t min_tick(tick_t a, tick_t b)
{
    return a < b ? a : b;
}

void cache_ask_read(const struct head *request, struct cache_ask *out)
{
    bool has_control = head_has(request, FIELD_CACHE_CONTROL);
    if (!has_control && !head_has(request, FIELD_PRAGMA)) { /* nearly all requests */
        *out = (struct cache_ask){CACHE_CONTROL_ABSENT, true};
        return;
    }
    cache_control_read(request, &out->cc);
    if (!has_control && head_has(request, FIELD_PRAGMA)) {
        struct list_cursor cursor = {0};
        struct slice member;
        while (head_list_next(request, FIELD_PRAGMA, &cursor, &member))
            if (slice_equal_nocase(member, SLICE("no-cache")))
                out->cc.flags |= CC_NO_CACHE;
    }
    out->plain = !out->cc.seen && out->cc.flags == 0;
}

/* The directives that hold for this answer. Returns true when they came from a targeted field, so that
 * Expires does not count (RFC 9213 2.2). */
static bool response_directives(const struct cache_rules *rules, const struct head *response,
                                struct cache_control *cc)
{
    for (unsigned i = 0; rules->shared && i < rules->target_count && i < CACHE_MAX_TARGETS; i++)
        if (cache_control_read_targeted(response, rules->targets[i], cc))
            return true;
    cache_control_read(response, cc);
    return false;
}

/* A date field that occurs exactly once and is valid. */
static bool single_date(const struct head *response, enum field_id id, int64_t wall, int64_t *out)
{
    int at = head_find(response, id, 0);
    if (at < 0 || head_find(response, id, at + 1) >= 0)
        return false;
    return http_date_parse(head_value(response, at), wall, out);
}

/* The first member of the first Age line when it is all digits, else 0 (RFC 9111 5.1). */
static int64_t age_field(const struct head *response)
{
    struct slice v = head_first(response, FIELD_AGE);
    int64_t value = 0;
    size_t n = 0;
    while (n < v.n && v.p[n] >= '0' && v.p[n] <= '9') {
        value = value * 10 + (v.p[n++] - '0');
        if (value > CC_SECONDS_MAX)
            value = CC_SECONDS_MAX;
    }
    size_t digits = n;
    while (n < v.n && (v.p[n] == ' ' || v.p[n] == '\t'))
        n++;
    if (digits == 0 || (n < v.n && v.p[n] != ','))
        return 0;
    return value;
}

static bool one_of(int status, const uint16_t *statuses, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (statuses[i] == status)
            return true;
    return false;
}

/* Statuses that may be kept without the origin's saying so (RFC 9110 15.1). */
static bool heuristic_status(int status)
{
    static const uint16_t statuses[] = {200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501};
    return one_of(status, statuses, ARRAY_LEN(statuses));
}

/* Statuses to which a lifetime that we configured applies. Not the errors: what is missing now may be there
 * soon. */
static bool configured_status(int status)
{
    return heuristic_status(status) && status < 400;
}

/* Statuses whose caching requirements we implement, for must-understand (RFC 9111 5.2.2.3). */
static bool understood_status(int status)
{
    static const uint16_t statuses[] = {200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 307, 308, 400,
                                        401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414,
                                        415, 416, 417, 421, 422, 426, 500, 501, 502, 503, 504, 505};
    return one_of(status, statuses, ARRAY_LEN(statuses));
}

/* What the lifetime is worked out from. */
struct reading {
    const struct cache_rules *rules;
    const struct cache_route *route;
    const struct head *response;
    const struct freshness_times *times;
    struct cache_control cc;
    bool targeted;
    bool date_valid;
    bool explicit_lifetime; /* the origin gave one, be it 0 */
    bool configured;        /* the lifetime is the route's or the default */
    bool defaulted;         /* the default */
};

/* The origin's own word, or CC_ABSENT: s-maxage, max-age, Expires minus Date (RFC 9111 4.2.1). Invalid ones
 * are 0. */
static int64_t explicit_lifetime(const struct reading *r, int64_t date)
{
    int64_t seconds = CC_ABSENT, expires;
    if (r->rules->shared)
        seconds = r->cc.s_maxage;
    if (seconds == CC_ABSENT)
        seconds = r->cc.max_age;
    if (seconds != CC_ABSENT)
        return seconds == CC_INVALID ? 0 : seconds;
    if (r->targeted || !head_has(r->response, FIELD_EXPIRES))
        return CC_ABSENT;
    if (!single_date(r->response, FIELD_EXPIRES, r->times->wall, &expires) || expires <= date)
        return 0;
    return expires - date;
}

/* A share of the time since the last modification (RFC 9111 4.2.2). */
static tick_t heuristic_lifetime(const struct reading *r, const struct freshness *f)
{
    double fraction = r->rules->heuristic_fraction;
    if (!(fraction > 0) || f->last_modified == INT64_MIN || f->last_modified >= f->date)
        return 0;
    if (!heuristic_status(r->response->status) && !(r->cc.flags & CC_PUBLIC))
        return 0;
    double lifetime = (double)(f->date - f->last_modified) * fraction * (double)TICK_S;
    return lifetime >= (double)HEURISTIC_MAX ? HEURISTIC_MAX : (tick_t)lifetime;
}

/* May the lifetime be learnt: nobody gave one, a heuristic is allowed, and a look will tell whether it
 * changed. */
static bool learnable(const struct reading *r, const struct freshness *f)
{
    return r->rules->adaptive_ttl && f->has_validator && !r->explicit_lifetime && !r->configured &&
           r->response->status == 200;
}

static tick_t lifetime_of(struct reading *r, const struct freshness *f)
{
    int64_t seconds = explicit_lifetime(r, f->date);
    r->explicit_lifetime = seconds != CC_ABSENT;
    if (r->explicit_lifetime)
        return ticks(seconds);
    r->configured = true;
    if (configured_status(r->response->status)) {
        if (r->route && r->route->has_ttl)
            return min_tick(r->route->ttl, ticks(CC_SECONDS_MAX));
        r->defaulted = r->rules->default_ttl > 0;
        if (r->defaulted)
            return min_tick(r->rules->default_ttl, ticks(CC_SECONDS_MAX));
    }
    r->configured = false;
    if (learnable(r, f) && r->route && r->route->has_learnt)
        return min_tick(r->route->learnt, HEURISTIC_MAX);
    return heuristic_lifetime(r, f);
}

/* RFC 9111 4.2.3 */
static tick_t initial_age(const struct reading *r, const struct freshness *f)
{
    tick_t apparent = r->date_valid ? ticks(r->times->wall - f->date) : 0;
    tick_t delay = r->times->received - r->times->sent;
    delay = delay < 0 ? 0 : min_tick(delay, ticks(CC_SECONDS_MAX));
    tick_t corrected = ticks(age_field(r->response)) + delay;
    /* Date has whole seconds. Where the lifetime is ours and may be shorter than that, the rounding is not an
     * age. */
    if (r->configured && apparent <= TICK_S)
        apparent = 0;
    return apparent > corrected ? apparent : corrected;
}

/* How long it may be served stale: the origin's word, else the configured default. */
static tick_t window(const struct freshness *f, int64_t said, tick_t otherwise)
{
    if (f->must_revalidate || f->no_cache)
        return 0;
    if (said != CC_ABSENT)
        return ticks(said);
    return otherwise < 0 ? 0 : min_tick(otherwise, ticks(CC_SECONDS_MAX));
}

/* Fills in everything that the answer says about its freshness. */
static void measure(struct reading *r, struct freshness *f)
{
    uint32_t flags = r->cc.flags;
    bool shared = r->rules->shared;
    *f = (struct freshness){
        .received = r->times->received, .last_modified = INT64_MIN, .date = r->times->wall};
    r->date_valid = single_date(r->response, FIELD_DATE, r->times->wall, &f->date);
    if (!single_date(r->response, FIELD_LAST_MODIFIED, r->times->wall, &f->last_modified))
        f->last_modified = INT64_MIN;
    f->no_cache = flags & CC_NO_CACHE;
    f->immutable = flags & CC_IMMUTABLE;
    f->must_revalidate = (flags & CC_MUST_REVALIDATE) ||
                         (shared && ((flags & CC_PROXY_REVALIDATE) || r->cc.s_maxage != CC_ABSENT));
    f->has_validator = head_first(r->response, FIELD_ETAG).n > 0 || f->last_modified != INT64_MIN;
    f->lifetime = lifetime_of(r, f);
    f->learnable = learnable(r, f);
    f->settable = r->defaulted;
    f->initial_age = initial_age(r, f);
    /* An origin that states a lifetime has said how long: more is for it alone to allow (RFC 9111 4.2.4). */
    f->swr = window(f, r->cc.stale_while_revalidate,
                    r->explicit_lifetime ? 0 : min_tick(r->rules->stale_while_revalidate, f->lifetime));
    f->sie = window(f, r->cc.stale_if_error, r->rules->stale_if_error);
}

/* no-store counts, unless must-understand lifts it for a status that we implement (RFC 9111 5.2.2.3). */
static bool forbidden_by_origin(const struct cache_control *cc, int status)
{
    if (cc->flags & CC_MUST_UNDERSTAND)
        return !understood_status(status);
    return cc->flags & CC_NO_STORE;
}

static bool allowed_with_authorization(const struct cache_control *cc)
{
    return (cc->flags & (CC_PUBLIC | CC_MUST_REVALIDATE)) || cc->s_maxage != CC_ABSENT;
}

/* Is there any use for it later: fresh for a while, to be validated, or to be served stale by the origin's
 * leave? */
static bool worth_storing(const struct reading *r, const struct freshness *f)
{
    if (f->no_cache)
        return f->has_validator;
    if (f->lifetime > 0)
        return true;
    if (f->has_validator)
        return r->explicit_lifetime || heuristic_status(r->response->status) ||
               (r->cc.flags & (CC_PUBLIC | CC_PRIVATE));
    return r->explicit_lifetime && (r->cc.stale_while_revalidate > 0 || r->cc.stale_if_error > 0);
}

/* A 206 and a 416 are about a Range: the one is a part, the other says nothing about the rest. */
static bool storable_status(const struct head *request, int status)
{
    bool ranged = request->method == METHOD_GET && head_has(request, FIELD_RANGE);
    if (status == 206)
        return ranged;
    return status >= 200 && status != 304 && !(status == 416 && ranged);
}

/* RFC 9110 9.3.3 */
static bool cacheable_post(const struct reading *r, const struct head *request)
{
    return request->method == METHOD_POST && r->explicit_lifetime &&
           head_has(r->response, FIELD_CONTENT_LOCATION);
}

enum storable freshness_judge(const struct cache_rules *rules, const struct cache_route *route,
                              const struct head *request, const struct head *response,
                              const struct freshness_times *times, struct freshness *out)
{
    struct reading r = {.rules = rules, .route = route, .response = response, .times = times};
    struct cache_control asked;
    r.targeted = response_directives(rules, response, &r.cc);
    measure(&r, out);
    cache_control_read(request, &asked);
    if (request->method != METHOD_GET && !cacheable_post(&r, request))
        return STORABLE_METHOD;
    if (!storable_status(request, response->status))
        return STORABLE_STATUS;
    if ((asked.flags & CC_NO_STORE) || forbidden_by_origin(&r.cc, response->status))
        return STORABLE_NO_STORE;
    if (rules->shared && (r.cc.flags & CC_PRIVATE))
        return STORABLE_PRIVATE;
    bool authorized = head_has(request, FIELD_AUTHORIZATION) || rules->adds_credential;
    if (rules->shared && authorized && !allowed_with_authorization(&r.cc))
        return STORABLE_AUTHORIZED;
    return worth_storing(&r, out) ? STORABLE_YES : STORABLE_NO_FRESHNESS;
}

bool freshness_stated(const struct cache_rules *rules, const struct head *response, int64_t wall)
{
    const struct freshness_times times = {.wall = wall};
    struct reading r = {.rules = rules, .response = response, .times = &times};
    struct freshness f;
    r.targeted = response_directives(rules, response, &r.cc);
    measure(&r, &f);
    return r.explicit_lifetime && f.lifetime > 0 && !f.no_cache && !(r.cc.flags & CC_NO_STORE);
}

tick_t freshness_age(const struct freshness *f, tick_t now)
{
    tick_t age, resident;
    if (__builtin_sub_overflow(now, f->received, &resident))
        return now > 0 ? TICK_NEVER : f->initial_age;
    if (resident < 0)
        resident = 0;
    if (__builtin_add_overflow(f->initial_age, resident, &age))
        return TICK_NEVER;
    return age;
}

tick_t freshness_left(const struct freshness *f, tick_t now)
{
    return f->lifetime - freshness_age(f, now);
}

/* Does the request refuse what is stored for its age alone (RFC 9111 5.2.1.1, 5.2.1.3, 5.2.1.4)? */
static bool refused_by_request(const struct cache_control *cc, tick_t age, tick_t left)
{
    if (cc->flags & CC_NO_CACHE)
        return true;
    if (cc->max_age != CC_ABSENT && age > ticks(cc->max_age))
        return true;
    return cc->min_fresh > 0 && left < ticks(cc->min_fresh);
}

/* The client takes what is stale by so much (RFC 9111 5.2.1.2). */
static bool takes_stale(const struct cache_control *cc, tick_t staleness)
{
    if (cc->flags & CC_MAX_STALE_ANY)
        return true;
    return cc->max_stale >= 0 && staleness <= ticks(cc->max_stale);
}

enum reuse freshness_reuse(const struct freshness *f, const struct cache_ask *ask, tick_t now,
                           enum cache_fwd *fwd)
{
    tick_t age = freshness_age(f, now), left = f->lifetime - age;
    *fwd = CACHE_FWD_REQUEST;
    if (!ask->plain && refused_by_request(&ask->cc, age, left))
        return REUSE_VALIDATE;
    *fwd = CACHE_FWD_STALE;
    if (f->no_cache)
        return REUSE_VALIDATE;
    if (left <= 0) {
        if (f->must_revalidate)
            return REUSE_VALIDATE;
        if (!ask->plain && takes_stale(&ask->cc, -left)) {
            *fwd = CACHE_FWD_NONE;
            return REUSE_STALE;
        }
        if (-left >= f->swr || ask->cc.max_age != CC_ABSENT || ask->cc.min_fresh > 0)
            return REUSE_VALIDATE;
        *fwd = CACHE_FWD_NONE;
        return REUSE_REFRESH;
    }
    *fwd = CACHE_FWD_NONE;
    return REUSE_FRESH;
}

bool freshness_for_error(const struct freshness *f, const struct cache_ask *ask, tick_t now)
{
    tick_t left = freshness_left(f, now), limit = f->sie;
    if (f->no_cache || (ask->cc.flags & CC_NO_CACHE) || ask->cc.max_age == 0)
        return false;
    if (left > 0)
        return true;
    if (f->must_revalidate)
        return false;
    if (ask->cc.stale_if_error != CC_ABSENT)
        limit = ticks(ask->cc.stale_if_error);
    return -left < limit || (!ask->plain && takes_stale(&ask->cc, -left));
}
