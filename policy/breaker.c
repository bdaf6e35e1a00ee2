/*
 * The circuit breaker of one upstream.
 *
 * Invariants. `epoch` grows with every change of state, and a report counts only in the epoch of its permit:
 * late answers of the closed time cannot disturb the probes. Half-open, at most `probes` leases are out, and
 * each ends by report or by time; so the state is left at the latest when the first unreported lease ends.
 * Open ends by time alone. Therefore no state needs an event from outside to be left, other than the next
 * request.
 */
#include "policy/breaker.h"

#include <string.h>

enum { CALLS, FAILURES, SLOW };

#define DEFAULT_LEASE (30 * TICK_S)
#define DENSE         1000 /* calls in the window: so many that a run may be a matter of milliseconds */
#define AT_ONCE       (150 * TICK_MS) /* failures within it may be one and the same */
#define BY_CHANCE     1e-5            /* runs in a window: at most so many open it without need */

static int probes(const struct breaker *b)
{
    int n = b->rules->probes;
    return n < 1 ? 1 : n > BREAKER_MAX_PROBES ? BREAKER_MAX_PROBES : n;
}

static void become(struct breaker *b, enum breaker_state state, tick_t now)
{
    b->state = state;
    b->epoch++;
    b->since = now;
    b->run = 0;
    b->good = 0;
    memset(b->lease, 0, sizeof b->lease);
    window_clear(&b->window);
}

static void close_it(struct breaker *b, tick_t now)
{
    become(b, BREAKER_CLOSED, now);
}

/* Doubles each time, with up to a tenth more so that many sidecars do not probe at the same instant. */
static tick_t open_time(const struct breaker *b, struct rng *rng)
{
    tick_t t = b->rules->open_time, max = b->rules->open_max;
    for (uint32_t i = 1; i < b->streak && t < max; i++)
        t = t > max / 2 ? max : t * 2;
    t += rng_range(rng, 0, t / 10);
    return t < max ? t : max > b->rules->open_time ? max : b->rules->open_time;
}

static void open_it(struct breaker *b, enum breaker_cause cause, struct rng *rng, tick_t now)
{
    /* A quiet time as long as the last opening, and at least a window, begins the doubling anew. */
    tick_t quiet = b->opened_for > b->rules->window ? b->opened_for : b->rules->window;
    bool again = b->opened && (b->state != BREAKER_CLOSED || now - b->since < quiet);
    b->streak = again ? b->streak + 1 : 1;
    become(b, BREAKER_OPEN, now);
    b->cause = cause;
    b->opened++;
    b->opened_for = open_time(b, rng);
    b->until = now + b->opened_for;
}

void breaker_init(struct breaker *b, const struct breaker_rules *rules, tick_t now)
{
    memset(b, 0, sizeof *b);
    b->rules = rules;
    b->epoch = 1; /* so that the all-zero permit belongs to no epoch */
    b->since = now;
    window_init(&b->window, rules->window, now);
}

void breaker_reset(struct breaker *b, tick_t now)
{
    close_it(b, now);
    b->streak = 0;
    b->opened_for = 0;
}

void breaker_tune(struct breaker *b, const struct breaker_rules *rules, tick_t now)
{
    /* By the window's own width, because the caller may have changed the rules in place. */
    struct window fresh;
    window_init(&fresh, rules->window, now);
    b->rules = rules;
    if (fresh.width != b->window.width)
        b->window = fresh;
    if (!rules->enabled && b->state != BREAKER_CLOSED)
        breaker_reset(b, now);
}

void breaker_turn(struct breaker *b, struct rng *rng, tick_t now)
{
    if (b->state == BREAKER_OPEN && now >= b->until)
        become(b, BREAKER_HALF_OPEN, now);
    if (b->state != BREAKER_HALF_OPEN)
        return;
    for (int i = 0; i < BREAKER_MAX_PROBES; i++)
        if (b->lease[i] && now >= b->lease[i]) {
            open_it(b, BREAKER_CAUSE_PROBE_LOST, rng, now);
            return;
        }
}

void breaker_sign_of_life(struct breaker *b, tick_t now)
{
    if (b->state == BREAKER_OPEN && now - b->since >= b->rules->open_time)
        become(b, BREAKER_HALF_OPEN, now);
}

struct breaker_permit breaker_admit(struct breaker *b, struct rng *rng, tick_t now)
{
    struct breaker_permit p = {.verdict = BREAKER_PASS, .epoch = b->epoch};
    if (b->state == BREAKER_CLOSED)
        return p;
    breaker_turn(b, rng, now);
    p.epoch = b->epoch;
    p.verdict = BREAKER_SHED;
    if (b->state != BREAKER_HALF_OPEN)
        return p;
    int out = 0, vacant = 0;
    for (int i = BREAKER_MAX_PROBES - 1; i >= 0; i--)
        if (b->lease[i])
            out++;
        else
            vacant = i;
    if (out + (int)b->good >= probes(b))
        return p; /* as many as are still wanted are out */
    b->lease[vacant] = now + (b->rules->probe_lease > 0 ? b->rules->probe_lease : DEFAULT_LEASE);
    p.verdict = BREAKER_PROBE;
    p.probe = (uint8_t)vacant;
    return p;
}

/*
 * Whether so many failures in a row are more than chance. When the window holds enough calls, a run of k is
 * expected about calls x p^k times in it, p being the share of failures before the run; at 1000 calls a
 * second a tenth of them failing makes five in a row every 100 s. What is likelier than one window in
 * 100,000 (eleven days of windows) is left to the failure rate: a false opening costs every call of 5 s. And
 * a run of calls that failed late must last for two generations of them, in dense traffic for a while in any
 * case: an upstream that has become slow still answers between its timeouts once the concurrency limit has
 * come down, and that is what helps it, not a breaker.
 */
