/*
 * Two locks: one around the governors, one around the concurrency limit; each held for one decision.
 * admit_tune alone takes the second inside the first.
 *
 * The fast path. `flying` is the number of calls at the upstream, and a bit that says that the lock is taken
 * or somebody waits. While the bit is clear a call takes and gives its place by one exchange of that word,
 * never beyond the limit; whoever takes the lock sets the bit first, so nobody comes or goes meanwhile. What
 * is answered well is gathered, and policy hears of it at the latest after QUANTUM. Who shows no key is held
 * back by nobody: it is only counted, until an answer says something about a limit.
 *
 * Invariants: a ticket that has_quota or has_limit is
 * ended exactly once (admit_end, admit_leave); a key's governor is forgotten only when nobody holds or awaits
 * anything of it; wake() is called with a lock held and only posts.
 */
#include "proxy/admit.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config.h"
#include "proxy/admit_rules.h"
#include "proxy/view.h"

#define QUANTUM    (10 * TICK_MS)
#define CLOSED     (UINT32_C(1) << 31) /* of `flying`: no fast path */
#define NOBODY     (-1)
#define SHARED_FOR (90 * TICK_S) /* behind the newest call nobody needs to hear of a key */

struct key {
    struct hash128 id;
    bool used, nobody;
    bool named; /* its budget is shared, under: */
    struct hash128 name;
    struct quota quota;
};

struct admit {
    pthread_mutex_t quota_lock, limit_lock;
    struct hash_key hash;
    struct hash128 nobody_id; /* of an empty credential */
    int64_t wall;             /* unix nanoseconds less ticks */
    struct quota_rules rules, nobody_rules;
    struct key key[ADMIT_KEYS]; /* the last one is shared by those for whom there is no room */
    struct {
        admit_name *name; /* NULL: nothing is shared */
        void *arg;
        int sidecars;
        bool in_touch;
    } sharing;
    struct concurrency_rules limit_rules;
    struct concurrency limit;
    struct {
        _Atomic uint32_t flying;
        _Atomic uint32_t limit; /* what `flying` may reach */
        _Atomic uint32_t peak;  /* of it; with the next three: since policy heard */
        _Atomic uint32_t let_go, good;
        _Atomic int64_t sum;  /* ns, of the good ones */
        _Atomic uint32_t nth; /* good ones ever, by tens */
        _Atomic int64_t low;  /* ns, the shortest of this ten; a race may put one into the next */
        _Atomic int64_t lows; /* ns, of the tens that are complete */
        _Atomic uint32_t batches;
        _Atomic tick_t began; /* gathering */
    } quick;
    struct {
        _Atomic bool quick; /* who shows no key needs no governor */
        _Atomic uint32_t flying;
        _Atomic uint64_t let_go;
    } nobody;
};

/* Who shows no key is watched only: the API's limits are limits of keys. */
static struct quota_rules *rules_of(struct admit *a, const struct key *k)
{
    return k->nobody ? &a->nobody_rules : &a->rules;
}

static void read_rules(struct admit *a, const struct config *cfg)
{
    admit_quota_rules(cfg, &a->rules);
    a->nobody_rules = a->rules;
    a->nobody_rules.mode = QUOTA_OBSERVE;
    a->nobody_rules.assume = false;
    admit_concurrency_rules(cfg, &a->limit_rules);
}

struct admit *admit_new(const struct config *cfg, struct hash_key hash, tick_t now, int64_t wall)
{
    struct admit *a = calloc(1, sizeof(*a));
    if (!a)
        return NULL;
    pthread_mutex_init(&a->quota_lock, NULL);
    pthread_mutex_init(&a->limit_lock, NULL);
    a->hash = hash;
    a->nobody_id = hash_bytes(hash, "", 0);
    a->wall = wall - now;
    read_rules(a, cfg);
    concurrency_init(&a->limit, &a->limit_rules, now);
    atomic_init(&a->quick.limit, (uint32_t)concurrency_limit(&a->limit));
    atomic_init(&a->quick.began, now);
    atomic_init(&a->nobody.quick, true);
    return a;
}

void admit_free(struct admit *a)
{
    if (!a)
        return;
    pthread_mutex_destroy(&a->quota_lock);
    pthread_mutex_destroy(&a->limit_lock);
    free(a);
}

/* ---- the place at the upstream ------------------------------------------------------------------------- */

