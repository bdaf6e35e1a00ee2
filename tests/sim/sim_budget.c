/*
 * One budget for three sidecars that share an API key: the governors' own code, a ledger as Redis keeps it, and
 * an API that allows 60 a minute and says nothing but 401. In touch, with the ledger away in the middle and
 * empty when it comes back, and with sidecars that want unequally much. Exits 1 when a bound is broken.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/budget.h"
#include "policy/quota.h"
#include "policy/rng.h"

enum { SIDECARS = 3, CLIENTS = 4, MINUTES = 10, WAITERS = 512, FLYING = 64 };
#define WALL  (INT64_C(1767225600) * TICK_S)
#define STEP  (10 * TICK_MS)
#define SYNC  (100 * TICK_MS)
#define TAKES (100 * TICK_MS)

struct waiter { /* a request that waits in a governor */
    struct quota_waiter quota;
    struct sidecar *of;
    bool used;
};

struct sidecar {
    struct quota q;
    double rate; /* requests a second of all its clients */
    tick_t next[CLIENTS];
    struct waiter waiter[WAITERS];
    struct {
        bool used;
        tick_t sent;
    } flying[FLYING];
    uint64_t accepted;
};

struct ledger { /* of the one window */
    int64_t minute;
    bool known[SIDECARS];
    struct budget_member member[SIDECARS];
    tick_t born;
};

struct world {
    struct sidecar s[SIDECARS];
    struct ledger ledger;
    struct rng rng;
    tick_t now;
    int64_t minute, in_minute; /* at the API */
    uint64_t accepted, refused;
    struct quota_rules rules;
};

static int failures;

static void bound(bool good, const char *what)
{
    if (!good) {
        printf("  BROKEN: %s\n", what);
        failures++;
    }
}

static void send(struct world *w, struct sidecar *s)
{
    for (int i = 0; i < FLYING; i++)
        if (!s->flying[i].used) {
            s->flying[i].used = true;
            s->flying[i].sent = w->now;
            return;
        }
    fputs("too many calls at once\n", stderr);
    exit(1);
}

static struct world *the_world;

static void woken(struct quota_waiter *q, bool go, tick_t at, void *arg)
{
    struct waiter *x = (struct waiter *)(void *)q;
    (void)at;
    (void)arg;
    x->used = false;
    if (go)
        send(the_world, x->of);
}

static void ask(struct world *w, struct sidecar *s, int client)
{
    struct quota_call call = {.flow = (uint64_t)client + 1, .deadline = TICK_NEVER};
    for (int i = 0; i < WAITERS; i++) {
        struct waiter *x = &s->waiter[i];
        if (x->used)
            continue;
        *x = (struct waiter){.of = s, .used = true};
        struct quota_verdict v = quota_ask(&s->q, &call, &x->quota, woken, NULL, w->now);
        x->used = v.kind == QUOTA_WAIT;
        if (v.kind == QUOTA_GO)
            send(w, s);
        return;
    }
}

static void answers(struct world *w, struct sidecar *s)
{
    for (int i = 0; i < FLYING; i++) {
        if (!s->flying[i].used || w->now - s->flying[i].sent < TAKES)
            continue;
        s->flying[i].used = false;
        int64_t minute = (WALL + w->now) / (60 * TICK_S);
        if (minute != w->minute) {
            w->minute = minute;
            w->in_minute = 0;
        }
        bool good = w->in_minute++ < 60;
        w->accepted += good;
        w->refused += !good;
        s->accepted += good;
        struct rate_reading reading = {.retry_after = -1, .date = (WALL + w->now) / TICK_S};
        struct quota_answer a = {true, !good, !good, s->flying[i].sent, &reading};
        quota_end(&s->q, &a, w->now);
    }
}

/* What the script in Redis does (proxy/budget.c): no more is held together than there is. */
static int64_t put(struct world *w, int me, struct budget_member m, const struct quota_part *p, int64_t target)
{
    struct ledger *l = &w->ledger;
    int64_t minute = (WALL + p->ends + 30 * TICK_S) / (60 * TICK_S), free = p->limit;
    if (minute != l->minute) {
        memset(l, 0, sizeof *l);
        l->minute = minute;
        l->born = w->now;
    }
    for (int i = 0; i < SIDECARS; i++)
        free -= i != me && l->known[i] ? l->member[i].held : 0;
    int64_t most = m.held > free ? m.held : free;
    if (w->now - l->born < TICK_S && most > m.held)
        most = m.held; /* others may hold what it has not heard of yet */
    m.held = target < most ? target : most;
    l->known[me] = true;
    l->member[me] = m;
    return m.held;
}

