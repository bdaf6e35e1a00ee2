/*
 * Coalesced fetches: what waiters are told, in every phase and at every end; answers that outgrow the limit;
 * and all of it at once from several threads (run under the thread sanitizer too).
 */
#include <pthread.h>
#include <stdatomic.h>

#include "policy/rng.h"
#include "proxy/store_inner.h"
#include "tests/unit/proxy/cache_case.h"

#define FRESH "200 | Date: @0 | Cache-Control: max-age=100"

static struct world w;
static struct message get;     /* GET /a */
static struct message accepts; /* GET /a | Accept: x */

static void setup(void)
{
    world_init(&w, NULL);
    request_text(&get, "GET /a");
    request_text(&accepts, "GET /a | Accept: x");
}

static void teardown(void)
{
    struct store_stats stats;
    store_stats(w.store, &stats);
    must(stats.fills == 0 && stats.fill_bytes == 0);
    must(atomic_load(&w.store->budget.descriptors) == 0 || stats.entries > 0);
    world_dispose(&w);
}

/* A waiter of the tests counts its wakes. */
struct waiting {
    struct fill_waiter waiter;
    int wakes;
    struct fill_news news;
};

static void count_wake(struct fill_waiter *waiter)
{
    ((struct waiting *)waiter)->wakes++;
}

static struct fill *lead(const struct message *m)
{
    struct store_request ask = ask_of(&w, m);
    struct store_result r;
    enum store_verdict v = store_lookup(w.store, &ask, &r);
    if (v != STORE_LEAD && v != STORE_REVALIDATE)
        ck_abort_msg("verdict %d", (int)v);
    entry_release(r.entry);
    return r.fill;
}

static void join(struct waiting *wt, const struct message *m)
{
    struct store_request ask = ask_of(&w, m);
    struct store_result r;
    *wt = (struct waiting){.waiter = {.wake = count_wake}};
    must(store_lookup(w.store, &ask, &r) == STORE_JOIN);
    must(!r.entry && r.fill);
    fill_join(r.fill, &wt->waiter);
}

static enum fill_state poll(struct waiting *wt, const struct message *m)
{
    struct store_request ask = ask_of(&w, m);
    entry_release(wt->news.entry);
    enum fill_state state = fill_poll(&wt->waiter, &ask, &wt->news);
    must((wt->waiter.fill == NULL) == (state != FILL_WAIT && state != FILL_HEAD));
    return state;
}

static void drop_news(struct waiting *wt)
{
    entry_release(wt->news.entry);
    wt->news.entry = NULL;
}

static enum fill_verdict respond(struct fill *fill, const char *response, enum storable *why)
{
    struct message a;
    struct store_request ask = ask_of(&w, &get);
    response_text(&a, response);
    return fill_response(fill, &ask, &a.head, w.now, why);
}

static void append(struct fill *fill, const char *text)
{
    must(fill_append(fill, text, strlen(text)) == FILL_MORE);
}

/* Reads and consumes what is there; gives it as a string, or says how it ended. */
static const char *read_all(struct waiting *wt)
{
    static char text[65536];
    struct iovec iov[2];
    enum reason why = REASON_NONE;
    size_t n = 0;
    int count;
    while ((count = fill_read(&wt->waiter, iov, 2, &why)) > 0) {
        for (int i = 0; i < count; i++) {
            must(n + iov[i].iov_len < sizeof text);
            memcpy(text + n, iov[i].iov_base, iov[i].iov_len);
            n += iov[i].iov_len;
            fill_advance(&wt->waiter, iov[i].iov_len);
        }
    }
    text[n] = '\0';
    if (count == FILL_READ_END)
        strcat(text, "<end>");
    if (count == FILL_READ_BROKEN) {
        strcat(text, "<");
        strcat(text, reason_row(why)->name);
        strcat(text, ">");
    }
    return text;
}

/* ---- the good way ---- */

