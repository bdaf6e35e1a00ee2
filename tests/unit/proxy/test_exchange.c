/*
 * Tests of proxy/exchange*.c with no socket: both peers are in memory, time is virtual. Whatever they do,
 * each request ends exactly once, what goes down is what came up, and nothing that broke ends cleanly.
 */
#include "proxy/exchange.h"

#include <event2/event.h>

#include "policy/http_date.h"
#include "policy/wheel.h"
#include "proxy/admit.h"
#include "proxy/ahead.h"
#include "proxy/batcher.h"
#include "proxy/guard.h"
#include "proxy/h1.h"
#include "proxy/log.h"
#include "proxy/mailbox.h"
#include "proxy/names.h"
#include "proxy/pool.h"
#include "proxy/service.h"
#include "proxy/settings.h"
#include "proxy/store.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "tests/unit/policy/config_fixture.h"
#include "tests/unit/policy/harness.h"

enum { SIZE = 64 * 1024, FIELDS = 64, CLIENTS = 4, UPSTREAMS = 8, TEXT = 8192 };
#define WALL 1700000000

static tick_t now;
static struct fixture fixture;
static struct service service;
static struct worker worker, *workers[1] = {&worker};
static struct wheel wheel;
static char down_head[SIZE], up_head[SIZE], lines[SIZE];
static struct field fields[FIELDS];

/* ---- the worker ---- */

void worker_read_now(struct worker *w)
{
    w->now = now;
}

void worker_read_end(struct worker *w)
{
    w->end = now;
}

int64_t worker_wall(struct worker *w)
{
    (void)w;
    return WALL + (now - 1000 * TICK_S) / TICK_S;
}

tick_t worker_wall_ns(struct worker *w)
{
    return worker_wall(w) * TICK_S;
}

struct slice worker_date(struct worker *w)
{
    http_date_write(w->date, worker_wall(w));
    return (struct slice){w->date, HTTP_DATE_LEN};
}

void worker_move_timer(struct worker *w, struct timer *timer, tick_t due)
{
    wheel_set(w->wheel, &timer->node, due);
}

void worker_cancel_timer(struct worker *w, struct timer *timer)
{
    wheel_cancel(w->wheel, &timer->node);
}

static void pass(tick_t t)
{
    tick_t end = now + t;
    do {
        struct wheel_timer *node;
        now = now + 10 * TICK_MS < end ? now + 10 * TICK_MS : end;
        worker.now = now;
        mailbox_drain(&worker.box);
        while ((node = wheel_expire(&wheel, now)))
            ((struct timer *)(void *)node)->fire((struct timer *)(void *)node);
        mailbox_drain(&worker.box);
    } while (now < end);
}

/* ---- the upstream: each call gets the next connection, or waits ---- */

struct answerer {
    struct upstream u; /* first */
    char head[TEXT], body[TEXT];
    bool ended, left, paused, half_closed;
};
static struct answerer upstreams[UPSTREAMS];
static int asked; /* connections given out */
static bool none_free, reused;
static struct pool_wait *waiting;

static struct answerer *up_of(struct upstream *u)
{
    return (struct answerer *)(void *)u;
}

static void append(char *to, const char *p, size_t n)
{
    size_t at = strlen(to);
    ck_assert_uint_lt(at + n, TEXT);
    if (n > 0)
        memcpy(to + at, p, n);
    to[at + n] = '\0';
}

static void up_request(struct upstream *u, const struct call *call)
{
    struct answerer *a = up_of(u);
    append(a->head, call->method.p, call->method.n);
    append(a->head, " ", 1);
    append(a->head, call->path.p, call->path.n);
    append(a->head, "\r\n", 2);
    for (int i = 0; i < call->run_count; i++)
        append(a->head, call->runs[i].p, call->runs[i].n);
    u->request_begun = true;
    u->bytes_out = 100;
}