static void lock_limit(struct admit *a, tick_t now)
{
    struct concurrency *c = &a->limit;
    pthread_mutex_lock(&a->limit_lock);
    c->in_flight = (int)(atomic_fetch_or(&a->quick.flying, CLOSED) & ~CLOSED);
    int peak = (int)atomic_exchange_explicit(&a->quick.peak, 0, memory_order_relaxed);
    c->peak = peak > c->peak ? peak : c->peak;
    uint32_t let_go = atomic_exchange_explicit(&a->quick.let_go, 0, memory_order_relaxed);
    uint32_t good = atomic_exchange_explicit(&a->quick.good, 0, memory_order_relaxed);
    int64_t sum = atomic_exchange_explicit(&a->quick.sum, 0, memory_order_relaxed);
    uint32_t batches = atomic_exchange_explicit(&a->quick.batches, 0, memory_order_relaxed);
    int64_t lows = batches ? atomic_exchange_explicit(&a->quick.lows, 0, memory_order_relaxed) : 0;
    atomic_store_explicit(&a->quick.began, now, memory_order_relaxed);
    struct concurrency_gathering gathered = {let_go, good, sum, batches, lows};
    concurrency_gathered(c, &gathered, now);
}

static void unlock_limit(struct admit *a)
{
    const struct concurrency *c = &a->limit;
    bool all = a->limit_rules.mode == CONCURRENCY_OFF;
    atomic_store_explicit(&a->quick.limit, all ? CLOSED - 1 : (uint32_t)concurrency_limit(c),
                          memory_order_relaxed);
    atomic_store(&a->quick.flying, (uint32_t)c->in_flight | (c->first ? CLOSED : 0));
    pthread_mutex_unlock(&a->limit_lock);
}

