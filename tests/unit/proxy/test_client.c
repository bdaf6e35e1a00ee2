/*
 * Tests of proxy/client.c and client_codec.c over a socket pair, in virtual time; the exchange is a script
 * here. Whatever comes, how ever it is cut, the exchange hears of one request at a time, in order, and the
 * client is freed exactly once.
 */
#include "proxy/client.h"

#include <event2/event.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "metrics/counters.h"
#include "policy/wheel.h"
#include "proxy/client_internal.h"
#include "proxy/exchange.h"
#include "proxy/service.h"
#include "proxy/settings.h"
#include "tests/unit/policy/config_fixture.h"
#include "tests/unit/policy/harness.h"
#include "tests/unit/proxy/scratch.h"

enum { HEAD_SIZE = 64 * 1024, FIELDS = 64, STORY = 512 * 1024, ANSWERS = 256 * 1024 };

static tick_t now;
static struct fixture fixture;
static struct publication publication;
static struct settings settings = {.p = &publication, .refs = 1};
static struct metrics_block block;
static struct wheel wheel;
static struct service service;
static struct worker worker;
static char down_head[HEAD_SIZE];
static struct field fields[FIELDS];
static int peer, fds_before;

/* ---- the worker
 * ------------------------------------------------------------------------------------------------ */

void worker_read_now(struct worker *w)
{
    w->now = now;
}

void worker_move_timer(struct worker *w, struct timer *timer, tick_t due)
{
    wheel_set(w->wheel, &timer->node, due);
}

void worker_cancel_timer(struct worker *w, struct timer *timer)
{
    wheel_cancel(w->wheel, &timer->node);
}

struct block *worker_scratch(struct worker *w)
{
    if (w->scratch && w->scratch->refs > 1) {
        block_unref(w->scratch);
        w->scratch = NULL;
    }
    if (!w->scratch)
        w->scratch = block_get(&w->blocks);
    return w->scratch;
}

void settings_unref(struct settings *s)
{
    ck_assert_uint_gt(s->refs--, 1);
}

/* ---- the exchange: what it hears is written down
 * ------------------------------------------------------------------ */

struct exchange {
    struct downstream *d;
    bool whole;
};
static struct exchange present;
static char story[STORY];
static size_t story_len;
static bool at_once, ends_now; /* answer in begin(); / when the request is whole */

static void tell(const char *format, const char *p, size_t n)
{
    story_len += (size_t)snprintf(story + story_len, sizeof(story) - story_len, format, (int)n, p);
    ck_assert_uint_lt(story_len, sizeof(story));
}

static void over(bool whole)
{
    struct downstream *d = present.d;
    present.d = NULL;
    d->ops->finished(d, whole);
}

static void reply(unsigned status, enum body_kind framing, uint64_t length)
{
    struct reply r = {.status = (uint16_t)status, .framing = framing, .length = length};
    present.d->ops->reply(present.d, &r);
}

static void body(const char *p, size_t n)
{
    present.d->ops->body(present.d, (struct slice){p, n}, NULL, NULL);
}

static void answer_ok(void)
{
    struct downstream *d = present.d;
    reply(200, BODY_LENGTH, 2);
    body("ok", 2);
    d->ops->end(d, (struct slice){NULL, 0});
    d->ops->flush(d);
    over(true);
}

void exchange_begin(struct downstream *d, const struct head *request)
{
    ck_assert_ptr_null(present.d);
    struct slice path = head_path(request);
    present = (struct exchange){.d = d};
    d->exchange = &present;
    tell("[%.*s", path.p, path.n);
    if (at_once)
        answer_ok();
}

void exchange_request_data(struct exchange *x, struct slice data, void *owner,
                           const struct out_owner_ops *ops)
{
    ck_assert(x == &present && x->d && (!x->whole || worker.client_count[CLIENT_TUNNEL] > 0));
    (void)owner;
    (void)ops;
    tell("%.*s", data.p, data.n);
}

void exchange_request_end(struct exchange *x, struct slice trailers)
{
    ck_assert(x == &present && x->d);
    if (!x->whole)
        tell("%.*s]", trailers.p, trailers.n);
    x->whole = true;
}

void exchange_request_flush(struct exchange *x)
{
    ck_assert(x == &present && x->d);
    if (ends_now && x->whole)
        answer_ok();
}