static void up_body(struct upstream *u, struct slice data, void *owner, const struct out_owner_ops *ops)
{
    (void)owner;
    (void)ops;
    append(up_of(u)->body, data.p, data.n);
}

static void up_end(struct upstream *u, struct slice trailers)
{
    ck_assert(!up_of(u)->ended);
    append(up_of(u)->body, trailers.p, trailers.n);
    up_of(u)->ended = true;
}

static void up_flush(struct upstream *u)
{
    ck_assert(!up_of(u)->left);
}

static size_t up_backlog(const struct upstream *u)
{
    (void)u;
    return 0;
}

static void up_pause(struct upstream *u, bool paused)
{
    up_of(u)->paused = paused;
}

static void up_half_close(struct upstream *u)
{
    up_of(u)->half_closed = true;
}

static void up_leave(struct upstream *u, bool drain)
{
    (void)drain;
    ck_assert(!up_of(u)->left);
    up_of(u)->left = true;
    u->exchange = NULL;
}

static const struct upstream_ops up_ops = {up_request, up_body,  up_end,        up_flush,
                                           up_backlog, up_pause, up_half_close, up_leave};

static struct upstream *connect_it(struct exchange *x)
{
    struct answerer *a = &upstreams[asked++];
    ck_assert_int_le(asked, UPSTREAMS);
    a->u = (struct upstream){
        .ops = &up_ops, .worker = &worker, .exchange = x, .reused = reused, .pooled = reused};
    return &a->u;
}

struct upstream *pool_acquire(struct pool *pool, struct pool_wait *wait)
{
    (void)pool;
    if (!none_free)
        return connect_it(wait->exchange);
    wait->waiting = true;
    waiting = wait;
    return NULL;
}

void pool_cancel(struct pool *pool, struct pool_wait *wait)
{
    (void)pool;
    if (waiting == wait)
        waiting = NULL;
    wait->waiting = false;
}

struct pool_stats pool_stats(const struct pool *pool)
{
    (void)pool;
    return (struct pool_stats){0};
}

void pool_grant(struct worker *w)
{
    (void)w;
}

void upstream_dial_times(struct upstream *u, tick_t *tcp, tick_t *tls)
{
    (void)u;
    *tcp = *tls = 0;
}

/* The upstream says so much. */
static void head_comes(int i, const char *text)
{
    static struct field table[FIELDS];
    struct head head = {.fields = table, .field_max = FIELDS};
    struct h1_limits limits = {.max_head = SIZE, .max_target = 1024, .max_trailer = 1024};
    struct h1_scan scan = {0};
    size_t used;
    ck_assert_int_eq(h1_parse_response(&scan, &limits, METHOD_GET, text, strlen(text), &head, &used),
                     REASON_NONE);
    if (head.status == 101)
        ck_assert(exchange_upgraded(upstreams[i].u.exchange, &head));
    else if (head.status < 200)
        exchange_interim(upstreams[i].u.exchange, &head);
    else
        exchange_response(upstreams[i].u.exchange, &head);
}

static void body_comes(int i, const char *text)
{
    if (upstreams[i].u.exchange)
        exchange_response_data(upstreams[i].u.exchange, (struct slice){text, strlen(text)}, NULL, NULL);
    if (upstreams[i].u.exchange)
        exchange_response_flush(upstreams[i].u.exchange);
}

static void answer_ends(int i)
{
    struct exchange *x = upstreams[i].u.exchange;
    upstreams[i].u.exchange = NULL;
    exchange_response_end(x, (struct slice){NULL, 0});
}

static void answers(int i, const char *text, const char *body)
{
    head_comes(i, text);
    if (!upstreams[i].u.exchange)
        return; /* it tries again */
    body_comes(i, body);
    answer_ends(i);
}

static void breaks(int i, enum reason why)
{
    struct exchange *x = upstreams[i].u.exchange;
    struct upstream last = upstreams[i].u;
    upstreams[i].u.exchange = NULL;
    exchange_upstream_failed(x, why, &last);
}

