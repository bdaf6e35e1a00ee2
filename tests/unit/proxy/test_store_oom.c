/*
 * The store while memory runs out at every possible place in turn: requests are passed or not stored, waiters
 * are told, nothing crashes and nothing is lost. The allocator is taken over by name, which the sanitizers do
 * not allow: under them this test is left out.
 */
#include <errno.h>

#include "proxy/store_inner.h"
#include "tests/unit/proxy/cache_case.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *old, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void __libc_free(void *block);

static bool armed;
static long until_failure, live;

/* Shall this allocation fail? */
static bool fails(void)
{
    if (!armed)
        return false;
    return until_failure-- == 0;
}

static void *counted(void *block)
{
    live += armed && block;
    return block;
}

void *malloc(size_t n)
{
    return fails() ? NULL : counted(__libc_malloc(n));
}

void *calloc(size_t count, size_t n)
{
    return fails() ? NULL : counted(__libc_calloc(count, n));
}

void *realloc(void *old, size_t n)
{
    if (fails())
        return NULL;
    void *block = __libc_realloc(old, n);
    live += armed && block && !old;
    return block;
}

int posix_memalign(void **out, size_t alignment, size_t n)
{
    *out = fails() ? NULL : counted(__libc_memalign(alignment, n));
    return *out ? 0 : ENOMEM;
}

void free(void *block)
{
    live -= armed && block;
    __libc_free(block);
}

static void no_wake(struct fill_waiter *waiter)
{
    (void)waiter;
}

static char block[20000];

/* What a leader does, whatever comes of it. */
static void lead_to_the_end(struct world *w, struct fill *fill, const struct store_request *ask,
                            const char *response, int pieces)
{
    struct message a;
    response_text(&a, response);
    if (a.head.status == 304) {
        struct entry *e = fill_not_modified(fill, ask, &a.head, w->now);
        if (e)
            entry_release(e);
        else
            fill_abort(fill, REASON_OUT_OF_MEMORY, true);
        return;
    }
    if (a.head.status == 206 && !head_has(ask->head, FIELD_RANGE)) {
        struct entry *whole;
        if (!fill_complete_part(fill, ask, &a.head, w->now, &whole)) {
            fill_abort(fill, REASON_OUT_OF_MEMORY, true);
            return;
        }
        entry_release(whole);
    } else if (fill_response(fill, ask, &a.head, w->now, NULL) == FILL_PASSED) {
        return;
    }
    for (int i = 0; i < pieces; i++)
        if (fill_append(fill, block, sizeof block) == FILL_NO_MEMORY)
            break;
    fill_end(fill, w->now);
}

static void ask_once(struct world *w, const char *request, const char *response, int pieces)
{
    struct message q;
    struct store_result r, joined;
    struct fill_waiter waiter = {.wake = no_wake};
    struct fill_news news;
    struct iovec iov[4];
    enum reason why;
    request_text(&q, request);
    struct store_request ask = ask_of(w, &q);
    enum store_verdict v = store_lookup(w->store, &ask, &r);
    must(v == STORE_HIT || v == STORE_HIT_STALE || v == STORE_LEAD || v == STORE_REVALIDATE ||
         v == STORE_PASS || v == STORE_COMPLETE);
    entry_release(r.entry);
    if (!r.fill)
        return;
    bool waits = store_lookup(w->store, &ask, &joined) == STORE_JOIN;
    entry_release(joined.entry);
    if (waits) {
        fill_join(joined.fill, &waiter);
        must(fill_poll(&waiter, &ask, &news) == FILL_WAIT);
    } else if (joined.fill) {
        fill_abort(joined.fill, REASON_CLIENT_GONE, false);
    }
    lead_to_the_end(w, r.fill, &ask, response, pieces);
    if (!waits)
        return;
    enum fill_state state = fill_poll(&waiter, &ask, &news);
    must(state != FILL_WAIT);
    if (state == FILL_LEAD)
        fill_abort(news.fill, REASON_OUT_OF_MEMORY, false);
    entry_release(news.entry);
    while (state == FILL_HEAD && fill_read(&waiter, iov, 4, &why) > 0)
        fill_advance(&waiter, iov[0].iov_len);
    fill_leave(&waiter);
}