void exchange_request_failed(struct exchange *x, enum reason why)
{
    const struct reason_row *row = reason_row(why);
    ck_assert(x == &present && x->d);
    tell("!%.*s", row->name, strlen(row->name));
    if (row->status) {
        struct downstream *d = x->d;
        reply(row->status, BODY_LENGTH, 0);
        d->ops->end(d, (struct slice){NULL, 0});
        d->ops->flush(d);
    }
    over(row->status != 0);
}

void exchange_refuse(struct downstream *d, enum reason why)
{
    present = (struct exchange){.d = d};
    d->exchange = &present;
    exchange_request_failed(&present, why);
}

void exchange_client_half_closed(struct exchange *x)
{
    ck_assert(x == &present && x->d);
    tell("%.*s", "<half>", 6);
}

void exchange_client_drained(struct exchange *x)
{
    ck_assert(x == &present && x->d);
    tell("%.*s", "<drained>", 9);
}

/* ---- the frame
 * ------------------------------------------------------------------------------------------------------ */

static void turns(int n)
{
    while (n-- > 0) {
        struct wheel_timer *node;
        event_base_loop(worker.base, EVLOOP_NONBLOCK);
        while ((node = wheel_expire(&wheel, now)))
            ((struct timer *)(void *)node)->fire((struct timer *)(void *)node);
        clients_resume(&worker);
    }
}

static void pass(tick_t t)
{
    now += t;
    worker.now = now;
    turns(2);
}

static void setup(void)
{
    static const char *const flags[] = {"listen.header_timeout", "10s", "listen.idle_timeout", "75s", NULL};
    fds_before = open_fds();
    now = 1000 * TICK_S;
    fixture_begin(&fixture);
    for (const char *const *f = flags; *f; f += 2)
        fixture_flag(&fixture, f[0], f[1]);
    publication.cfg = fixture_good(&fixture);
    publication.client_limits = (struct h1_limits){.max_head = 4096, .max_target = 512, .max_trailer = 1024};
    wheel_init(&wheel, now);
    worker = (struct worker){.service = &service,
                             .wheel = &wheel,
                             .metrics = &block,
                             .settings = &settings,
                             .now = now,
                             .down_head = down_head,
                             .head_size = sizeof(down_head),
                             .fields = fields,
                             .field_max = FIELDS};
    worker.base = event_base_new();
    gather_clear(&worker.down);
    worker.down.scratch = down_head;
    present.d = NULL;
    story_len = 0;
    story[0] = '\0';
    at_once = ends_now = false;
}

static unsigned clients(void)
{
    unsigned n = 0;
    for (int i = 0; i < CLIENT_STATES; i++)
        n += worker.client_count[i];
    return n;
}

static void teardown(void)
{
    clients_close_idle(&worker, true);
    ck_assert_uint_eq(clients(), 0);
    ck_assert_uint_eq(atomic_load(&service.clients), 0);
    ck_assert_uint_eq(settings.refs, 1);
    ck_assert_uint_eq(metric_get(&block, METRIC_CLIENT_CONNECTIONS), 0);
    if (peer >= 0)
        close(peer);
    event_base_free(worker.base);
    if (worker.scratch)
        block_unref(worker.scratch);
    block_pool_dispose(&worker.blocks);
    fixture_end(&fixture);
    ck_assert_int_eq(open_fds(), fds_before);
}

static void begin_as(bool misdirected)
{
    int pair[2];
    setup();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    peer = pair[0];
    ck_assert(client_open(&worker, pair[1], NULL, NULL, misdirected));
}

static void begin(void)
{
    begin_as(false);
}

static void sends(const char *p, size_t n)
{
    ck_assert_int_eq(send(peer, p, n, MSG_NOSIGNAL), (ssize_t)n);
    turns(2);
}

#define SENDS(text) sends(text, sizeof(text) - 1)

static char got[ANSWERS + 1];
static size_t got_len;

/* What lies there now. False at the end of the connection. */
static bool reads(void)
{
    bool open = true;
    got_len = 0;
    for (;;) {
        ssize_t n = recv(peer, got + got_len, ANSWERS - got_len, MSG_DONTWAIT);
        if (n <= 0) {
            open = n < 0 && errno == EAGAIN;
            break;
        }
        got_len += (size_t)n;
        turns(2);
    }
    got[got_len] = '\0';
    return open;
}

static void told(const char *what)
{
    ck_assert_str_eq(story, what);
    story_len = 0;
    story[0] = '\0';
}