/* ---- clients
 * --------------------------------------------------------------------------------------------------------------
 */

struct asker {
    struct downstream d; /* first */
    unsigned status, interims;
    enum body_kind framing;
    char head[TEXT], body[TEXT];
    bool ended, aborted, finished, whole, want, close, tunnel, half_closed;
    size_t backlog;
};
static struct asker clients[CLIENTS];

static struct asker *down_of(struct downstream *d)
{
    return (struct asker *)(void *)d;
}

static void down_interim(struct downstream *d, const struct reply *reply)
{
    ck_assert(!down_of(d)->status && reply->status < 200);
    down_of(d)->interims++;
}

static void down_reply(struct downstream *d, const struct reply *reply)
{
    struct asker *a = down_of(d);
    ck_assert(!a->status && !a->finished);
    a->status = reply->status;
    a->framing = reply->framing;
    a->close = reply->close;
    for (int i = 0; i < reply->run_count; i++)
        append(a->head, reply->runs[i].p, reply->runs[i].n);
}

static void down_body(struct downstream *d, struct slice data, void *owner, const struct out_owner_ops *ops)
{
    struct asker *a = down_of(d);
    (void)owner;
    (void)ops;
    ck_assert(a->status && !a->ended && !a->finished && !a->aborted);
    append(a->body, data.p, data.n);
}

static void down_file(struct downstream *d, int fd, off_t at, size_t n, void *owner,
                      const struct out_owner_ops *ops)
{
    (void)d;
    (void)fd;
    (void)at;
    (void)n;
    (void)owner;
    (void)ops;
    ck_abort_msg("no body here is large enough");
}

static void down_end(struct downstream *d, struct slice trailers)
{
    (void)trailers;
    ck_assert(!down_of(d)->ended && !down_of(d)->aborted);
    down_of(d)->ended = true;
}

static void down_flush(struct downstream *d)
{
    ck_assert(!down_of(d)->finished);
}

static void down_abort(struct downstream *d, enum reason why)
{
    (void)why;
    ck_assert(!down_of(d)->ended);
    down_of(d)->aborted = true;
}

static size_t down_backlog(const struct downstream *d)
{
    return ((const struct asker *)(const void *)d)->backlog;
}

static void down_want(struct downstream *d, bool wanted)
{
    down_of(d)->want = wanted;
}

static void down_tunnel(struct downstream *d, const struct reply *reply)
{
    ck_assert_int_eq(reply->status, 101);
    down_of(d)->status = 101;
    down_of(d)->tunnel = true;
}

static void down_half_close(struct downstream *d)
{
    down_of(d)->half_closed = true;
}

static void down_peer(const struct downstream *d, char *out, size_t size)
{
    snprintf(out, d ? size : 0, "unix");
}

static void down_finished(struct downstream *d, bool whole)
{
    ck_assert(!down_of(d)->finished);
    d->exchange = NULL;
    down_of(d)->finished = true;
    down_of(d)->whole = whole;
}

static const struct downstream_ops down_ops = {
    down_interim, down_reply, down_body,   down_file,       down_end,  down_flush,   down_abort,
    down_backlog, down_want,  down_tunnel, down_half_close, down_peer, down_finished};

/* A request without a body, or the head of one whose body follows. */
static struct asker *client_asks(int i, const char *text)
{
    struct asker *a = &clients[i];
    struct head head = {.fields = fields, .field_max = FIELDS};
    struct h1_limits limits = {.max_head = SIZE, .max_target = 1024, .max_trailer = 1024};
    struct h1_scan scan = {0};
    size_t used;
    memset(a, 0, sizeof(*a));
    a->d = (struct downstream){.ops = &down_ops, .worker = &worker, .minor = 1};
    a->want = true;
    ck_assert_int_eq(h1_parse_request(&scan, &limits, text, strlen(text), &head, &used), REASON_NONE);
    a->d.minor = head.minor;
    exchange_begin(&a->d, &head);
    if (a->d.exchange && head.body == BODY_NONE) {
        exchange_request_end(a->d.exchange, (struct slice){NULL, 0});
        exchange_request_flush(a->d.exchange);
    }
    return a;
}

