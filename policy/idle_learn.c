/*
 * The upstream's idle timeout, from how old idle connections were when it closed them.
 *
 * A timeout shows as closes at about the same age; a restart as closes at one instant at all ages, which are
 * therefore doubted; an accident as a single one. So an age is believed when at least two notes (three of a
 * full ring) lie within a quarter above it, none doubted, and reuses at greater ages have not refuted them.
 * The smallest such age counts.
 *
 * Once we close first nothing more is seen, so notes are forgotten after an hour and the timeout is learnt
 * again: that costs two closed idle connections, which are noticed as they happen, and no request.
 */
#include "policy/idle_learn.h"

#include <string.h>

#define MEMORY      (3600 * TICK_S)
#define TOO_YOUNG   (50 * TICK_MS)  /* closed right after its answer: not idle */
#define TOGETHER    (100 * TICK_MS) /* closes of one cause arrive within this */
#define REFUTED     3
#define SEEN_MARGIN (500 * TICK_MS) /* the least age of several closes is near the truth; */
#define SAID_MARGIN TICK_S          /* whole seconds on a field may be counted by a coarse timer */
#define NEVER_AGAIN TICK_NEVER

static tick_t above(tick_t age)
{
    return age + age / 4 + 500 * TICK_MS;
}

/*
 * Safely below a timeout: by a twentieth and at least `margin`, but never by more than half. A request must
 * arrive before the upstream closes, so the margin has to be longer than a round trip.
 */
static tick_t below(tick_t timeout, tick_t margin)
{
    margin = timeout / 20 > margin ? timeout / 20 : margin;
    return timeout - (margin < timeout / 2 ? margin : timeout / 2);
}

void idle_learn_init(struct idle_learn *l, tick_t max_idle)
{
    memset(l, 0, sizeof *l);
    l->max_idle = max_idle > 0 ? max_idle : 1;
    l->recheck = NEVER_AGAIN;
}

static bool believed(const struct idle_learn *l, int i)
{
    int near = 0, all = 0;
    tick_t age = l->sample[i].age;
    if (!age || l->sample[i].doubted)
        return false;
    for (int k = 0; k < IDLE_LEARN_SAMPLES; k++) {
        tick_t a = l->sample[k].age;
        if (!a || l->sample[k].doubted)
            continue;
        all++;
        near += a >= age && a <= above(age);
    }
    return near >= (all >= IDLE_LEARN_SAMPLES - 1 ? 3 : 2);
}

/* Forgets what is old and thinks anew. */
static void think(struct idle_learn *l, tick_t now)
{
    l->learned = l->lowest = 0;
    l->recheck = NEVER_AGAIN;
    for (int i = 0; i < IDLE_LEARN_SAMPLES; i++) {
        if (!l->sample[i].age)
            continue;
        if (now - l->sample[i].when >= MEMORY || l->sample[i].outlived >= REFUTED) {
            l->sample[i].age = 0;
            continue;
        }
        if (!l->lowest || l->sample[i].age < l->lowest)
            l->lowest = l->sample[i].age;
        if (l->sample[i].when + MEMORY < l->recheck)
            l->recheck = l->sample[i].when + MEMORY;
    }
    for (int i = 0; i < IDLE_LEARN_SAMPLES; i++)
        if (believed(l, i) && (!l->learned || l->sample[i].age < l->learned))
            l->learned = l->sample[i].age;
}

void idle_learn_closed(struct idle_learn *l, tick_t age, tick_t now)
{
    if (age < TOO_YOUNG)
        return;
    bool doubted = false;
    for (int i = 0; i < IDLE_LEARN_SAMPLES; i++) {
        tick_t a = l->sample[i].age;
        if (!a || now - l->sample[i].when > TOGETHER)
            continue;
        if (a > above(age) || age > above(a))
            doubted = l->sample[i].doubted = true;
    }
    l->sample[l->next].age = age;
    l->sample[l->next].when = now;
    l->sample[l->next].outlived = 0;
    l->sample[l->next].doubted = doubted;
    l->next = (l->next + 1) % IDLE_LEARN_SAMPLES;
    think(l, now);
}

void idle_learn_reused(struct idle_learn *l, tick_t age, tick_t now)
{
    if (!l->lowest || age <= l->lowest)
        return;
    bool refuted = false;
    for (int i = 0; i < IDLE_LEARN_SAMPLES; i++)
        if (l->sample[i].age && age > l->sample[i].age + l->sample[i].age / 20)
            refuted |= ++l->sample[i].outlived >= REFUTED;
    if (refuted)
        think(l, now);
}

static bool equal_nocase(const char *p, const char *lower, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i];
        if (c != lower[i])
            return false;
    }
    return true;
}

/* "timeout=5" to nanoseconds; 0 when it is something else. */
static tick_t parse_timeout(struct slice s)
{
    static const char name[] = "timeout=";
    size_t n = sizeof name - 1;
    tick_t t = 0;
    if (s.n <= n || s.n > n + 9 || !equal_nocase(s.p, name, n))
        return 0;
    for (size_t i = n; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return 0;
        t = t * 10 + (s.p[i] - '0');
    }
    return t * TICK_S;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

void idle_learn_hint(struct idle_learn *l, struct slice keep_alive)
{
    const char *p = keep_alive.p, *end = p + keep_alive.n;
    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *last = comma ? comma : end;
        while (p < last && is_space(*p))
            p++;
        while (last > p && is_space(last[-1]))
            last--;
        tick_t t = parse_timeout((struct slice){p, (size_t)(last - p)});
        if (t)
            l->hint = t;
        p = comma ? comma + 1 : end;
    }
}

tick_t idle_learn_trust(struct idle_learn *l, tick_t now)
{
    tick_t trust = l->max_idle;
    if (now >= l->recheck)
        think(l, now);
    if (l->hint && below(l->hint, SAID_MARGIN) < trust)
        trust = below(l->hint, SAID_MARGIN);
    if (l->learned && below(l->learned, SEEN_MARGIN) < trust)
        trust = below(l->learned, SEEN_MARGIN);
    return trust;
}
