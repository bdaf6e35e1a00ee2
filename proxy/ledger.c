/*
 * The budget in Redis. For each key a hash: `w<window>` when the window ends and since when it is there,
 * `m<window>:<sidecar>` what one sidecar has used, holds and wants, and when it said so, `gate` until when
 * the API refuses. The script below changes all of it at once, so that what all hold together stays within
 * the limit; how much a sidecar asks for is policy's (budget.h), from what it heard of the others the last
 * time.
 *
 * Invariants: one command of a key is under way at most; times go to Redis and come back as distances, and
 * are measured there by its own clock alone; what Redis lost (a restart without a file) comes back from what
 * the sidecars hold, and nobody holds more for a second.
 */
#include "proxy/ledger.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "policy/budget.h"
#include "policy/rng.h"
#include "proxy/admit.h"
#include "proxy/log.h"
#include "proxy/mailbox.h"
#include "proxy/redis.h"
#include "proxy/redis_place.h"
#include "proxy/seal.h"
#include "proxy/view.h"

enum { TURN_MS = 100, NAME_MAX_ = 96, WORDS_MAX = 64, NUMBER_MAX = 24, PART_WORDS = 8, FIRST_PART = 6 };

#define TURN     (TURN_MS * TICK_MS)
#define PATIENCE (500 * TICK_MS) /* for one answer */
#define BEAT     TICK_S          /* a sign of life when there is nothing else to say */
#define SETTLING (10 * TICK_S)

/*
 * KEYS: the key's hash, the sidecars. ARGV: sidecar, gate (ms), disguised; then of each window: name, exact,
 * limit, length (ms), ends in (ms), used, held, wants, target. Answers: sidecars, gate (ms), disguised; then
 * of each window: granted (-1: it is over), and used, held, wants of each other sidecar.
 */
static const char script[] =
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "local me, gate = ARGV[1], tonumber(ARGV[2])\n"
    "redis.call('ZADD', KEYS[2], now, me)\n"
    "redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 5000)\n"
    "redis.call('PEXPIRE', KEYS[2], 60000)\n"
    "local out, h, longest = {redis.call('ZCARD', KEYS[2]), 0, 0}, {}, 0\n"
    "local all = redis.call('HGETALL', KEYS[1])\n"
    "for i = 1, #all, 2 do h[all[i]] = all[i + 1] end\n"
    "local closed = tonumber(h['gate'] or '0')\n"
    "if gate > 0 and now + gate > closed + 5 then\n"
    "  closed = now + gate\n"
    "  h['disguised'] = ARGV[3]\n"
    "  redis.call('HSET', KEYS[1], 'gate', closed, 'disguised', ARGV[3])\n"
    "end\n"
    "if closed > now then out[2] = closed - now; out[3] = tonumber(h['disguised'] or '0') end\n"
    "for i = 4, #ARGV, 9 do\n"
    "  local w, exact, limit, length = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])\n"
    "  local ends, used, held = now + tonumber(ARGV[i + 4]), ARGV[i + 5], tonumber(ARGV[i + 6])\n"
    "  local wants, target, one = ARGV[i + 7], tonumber(ARGV[i + 8]), {-1}\n"
    "  local e, born = string.match(h['w' .. w] or '', '^(%d+) (%d+)$')\n"
    "  e, born = tonumber(e), tonumber(born)\n"
    "  local prefix = 'm' .. w .. ':'\n"
    "  if not e or ends > e + length / 2 then\n"
    "    for f in pairs(h) do\n"
    "      if string.sub(f, 1, #prefix) == prefix then redis.call('HDEL', KEYS[1], f); h[f] = nil end\n"
    "    end\n"
    "    e, born = ends, now\n"
    "    redis.call('HSET', KEYS[1], 'w' .. w, string.format('%d %d', e, born))\n"
    "  end\n"
    "  if ends >= e - length / 2 then\n"
    "    local free = limit\n"
    "    for f, v in pairs(h) do\n"
    "      if string.sub(f, 1, #prefix) == prefix and f ~= prefix .. me then\n"
    "        local u, held_there, wish, seen = string.match(v, '^(%d+) (%d+) (%d+) (%d+)$')\n"
    "        free = free - tonumber(held_there)\n"
    "        if now - tonumber(seen) > 3000 then wish = '0' end\n"
    "        one[#one + 1] = tonumber(u); one[#one + 1] = tonumber(held_there); one[#one + 1] = "
    "tonumber(wish)\n"
    "      end\n"
    "    end\n"
    "    local most = target\n"
    "    if exact == '1' then\n"
    "      most = math.max(held, free)\n"
    "      if now - born < 1000 then most = held end\n"
    "    end\n"
    "    one[1] = math.min(target, most)\n"
    "    redis.call('HSET', KEYS[1], prefix .. me,\n"
    "               string.format('%d %d %d %d', tonumber(used), one[1], tonumber(wants), now))\n"
    "  end\n"
    "  out[#out + 1] = one\n"
    "  longest = math.max(longest, length)\n"
    "end\n"
    "if #ARGV > 3 then redis.call('PEXPIRE', KEYS[1], longest * 2 + 60000) end\n"
    "return out\n";