START_TEST(waiters_read_along)
{
    struct waiting early, late, after;
    struct fill *fill = lead(&get);
    join(&early, &get);
    must(poll(&early, &get) == FILL_WAIT && fill_waiters(fill) == 1);
    must(early.wakes == 0);
    must(respond(fill, FRESH, NULL) == FILL_STORED);
    must(early.wakes == 1);
    must(poll(&early, &get) == FILL_HEAD);
    must(entry_status(early.news.entry) == 200 && strstr(entry_head(early.news.entry).p, "max-age=100") &&
         !early.news.has_length);
    drop_news(&early);
    ck_assert_str_eq(read_all(&early), "");
    append(fill, "one ");
    must(early.wakes == 2);
    append(fill, "two ");
    must(early.wakes == 2); /* at most once until it looks again */
    join(&late, &get);      /* in the middle */
    must(poll(&late, &get) == FILL_HEAD);
    drop_news(&late);
    ck_assert_str_eq(read_all(&early), "one two ");
    ck_assert_str_eq(read_all(&late), "one two ");
    append(fill, "three");
    join(&after, &get); /* attached, but it looks only when all is over */
    must(fill_end(fill, w.now));
    must(poll(&after, &get) == FILL_DONE && after.wakes == 0);
    ck_assert_str_eq(body_text(after.news.entry), "one two three");
    drop_news(&after);
    ck_assert_str_eq(read_all(&early), "three<end>");
    ck_assert_str_eq(read_all(&late), "three<end>");
    fill_leave(&early.waiter);
    fill_leave(&early.waiter); /* harmless */
    fill_leave(&late.waiter);
    must(verdict_of(&w, "GET /a") == STORE_HIT);
    struct store_stats s;
    store_stats(w.store, &s);
    must(s.coalesced == 3 && s.misses == 1 && s.hits == 1);
}
END_TEST

START_TEST(the_length_is_known)
{
    struct waiting wt;
    struct fill *fill = lead(&get);
    join(&wt, &get);
    must(respond(fill, FRESH " | Content-Length: 4", NULL) == FILL_STORED);
    must(poll(&wt, &get) == FILL_HEAD && wt.news.has_length && wt.news.length == 4);
    drop_news(&wt);
    append(fill, "four");
    must(fill_end(fill, w.now));
    ck_assert_str_eq(read_all(&wt), "four<end>");
    fill_leave(&wt.waiter);
}
END_TEST

/* The leader's own client reads along like the others. */
START_TEST(the_leader_watches)
{
    struct waiting own = {.waiter = {.wake = count_wake}};
    struct fill *fill = lead(&get);
    must(respond(fill, FRESH, NULL) == FILL_STORED);
    fill_watch(fill, &own.waiter);
    ck_assert_str_eq(read_all(&own), "");
    append(fill, "x");
    must(own.wakes == 1);
    must(fill_end(fill, w.now));
    ck_assert_str_eq(read_all(&own), "x<end>");
    fill_leave(&own.waiter);
}
END_TEST

/* A 304 serves those who wait. */
START_TEST(a_304_for_all)
{
    struct waiting wt;
    must(fetch(&w, "GET /a", "200 | Date: @0 | Cache-Control: max-age=1 | ETag: \"1\"", "body") ==
         STORABLE_YES);
    pass_time(&w, 5 * TICK_S);
    struct fill *fill = lead(&get);
    join(&wt, &get);
    must(poll(&wt, &get) == FILL_WAIT);
    struct message a;
    response_text(&a, "304 | Date: @5 | ETag: \"1\"");
    struct store_request ask = ask_of(&w, &get);
    struct entry *e = fill_not_modified(fill, &ask, &a.head, w.now);
    must(e && wt.wakes == 1);
    entry_release(e);
    must(poll(&wt, &get) == FILL_DONE);
    ck_assert_str_eq(body_text(wt.news.entry), "body");
    drop_news(&wt);
}
END_TEST

/* ---- not for the waiters ---- */

START_TEST(uncacheable_turns_them_loose)
{
    struct waiting a, b;
    enum storable why;
    struct fill *fill = lead(&get);
    join(&a, &get);
    join(&b, &get);
    must(poll(&a, &get) == FILL_WAIT);
    must(respond(fill, "200 | Cache-Control: no-store", &why) == FILL_PASSED && why == STORABLE_NO_STORE);
    must(a.wakes == 1);
    must(poll(&a, &get) == FILL_LOOSE);
    must(verdict_of(&w, "GET /a") == STORE_PASS); /* and nobody waits for the like again */
    must(poll(&b, &get) == FILL_LOOSE);
}
END_TEST