/* Takes a place when there is one and nobody waits. */
static bool take_quickly(struct admit *a)
{
    uint32_t flying = atomic_load_explicit(&a->quick.flying, memory_order_relaxed);
    uint32_t limit = atomic_load_explicit(&a->quick.limit, memory_order_relaxed);
    do {
        if (flying >= limit) /* CLOSED is above any limit */
            return false;
    } while (!atomic_compare_exchange_weak(&a->quick.flying, &flying, flying + 1));
    atomic_fetch_add_explicit(&a->quick.let_go, 1, memory_order_relaxed);
    uint32_t peak = atomic_load_explicit(&a->quick.peak, memory_order_relaxed);
    while (flying + 1 > peak &&
           !atomic_compare_exchange_weak_explicit(&a->quick.peak, &peak, flying + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
    return true;
}

/* The shortest of each ten: what tells queueing at the upstream from slowness. */
static void note_low(struct admit *a, tick_t took)
{
    uint32_t n = atomic_fetch_add_explicit(&a->quick.nth, 1, memory_order_relaxed) % CONCURRENCY_BATCH;
    if (n == 0 || took < atomic_load_explicit(&a->quick.low, memory_order_relaxed))
        atomic_store_explicit(&a->quick.low, took, memory_order_relaxed);
    if (n + 1 < CONCURRENCY_BATCH)
        return;
    int64_t low = atomic_load_explicit(&a->quick.low, memory_order_relaxed);
    atomic_fetch_add_explicit(&a->quick.lows, low, memory_order_relaxed);
    atomic_fetch_add_explicit(&a->quick.batches, 1, memory_order_relaxed);
}

/* Gives it back, when nobody waits for it and it says only how long a good answer took. */
static bool give_quickly(struct admit *a, enum outcome outcome, tick_t took, tick_t now)
{
    if (outcome_row(outcome)->load != OUTCOME_LOAD_GOOD ||
        now - atomic_load_explicit(&a->quick.began, memory_order_relaxed) >= QUANTUM)
        return false;
    uint32_t flying = atomic_load_explicit(&a->quick.flying, memory_order_relaxed);
    do {
        if (flying & CLOSED)
            return false;
    } while (!atomic_compare_exchange_weak(&a->quick.flying, &flying, flying - 1));
    atomic_fetch_add_explicit(&a->quick.good, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&a->quick.sum, took, memory_order_relaxed);
    note_low(a, took);
    return true;
}

/* ---- waking ------------------------------------------------------------------------------------------- */

static void quota_woken(struct quota_waiter *w, bool go, tick_t at, void *arg)
{
    struct admit_ticket *t = (struct admit_ticket *)((char *)w - offsetof(struct admit_ticket, quota_wait));
    (void)arg;
    t->has_quota = go;
    t->refused_at = at;
    t->wake(t);
}

static void limit_woken(struct concurrency_waiter *w, bool go, void *arg)
{
    struct admit_ticket *t = (struct admit_ticket *)((char *)w - offsetof(struct admit_ticket, limit_wait));
    (void)arg;
    t->has_limit = go;
    t->refused_at = 0;
    t->wake(t);
}

void admit_tune(struct admit *a, const struct config *cfg, tick_t now)
{
    pthread_mutex_lock(&a->quota_lock);
    lock_limit(a, now);
    read_rules(a, cfg);
    unlock_limit(a);
    for (int i = 0; i < ADMIT_KEYS; i++) {
        if (!a->key[i].used)
            continue;
        quota_tune(&a->key[i].quota, rules_of(a, &a->key[i]), now);
        (void)quota_turn(&a->key[i].quota, quota_woken, NULL, now);
    }
    pthread_mutex_unlock(&a->quota_lock);
    lock_limit(a, now);
    concurrency_tune(&a->limit, &a->limit_rules);
    (void)concurrency_turn(&a->limit, limit_woken, NULL, now);
    unlock_limit(a);
}

/* ---- keys --------------------------------------------------------------------------------------------- */

static struct hash128 name_of(const struct admit *a, struct slice credential, struct admit_memo *memo)
{
    if (!credential.n)
        return a->nobody_id;
    if (!memo || credential.n > sizeof(memo->bytes))
        return hash_bytes(a->hash, credential.p, credential.n);
    if (memo->n != credential.n || memcmp(memo->bytes, credential.p, credential.n) != 0) {
        memo->id = hash_bytes(a->hash, credential.p, credential.n);
        memo->n = (uint16_t)credential.n;
        memcpy(memo->bytes, credential.p, credential.n);
    }
    return memo->id;
}

/* Its place, or -1. */
static int find(const struct admit *a, struct hash128 id)
{
    for (int i = 0; i < 8; i++) {
        int at = (int)((id.lo + (uint64_t)i) % (ADMIT_KEYS - 1));
        if (a->key[at].used && hash_equal(a->key[at].id, id))
            return at;
    }
    return -1;
}

static bool idle(const struct key *k)
{
    return !k->quota.in_flight && !k->quota.waiting;
}

/* The place for a new key among its eight: a free one, else the longest unused; the shared one when all are
 * busy. */
static int make(struct admit *a, struct hash128 id, const struct admit_call *call, tick_t now)
{
    int best = -1;
    for (int i = 0; i < 8; i++) {
        int at = (int)((id.lo + (uint64_t)i) % (ADMIT_KEYS - 1));
        struct key *k = &a->key[at];
        if (!k->used) {
            best = at;
            break;
        }
        if (idle(k) && (best < 0 || k->quota.used_at < a->key[best].quota.used_at))
            best = at;
    }
    if (best < 0) {
        best = ADMIT_KEYS - 1;
        if (a->key[best].used)
            return best;
    }
    a->key[best].id = id;
    a->key[best].used = true;
    a->key[best].nobody = call->credential.n == 0;
    quota_init(&a->key[best].quota, rules_of(a, &a->key[best]), now, a->wall + now);
    a->key[best].named = a->sharing.name && call->credential.n &&
                         a->sharing.name(a->sharing.arg, call->credential, &a->key[best].name);
    if (a->key[best].named)
        quota_share(&a->key[best].quota, a->sharing.sidecars, a->sharing.in_touch, now);
    return best;
}

static int key_of(struct admit *a, const struct admit_call *call, tick_t now)
{
    struct hash128 id = name_of(a, call->credential, call->memo);
    int at = find(a, id);
    a->wall = call->wall - now;
    if (at < 0)
        at = make(a, id, call, now);
    return at;
}

/* ---- asking ------------------------------------------------------------------------------------------- */

enum admit_verdict admit_quota(struct admit *a, struct admit_ticket *t, const struct admit_call *call,
                               tick_t *at, tick_t now)
{
    struct quota_call ask = {call->flow, call->deadline, call->background};
    if (!call->credential.n && atomic_load_explicit(&a->nobody.quick, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&a->nobody.flying, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&a->nobody.let_go, 1, memory_order_relaxed);
        t->key = NOBODY;
        t->has_quota = true;
        return ADMIT_GO;
    }
    pthread_mutex_lock(&a->quota_lock);
    t->key = key_of(a, call, now);
    t->id = a->key[t->key].id;
    struct quota_verdict v = quota_ask(&a->key[t->key].quota, &ask, &t->quota_wait, quota_woken, NULL, now);
    t->has_quota = v.kind == QUOTA_GO;
    pthread_mutex_unlock(&a->quota_lock);
    *at = v.at;
    return v.kind == QUOTA_GO ? ADMIT_GO : v.kind == QUOTA_WAIT ? ADMIT_WAIT : ADMIT_REFUSED;
}

enum admit_verdict admit_limit(struct admit *a, struct admit_ticket *t, tick_t deadline, tick_t *at,
                               tick_t now)
{
    if (take_quickly(a)) {
        t->has_limit = true;
        return ADMIT_GO;
    }
    lock_limit(a, now);
    enum concurrency_verdict v = concurrency_ask(&a->limit, &t->limit_wait, deadline, limit_woken, NULL, now);
    t->has_limit = v == CONCURRENCY_GO;
    *at = v == CONCURRENCY_WAIT ? t->limit_wait.until : now + concurrency_retry_after(&a->limit);
    unlock_limit(a);
    return v == CONCURRENCY_GO ? ADMIT_GO : v == CONCURRENCY_WAIT ? ADMIT_WAIT : ADMIT_REFUSED;
}

static enum admit_verdict standing(const struct admit_ticket *t, bool queued, bool held, tick_t *at)
{
    if (queued)
        return ADMIT_WAIT;
    if (held)
        return ADMIT_GO;
    *at = t->refused_at;
    return ADMIT_REFUSED;
}

static enum admit_verdict turn_quota(struct admit *a, struct admit_ticket *t, tick_t *at, tick_t now)
{
    pthread_mutex_lock(&a->quota_lock);
    struct quota *q = &a->key[t->key].quota;
    if (t->quota_wait.queued)
        *at = quota_turn(q, quota_woken, NULL, now);
    if (t->quota_wait.queued && t->quota_wait.until <= now) { /* others were before it, by their shares */
        quota_leave(q, &t->quota_wait);
        q->refused++;
        t->refused_at = *at;
    }
    if (t->quota_wait.queued && *at > t->quota_wait.until)
        *at = t->quota_wait.until;
    enum admit_verdict v = standing(t, t->quota_wait.queued, t->has_quota, at);
    pthread_mutex_unlock(&a->quota_lock);
    return v;
}

enum admit_verdict admit_turn(struct admit *a, struct admit_ticket *t, bool for_limit, tick_t *at, tick_t now)
{
    if (!for_limit)
        return turn_quota(a, t, at, now);
    lock_limit(a, now);
    if (t->limit_wait.queued)
        (void)concurrency_turn(&a->limit, limit_woken, NULL, now);
    if (t->limit_wait.queued && now >= t->limit_wait.until) {
        concurrency_leave(&a->limit, &t->limit_wait);
        a->limit.refused++;
    }
    *at = t->limit_wait.until;
    enum admit_verdict v = standing(t, t->limit_wait.queued, t->has_limit, at);
    if (v == ADMIT_REFUSED)
        *at = now + concurrency_retry_after(&a->limit);
    unlock_limit(a);
    return v;
}

/* ---- ends --------------------------------------------------------------------------------------------- */

static void end_limit(struct admit *a, enum outcome outcome, tick_t took, tick_t now)
{
    if (give_quickly(a, outcome, took, now))
        return;
    lock_limit(a, now);
    concurrency_end(&a->limit, outcome, took, now);
    (void)concurrency_turn(&a->limit, limit_woken, NULL, now);
    unlock_limit(a);
}

/* True: it was the quota of who shows no key, and needs no governor. An answer that speaks of limits makes
 * one. */
static bool end_nobody(struct admit *a, struct admit_ticket *t, const struct quota_answer *answer, tick_t now)
{
    bool news = answer->throttled ||
                (answer->reading && (answer->reading->count || answer->reading->retry_after >= 0));
    if (t->key != NOBODY)
        return false;
    atomic_fetch_sub_explicit(&a->nobody.flying, 1, memory_order_relaxed);
    if (!news)
        return true;
    struct admit_call call = {.wall = a->wall + now};
    pthread_mutex_lock(&a->quota_lock);
    atomic_store_explicit(&a->nobody.quick, false, memory_order_relaxed);
    t->key = key_of(a, &call, now);
    t->id = a->key[t->key].id;
    a->key[t->key].quota.in_flight++; /* as if it had asked there */
    pthread_mutex_unlock(&a->quota_lock);
    return false;
}

void admit_end(struct admit *a, struct admit_ticket *t, enum outcome outcome,
               const struct quota_answer *answer, tick_t took, tick_t now)
{
    /* Nobody else writes the flags here: only those of who waits are changed by others, and its wakening was
     * seen. */
    if (t->has_limit) {
        t->has_limit = false;
        end_limit(a, outcome, took, now);
    }
    if (!t->has_quota)
        return;
    t->has_quota = false;
    if (end_nobody(a, t, answer, now))
        return;
    pthread_mutex_lock(&a->quota_lock);
    quota_end(&a->key[t->key].quota, answer, now);
    (void)quota_turn(&a->key[t->key].quota, quota_woken, NULL, now);
    pthread_mutex_unlock(&a->quota_lock);
}

void admit_leave(struct admit *a, struct admit_ticket *t, tick_t sent_at, tick_t now)
{
    struct quota_answer answer = {.charged = sent_at > 0, .sent_at = sent_at > 0 ? sent_at : now};
    if (!t->wake)
        return; /* it never asked */
    if (t->key != NOBODY) {
        pthread_mutex_lock(&a->quota_lock);
        quota_leave(&a->key[t->key].quota, &t->quota_wait);
        pthread_mutex_unlock(&a->quota_lock);
    }
    lock_limit(a, now);
    concurrency_leave(&a->limit, &t->limit_wait);
    unlock_limit(a);
    admit_end(a, t, sent_at > 0 ? OUTCOME_CLIENT_GONE : OUTCOME_LOCAL, &answer, 0, now);
}

bool admit_background_allowed(struct admit *a, struct slice credential, tick_t now)
{
    pthread_mutex_lock(&a->quota_lock);
    int at = find(a, name_of(a, credential, NULL));
    bool allowed = at < 0 || quota_spare(&a->key[at].quota, now);
    pthread_mutex_unlock(&a->quota_lock);
    if (!allowed)
        return false;
    lock_limit(a, now);
    bool held_back = a->limit_rules.mode == CONCURRENCY_ADAPTIVE || a->limit_rules.mode == CONCURRENCY_FIXED;
    allowed = !held_back || (!a->limit.first && a->limit.in_flight + 1 < concurrency_limit(&a->limit));
    unlock_limit(a);
    return allowed;
}

/* ---- sharing ------------------------------------------------------------------------------------------ */

void admit_share(struct admit *a, admit_name *name, void *arg)
{
    a->sharing.name = name;
    a->sharing.arg = arg;
    a->sharing.sidecars = 1;
}

void admit_sidecars(struct admit *a, int count, bool in_touch, tick_t now)
{
    pthread_mutex_lock(&a->quota_lock);
    a->sharing.sidecars = count;
    a->sharing.in_touch = in_touch;
    for (int i = 0; i < ADMIT_KEYS; i++) {
        if (!a->key[i].used || !a->key[i].named)
            continue;
        quota_share(&a->key[i].quota, count, in_touch, now);
        (void)quota_turn(&a->key[i].quota, quota_woken, NULL, now);
    }
    pthread_mutex_unlock(&a->quota_lock);
}

bool admit_part_next(struct admit *a, int *place, struct admit_part *out, tick_t now)
{
    bool found = false;
    pthread_mutex_lock(&a->quota_lock);
    while (!found && *place < ADMIT_KEYS) {
        struct key *k = &a->key[(*place)++];
        if (!k->used || !k->named || now - k->quota.used_at > SHARED_FOR)
            continue;
        found = true;
        out->place = *place - 1;
        out->name = k->name;
        out->count = quota_parts(&k->quota, out->part, now);
        out->gate = k->quota.streak && k->quota.gate > now ? k->quota.gate : 0;
        out->disguised = k->quota.refusal_disguised;
    }
    pthread_mutex_unlock(&a->quota_lock);
    return found;
}

void admit_granted(struct admit *a, const struct admit_part *p, const struct admit_grant *grant, tick_t gate,
                   bool disguised, tick_t now)
{
    pthread_mutex_lock(&a->quota_lock);
    struct key *k = &a->key[p->place];
    if (k->used && k->named && hash_equal(k->name, p->name)) {
        for (int i = 0; i < p->count; i++)
            if (grant[i].calls >= 0)
                quota_granted(&k->quota, &p->part[i], grant[i].calls, grant[i].common, now);
        if (gate > 0)
            quota_heard_refusal(&k->quota, gate, disguised, now);
        (void)quota_turn(&k->quota, quota_woken, NULL, now);
    }
    pthread_mutex_unlock(&a->quota_lock);
}

/* ---- showing ------------------------------------------------------------------------------------------ */

static void show_key(struct key *k, struct view *v, tick_t now)
{
    char name[20];
    tick_t next = quota_next(&k->quota, now);
    snprintf(name, sizeof(name), "%08x", (unsigned)(k->id.hi & 0xffffffff));
    view_object(v, NULL);
    view_text(v, "key", name);
    view_array(v, "windows");
    for (int i = 0; i < k->quota.count; i++) {
        struct quota_look w = quota_look(&k->quota, i, now);
        if (w.limit < 0)
            continue;
        view_object(v, NULL);
        view_text(v, "window", rate_key_name(w.key));
        view_int(v, "limit", w.limit);
        view_int(v, "remaining", w.left);
        view_real(v, "length", (double)w.length / (double)TICK_S);
        view_real(v, "resets_in", w.ends > now ? (double)(w.ends - now) / (double)TICK_S : 0);
        view_text(v, "source", w.told ? "upstream" : "own_count");
        view_end(v);
    }
    view_end(v);
    view_uint(v, "in_flight", k->quota.in_flight);
    view_uint(v, "waiting", k->quota.waiting);
    view_real(v, "next_in", next > now ? (double)(next - now) / (double)TICK_S : 0);
    view_uint(v, "sent", k->quota.let_go);
    view_uint(v, "waited", k->quota.waited);
    view_uint(v, "refused", k->quota.refused);
    view_uint(v, "upstream_refusals", k->quota.upstream_refused);
    view_end(v);
}

void admit_show(struct admit *a, struct view *v, tick_t now)
{
    static const char *const modes[] = {"observe", "pace", "reject"};
    static const char *const limits[] = {"adaptive", "fixed", "off", "observe"};
    pthread_mutex_lock(&a->quota_lock);
    view_bool(v, "enabled", a->rules.enabled);
    view_text(v, "mode", modes[a->rules.mode]);
    view_array(v, "keys");
    for (int i = 0; i < ADMIT_KEYS; i++)
        if (a->key[i].used)
            show_key(&a->key[i], v, now);
    view_end(v);
    view_object(v, "without_key");
    view_uint(v, "in_flight", atomic_load_explicit(&a->nobody.flying, memory_order_relaxed));
    view_uint(v, "sent", atomic_load_explicit(&a->nobody.let_go, memory_order_relaxed));
    view_end(v);
    pthread_mutex_unlock(&a->quota_lock);
    lock_limit(a, now);
    view_object(v, "concurrency");
    view_text(v, "mode", limits[a->limit_rules.mode]);
    view_int(v, "limit", concurrency_limit(&a->limit));
    view_real(v, "healthy", a->limit.healthy);
    view_int(v, "in_flight", a->limit.in_flight);
    view_uint(v, "waiting", a->limit.waiting);
    view_uint(v, "waited", a->limit.waited);
    view_uint(v, "refused", a->limit.refused);
    view_end(v);
    unlock_limit(a);
}

int admit_left(struct admit *a, struct admit_left *out, int count, tick_t now)
{
    int n = 0;
    pthread_mutex_lock(&a->quota_lock);
    for (int i = 0; i < ADMIT_KEYS; i++)
        for (int w = 0; a->key[i].used && w < a->key[i].quota.count; w++) {
            struct quota_look look = quota_look(&a->key[i].quota, w, now);
            const char *name = rate_key_name(look.key);
            int at = 0;
            while (at < n && strcmp(out[at].window, name) != 0)
                at++;
            if (look.limit < 0 || at == count)
                continue;
            double share = look.limit > 0 ? (double)look.left / (double)look.limit : 0;
            if (at == n)
                out[n++] = (struct admit_left){name, look.left, NAN};
            if (look.left < out[at].left)
                out[at].left = look.left;
            if (!look.assumed && !(share >= out[at].share)) /* the first one as well */
                out[at].share = share;
        }
    pthread_mutex_unlock(&a->quota_lock);
    return n;
}

int admit_concurrency_limit(struct admit *a)
{
    pthread_mutex_lock(&a->limit_lock);
    int limit = concurrency_limit(&a->limit);
    pthread_mutex_unlock(&a->limit_lock);
    return limit;
}

int admit_in_flight(struct admit *a)
{
    return (int)(atomic_load_explicit(&a->quick.flying, memory_order_relaxed) & ~CLOSED);
}