/* What was heard last of the others in one window. */
struct others {
    uint32_t key; /* of the window; 0: none */
    int count;
    struct budget_member member[BUDGET_MEMBERS];
};

struct asked { /* of one place of admit's table */
    struct ledger *ledger;
    struct admit_part part;
    struct admit_grant grant[QUOTA_WINDOWS]; /* what is common; the calls come with the answer */
    struct hash128 name;
    bool under_way;
    struct others others[QUOTA_WINDOWS];
};

struct ledger {
    struct admit *admit;
    struct log *log;
    struct sealer *sealer;
    struct seal_key space; /* of the names; immutable */
    char prefix[48];
    char me[NUMBER_MAX];
    struct redis_place place;
    struct event_base *base;
    struct event *turn;
    struct mailbox box;
    struct letter bell; /* the end */
    struct redis *redis;
    struct rng rng;
    pthread_t thread;
    bool running, stopping;
    struct asked *asked[ADMIT_KEYS];
    tick_t said_at; /* newest command */
    tick_t settled_at;
    bool settling; /* not all are back that were there before: nobody takes more than it holds */
    int under_way;
    _Atomic bool in_touch;
    _Atomic int sidecars;
    _Atomic uint64_t answers, failures;
    pthread_mutex_t lock; /* of the sentence */
    char trouble[192];
};

static tick_t ledger_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

/* ---- in touch? ---- */

/* Behind a time out of touch the others come back one by one: until they had time to, nobody is counted out.
 */
static int counted(struct ledger *l, bool in_touch, bool was, int sidecars)
{
    int before = atomic_load(&l->sidecars);
    tick_t now = ledger_now();
    if (in_touch && !was)
        l->settled_at = now + SETTLING;
    l->settling = in_touch && now < l->settled_at && sidecars < before;
    return l->settling ? before : sidecars;
}

static void judge(struct ledger *l, bool in_touch, int sidecars)
{
    bool was = atomic_load(&l->in_touch);
    sidecars = counted(l, in_touch, was, sidecars);
    if (in_touch == was && sidecars == atomic_load(&l->sidecars))
        return;
    atomic_store(&l->in_touch, in_touch);
    atomic_store(&l->sidecars, sidecars);
    admit_sidecars(l->admit, sidecars, in_touch, ledger_now());
    const char *why = redis_trouble(l->redis);
    pthread_mutex_lock(&l->lock);
    snprintf(l->trouble, sizeof(l->trouble), "%s", in_touch ? "" : *why ? why : "no answer in time");
    pthread_mutex_unlock(&l->lock);
    if (in_touch && !was)
        log_write(l->log, LOG_INFO, "redis", "the rate limits are shared by %d sidecars", sidecars);
    else if (was && !in_touch)
        log_write(l->log, LOG_WARNING, "redis",
                  "the rate limits cannot be shared for now: %s; a part of 1 in %d is used until then",
                  *why ? why : "no answer in time", sidecars);
}

static void failed(struct ledger *l)
{
    atomic_fetch_add(&l->failures, 1);
    judge(l, false, atomic_load(&l->sidecars));
}

/* ---- answers ---- */