START_TEST(another_variant_is_loose)
{
    struct waiting same, other, late;
    struct message plain;
    request_text(&plain, "GET /a | Accept: y");
    struct fill *fill = lead(&accepts);
    join(&same, &accepts);
    join(&other, &plain);
    struct message a;
    response_text(&a, FRESH " | Vary: Accept");
    struct store_request ask = ask_of(&w, &accepts);
    must(fill_response(fill, &ask, &a.head, w.now, NULL) == FILL_STORED);
    must(poll(&same, &accepts) == FILL_HEAD);
    drop_news(&same);
    must(poll(&other, &plain) == FILL_LOOSE);
    join(&late, &plain);
    must(fill_end(fill, w.now));
    must(poll(&late, &plain) == FILL_LOOSE);
    fill_leave(&same.waiter);
    /* Now that the names are known, the other variant is not sent to wait for this one again. */
    pass_time(&w, 200 * TICK_S);
    fill = lead(&accepts);
    struct fill *second = lead(&plain);
    must(second != fill);
    fill_abort(second, REASON_CLIENT_GONE, true);
    fill_abort(fill, REASON_CLIENT_GONE, true);
}
END_TEST

/* RFC 9111 5.2.1.4: who wants it new does not take what was asked for before. */
START_TEST(picky_requests_do_not_join)
{
    static const char *const rows[] = {"no-cache", "max-age=5", "min-fresh=5"};
    struct fill *fill = lead(&get);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char request[100];
        snprintf(request, sizeof request, "GET /a | Cache-Control: %s", rows[i]);
        must(verdict_of(&w, request) == STORE_LEAD);
    }
    must(verdict_of(&w, "GET /a | Cache-Control: max-stale=5") == STORE_JOIN);
    fill_abort(fill, REASON_CLIENT_GONE, true);
}
END_TEST

/* ---- bad ends ---- */

START_TEST(a_dead_leader_hands_over)
{
    struct waiting a, b, c;
    struct fill *fill = lead(&get);
    join(&a, &get);
    join(&b, &get);
    join(&c, &get);
    must(poll(&a, &get) == FILL_WAIT && poll(&b, &get) == FILL_WAIT && poll(&c, &get) == FILL_WAIT);
    fill_abort(fill, REASON_CLIENT_GONE, true);
    must(a.wakes == 1 && b.wakes == 0 && c.wakes == 0); /* one is told */
    must(poll(&b, &get) == FILL_WAIT);
    must(poll(&a, &get) == FILL_LEAD && a.news.fill == fill);
    fill_abort(fill, REASON_CLIENT_GONE, true);
    must(b.wakes == 1);
    fill_leave(&b.waiter); /* chosen, but it leaves without looking: the next one */
    must(c.wakes == 1 && poll(&c, &get) == FILL_LEAD);
    must(respond(c.news.fill, FRESH, NULL) == FILL_STORED);
    append(c.news.fill, "x");
    must(fill_end(c.news.fill, w.now));
    must(verdict_of(&w, "GET /a") == STORE_HIT);
}
END_TEST

START_TEST(nobody_to_hand_over_to)
{
    struct waiting a;
    struct fill *fill = lead(&get);
    join(&a, &get);
    fill_abort(fill, REASON_CLIENT_GONE, true);
    fill_leave(&a.waiter); /* the last one */
    fill = lead(&get);
    struct store_result r; /* somebody has found it, but not joined yet */
    must(look(&w, "GET /a", &r) == STORE_JOIN);
    fill_abort(fill, REASON_CLIENT_GONE, true);
    a = (struct waiting){.waiter = {.wake = count_wake}};
    fill_join(r.fill, &a.waiter);
    must(poll(&a, &get) == FILL_LOOSE);
    must(verdict_of(&w, "GET /a") == STORE_LEAD);
}
END_TEST

START_TEST(handovers_are_bounded)
{
    struct waiting wt[FILL_MAX_HANDOVERS + 2];
    struct fill *fill = lead(&get);
    for (size_t i = 0; i < ARRAY_LEN(wt); i++)
        join(&wt[i], &get);
    for (size_t i = 0; i < FILL_MAX_HANDOVERS; i++) {
        fill_abort(fill, REASON_CLIENT_GONE, true);
        must(poll(&wt[i], &get) == FILL_LEAD);
    }
    fill_abort(fill, REASON_DEADLINE, true);
    for (size_t i = FILL_MAX_HANDOVERS; i < ARRAY_LEN(wt); i++)
        must(poll(&wt[i], &get) == FILL_LOOSE); /* whose fault was it not, they may try for themselves */
}
END_TEST