static void client_sends(int i, const char *text, bool last)
{
    struct exchange *x = clients[i].d.exchange;
    exchange_request_data(x, (struct slice){text, strlen(text)}, NULL, NULL);
    if (last)
        exchange_request_end(x, (struct slice){NULL, 0});
    exchange_request_flush(x);
}

/* It is over, and this is what came of it; 0: the client was given nothing. */
static void got(int i, unsigned status, const char *body)
{
    struct asker *a = &clients[i];
    ck_assert(a->finished && a->whole && a->ended && !a->aborted);
    ck_assert_uint_eq(a->status, status);
    if (body)
        ck_assert_str_eq(a->body, body);
}

/* ---- the frame
 * ----------------------------------------------------------------------------------------------------------------
 */

#define GET(path)   "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(path)  "POST " path " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
#define OK          "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
#define CACHED      "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\n"
#define UNAVAILABLE "HTTP/1.1 503 x\r\nContent-Length: 2\r\n\r\n"

static struct publication *publication;

static void begin(const char *const *flags)
{
    char err[512] = "";
    int error;
    struct store_limits limits = {.max_entries = 100, .max_bytes = 1 << 20};
    now = 1000 * TICK_S;
    memset(upstreams, 0, sizeof(upstreams));
    asked = 0;
    none_free = reused = false;
    waiting = NULL;
    fixture_begin(&fixture);
    fixture_flag(&fixture, "upstream.url", "http://127.0.0.1:9");
    fixture_flag(&fixture, "retry.base_delay", "10ms");
    fixture_flag(&fixture, "retry.jitter", "none");
    fixture_flag(&fixture, "cache.enable_prefetching", "false");
    for (; flags && flags[0]; flags += 2)
        fixture_flag(&fixture, flags[0], flags[1]);
    fixture_good(&fixture);
    wheel_init(&wheel, now);
    service = (struct service){.instance = "0123456789abcdef", .workers = workers, .worker_count = 1};
    service.log = log_open(&(struct log_config){.file = "/dev/null", .level = LOG_ERROR}, &error);
    service.metrics = names_metrics_new(1);
    service.store = store_new(&limits, (struct hash_key){1, 2});
    service.guard = guard_new(fixture.cfg, now, 3);
    service.admit = admit_new(fixture.cfg, (struct hash_key){3, 4}, now, WALL * TICK_S);
    service.ahead = ahead_new(service.store, fixture.cfg, (struct hash_key){5, 6});
    service.batcher = batcher_new((struct hash_key){7, 8}, service.log);
    publication = publication_new(fixture.cfg, NULL, service.metrics, err, sizeof(err));
    ck_assert_msg(publication && service.store && service.guard && service.admit && service.ahead &&
                      service.batcher,
                  "%s", err);
    worker = (struct worker){.service = &service,
                             .wheel = &wheel,
                             .now = now,
                             .down_head = down_head,
                             .up_head = up_head,
                             .lines = lines,
                             .head_size = SIZE,
                             .fields = fields,
                             .field_max = FIELDS};
    worker.base = event_base_new();
    ck_assert(mailbox_init(&worker.box, worker.base, &worker));
    worker.metrics = metrics_block(service.metrics, 0);
    worker.log = worker_log_new(service.log, worker.metrics);
    worker.settings = settings_new(publication);
    rng_seed(&worker.rng, 9);
    gather_clear(&worker.down);
    gather_clear(&worker.up);
}