static bool run_is_telling(const struct breaker *b, tick_t took, tick_t now)
{
    uint64_t calls = b->window.sum[CALLS], failures = b->window.sum[FAILURES];
    if (calls < (uint64_t)b->rules->minimum_requests || calls <= b->run)
        return true;
    if (b->run < 2 * b->run_passed) /* it is not one failure after another */
        return false;
    tick_t least = took >= AT_ONCE || calls >= DENSE ? 2 * took : 0;
    if (calls >= DENSE && least < AT_ONCE)
        least = AT_ONCE;
    if (now - b->run_began < least)
        return false;
    double p = failures > b->run ? (double)(failures - b->run) / (double)(calls - b->run) : 0;
    double expected = (double)calls;
    for (uint32_t i = 0; i < b->run && expected > BY_CHANCE; i++)
        expected *= p;
    return expected <= BY_CHANCE;
}

static enum breaker_cause why_open(struct breaker *b, tick_t took, tick_t now)
{
    const struct breaker_rules *r = b->rules;
    if (r->consecutive > 0 && b->run >= (uint32_t)r->consecutive && run_is_telling(b, took, now))
        return BREAKER_CAUSE_CONSECUTIVE;
    uint64_t calls = window_sum(&b->window, CALLS, now);
    if (calls == 0 || calls < (uint64_t)(r->minimum_requests > 0 ? r->minimum_requests : 0))
        return BREAKER_CAUSE_NONE;
    if (r->failure_rate > 0 && (double)b->window.sum[FAILURES] >= r->failure_rate * (double)calls)
        return BREAKER_CAUSE_FAILURE_RATE;
    if (r->slow_call > 0 && r->slow_rate > 0 && (double)b->window.sum[SLOW] >= r->slow_rate * (double)calls)
        return BREAKER_CAUSE_SLOW_RATE;
    return BREAKER_CAUSE_NONE;
}

static void report_closed(struct breaker *b, struct breaker_report report, struct rng *rng, tick_t now)
{
    bool failed = report.outcome == BREAKER_FAILURE;
    window_add(&b->window, CALLS, 1, now);
    if (failed)
        window_add(&b->window, FAILURES, 1, now);
    if (b->rules->slow_call > 0 && report.took > b->rules->slow_call)
        window_add(&b->window, SLOW, 1, now);
    if (failed) {
        if (!report.again && b->run++ == 0) {
            b->run_began = now;
            b->run_sent = now - report.took;
            b->run_passed = 0;
        }
    } else if (now - report.took >= b->run_sent) {
        b->run = 0;
    } else {
        b->run_passed++; /* sent before all of them, it says little about what became of the upstream since */
    }
    enum breaker_cause cause = why_open(b, report.took, now);
    if (cause != BREAKER_CAUSE_NONE)
        open_it(b, cause, rng, now);
}

static void report_probe(struct breaker *b, struct breaker_permit permit, struct breaker_report report,
                         struct rng *rng, tick_t now)
{
    b->lease[permit.probe] = 0;
    if (report.outcome == BREAKER_IGNORED)
        return; /* the lease is free for another probe */
    bool slow = b->rules->slow_call > 0 && report.took > b->rules->slow_call;
    if (report.outcome == BREAKER_FAILURE || (slow && report.outcome == BREAKER_OK)) {
        open_it(b, BREAKER_CAUSE_PROBE_FAILED, rng, now);
        return;
    }
    /* Throttled is an answer: the upstream lives, and how much it takes is the quota's business. */
    if (++b->good >= (uint32_t)probes(b))
        close_it(b, now);
}

void breaker_report(struct breaker *b, struct breaker_permit permit, struct breaker_report report,
                    struct rng *rng, tick_t now)
{
    if (!b->rules->enabled || permit.epoch != b->epoch || permit.verdict == BREAKER_SHED)
        return;
    if (permit.verdict == BREAKER_PROBE) {
        if (permit.probe < BREAKER_MAX_PROBES && b->lease[permit.probe])
            report_probe(b, permit, report, rng, now);
        return;
    }
    if (report.outcome == BREAKER_OK || report.outcome == BREAKER_FAILURE)
        report_closed(b, report, rng, now);
}

void breaker_report_good(struct breaker *b, uint32_t n, tick_t when, struct rng *rng, tick_t now)
{
    if (!n || !b->rules->enabled || b->state != BREAKER_CLOSED)
        return;
    window_add(&b->window, CALLS, n, when > b->since ? when : b->since);
    b->run = 0;
    enum breaker_cause cause = why_open(b, 0, now);
    if (cause != BREAKER_CAUSE_NONE)
        open_it(b, cause, rng, now);
}

tick_t breaker_next_due(const struct breaker *b)
{
    if (b->state == BREAKER_OPEN)
        return b->until;
    tick_t due = TICK_NEVER;
    for (int i = 0; i < BREAKER_MAX_PROBES; i++)
        if (b->lease[i] && b->lease[i] < due)
            due = b->lease[i];
    return due;
}

tick_t breaker_retry_after(const struct breaker *b, tick_t now)
{
    tick_t left = b->state == BREAKER_OPEN ? b->until - now : 0;
    return left > TICK_S ? left : TICK_S;
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "half_open", "open"};
    return (unsigned)state < ARRAY_LEN(names) ? names[state] : "unknown";
}

const char *breaker_cause_name(enum breaker_cause cause)
{
    static const char *const names[] = {"none",       "consecutive_failures", "failure_rate",
                                        "slow_calls", "probe_failed",         "probe_lost"};
    return (unsigned)cause < ARRAY_LEN(names) ? names[cause] : "unknown";
}