START_TEST(a_failed_fetch_fails_all)
{
    struct waiting a, b;
    struct fill *fill = lead(&get);
    join(&a, &get);
    join(&b, &get);
    must(poll(&a, &get) == FILL_WAIT);
    fill_abort(fill, REASON_CONNECT_FAILED, false);
    must(a.wakes == 1);
    must(poll(&a, &get) == FILL_FAILED && a.news.why == REASON_CONNECT_FAILED);
    must(poll(&b, &get) == FILL_FAILED);
    must(verdict_of(&w, "GET /a") == STORE_LEAD);
}
END_TEST

/* Who was given the head sees a broken message; who was not may try again when the fault was the leader's
 * own. */
START_TEST(broken_off_in_the_body)
{
    for (int own_fault = 0; own_fault < 2; own_fault++) {
        struct waiting reading, waiting;
        struct fill *fill = lead(&get);
        join(&reading, &get);
        join(&waiting, &get);
        must(respond(fill, FRESH " | Content-Length: 10", NULL) == FILL_STORED);
        must(poll(&reading, &get) == FILL_HEAD);
        drop_news(&reading);
        append(fill, "12345");
        fill_abort(fill, REASON_RESET_IN_ANSWER, own_fault);
        ck_assert_str_eq(read_all(&reading), "12345<RESET_IN_ANSWER>");
        must(poll(&waiting, &get) == (own_fault ? FILL_LOOSE : FILL_FAILED));
        fill_leave(&reading.waiter);
        must(verdict_of(&w, "GET /a") == STORE_LEAD); /* nothing was stored */
    }
}
END_TEST

START_TEST(shorter_than_announced)
{
    struct waiting wt;
    struct fill *fill = lead(&get);
    join(&wt, &get);
    must(respond(fill, FRESH " | Content-Length: 10", NULL) == FILL_STORED);
    must(poll(&wt, &get) == FILL_HEAD);
    drop_news(&wt);
    append(fill, "12345");
    must(!fill_end(fill, w.now));
    ck_assert_str_eq(read_all(&wt), "12345<RESET_IN_ANSWER>");
    fill_leave(&wt.waiter);
    must(verdict_of(&w, "GET /a") == STORE_LEAD);
}
END_TEST

START_TEST(leaving_at_any_time)
{
    struct waiting a, b, c;
    struct fill *fill = lead(&get);
    join(&a, &get);
    fill_leave(&a.waiter);
    must(fill_waiters(fill) == 0);
    join(&b, &get);
    must(poll(&b, &get) == FILL_WAIT);
    must(respond(fill, FRESH, NULL) == FILL_STORED);
    fill_leave(&b.waiter);
    join(&c, &get);
    must(poll(&c, &get) == FILL_HEAD);
    drop_news(&c);
    append(fill, "x");
    fill_leave(&c.waiter);
    append(fill, "y");
    must(fill_end(fill, w.now));
    must(b.wakes == 1 && c.wakes == 0);
}
END_TEST

START_TEST(waiters_are_bounded)
{
    static struct waiting many[FILL_MAX_WAITERS];
    struct fill *fill = lead(&get);
    for (size_t i = 0; i < FILL_MAX_WAITERS; i++)
        join(&many[i], &get);
    must(verdict_of(&w, "GET /a") == STORE_PASS);
    fill_leave(&many[7].waiter);
    must(verdict_of(&w, "GET /a") == STORE_JOIN);
    fill_abort(fill, REASON_CONNECT_FAILED, false);
    for (size_t i = 0; i < FILL_MAX_WAITERS; i++)
        fill_leave(&many[i].waiter);
}
END_TEST

/* ---- larger than the limit ---- */

static void small_objects(uint64_t max)
{
    struct store_limits limits = {
        .max_entries = 100, .max_bytes = 1 << 24, .max_object_bytes = max, .strategy = EVICT_LRU};
    store_set_limits(w.store, &limits);
}

static char block[32768];

static void drained(void *arg)
{
    ++*(int *)arg;
}

/* Who is there is served to the end, from a window; the leader is held back by the slowest; nothing is
 * stored. */
