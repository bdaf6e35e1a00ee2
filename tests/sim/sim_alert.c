/*
 * The built-in alerts on 30 days of a sidecar's life: 15 to 50 requests a second over the day, 0.03 % of them
 * fail, 180 blips of 10 to 20 seconds with 10 % errors, and 12 incidents: 4 hard (half of all for 10
 * minutes), 4 medium (3 % for an hour), 4 slow (0.8 % for 8 hours), three seeds; and the same at 2 requests a
 * second. Values are judged every ten seconds. A notification is a raise or a repeat that was told; it is
 * right when it comes within an incident or in the ten minutes behind it. Prints a table; exits 1 when a
 * bound is broken.
 */
#include "policy/alert_rules.h"
#include "policy/burn.h"
#include "policy/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DAY = 86400, DAYS = 30, TICK = 10, TICKS = DAYS * DAY / TICK, BLIPS = 180, INCIDENTS = 12, SEEDS = 3 };
enum { MINUTE = 6, RULES = 64 };

struct incident {
    int from, to; /* ticks */
    double share;
    int notified, resolved;
    int detected; /* ticks from its beginning; -1: never */
};

struct world {
    struct rng rng;
    struct incident incidents[INCIDENTS];
    float blip[TICKS]; /* share that fails besides */
    struct burn burn;
    uint32_t all[MINUTE], bad[MINUTE];
    double rate;
    tick_t now;
};

struct outcome {
    double notifications, raised, right, found, resolved;
    double detection[3]; /* the longest of each kind, in minutes */
};

static struct world w;

/* Poisson, by inversion below 30, else by the normal law. */
static uint32_t poisson(double mean)
{
    if (mean > 30) {
        double g = sqrt(-2 * log(1 - rng_double(&w.rng))) * cos(6.283185307179586 * rng_double(&w.rng));
        double n = floor(mean + sqrt(mean) * g + 0.5);
        return n > 0 ? (uint32_t)n : 0;
    }
    double p = exp(-mean), u = rng_double(&w.rng), sum = p;
    uint32_t n = 0;
    while (u > sum && n < 1000) {
        n++;
        p *= mean / n;
        sum += p;
    }
    return n;
}

static void create(uint64_t seed)
{
    static const struct {
        double share;
        int minutes;
    } kinds[3] = {{0.5, 10}, {0.03, 60}, {0.008, 480}};
    memset(&w, 0, sizeof w);
    rng_seed(&w.rng, seed);
    burn_init(&w.burn, 0);
    for (int i = 0; i < INCIDENTS; i++) { /* one in each 2.5 days, in the middle of it */
        int slot = TICKS / INCIDENTS, from = i * slot + slot / 4 + (int)rng_below(&w.rng, (uint64_t)slot / 4);
        w.incidents[i] = (struct incident){.from = from,
                                           .to = from + kinds[i % 3].minutes * MINUTE,
                                           .share = kinds[i % 3].share,
                                           .detected = -1};
    }
    for (int i = 0; i < BLIPS; i++) {
        int at = (int)rng_below(&w.rng, TICKS - 2);
        w.blip[at] = 0.1F;
        if (rng_below(&w.rng, 2))
            w.blip[at + 1] = 0.1F;
    }
}

static double value(void *ctx, const struct alert_rule *rule)
{
    uint64_t all = 0, bad = 0;
    (void)ctx;
    switch (rule->metric) {
    case ALERT_METRIC_ERROR_RATE:
        for (int i = 0; i < MINUTE; i++) {
            all += w.all[i];
            bad += w.bad[i];
        }
        return all >= 20 ? (double)bad / (double)all : NAN;
    case ALERT_METRIC_REQUEST_LATENCY:
        return 0.1;
    case ALERT_METRIC_ERROR_BUDGET_BURN_FAST:
    case ALERT_METRIC_ERROR_BUDGET_BURN_SLOW:
    case ALERT_METRIC_ERROR_BUDGET_BURN_TICKET:
        return burn_pair(&w.burn, (enum burn_pair)(rule->metric - ALERT_METRIC_ERROR_BUDGET_BURN_FAST), 0.999,
                         w.now);
    default:
        return NAN;
    }
}

static struct incident *incident_at(int tick)
{
    for (int i = 0; i < INCIDENTS; i++)
        if (tick >= w.incidents[i].from && tick < w.incidents[i].to + 10 * MINUTE)
            return &w.incidents[i];
    return NULL;
}