static bool number_at(const struct redis_reply *list, size_t i, int64_t *out)
{
    if (list->kind != REDIS_LIST || i >= list->count || list->items[i]->kind != REDIS_INTEGER)
        return false;
    *out = list->items[i]->number;
    return true;
}

static void hear_others(struct others *o, uint32_t key, const struct redis_reply *one)
{
    int64_t used, held, wants;
    o->key = key;
    o->count = 0;
    for (size_t i = 1; o->count < BUDGET_MEMBERS && number_at(one, i, &used) &&
                       number_at(one, i + 1, &held) && number_at(one, i + 2, &wants);
         i += 3)
        o->member[o->count++] = (struct budget_member){used, held, (double)wants};
}

/* The head of an answer. False: it is none of ours, or too late. */
static bool hear_head(struct ledger *l, const struct redis_reply *reply, int64_t *gate, int64_t *disguised)
{
    int64_t sidecars;
    if (--l->under_way == 0 && l->stopping)
        event_base_loopbreak(l->base);
    if (l->stopping)
        return false;
    if (!reply || !number_at(reply, 0, &sidecars) || !number_at(reply, 1, gate) ||
        !number_at(reply, 2, disguised) || sidecars < 1 || sidecars > 100000) {
        if (reply && reply->kind == REDIS_ERROR && atomic_load(&l->in_touch))
            log_write(l->log, LOG_WARNING, "redis", "the budget's script fails: %.*s",
                      reply->text.n < 160 ? (int)reply->text.n : 160, reply->text.p);
        failed(l);
        return false;
    }
    atomic_fetch_add(&l->answers, 1);
    judge(l, true, (int)sidecars);
    return true;
}

static void heard(void *arg, const struct redis_reply *reply)
{
    struct asked *k = arg;
    struct ledger *l = k->ledger;
    int64_t gate = 0, disguised = 0;
    tick_t now = ledger_now();
    k->under_way = false;
    if (!hear_head(l, reply, &gate, &disguised))
        return;
    for (int i = 0; i < k->part.count; i++) {
        k->grant[i].calls = -1;
        if ((size_t)i + 3 >= reply->count)
            continue;
        const struct redis_reply *one = reply->items[i + 3];
        int64_t calls;
        if (!number_at(one, 0, &calls) || calls < 0)
            continue;
        k->grant[i].calls = calls;
        hear_others(&k->others[i], k->part.part[i].key, one);
    }
    admit_granted(l->admit, &k->part, k->grant, gate > 0 && gate < 86400000 ? now + gate * TICK_MS : 0,
                  disguised != 0, now);
}

static void heard_beat(void *arg, const struct redis_reply *reply)
{
    struct ledger *l = arg;
    int64_t gate, disguised;
    (void)hear_head(l, reply, &gate, &disguised);
}

/* ---- questions ---- */

struct command {
    struct slice word[WORDS_MAX + FIRST_PART + QUOTA_WINDOWS * (PART_WORDS + 1)];
    size_t count;
    char number[QUOTA_WINDOWS * (PART_WORDS + 1) + 4][NUMBER_MAX];
    size_t numbers;
};

static void add_word(struct command *c, const char *p, size_t n)
{
    c->word[c->count++] = (struct slice){p, n};
}

static void add_number(struct command *c, int64_t v)
{
    char *at = c->number[c->numbers++];
    int n = snprintf(at, NUMBER_MAX, "%lld", (long long)v);
    add_word(c, at, (size_t)n);
}

static void begin(struct command *c, const struct ledger *l, const char *key, const char *all, tick_t gate,
                  bool disguised)
{
    c->count = c->numbers = 0;
    add_word(c, "EVAL", 4);
    add_word(c, script, sizeof(script) - 1);
    add_word(c, "2", 1);
    add_word(c, key, strlen(key));
    add_word(c, all, strlen(all));
    add_word(c, l->me, strlen(l->me));
    add_number(c, gate);
    add_word(c, disguised ? "1" : "0", 1);
}