START_TEST(outgrown_with_a_slow_reader)
{
    struct waiting slow = {.waiter = {.wake = count_wake}}, quick = {.waiter = {.wake = count_wake}};
    int calls = 0, holds = 0;
    uint64_t sent = 0, got_slow = 0, got_quick = 0;
    struct iovec iov[8];
    enum reason why;
    small_objects(100000);
    struct fill *fill = lead(&get);
    must(respond(fill, FRESH, NULL) == FILL_STORED);
    fill_watch(fill, &slow.waiter);
    fill_watch(fill, &quick.waiter);
    for (int turn = 0; turn < 5000 && sent < 5000000; turn++) {
        if (holds == calls && fill_backlog(fill, drained, &calls) >= FILL_BACKLOG_HIGH)
            holds++; /* until `drained` is called */
        if (holds == calls) {
            for (size_t i = 0; i < sizeof block; i++)
                block[i] = (char)((sent + i) % 251);
            must(fill_append(fill, block, sizeof block) == FILL_MORE);
            sent += sizeof block;
        }
        int n;
        while ((n = fill_read(&quick.waiter, iov, 8, &why)) > 0) {
            uint64_t took = 0;
            for (int i = 0; i < n; i++) {
                must(((unsigned char *)iov[i].iov_base)[0] == (got_quick + took) % 251);
                took += iov[i].iov_len;
            }
            fill_advance(&quick.waiter, took);
            got_quick += took;
        }
        must(got_quick == sent && n == FILL_READ_WAIT);
        n = fill_read(&slow.waiter, iov, 1, &why);
        must(n == 1);
        size_t took = iov[0].iov_len < 9999 ? iov[0].iov_len : 9999;
        for (size_t i = 0; i < took; i++)
            must(((unsigned char *)iov[0].iov_base)[i] == (got_slow + i) % 251);
        fill_advance(&slow.waiter, took);
        got_slow += took;
        must(sent - got_slow <= 100000 + FILL_BACKLOG_HIGH + 2 * sizeof block); /* memory is bounded */
    }
    must(sent >= 5000000 && calls > 1 && calls >= holds - 1);
    must(verdict_of(&w, "GET /a") == STORE_LEAD); /* nobody joins any more */
    must(!fill_end(fill, w.now));
    must(fill_read(&quick.waiter, iov, 8, &why) == FILL_READ_END);
    int n;
    while ((n = fill_read(&slow.waiter, iov, 8, &why)) > 0)
        for (int i = 0; i < n; i++) {
            must(((unsigned char *)iov[i].iov_base)[0] == got_slow % 251);
            fill_advance(&slow.waiter, iov[i].iov_len);
            got_slow += iov[i].iov_len;
        }
    must(n == FILL_READ_END && got_slow == sent);
    fill_leave(&slow.waiter);
    fill_leave(&quick.waiter);
    must(verdict_of(&w, "GET /a") == STORE_PASS); /* and the size is remembered for a while */
}
END_TEST

START_TEST(outgrown_with_nobody_there)
{
    small_objects(100000);
    struct fill *fill = lead(&get);
    must(respond(fill, FRESH, NULL) == FILL_STORED);
    for (int i = 0; i < 3; i++)
        must(fill_append(fill, block, sizeof block) == FILL_MORE);
    must(fill_append(fill, block, sizeof block) == FILL_USELESS);
    must(fill_append(fill, block, sizeof block) == FILL_USELESS);
    must(!fill_end(fill, w.now));
}
END_TEST

/* A waiter that stands still does not hold the others up for ever; what it was given stays until it lets go.
 */