/* No exchange is left, and each request was counted once. */
static void end(unsigned requests)
{
    mailbox_drain(&worker.box);
    ck_assert_uint_eq(worker.exchanges, 0);
    ck_assert_uint_eq(metric_get(worker.metrics, METRIC_ACTIVE_REQUESTS), 0);
    ck_assert_uint_eq(metric_get(worker.metrics, METRIC_REQUESTS_DONE), requests);
    exchange_dispose_free(&worker);
    exchange_ahead_dispose(&worker);
    worker_log_free(worker.log);
    settings_unref(worker.settings);
    mailbox_dispose(&worker.box);
    event_base_free(worker.base);
    batcher_free(service.batcher);
    ahead_free(service.ahead);
    admit_free(service.admit);
    guard_free(service.guard);
    store_free(service.store);
    metrics_free(service.metrics);
    log_close(service.log);
    fixture_end(&fixture);
}

static const char *const plain[] = {"cache.enabled", "false", "retry.max_attempts", "1", NULL};
static const char *const retrying[] = {
    "cache.enabled", "false", "retry.max_attempts", "3", "retry.budget", "1", NULL};

START_TEST(there_and_back)
{
    begin(plain);
    client_asks(0, "GET /a?b HTTP/1.1\r\nHost: a\r\nX-Kept: 1\r\nConnection: x-hop\r\nX-Hop: 2\r\n\r\n");
    ck_assert_int_eq(strncmp(upstreams[0].head, "GET /a?b\r\n", 10), 0);
    ck_assert(strstr(upstreams[0].head, "X-Kept: 1\r\n") && !strstr(upstreams[0].head, "X-Hop"));
    ck_assert(strstr(upstreams[0].head, "Via: 1.1 promptops-sidecar (0123456789abcdef)\r\n") != NULL);
    ck_assert(strstr(upstreams[0].head, "X-Request-Id: ") && strstr(upstreams[0].head, "traceparent: 00-"));
    ck_assert(upstreams[0].ended);
    head_comes(0, "HTTP/1.1 103 E\r\n\r\n");
    head_comes(0, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX-A: b\r\nKeep-Alive: timeout=5\r\n\r\n");
    body_comes(0, "hello");
    ck_assert(clients[0].status == 200 &&
              !clients[0].finished); /* what has come is with the client already */
    ck_assert_str_eq(clients[0].body, "hello");
    body_comes(0, "world");
    answer_ends(0);
    got(0, 200, "helloworld");
    ck_assert(clients[0].interims == 1 && clients[0].framing == BODY_LENGTH);
    ck_assert(strstr(clients[0].head, "X-A: b\r\n") && !strstr(clients[0].head, "Keep-Alive"));
    end(1);
}
END_TEST

START_TEST(a_body_goes_up_as_it_comes)
{
    begin(plain);
    client_asks(0, POST("/p"));
    client_sends(0, "he", false);
    ck_assert_str_eq(upstreams[0].body, "he");
    ck_assert(!upstreams[0].ended);
    client_sends(0, "llo", true);
    ck_assert(upstreams[0].ended);
    answers(0, OK, "fine!");
    got(0, 200, "fine!");
    end(1);
}
END_TEST

START_TEST(a_body_waits_for_a_connection)
{
    begin(plain);
    none_free = true;
    client_asks(0, POST("/p"));
    client_sends(0, "hel", false);
    client_sends(0, "lo", true);
    struct pool_wait *w = waiting;
    ck_assert_ptr_nonnull(w);
    waiting = NULL;
    w->waiting = false;
    exchange_connected(w->exchange, connect_it(w->exchange));
    ck_assert_str_eq(upstreams[0].body, "hello");
    answers(0, OK, "fine!");
    got(0, 200, "fine!");
    end(1);
}
END_TEST

START_TEST(an_answer_that_breaks_off_never_ends_cleanly)
{
    static const struct {
        const char *head, *body;
    } rows[] = {{OK, "he"},
                {OK, ""},
                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "he"},
                {"HTTP/1.1 200 OK\r\n\r\n", "he"}};
    begin(retrying);
    client_asks(0, GET("/a"));
    head_comes(0, rows[_i].head);
    body_comes(0, rows[_i].body);
    breaks(0, REASON_RESET_IN_ANSWER);
    ck_assert(clients[0].aborted && clients[0].finished && !clients[0].whole && !clients[0].ended);
    ck_assert_int_eq(asked, 1); /* and is not tried again: the client has a part of it */
    end(1);
}
END_TEST