static struct others *others_of(struct asked *k, int i, uint32_t key)
{
    for (int j = 0; j < QUOTA_WINDOWS; j++)
        if (k->others[j].key == key && j != i) { /* windows have changed places */
            struct others o = k->others[j];
            k->others[j] = k->others[i];
            k->others[i] = o;
            break;
        }
    if (k->others[i].key != key)
        k->others[i] = (struct others){.key = key};
    return &k->others[i];
}

static void add_part(struct command *c, struct asked *k, int i, bool leaving, tick_t now)
{
    const struct ledger *l = k->ledger;
    const struct quota_part *p = &k->part.part[i];
    const struct others *o = others_of(k, i, p->key);
    enum budget_kind kind = budget_kind_of(p->length);
    struct budget_member me = {p->used, p->held > p->used ? p->held : p->used, leaving ? 0 : p->wants};
    int64_t target = leaving ? p->used : budget_target(o->member, o->count, &me, p->limit, p->left);
    if (l->settling && target > me.held)
        target = me.held;
    k->grant[i].common = l->settling ? 0 : budget_rest(o->member, o->count, &me, p->limit, p->left);
    add_number(c, p->key);
    add_word(c, kind == BUDGET_EXACT ? "1" : "0", 1);
    add_number(c, p->limit);
    add_number(c, p->length / TICK_MS);
    add_number(c, (p->ends > now ? p->ends - now : 0) / TICK_MS);
    add_number(c, p->used);
    add_number(c, me.held);
    add_number(c, (int64_t)me.wants);
    add_number(c, target);
}

static void ask(struct ledger *l, const struct admit_part *part, bool leaving, tick_t now)
{
    char key[NAME_MAX_], all[NAME_MAX_];
    struct command c;
    struct asked *k = l->asked[part->place];
    if (!k && !(k = l->asked[part->place] = calloc(1, sizeof(*k))))
        return;
    if (k->under_way)
        return;
    if (!hash_equal(k->name, part->name))
        memset(k->others, 0, sizeof(k->others));
    k->ledger = l;
    k->name = part->name;
    k->part = *part;
    snprintf(key, sizeof(key), "%s%016llx%016llx", l->prefix, (unsigned long long)part->name.hi,
             (unsigned long long)part->name.lo);
    snprintf(all, sizeof(all), "%ssidecars", l->prefix);
    begin(&c, l, key, all, part->gate > now ? (part->gate - now) / TICK_MS : 0, part->disguised);
    for (int i = 0; i < part->count; i++)
        add_part(&c, k, i, leaving, now);
    if (!redis_send(l->redis, c.word, c.count, PATIENCE, heard, k))
        return;
    k->under_way = true;
    l->under_way++;
    l->said_at = now;
}

static void beat(struct ledger *l, tick_t now)
{
    char key[NAME_MAX_], all[NAME_MAX_];
    struct command c;
    snprintf(key, sizeof(key), "%snobody", l->prefix);
    snprintf(all, sizeof(all), "%ssidecars", l->prefix);
    begin(&c, l, key, all, 0, false);
    if (!redis_send(l->redis, c.word, c.count, PATIENCE, heard_beat, l))
        return;
    l->under_way++;
    l->said_at = now;
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct ledger *l = arg;
    struct admit_part part;
    tick_t now = ledger_now();
    (void)fd;
    (void)what;
    if (!redis_up(l->redis)) {
        judge(l, false, atomic_load(&l->sidecars));
        return;
    }
    for (int place = 0; admit_part_next(l->admit, &place, &part, now);)
        ask(l, &part, false, now);
    if (now - l->said_at >= BEAT)
        beat(l, now);
}

static void changed(void *arg, bool up)
{
    struct ledger *l = arg;
    if (up)
        beat(l, ledger_now());
    else
        judge(l, false, atomic_load(&l->sidecars));
}

/* ---- life ---- */

static bool name_of(void *arg, struct slice credential, struct hash128 *out)
{
    const struct ledger *l = arg;
    struct seal_key key;
    if (!seal_derive(l->sealer, &l->space, "whose", &credential, 1, &key))
        return false;
    memcpy(out, key.bytes, sizeof(*out));
    return true;
}