START_TEST(cutting_the_slow_one)
{
    struct waiting slow = {.waiter = {.wake = count_wake}}, quick = {.waiter = {.wake = count_wake}};
    struct iovec iov[8], held[1];
    enum reason why = REASON_NONE;
    int calls = 0, n;
    small_objects(1000);
    struct fill *fill = lead(&get);
    must(respond(fill, FRESH, NULL) == FILL_STORED);
    fill_watch(fill, &slow.waiter);
    fill_watch(fill, &quick.waiter);
    memset(block, 'x', sizeof block);
    while (fill_backlog(fill, drained, &calls) < FILL_BACKLOG_HIGH) {
        must(fill_append(fill, block, sizeof block) == FILL_MORE);
        while ((n = fill_read(&quick.waiter, iov, 8, &why)) > 0)
            for (int i = 0; i < n; i++)
                fill_advance(&quick.waiter, iov[i].iov_len);
    }
    must(fill_read(&slow.waiter, held, 1, &why) == 1);
    slow.wakes = 0;
    must(fill_cut_slow(fill) == 1);
    must(slow.wakes == 1); /* though it did not wait for us */
    must(fill_cut_slow(fill) == 0);
    must(fill_read(&quick.waiter, NULL, 0, &why) == FILL_READ_WAIT);
    must(calls == 0);
    for (size_t i = 0; i < held[0].iov_len; i++) /* still there: its thread may be sending it just now */
        must(((char *)held[0].iov_base)[i] == 'x');
    must(fill_read(&slow.waiter, iov, 8, &why) == FILL_READ_BROKEN && why == REASON_CLIENT_STALLED);
    must(calls == 1); /* and the leader goes on */
    must(fill_backlog(fill, drained, &calls) == 0);
    fill_leave(&slow.waiter);
    append(fill, "end");
    must(!fill_end(fill, w.now));
    ck_assert_str_eq(read_all(&quick), "end<end>");
    fill_leave(&quick.waiter);
}
END_TEST

START_TEST(leaving_drains_too)
{
    struct waiting slow = {.waiter = {.wake = count_wake}};
    int calls = 0;
    small_objects(1000);
    struct fill *fill = lead(&get);
    must(respond(fill, FRESH, NULL) == FILL_STORED);
    fill_watch(fill, &slow.waiter);
    while (fill_backlog(fill, drained, &calls) < FILL_BACKLOG_HIGH)
        must(fill_append(fill, block, sizeof block) == FILL_MORE);
    fill_leave(&slow.waiter);
    must(calls == 1);
    must(fill_append(fill, block, sizeof block) == FILL_USELESS);
    fill_abort(fill, REASON_CLIENT_GONE, true);
}
END_TEST

/* ---- several threads ---- */

enum { THREADS = 4, ROUNDS = 150, KEYS = 3 };

/* One thread: a mailbox of one flag, and what it has seen. */
struct actor {
    pthread_t thread;
    struct fill_waiter waiter;
    pthread_mutex_t lock;
    pthread_cond_t bell;
    bool rung;
    struct rng rng;
    int led, hit, read, failed;
};

static void ring(struct fill_waiter *waiter)
{
    struct actor *a = (struct actor *)((char *)waiter - offsetof(struct actor, waiter));
    pthread_mutex_lock(&a->lock);
    a->rung = true;
    pthread_cond_signal(&a->bell);
    pthread_mutex_unlock(&a->lock);
}

static void await(struct actor *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->rung)
        pthread_cond_wait(&a->bell, &a->lock);
    a->rung = false;
    pthread_mutex_unlock(&a->lock);
}

/* The body of key k is this long, and every byte of it known. */
static size_t length_of(int key)
{
    static const size_t lengths[KEYS] = {100, 30000, 150000};
    return lengths[key];
}

static char byte_of(int key, size_t at)
{
    return (char)(at * 7 + (size_t)key + (at >> 8));
}

static void check_bytes(int key, size_t at, const struct iovec *run)
{
    for (size_t k = 0; k < run->iov_len; k += 61)
        must(((char *)run->iov_base)[k] == byte_of(key, at + k));
}

static void check_entry(int key, const struct entry *e)
{
    struct iovec iov[1];
    must(entry_length(e) == length_of(key));
    for (size_t at = 0; at < length_of(key);) {
        must(entry_body_iov(e, at, UINT64_MAX, iov, 1) == 1);
        check_bytes(key, at, iov);
        at += iov[0].iov_len;
    }
}