START_TEST(failures_before_an_answer)
{
    static const struct {
        const char *request;
        bool reused;
        enum reason why;
        int attempts;
        unsigned status;
    } rows[] = {
        {GET("/a"), false, REASON_RESET_BEFORE_ANSWER, 3, 502},
        {POST("/a"), false, REASON_RESET_BEFORE_ANSWER, 1, 502},
        {GET("/a"), false, REASON_BAD_STATUS_LINE, 1, 502},
        {GET("/a"), false, REASON_UNASKED_UPGRADE, 1, 502},
        {GET("/a"), false, REASON_TOO_MANY_INTERIM, 1, 502},
        {POST("/a"), true, REASON_RESET_BEFORE_ANSWER, 1, 502},
    };
    begin(retrying);
    reused = rows[_i].reused;
    client_asks(0, rows[_i].request);
    if (clients[0].d.exchange && rows[_i].request[0] == 'P')
        client_sends(0, "hello", true);
    for (int i = 0; i < rows[_i].attempts; i++) {
        ck_assert_int_eq(asked, i + 1);
        breaks(i, rows[_i].why);
        pass(TICK_S);
    }
    got(0, rows[_i].status, NULL);
    ck_assert_int_eq(asked, rows[_i].attempts);
    end(1);
}
END_TEST

START_TEST(a_dead_pooled_connection_costs_no_attempt)
{
    begin(plain); /* one attempt in all */
    reused = true;
    client_asks(0, GET("/a"));
    breaks(0, REASON_STALE_CONNECTION);
    pass(10 * TICK_MS);
    ck_assert_int_eq(asked, 2);
    reused = false;
    answers(1, OK, "fine!");
    got(0, 200, "fine!");
    end(1);
}
END_TEST

START_TEST(a_retry_sends_the_body_again)
{
    begin(retrying);
    client_asks(0, "PUT /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    client_sends(0, "hello", true);
    answers(0, UNAVAILABLE, "no");
    ck_assert(!clients[0].status); /* the client has seen nothing of it */
    pass(TICK_S);
    ck_assert_str_eq(upstreams[1].body, "hello");
    ck_assert(upstreams[1].ended && strstr(upstreams[1].head, "x-retry-count: 1\r\n") == NULL);
    answers(1, OK, "fine!");
    got(0, 200, "fine!");
    end(1);
}
END_TEST

START_TEST(the_last_failure_is_the_clients)
{
    begin(retrying);
    client_asks(0, GET("/a"));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(asked, i + 1);
        answers(i, UNAVAILABLE, "no");
        pass(TICK_S);
    }
    got(0, 503, "no");
    end(1);
}
END_TEST

START_TEST(each_clock_has_its_answer)
{
    begin(plain);
    client_asks(0, GET("/a"));
    pass(61 * TICK_S);
    got(0, 504, NULL);
    ck_assert(upstreams[0].left);

    none_free = true;
    client_asks(1, GET("/b"));
    pass(11 * TICK_S);
    got(1, 503, NULL);
    ck_assert_ptr_null(waiting);

    none_free = false;
    client_asks(2, GET("/c"));
    head_comes(1, OK);
    body_comes(1, "he");
    pass(301 * TICK_S);
    ck_assert(clients[2].aborted && clients[2].finished && !clients[2].whole);
    end(3);
}
END_TEST