/* Parts, one that breaks off, and what HEAD and POST tell. */
static void parts_and_news(struct world *w)
{
    struct message q, p;
    ask_once(w, "GET /p | Range: bytes=0-19999",
             "206 | Date: @20 | ETag: \"1\" | Content-Range: bytes 0-19999/60000 | Content-Length: 20000 | "
             "Cache-Control: max-age=9",
             1);
    ask_once(w, "GET /p | Range: bytes=20000-39999",
             "206 | Date: @20 | ETag: \"1\" | Content-Range: bytes 20000-39999/60000 | Content-Length: 20000 "
             "| Cache-Control: max-age=9",
             1);
    ask_once(w, "GET /p",
             "206 | Date: @20 | ETag: \"1\" | Content-Range: bytes 40000-59999/60000 | Content-Length: 20000 "
             "| Cache-Control: max-age=9",
             1);
    ask_once(w, "GET /q", "200 | Date: @20 | ETag: \"1\" | Content-Length: 60000 | Cache-Control: max-age=9",
             1); /* breaks off */
    ask_once(w, "GET /q",
             "206 | Date: @20 | ETag: \"1\" | Content-Range: bytes 20000-59999/60000 | Content-Length: 40000 "
             "| Cache-Control: max-age=9",
             2);
    request_text(&q, "HEAD /q");
    response_text(&p, "200 | Date: @20 | ETag: \"1\" | Cache-Control: max-age=99");
    struct store_request ask = ask_of(w, &q);
    store_heard(w->store, &ask, &p.head, w->now);
    request_text(&q, "POST /q");
    response_text(&p, "200 | Date: @20 | Content-Location: /q | Cache-Control: max-age=99");
    ask = ask_of(w, &q);
    struct fill *fill = store_adopt(w->store, &ask, &p.head);
    if (fill)
        lead_to_the_end(w, fill, &ask, "200 | Date: @20 | Content-Location: /q | Cache-Control: max-age=99",
                        1);
}

static bool see_nothing(void *arg, const struct store_view *view)
{
    (void)arg;
    return view->uri.n > 0;
}

/* A bit of everything. False: not even the store could be made. */
static bool scenario(void)
{
    const struct store_limits limits = {
        .max_entries = 6, .max_bytes = 1 << 20, .max_object_bytes = 120000, .strategy = EVICT_ADAPTIVE};
    struct world w = {.now = NOW, .wall = WALL};
    struct store_stats stats;
    w.store = store_new(&limits, (struct hash_key){1, 2});
    if (!w.store)
        return false;
    w.tags[0] = SLICE("t");
    w.tags[1] = SLICE("u");
    w.tag_count = 2;
    ask_once(&w, "GET /a", "200 | Date: @0 | Cache-Control: max-age=9 | ETag: \"1\"", 1);
    ask_once(&w, "GET /b | Accept: x", "200 | Date: @0 | Cache-Control: max-age=9 | Vary: Accept", 4);
    ask_once(&w, "GET /b | Accept: y",
             "200 | Date: @0 | Cache-Control: max-age=9 | Vary: Accept | Content-Length: 80000", 4);
    ask_once(&w, "GET /c", "200 | Date: @0 | Cache-Control: max-age=9", 8); /* outgrows the limit */
    ask_once(&w, "GET /d", "200 | Cache-Control: no-store", 0);
    pass_time(&w, 20 * TICK_S);
    ask_once(&w, "GET /a", "304 | Date: @20 | X: y", 0);
    parts_and_news(&w);
    for (int i = 0; i < 30; i++) {
        char request[32];
        snprintf(request, sizeof request, "GET /%d", i);
        ask_once(&w, request, "200 | Date: @20 | Cache-Control: max-age=9", 0);
    }
    store_walk(w.store, w.now, see_nothing, NULL);
    store_purge(w.store, STORE_PURGE_TAG, SLICE("u"));
    store_stats(w.store, &stats);
    must(stats.fills == 0 && stats.fill_bytes == 0 && stats.entries <= 6);
    store_purge(w.store, STORE_PURGE_ALL, SLICE(""));
    store_stats(w.store, &stats);
    must(stats.entries == 0 && stats.bytes == 0);
    world_dispose(&w);
    return true;
}

START_TEST(every_allocation_may_fail)
{
    long n = 0, made = 0;
    scenario(); /* what the C library allocates for itself the first time is there */
    for (bool all = false; !all; n++) {
        until_failure = n;
        live = 0;
        armed = true;
        made += scenario();
        armed = false;
        all = until_failure >= 0;
        if (live != 0)
            ck_abort_msg("allocation %ld: %ld blocks are lost", n, live);
    }
    must(n > 200 && made > 100);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("store_oom");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, every_allocation_may_fail);
    return run_case("store without memory", t);
}

#else

int main(void)
{
    return 0;
}

#endif