/* Leads: sometimes to the end, sometimes it dies, sometimes the answer is not to be stored. */
static void act_lead(struct actor *a, struct fill *fill, int key, const struct store_request *ask)
{
    static const char *const responses[] = {FRESH, "200 | Cache-Control: max-age=0",
                                            "200 | Cache-Control: no-store", "503"};
    struct message response;
    char bytes[5000];
    uint64_t dice = rng_below(&a->rng, 16);
    a->led++;
    if (dice < 3) {
        fill_abort(fill, REASON_CLIENT_GONE, dice < 2);
        return;
    }
    response_text(&response, responses[dice < 7 ? dice - 3 : 0]);
    if (fill_response(fill, ask, &response.head, ask->now, NULL) == FILL_PASSED)
        return;
    for (size_t at = 0; at < length_of(key);) {
        size_t n = 1 + (size_t)rng_below(&a->rng, sizeof bytes - 1);
        n = n < length_of(key) - at ? n : length_of(key) - at;
        for (size_t i = 0; i < n; i++)
            bytes[i] = byte_of(key, at + i);
        must(fill_append(fill, bytes, n) == FILL_MORE);
        at += n;
        if (dice == 15 && at > length_of(key) / 2) {
            fill_abort(fill, REASON_RESET_IN_ANSWER, false);
            return;
        }
    }
    fill_end(fill, ask->now);
}

static void act_read(struct actor *a, int key)
{
    struct iovec iov[1];
    enum reason why;
    size_t at = 0;
    for (;;) {
        int n = fill_read(&a->waiter, iov, 1, &why);
        if (n == FILL_READ_WAIT) {
            await(a);
        } else if (n == FILL_READ_END) {
            must(at == length_of(key));
            a->read++;
            break;
        } else if (n == FILL_READ_BROKEN) {
            must(why == REASON_RESET_IN_ANSWER || why == REASON_CLIENT_GONE);
            a->failed++;
            break;
        } else {
            check_bytes(key, at, iov);
            at += iov[0].iov_len;
            fill_advance(&a->waiter, iov[0].iov_len);
            if (rng_below(&a->rng, 200) == 0)
                break; /* the client went away */
        }
    }
    fill_leave(&a->waiter);
}

/* Waits for somebody else's fetch. False: it must look again. */
static bool act_wait(struct actor *a, int key, const struct store_request *ask)
{
    struct fill_news news;
    for (;;) {
        switch (fill_poll(&a->waiter, ask, &news)) {
        case FILL_WAIT:
            if (rng_below(&a->rng, 50) == 0) {
                fill_leave(&a->waiter);
                return true;
            }
            await(a);
            break;
        case FILL_HEAD:
            must(entry_status(news.entry) == 200);
            entry_release(news.entry);
            act_read(a, key);
            return true;
        case FILL_DONE:
            check_entry(key, news.entry);
            entry_release(news.entry);
            a->read++;
            return true;
        case FILL_LEAD:
            act_lead(a, news.fill, key, ask);
            return true;
        case FILL_LOOSE:
            return false;
        case FILL_FAILED:
            a->failed++;
            return true;
        }
    }
}

static _Atomic tick_t clock_ns; /* a little later at each look, so that marks do not last */

static void act_once(struct actor *a, int key, const struct message *m)
{
    struct store_request ask = ask_of(&w, m);
    struct store_result r;
    for (int tries = 0; tries < 100; tries++) {
        ask.now = NOW + atomic_fetch_add(&clock_ns, 10);
        a->rung = false;
        switch (store_lookup(w.store, &ask, &r)) {
        case STORE_HIT:
        case STORE_HIT_STALE:
            check_entry(key, r.entry);
            entry_release(r.entry);
            a->hit++;
            return;
        case STORE_LEAD:
        case STORE_REVALIDATE:
        case STORE_COMPLETE: /* of an answer that broke off; asked for whole */
            entry_release(r.entry);
            act_lead(a, r.fill, key, &ask);
            return;
        case STORE_JOIN:
            fill_join(r.fill, &a->waiter);
            if (act_wait(a, key, &ask))
                return;
            break;
        case STORE_PASS:
        case STORE_REFUSE:
            return;
        }
    }
}

static void *act(void *arg)
{
    struct actor *a = arg;
    struct message m[KEYS];
    for (int key = 0; key < KEYS; key++) {
        char request[64];
        snprintf(request, sizeof request, "GET /%d", key);
        request_text(&m[key], request);
    }
    for (int round = 0; round < ROUNDS; round++) {
        int key = (int)rng_below(&a->rng, KEYS);
        act_once(a, key, &m[key]);
        if (rng_below(&a->rng, 4) == 0)
            store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
        if (rng_below(&a->rng, 16) == 0) {
            struct store_stats s;
            store_stats(w.store, &s);
        }
    }
    return NULL;
}