static void sync(struct world *w, int me)
{
    struct sidecar *s = &w->s[me];
    struct quota_part part[QUOTA_WINDOWS];
    int n = quota_parts(&s->q, part, w->now);
    for (int k = 0; k < n; k++) {
        struct budget_member others[SIDECARS], m = {part[k].used, part[k].held, part[k].wants};
        int count = 0;
        for (int i = 0; i < SIDECARS; i++)
            if (i != me && w->ledger.known[i])
                others[count++] = w->ledger.member[i];
        int64_t target = budget_target(others, count, &m, part[k].limit, part[k].left);
        int64_t grant = put(w, me, m, &part[k], target);
        quota_granted(&s->q, &part[k], grant, budget_rest(others, count, &m, part[k].limit, part[k].left), w->now);
    }
}

static bool away(tick_t now, tick_t from, tick_t to)
{
    return now >= from && now < to;
}

static void run(const char *name, const double *rates, tick_t from, tick_t to, uint64_t seed, double *least, double *most)
{
    struct world *w = calloc(1, sizeof *w);
    if (!w)
        exit(1);
    the_world = w;
    rng_seed(&w->rng, seed);
    w->rules = (struct quota_rules){true, QUOTA_PACE, 20 * TICK_S, {60, 0, 0}, true, true};
    for (int i = 0; i < SIDECARS; i++) {
        quota_init(&w->s[i].q, &w->rules, 0, WALL);
        quota_share(&w->s[i].q, SIDECARS, true, 0);
        w->s[i].rate = rates[i];
    }
    for (; w->now < MINUTES * 60 * TICK_S; w->now += STEP) {
        bool gone = away(w->now, from, to);
        if (w->now == to)
            memset(&w->ledger, 0, sizeof w->ledger); /* it lost all */
        for (int i = 0; i < SIDECARS; i++) {
            struct sidecar *s = &w->s[i];
            if (w->now == from || w->now == to)
                quota_share(&s->q, SIDECARS, !gone, w->now);
            for (int c = 0; c < CLIENTS; c++)
                if (s->rate > 0 && w->now >= s->next[c]) {
                    s->next[c] = w->now + (tick_t)(2e9 * CLIENTS / s->rate * rng_double(&w->rng));
                    ask(w, s, c);
                }
            answers(w, s);
            if (!gone && (w->now + i * (SYNC / SIDECARS) / STEP * STEP) % SYNC == 0)
                sync(w, i);
            (void)quota_turn(&s->q, woken, NULL, w->now);
        }
    }
    double used = (double)w->accepted / (60.0 * MINUTES);
    *least = 1e9;
    *most = 0;
    for (int i = 0; i < SIDECARS; i++) {
        double share = (double)w->s[i].accepted * SIDECARS / (double)w->accepted;
        *least = share < *least ? share : *least;
        *most = share > *most ? share : *most;
    }
    printf("%-28s seed %llu  used %.3f  refused %llu  shares %.2f ... %.2f\n", name, (unsigned long long)seed, used,
           (unsigned long long)w->refused, *least, *most);
    bound(w->refused == 0, "no refusal by the API");
    bound(used >= 0.97, "at least 97 % of the quota is used");
    free(w);
}

int main(void)
{
    static const double equal[] = {8, 8, 8}, unequal[] = {8, 8, 0.1}, one[] = {8, 0, 0};
    double least, most;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        run("all want more", equal, -1, -1, seed, &least, &most);
        bound(least >= 0.9 && most <= 1.1, "shares within 10 %");
        run("ledger away from 150 to 330 s", equal, 150 * TICK_S, 330 * TICK_S, seed, &least, &most);
        bound(least >= 0.9 && most <= 1.1, "shares within 10 %");
        run("one wants little", unequal, -1, -1, seed, &least, &most);
        bound(least >= 0.2 && most <= 1.5, "it gets it, and the others share the rest");
        run("one alone is busy", one, -1, -1, seed, &least, &most);
    }
    puts(failures ? "BROKEN" : "all bounds held");
    return failures > 0;
}