START_TEST(what_is_refused_or_answered_here)
{
    static const struct {
        const char *request;
        unsigned status;
        bool close;
    } rows[] = {
        {"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, true},
        {"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 promptops-sidecar (0123456789abcdef)\r\n\r\n", 508, false},
        {"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 200, false},
        {"GET /x HTTP/1.1\r\nHost: a\r\nCache-Control: only-if-cached\r\n\r\n", 504, false},
    };
    begin(NULL);
    client_asks(0, rows[_i].request);
    ck_assert(clients[0].finished);
    ck_assert_uint_eq(clients[0].status, rows[_i].status);
    ck_assert_int_eq(clients[0].close, rows[_i].close);
    ck_assert_int_eq(asked, 0);
    end(1);
}
END_TEST

START_TEST(a_head_that_could_not_be_read)
{
    begin(plain);
    clients[0] = (struct asker){.d = {.ops = &down_ops, .worker = &worker, .minor = 1}};
    exchange_refuse(&clients[0].d, REASON_BAD_HOST);
    ck_assert(clients[0].finished && clients[0].status == 400 && clients[0].close);
    ck_assert_ptr_nonnull(strstr(clients[0].body, "BAD_HOST"));
    end(1);
}
END_TEST

START_TEST(a_client_that_leaves_takes_its_request_along)
{
    begin(plain);
    client_asks(0, GET("/a"));
    exchange_request_failed(clients[0].d.exchange, REASON_CLIENT_GONE);
    ck_assert(upstreams[0].left && clients[0].finished && !clients[0].status);

    client_asks(1, POST("/b"));
    client_sends(1, "he", false);
    exchange_request_failed(clients[1].d.exchange, REASON_BAD_CHUNK);
    got(1, 400, NULL);
    ck_assert(upstreams[1].left && !upstreams[1].ended); /* cut, not ended */

    client_asks(2, GET("/c"));
    clients[2].d.half_closed = true;
    exchange_client_half_closed(clients[2].d.exchange);
    answers(2, OK, "fine!");
    got(2, 200, "fine!"); /* it still reads */
    end(3);
}
END_TEST

START_TEST(a_slow_reader_stops_its_upstream)
{
    begin(plain);
    client_asks(0, GET("/a"));
    head_comes(0, "HTTP/1.1 200 OK\r\n\r\n");
    clients[0].backlog = 1 << 20;
    body_comes(0, "much");
    ck_assert(upstreams[0].paused);
    clients[0].backlog = 0;
    exchange_client_drained(clients[0].d.exchange);
    ck_assert(!upstreams[0].paused);
    answer_ends(0);
    got(0, 200, "much");
    end(1);
}
END_TEST

START_TEST(a_tunnel)
{
    begin(plain);
    client_asks(0, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    ck_assert_ptr_nonnull(strstr(upstreams[0].head, "Upgrade: websocket\r\n"));
    head_comes(0, "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    ck_assert(clients[0].tunnel);
    exchange_request_data(clients[0].d.exchange, (struct slice){"up", 2}, NULL, NULL);
    body_comes(0, "down");
    ck_assert_str_eq(upstreams[0].body, "up");
    ck_assert_str_eq(clients[0].body, "down");
    exchange_client_half_closed(clients[0].d.exchange);
    ck_assert(upstreams[0].half_closed);
    breaks(0, REASON_NONE);
    ck_assert(clients[0].finished && clients[0].whole);
    end(1);
}
END_TEST

START_TEST(the_cache_answers_the_second)
{
    begin(NULL);
    client_asks(0, GET("/a"));
    answers(0, CACHED, "hello");
    got(0, 200, "hello");
    client_asks(1, GET("/a"));
    got(1, 200, "hello");
    ck_assert(asked == 1 && strstr(clients[1].head, "Cache-Status: promptops-sidecar; hit") &&
              strstr(clients[1].head, "Age: 0\r\n"));
    pass(61 * TICK_S);
    client_asks(2, GET("/a")); /* stale: it is fetched anew, this time with a window */
    ck_assert_int_eq(asked, 2);
    answers(1,
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60, stale-while-revalidate=60\r\nETag: "
            "\"x\"\r\nContent-Length: 5\r\n\r\n",
            "world");
    got(2, 200, "world");
    pass(61 * TICK_S);
    client_asks(3, GET("/a")); /* answered stale, and validated behind */
    got(3, 200, "world");
    ck_assert(asked == 3 && strstr(upstreams[2].head, "If-None-Match: \"x\"\r\n"));
    head_comes(2, "HTTP/1.1 304 x\r\nCache-Control: max-age=60\r\n\r\n");
    client_asks(0, GET("/a"));
    got(0, 200, "world");
    ck_assert_int_eq(asked, 3);
    end(5);
}
END_TEST

START_TEST(one_fetch_for_all_who_wait)
{
    begin(NULL);
    for (int i = 0; i < 4; i++)
        client_asks(i, GET("/a"));
    ck_assert_int_eq(asked, 1);
    head_comes(0, CACHED);
    body_comes(0, "hel");
    mailbox_drain(&worker.box);
    ck_assert_str_eq(clients[3].body, "hel"); /* they read along */
    exchange_request_failed(clients[0].d.exchange, REASON_CLIENT_GONE);
    ck_assert(!upstreams[0].left); /* the others still want it */
    body_comes(0, "lo");
    answer_ends(0);
    pass(10 * TICK_MS);
    for (int i = 1; i < 4; i++)
        got(i, 200, "hello");
    end(4);
}
END_TEST

START_TEST(a_fetch_that_breaks_breaks_for_all)
{
    begin(NULL);
    for (int i = 0; i < 3; i++)
        client_asks(i, GET("/a"));
    head_comes(0, CACHED);
    body_comes(0, "hel");
    mailbox_drain(&worker.box);
    breaks(0, REASON_RESET_IN_ANSWER);
    pass(10 * TICK_MS);
    for (int i = 0; i < 3; i++)
        ck_assert(clients[i].finished && clients[i].aborted && !clients[i].ended);
    client_asks(3, GET("/a")); /* and is not kept */
    ck_assert_int_eq(asked, 2);
    answers(1, CACHED, "hello");
    got(3, 200, "hello");
    end(4);
}
END_TEST

START_TEST(a_breaker_that_is_open_asks_nobody)
{
    static const char *const flags[] = {"cache.enabled",
                                        "false",
                                        "retry.max_attempts",
                                        "1",
                                        "circuit_breaker.circuit_breaker_threshold",
                                        "2",
                                        NULL};
    begin(flags);
    for (int i = 0; i < 2; i++) {
        client_asks(0, GET("/a"));
        breaks(i, REASON_RESET_BEFORE_ANSWER);
        got(0, 502, NULL);
    }
    client_asks(0, GET("/a"));
    got(0, 503, NULL);
    ck_assert(asked == 2 && strstr(clients[0].head, "Retry-After: "));
    end(3);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, there_and_back);
    tcase_add_test(tc, a_body_goes_up_as_it_comes);
    tcase_add_test(tc, a_body_waits_for_a_connection);
    tcase_add_loop_test(tc, an_answer_that_breaks_off_never_ends_cleanly, 0, 4);
    tcase_add_loop_test(tc, failures_before_an_answer, 0, 6);
    tcase_add_test(tc, a_dead_pooled_connection_costs_no_attempt);
    tcase_add_test(tc, a_retry_sends_the_body_again);
    tcase_add_test(tc, the_last_failure_is_the_clients);
    tcase_add_test(tc, each_clock_has_its_answer);
    tcase_add_loop_test(tc, what_is_refused_or_answered_here, 0, 4);
    tcase_add_test(tc, a_head_that_could_not_be_read);
    tcase_add_test(tc, a_client_that_leaves_takes_its_request_along);
    tcase_add_test(tc, a_slow_reader_stops_its_upstream);
    tcase_add_test(tc, a_tunnel);
    tcase_add_test(tc, the_cache_answers_the_second);
    tcase_add_test(tc, one_fetch_for_all_who_wait);
    tcase_add_test(tc, a_fetch_that_breaks_breaks_for_all);
    tcase_add_test(tc, a_breaker_that_is_open_asks_nobody);
    return run_case("exchange", tc);
}