START_TEST(all_at_once)
{
    struct actor actors[THREADS];
    int led = 0, hit = 0, read = 0;
    w.rules.pass_life = 1;
    for (int i = 0; i < THREADS; i++) {
        actors[i] = (struct actor){.waiter = {.wake = ring}};
        pthread_mutex_init(&actors[i].lock, NULL);
        pthread_cond_init(&actors[i].bell, NULL);
        rng_seed(&actors[i].rng, 100 + (uint64_t)i);
        must(pthread_create(&actors[i].thread, NULL, act, &actors[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(actors[i].thread, NULL);
        must(actors[i].waiter.fill == NULL);
        pthread_mutex_destroy(&actors[i].lock);
        pthread_cond_destroy(&actors[i].bell);
        led += actors[i].led;
        hit += actors[i].hit;
        read += actors[i].read;
    }
    must(led > 0 && hit > 0 && read > 0);
}
END_TEST

/* Four threads insert, hit, evict and purge small entries under tight limits. */
static void *churn(void *arg)
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)(uintptr_t)arg);
    for (int i = 0; i < 3000; i++) {
        char request[64], body[64];
        struct message q, a;
        struct store_result r;
        int key = (int)rng_below(&rng, 300);
        snprintf(request, sizeof request, "GET /%d | Authorization: %d", key, key % 3);
        snprintf(body, sizeof body, "body of %d", key);
        request_text(&q, request);
        struct store_request ask = ask_of(&w, &q);
        enum store_verdict v = store_lookup(w.store, &ask, &r);
        if (v == STORE_HIT)
            must(strcmp(body_text(r.entry), body) == 0);
        if (v == STORE_LEAD) {
            response_text(&a, FRESH);
            must(fill_response(r.fill, &ask, &a.head, w.now, NULL) == FILL_STORED);
            must(fill_append(r.fill, body, strlen(body)) == FILL_MORE);
            fill_end(r.fill, w.now);
            r.fill = NULL;
        }
        if (rng_below(&rng, 200) == 0)
            store_drop_partition(w.store, &r.key);
        let_go(&r, v);
        if (rng_below(&rng, 500) == 0) {
            struct store_limits limits = {.max_entries = 50 + rng_below(&rng, 100),
                                          .max_bytes = 1 << 20,
                                          .strategy = (enum evict_strategy)rng_below(&rng, 5)};
            store_set_limits(w.store, &limits);
        }
    }
    return NULL;
}

START_TEST(churn_under_tight_limits)
{
    struct store_limits limits = {.max_entries = 9000, .max_bytes = 1 << 20, .strategy = EVICT_ADAPTIVE};
    pthread_t threads[THREADS];
    world_dispose(&w);
    world_init(&w, &limits);
    must(w.store->shard_mask > 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        must(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    limits.max_entries = 20;
    store_set_limits(w.store, &limits);
    struct store_stats s;
    store_stats(w.store, &s);
    must(s.entries <= 20 && s.hits > 0 && s.evictions > 0);
    must(store_purge(w.store, STORE_PURGE_ALL, SLICE("")) == s.entries);
    store_stats(w.store, &s);
    must(s.entries == 0 && s.bytes == 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("fill");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, waiters_read_along);
    tcase_add_test(t, the_length_is_known);
    tcase_add_test(t, the_leader_watches);
    tcase_add_test(t, a_304_for_all);
    tcase_add_test(t, uncacheable_turns_them_loose);
    tcase_add_test(t, another_variant_is_loose);
    tcase_add_test(t, picky_requests_do_not_join);
    tcase_add_test(t, a_dead_leader_hands_over);
    tcase_add_test(t, nobody_to_hand_over_to);
    tcase_add_test(t, handovers_are_bounded);
    tcase_add_test(t, a_failed_fetch_fails_all);
    tcase_add_test(t, broken_off_in_the_body);
    tcase_add_test(t, shorter_than_announced);
    tcase_add_test(t, leaving_at_any_time);
    tcase_add_test(t, waiters_are_bounded);
    tcase_add_test(t, outgrown_with_a_slow_reader);
    tcase_add_test(t, outgrown_with_nobody_there);
    tcase_add_test(t, cutting_the_slow_one);
    tcase_add_test(t, leaving_drains_too);
    tcase_add_test(t, all_at_once);
    tcase_add_test(t, churn_under_tight_limits);
    return run_case("fill", t);
}