static void on_bell(struct letter *letter, void *owner)
{
    struct ledger *l = owner;
    struct timeval soon = {0, 50000};
    struct admit_part part;
    (void)letter;
    l->stopping = true;
    event_del(l->turn);
    for (int place = 0; redis_up(l->redis) && admit_part_next(l->admit, &place, &part, ledger_now());)
        ask(l, &part, true, ledger_now());
    event_base_loopexit(l->base, redis_up(l->redis) && l->under_way ? &soon : NULL);
}

static void *run(void *arg)
{
    struct ledger *l = arg;
    event_base_dispatch(l->base);
    return NULL;
}

static bool set_up(struct ledger *l, const struct ledger_options *o, char *err, size_t err_size)
{
    struct timeval turn = {0, TURN / TICK_US};
    struct redis_options ro = {.seed = rng_next(&l->rng), .changed = changed, .arg = l};
    uint64_t id;
    snprintf(err, err_size, "out of memory");
    l->sealer = sealer_new();
    l->base = event_base_new();
    if (!l->sealer || !seal_derive(l->sealer, NULL, "promptops budget", &o->origin, 1, &l->space))
        return false;
    struct seal_key shown;
    if (!seal_derive(l->sealer, &l->space, "space", NULL, 0, &shown))
        return false;
    memcpy(&id, shown.bytes, sizeof(id));
    snprintf(l->prefix, sizeof(l->prefix), "promptops:1:budget:%016llx:", (unsigned long long)id);
    snprintf(l->me, sizeof(l->me), "%016llx", (unsigned long long)rng_next(&l->rng));
    if (!l->base || !mailbox_init(&l->box, l->base, l))
        return false;
    l->bell.deliver = on_bell;
    l->turn = event_new(l->base, -1, EV_PERSIST, on_turn, l);
    if (!l->turn || event_add(l->turn, &turn) != 0 ||
        !redis_place_open(&l->place, o->url, rng_next(&l->rng), err, err_size))
        return false;
    snprintf(err, err_size, "out of memory");
    ro.base = l->base;
    redis_place_options(&l->place, &ro);
    l->redis = redis_new(&ro);
    return l->redis != NULL;
}

struct ledger *ledger_new(const struct ledger_options *o, char *err, size_t err_size)
{
    struct ledger *l = calloc(1, sizeof(*l));
    if (!l) {
        snprintf(err, err_size, "out of memory");
        return NULL;
    }
    l->admit = o->admit;
    l->log = o->log;
    l->box.fd = -1;
    atomic_init(&l->sidecars, 1);
    rng_seed(&l->rng, o->seed);
    pthread_mutex_init(&l->lock, NULL);
    if (!set_up(l, o, err, err_size)) {
        ledger_stop(l);
        return NULL;
    }
    admit_share(l->admit, name_of, l);
    return l;
}

bool ledger_start(struct ledger *l)
{
    l->running = pthread_create(&l->thread, NULL, run, l) == 0;
    return l->running;
}

void ledger_stop(struct ledger *l)
{
    if (!l)
        return;
    if (l->running) {
        mailbox_post(&l->box, &l->bell);
        pthread_join(l->thread, NULL);
    }
    l->stopping = true;
    if (l->box.fd >= 0)
        mailbox_dispose(&l->box);
    struct redis *gone = l->redis;
    l->redis = NULL;
    redis_free(gone); /* answers what is under way */
    if (l->turn)
        event_free(l->turn);
    if (l->base)
        event_base_free(l->base);
    redis_place_close(&l->place);
    for (int i = 0; i < ADMIT_KEYS; i++)
        free(l->asked[i]);
    sealer_free(l->sealer);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void ledger_show(struct ledger *l, struct view *v)
{
    char trouble[sizeof(l->trouble)];
    pthread_mutex_lock(&l->lock);
    memcpy(trouble, l->trouble, sizeof(trouble));
    pthread_mutex_unlock(&l->lock);
    view_object(v, "shared");
    view_bool(v, "in_touch", atomic_load(&l->in_touch));
    view_text(v, "why_not", trouble[0] ? trouble : NULL);
    view_int(v, "sidecars", atomic_load(&l->sidecars));
    view_uint(v, "answers", atomic_load(&l->answers));
    view_uint(v, "failures", atomic_load(&l->failures));
    view_end(v);
}