static int times(const char *what)
{
    int n = 0;
    for (const char *p = got; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

START_TEST(a_request_and_its_answer)
{
    begin();
    ck_assert_uint_eq(worker.client_count[CLIENT_IDLE], 1);
    SENDS(GET("/a"));
    told("[/a]");
    ck_assert_uint_eq(worker.client_count[CLIENT_BUSY], 1);
    answer_ok();
    turns(2);
    ck_assert(reads());
    ck_assert_str_eq(got, OK_ANSWER);
    ck_assert_uint_eq(worker.client_count[CLIENT_IDLE], 1);
    teardown();
}
END_TEST

START_TEST(one_at_a_time_and_in_order)
{
    begin();
    SENDS(GET("/a") GET("/b") "POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz" GET("/d"));
    told("[/a]");
    for (const char *const *next = (const char *const[]){"[/b]", "[/cxyz]", "[/d]", "", NULL}; *next;
         next++) {
        answer_ok();
        turns(2);
        told(*next);
    }
    reads();
    ck_assert_int_eq(times(OK_ANSWER), 4);
    teardown();
}
END_TEST

START_TEST(many_that_are_answered_on_the_spot_take_turns)
{
    static char many[200 * 40];
    size_t n = 0;
    begin();
    at_once = true;
    for (int i = 0; i < 200; i++)
        n += (size_t)sprintf(many + n, GET("/%03d"), i);
    ck_assert_int_eq(send(peer, many, n, 0), (ssize_t)n);
    turns(1);
    size_t first = story_len;
    ck_assert_uint_gt(first, 0);
    ck_assert_uint_lt(first, 200 * 5); /* others have their turn */
    turns(10);
    ck_assert_uint_eq(story_len, 200 * 5);
    reads();
    ck_assert_int_eq(times(OK_ANSWER), 200);
    teardown();
}
END_TEST

static const char mixed[] = GET("/a") "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
                                      "\r\nPUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                                      "3;x\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n" GET("/d");

START_TEST(however_it_is_cut)
{
    for (size_t cut = 1; cut < sizeof(mixed) - 1; cut++) {
        begin();
        ends_now = true;
        sends(mixed, cut);
        sends(mixed + cut, sizeof(mixed) - 1 - cut);
        turns(8);
        told("[/a][/bhello][/cabcdeT: u\r\n][/d]");
        reads();
        ck_assert_int_eq(times(OK_ANSWER), 4);
        teardown();
    }
    begin();
    ends_now = true;
    for (size_t i = 0; i < sizeof(mixed) - 1; i++)
        sends(mixed + i, 1);
    told("[/a][/bhello][/cabcdeT: u\r\n][/d]");
    teardown();
}
END_TEST

START_TEST(what_is_refused_ends_the_connection)
{
    static const struct {
        const char *text, *story;
    } rows[] = {
        {"GET  /\r\n\r\n", "!BAD_REQUEST_LINE"},
        {"GET / HTTP/1.1\r\n\r\n", "!BAD_HOST"},
        {"GET / HTTP/3.0\r\n\r\n", "!BAD_VERSION"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello", "[/!BAD_CHUNK"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n x\r\n", "[/!BAD_TRAILER"}};
    begin();
    SENDS(GET("/a"));
    answer_ok();
    turns(1);
    told("[/a]");
    sends(rows[_i].text, strlen(rows[_i].text));
    SENDS(GET("/smuggled"));
    told(rows[_i].story);
    ck_assert(!reads()); /* the answer, then the end */
    ck_assert(strstr(got, "\r\nConnection: close\r\n") != NULL);
    ck_assert_uint_eq(worker.client_count[CLIENT_LINGER], 1);
    SENDS(GET("/more")); /* which is dropped, so that no reset destroys the answer */
    told("");
    close(peer);
    peer = -1;
    turns(2);
    ck_assert_uint_eq(clients(), 0);
    teardown();
}
END_TEST

START_TEST(a_client_that_lingers_for_ever_does_not)
{
    begin();
    SENDS("nonsense\r\n\r\n");
    ck_assert_uint_eq(worker.client_count[CLIENT_LINGER], 1);
    pass(3 * TICK_S);
    ck_assert_uint_eq(clients(), 0);
    teardown();
}
END_TEST

START_TEST(a_misdirected_connection)
{
    begin_as(true);
    SENDS(GET("/a"));
    told("!MISDIRECTED");
    teardown();
}
END_TEST

START_TEST(each_timer)
{
    begin(); /* between requests */
    pass(74 * TICK_S);
    ck_assert_uint_eq(clients(), 1);
    pass(2 * TICK_S);
    ck_assert_uint_eq(clients(), 0);
    ck_assert(!reads() && got_len == 0);
    teardown();

    begin(); /* inside a head, however it drips */
    for (int i = 0; i < 9; i++) {
        SENDS("G");
        pass(TICK_S);
    }
    told("");
    pass(2 * TICK_S);
    told("!HEAD_TIMEOUT");
    teardown();

    begin(); /* inside a body, as long as it stands still */
    SENDS("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    for (int i = 0; i < 5; i++) {
        pass(70 * TICK_S);
        SENDS("x");
    }
    told("[/pxxxxx");
    pass(76 * TICK_S);
    told("!BODY_TIMEOUT");
    teardown();

    begin(); /* while the exchange works, only that has a clock */
    SENDS(GET("/slow"));
    for (int i = 0; i < 5; i++)
        pass(76 * TICK_S);
    told("[/slow]");
    answer_ok();
    turns(2);
    ck_assert(reads());
    teardown();
}
END_TEST

START_TEST(clients_that_leave)
{
    begin(); /* without a word */
    close(peer);
    peer = -1;
    turns(2);
    ck_assert_uint_eq(clients(), 0);
    told("");
    teardown();

    begin(); /* inside a body */
    SENDS("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    shutdown(peer, SHUT_WR);
    turns(2);
    told("[/phalf!CLIENT_GONE");
    ck_assert_uint_eq(clients(), 0);
    teardown();

    begin(); /* inside a head */
    SENDS("GET / HT");
    shutdown(peer, SHUT_WR);
    turns(2);
    told("");
    ck_assert_uint_eq(clients(), 0);
    teardown();

    begin(); /* its side alone, behind a whole request: it is answered */
    SENDS(GET("/a") GET("/b"));
    shutdown(peer, SHUT_WR);
    turns(2);
    told("[/a]<half>");
    answer_ok();
    turns(2);
    told("[/b]");
    answer_ok();
    turns(2);
    ck_assert(!reads());
    ck_assert_int_eq(times("200 OK"), 2);
    ck_assert_uint_eq(clients(), 0);
    teardown();
}
END_TEST

START_TEST(a_body_is_held_back_when_it_is_not_wanted)
{
    static char much[300000];
    memset(much, 'x', sizeof(much));
    begin();
    SENDS("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
    present.d->ops->want_body(present.d, false);
    size_t sent = 0;
    for (int i = 0; i < 100; i++) {
        ssize_t n = send(peer, much + sent, sizeof(much) - sent, MSG_DONTWAIT);
        if (n > 0)
            sent += (size_t)n;
        turns(2);
    }
    told("[/p");
    struct client *c = worker.clients[CLIENT_BUSY];
    ck_assert_uint_le(c->in.len, 128 * 1024); /* what is read ahead is bounded */
    present.d->ops->want_body(present.d, true);
    turns(4);
    ck_assert_uint_gt(story_len, 1000);
    over(false);
    turns(2);
    teardown();
}
END_TEST

START_TEST(answers_are_framed_for_who_reads_them)
{
    struct reply hints = {.status = 103};
    begin();
    SENDS(GET("/a"));
    present.d->ops->interim(present.d, &hints);
    reply(200, BODY_CHUNKED, 0);
    body("hello", 5);
    body("", 0);
    body("x", 1);
    present.d->ops->end(present.d, (struct slice){"T: u\r\n", 6});
    present.d->ops->flush(present.d);
    over(true);
    turns(2);
    ck_assert(reads());
    ck_assert_str_eq(got,
                     "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "5\r\nhello\r\n1\r\nx\r\n0\r\nT: u\r\n\r\n");
    teardown();

    begin();
    SENDS("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    present.d->ops->interim(present.d, &hints); /* HTTP/1.0 knows none */
    reply(200, BODY_CHUNKED, 0);                /* nor chunks: the end of the connection is the end */
    body("hello", 5);
    present.d->ops->end(present.d, (struct slice){"T: u\r\n", 6});
    present.d->ops->flush(present.d);
    over(true);
    turns(2);
    ck_assert(!reads());
    ck_assert_str_eq(got, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
    teardown();
}
END_TEST

START_TEST(an_answer_that_breaks_off_is_seen_to)
{
    begin();
    SENDS(GET("/a") GET("/never"));
    reply(200, BODY_LENGTH, 10);
    body("hello", 5);
    present.d->ops->abort(present.d, REASON_RESET_IN_ANSWER);
    over(false);
    turns(2);
    ck_assert(!reads());
    ck_assert_str_eq(got, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    told("[/a]");
    teardown();
}
END_TEST

START_TEST(a_slow_reader_holds_its_answer_back)
{
    static char much[ANSWERS];
    memset(much, 'y', sizeof(much));
    begin();
    int small = 4096;
    setsockopt(worker.clients[CLIENT_IDLE]->stream.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    SENDS(GET("/a"));
    reply(200, BODY_LENGTH, 200000);
    body(much, 200000);
    present.d->ops->flush(present.d);
    ck_assert_uint_gt(present.d->ops->backlog(present.d), 100000);
    told("[/a]");
    for (int i = 0; i < 20 && present.d->ops->backlog(present.d) > 0; i++) {
        pass(TICK_S);
        ck_assert(reads());
    }
    told("<drained>");
    present.d->ops->end(present.d, (struct slice){NULL, 0});
    over(true);
    turns(2);
    ck_assert_uint_eq(worker.client_count[CLIENT_IDLE], 1);

    SENDS(GET("/b"));
    reply(200, BODY_LENGTH, 200000);
    body(much, 200000);
    present.d->ops->flush(present.d);
    pass(76 * TICK_S); /* and reads nothing at all */
    told("[/b]!CLIENT_STALLED");
    ck_assert_uint_eq(clients(), 0);
    teardown();
}
END_TEST

START_TEST(a_tunnel)
{
    struct reply switched = {.status = 101};
    begin();
    SENDS(GET("/ws") "early");
    present.d->ops->tunnel(present.d, &switched);
    told("[/ws]early");
    SENDS("GET / HTTP/1.1\r\n\r\n\r\n");
    told("GET / HTTP/1.1\r\n\r\n\r\n");
    body("\r\nraw", 5);
    present.d->ops->flush(present.d);
    ck_assert(reads());
    ck_assert_str_eq(got, "HTTP/1.1 101 Switching Protocols\r\n\r\n\r\nraw");
    pass(1000 * TICK_S); /* the exchange has the clock */
    ck_assert_uint_eq(worker.client_count[CLIENT_TUNNEL], 1);
    present.d->ops->half_close(present.d);
    ck_assert(!reads());
    SENDS("still");
    told("still");
    shutdown(peer, SHUT_WR);
    turns(2);
    told("<half>");
    over(true);
    turns(2);
    ck_assert_uint_eq(clients(), 0);
    teardown();
}
END_TEST

START_TEST(a_stop_closes_the_idle_and_spares_the_busy)
{
    begin();
    SENDS(GET("/a"));
    clients_close_idle(&worker, false);
    ck_assert_uint_eq(clients(), 1);
    worker.stopping = true;
    answer_ok();
    turns(2);
    reads();
    ck_assert(strstr(got, "Connection: close") != NULL);
    teardown();

    begin();
    SENDS(GET("/a"));
    clients_close_idle(&worker, true);
    told("[/a]!SHUTTING_DOWN");
    ck_assert_uint_eq(clients(), 0);
    teardown();
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_request_and_its_answer);
    tcase_add_test(tc, one_at_a_time_and_in_order);
    tcase_add_test(tc, many_that_are_answered_on_the_spot_take_turns);
    tcase_add_test(tc, however_it_is_cut);
    tcase_add_loop_test(tc, what_is_refused_ends_the_connection, 0, 5);
    tcase_add_test(tc, a_client_that_lingers_for_ever_does_not);
    tcase_add_test(tc, a_misdirected_connection);
    tcase_add_test(tc, each_timer);
    tcase_add_test(tc, clients_that_leave);
    tcase_add_test(tc, a_body_is_held_back_when_it_is_not_wanted);
    tcase_add_test(tc, answers_are_framed_for_who_reads_them);
    tcase_add_test(tc, an_answer_that_breaks_off_is_seen_to);
    tcase_add_test(tc, a_slow_reader_holds_its_answer_back);
    tcase_add_test(tc, a_tunnel);
    tcase_add_test(tc, a_stop_closes_the_idle_and_spares_the_busy);
    return run_case("client", tc);
}