static void pass(int tick)
{
    const struct incident *in = incident_at(tick);
    double share = 0.0003 + (double)w.blip[tick] + (in && tick < in->to ? in->share : 0);
    uint32_t all = poisson(w.rate > 0 ? w.rate * TICK
                                      : TICK * (32.5 + 17.5 * sin(6.283185307179586 * tick * TICK / DAY)));
    uint32_t bad = poisson(all * share);
    bad = bad < all ? bad : all;
    w.all[tick % MINUTE] = all;
    w.bad[tick % MINUTE] = bad;
    w.now = (tick_t)tick * TICK * TICK_S;
    burn_add(&w.burn, all, bad, w.now);
}

static void hear(const struct alert_event *e, int tick, struct outcome *out)
{
    struct incident *in = incident_at(tick);
    if (e->told && e->kind == ALERT_EVENT_RESOLVED)
        out->resolved++;
    if (!e->told || e->kind == ALERT_EVENT_RESOLVED)
        return;
    out->notifications++;
    out->raised += e->kind == ALERT_EVENT_RAISED;
    if (!in)
        return;
    out->right++;
    if (in->notified++)
        return;
    in->detected = tick - in->from;
}

static struct outcome run(double rate, uint64_t seed)
{
    struct outcome out = {0};
    struct alert_rule rules[RULES];
    struct alert_rules_setup setup = {.cooldown = 300 * TICK_S};
    struct alerts *a = alerts_new();
    create(seed);
    w.rate = rate;
    if (!a || !alerts_set_rules(a, rules, alert_rules(&setup, rules, RULES), 0))
        exit(1);
    for (int tick = 0; tick < TICKS; tick++) {
        uint64_t first;
        struct alert_event e;
        pass(tick);
        size_t n = alerts_step(a, value, NULL, w.now, &first);
        for (size_t i = 0; i < n; i++)
            if (alerts_event(a, first + i, &e))
                hear(&e, tick, &out);
    }
    alerts_free(a);
    for (int i = 0; i < INCIDENTS; i++) {
        out.found += w.incidents[i].detected >= 0;
        double minutes = (double)w.incidents[i].detected / MINUTE;
        if (minutes > out.detection[i % 3])
            out.detection[i % 3] = minutes;
    }
    return out;
}

static int bound(const char *what, double value, double least, double most)
{
    bool good = value >= least && value <= most;
    printf("%-58s %7.2f, %.2f to %.2f: %s\n", what, value, least, most, good ? "good" : "BROKEN");
    return !good;
}

static struct outcome all_seeds(double rate, const char *name)
{
    struct outcome sum = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct outcome one = run(rate, seed);
        printf("%-12s %4d %14.0f %10.2f %7.2f %8.1f %7.1f %6.0f\n", name, (int)seed, one.notifications,
               one.right / one.notifications, one.found / INCIDENTS, one.detection[0], one.detection[1],
               one.detection[2]);
        sum.notifications += one.notifications;
        sum.raised += one.raised;
        sum.right += one.right;
        sum.found += one.found;
        sum.resolved += one.resolved;
        for (int k = 0; k < 3; k++)
            sum.detection[k] = one.detection[k] > sum.detection[k] ? one.detection[k] : sum.detection[k];
    }
    return sum;
}

int main(void)
{
    int broken = 0;
    printf("%-12s %4s %14s %10s %7s   latest detection in minutes: hard medium slow\n", "requests/s", "seed",
           "notifications", "precision", "recall");
    struct outcome busy = all_seeds(0, "15 to 50"), quiet = all_seeds(2, "2");
    broken += bound("recall", busy.found / (INCIDENTS * SEEDS), 1, 1);
    broken += bound("precision", busy.right / busy.notifications, 0.95, 1);
    broken += bound("notifications an incident", busy.notifications / (INCIDENTS * SEEDS), 1, 1.5);
    broken += bound("hard outage noticed within minutes", busy.detection[0], 0, 2);
    broken += bound("the end was told, of all that was raised", busy.resolved / busy.raised, 0.99, 1);
    broken += bound("recall at 2 requests/s", quiet.found / (INCIDENTS * SEEDS), 1, 1);
    broken += bound("precision at 2 requests/s", quiet.right / quiet.notifications, 0.9, 1);
    return broken > 0;
}
