/*
 * A Redis connection. Invariants:
 * - answers come in the order of the commands: `first` is the command whose answer is read next. A command
 *   whose time is over is told so at once and stays in the queue without a caller until its answer comes;
 * when that takes GHOST longer, the connection is given up;
 * - a caller is told exactly once; while callers are told, `busy` holds back whatever would end the
 * connection;
 * - what the server sends is bounded before it is believed: bytes of a reply, items of a list, nesting
 *   (hiredis: 7). Anything that is no answer to a command ends the connection;
 * - after AUTH and SELECT were answered well the connection is up, not before;
 * - with Sentinels each connection begins by asking one where the master is (`asking`), and the server that
 * it names must say itself that it is one: after a failover the next connection finds the new one.
 */
#include "proxy/redis.h"

#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "policy/rng.h"
#include "proxy/dial.h"
#include "proxy/redis_reply.h"
#include "proxy/redis_url.h"
#include "proxy/resolve.h"

enum { READ_SIZE = 16 * 1024, READS_A_TURN = 16, WORDS_MAX = 64, TROUBLE_MAX = 160 };

static const tick_t CONNECT_TIMEOUT = 500 * TICK_MS, GREETING_TIMEOUT = 500 * TICK_MS, GHOST = TICK_S,
                    PAUSE_FIRST = 50 * TICK_MS, PAUSE_MOST = 5 * TICK_S;

struct command {
    redis_answered *done; /* NULL: nobody waits (any more) */
    void *arg;
    tick_t until; /* when its caller is told; once told: when the connection is given up */
    bool told;
};

struct redis {
    struct redis_options o;
    struct rng rng;
    struct dial *dial;
    struct stream stream;
    struct event *readable, *writable, *timer;
    struct redis_parser *parser;
    struct command *queue; /* a ring of REDIS_QUEUE_MAX */
    unsigned first, count;
    char *out; /* bytes to send: out[sent .. filled) */
    size_t sent, filled, room;
    tick_t armed; /* for this time; TICK_NEVER: not */
    tick_t retry_at, pause;
    unsigned greeting;            /* answers still missing before it is up */
    bool up, busy, broken, fresh; /* fresh: nothing was answered on this connection yet */
    bool asking;                  /* the connection is one to a Sentinel */
    struct address_list *master;  /* what it said: one address; NULL: it did not yet */
    uint32_t sentinel;            /* of the addresses of the Sentinels, the one to begin with */
    uint64_t connects;
    char trouble[TROUBLE_MAX];
};

static tick_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (tick_t)t.tv_sec * TICK_S + t.tv_nsec;
}

static void arm(struct redis *r, tick_t when)
{
    if (when >= r->armed)
        return;
    tick_t wait = when - clock_now();
    if (wait < 0)
        wait = 0;
    wait += TICK_MS / 2; /* libevent counts in coarse time: rather late than twice */
    struct timeval tv = {.tv_sec = wait / TICK_S, .tv_usec = wait % TICK_S / TICK_US};
    r->armed = when;
    evtimer_add(r->timer, &tv);
}

static void set_trouble(struct redis *r, const char *what, struct slice more)
{
    int n = more.n < TROUBLE_MAX ? (int)more.n : TROUBLE_MAX;
    snprintf(r->trouble, sizeof(r->trouble), "%s%.*s", what, n, more.n ? more.p : "");
    for (char *c = r->trouble; *c; c++) /* the server's words go into logs and views */
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
}

/* ---- the end of a connection --------------------------------------------------------------------------- */

static struct command *command_at(struct redis *r, unsigned i)
{
    return &r->queue[(r->first + i) % REDIS_QUEUE_MAX];
}

static void tell(struct command *c, const struct redis_reply *reply)
{
    redis_answered *done = c->done;
    c->done = NULL;
    c->told = true;
    if (done)
        done(c->arg, reply);
}

static void close_stream(struct redis *r)
{
    if (r->readable)
        event_free(r->readable);
    if (r->writable)
        event_free(r->writable);
    r->readable = r->writable = NULL;
    stream_close(&r->stream);
    redis_parser_free(r->parser);
    r->parser = NULL;
    r->sent = r->filled = 0;
    explicit_bzero(r->out, r->room); /* AUTH went through it */
}

static void fail_all(struct redis *r)
{
    r->busy = true;
    while (r->count > 0) {
        struct command c = *command_at(r, 0);
        r->first = (r->first + 1) % REDIS_QUEUE_MAX;
        r->count--;
        tell(&c, NULL);
    }
    r->busy = false;
}

/* Gives the connection up and plans the next one. Not while callers are told. */
static void give_up(struct redis *r)
{
    bool was_up = r->up;
    r->up = false;
    r->broken = true; /* who is told now cannot send */
    close_stream(r);
    fail_all(r);
    r->broken = false;
    if (!r->fresh) /* it did work */
        r->pause = PAUSE_FIRST;
    r->retry_at = clock_now() + rng_range(&r->rng, r->pause / 2, r->pause);
    r->pause = r->pause * 2 < PAUSE_MOST ? r->pause * 2 : PAUSE_MOST;
    arm(r, r->retry_at);
    if (was_up)
        r->o.changed(r->o.arg, false);
}

static void breaks(struct redis *r, const char *what)
{
    if (r->broken)
        return;
    set_trouble(r, what, (struct slice){"", 0});
    r->broken = true;
}

static void breaks_because(struct redis *r, const char *what, struct slice more)
{
    if (r->broken)
        return;
    set_trouble(r, what, more);
    r->broken = true;
}

/* ---- sending ---------------------------------------------------------------------------------------------
 */

static void flush(struct redis *r)
{
    while (r->sent < r->filled) {
        struct iovec iov = {r->out + r->sent, r->filled - r->sent};
        ssize_t n = stream_writev(&r->stream, &iov, 1, false);
        if (n == STREAM_AGAIN || n == STREAM_WANT_WRITE) {
            event_add(r->writable, NULL);
            return;
        }
        if (n <= 0) {
            breaks(r, "the connection broke while sending");
            return;
        }
        r->sent += (size_t)n;
    }
    r->sent = r->filled = 0;
}

/* Room for n more bytes. The bytes under way stay in front: TLS wants them again as they were. */
static bool make_room(struct redis *r, size_t n)
{
    if (n > REDIS_OUT_MAX || r->filled - r->sent > REDIS_OUT_MAX - n)
        return false;
    if (r->filled + n <= r->room)
        return true;
    if (r->sent > 0 && r->filled - r->sent + n <= r->room) {
        memmove(r->out, r->out + r->sent, r->filled - r->sent);
    } else {
        size_t room = r->filled - r->sent + n;
        room = room < 4096 ? 4096 : room + room / 2;
        char *grown = malloc(room);
        if (!grown)
            return false;
        if (r->filled > r->sent)
            memcpy(grown, r->out + r->sent, r->filled - r->sent);
        explicit_bzero(r->out, r->room);
        free(r->out);
        r->out = grown;
        r->room = room;
    }
    r->filled -= r->sent;
    r->sent = 0;
    return true;
}

static bool put(struct redis *r, const struct slice *words, size_t count)
{
    const char *argv[WORDS_MAX];
    size_t lengths[WORDS_MAX], size = 64;
    char *text = NULL;
    for (size_t i = 0; i < count; i++) {
        argv[i] = words[i].n ? words[i].p : "";
        lengths[i] = words[i].n;
        size += words[i].n + 32;
    }
    if (!make_room(r, size))
        return false;
    long long n = redisFormatCommandArgv(&text, (int)count, argv, lengths);
    if (n <= 0 || (size_t)n > size) {
        free(text);
        return false;
    }
    memcpy(r->out + r->filled, text, (size_t)n);
    r->filled += (size_t)n;
    explicit_bzero(text, (size_t)n);
    free(text);
    return true;
}

static bool enqueue(struct redis *r, const struct slice *words, size_t count, tick_t timeout,
                    redis_answered *done, void *arg)
{
    if (r->broken || count == 0 || count > WORDS_MAX || r->count == REDIS_QUEUE_MAX || !put(r, words, count))
        return false;
    *command_at(r, r->count++) = (struct command){done, arg, clock_now() + timeout, false};
    arm(r, clock_now() + timeout);
    if (!event_pending(r->writable, EV_WRITE, NULL))
        event_add(r->writable, NULL); /* all of this turn in one write */
    return true;
}

bool redis_send(struct redis *r, const struct slice *words, size_t count, tick_t timeout,
                redis_answered *done, void *arg)
{
    return r && r->up && enqueue(r, words, count, timeout, done, arg);
}

/* ---- reading ---------------------------------------------------------------------------------------------
 */

static void answered(struct redis *r, const struct redis_reply *reply)
{
    if (r->count == 0) {
        breaks(r, "it answered what nobody asked");
        return;
    }
    struct command c = *command_at(r, 0);
    r->first = (r->first + 1) % REDIS_QUEUE_MAX;
    r->count--;
    tell(&c, reply);
    if (r->o.address->master[0] && reply->kind == REDIS_ERROR && redis_says(reply, "READONLY"))
        breaks(r, "the server is a master no longer");
}

static void read_some(struct redis *r)
{
    char buffer[READ_SIZE];
    for (int turn = 0; turn < READS_A_TURN && !r->broken; turn++) {
        ssize_t n = stream_read(&r->stream, buffer, sizeof(buffer));
        if (n == STREAM_AGAIN || n == STREAM_WANT_WRITE)
            return;
        if (n <= 0) {
            breaks(r, n == STREAM_EOF ? "the server closed the connection" : "the connection broke");
            return;
        }
        if (!redis_parser_feed(r->parser, buffer, (size_t)n)) {
            breaks(r, redis_parser_error(r->parser));
            return;
        }
        struct redis_reply *reply;
        while (!r->broken && (reply = redis_parser_next(r->parser)) != NULL) {
            answered(r, reply);
            redis_reply_free(reply);
        }
        if (redis_parser_error(r->parser)[0])
            breaks(r, redis_parser_error(r->parser));
    }
    if (r->stream.tls && tls_pending(r->stream.tls) && !r->broken)
        event_active(r->readable, EV_READ, 1);
}

static void end_connection(struct redis *r);
static void connect_to(struct redis *r, struct address_list *list, uint32_t first);

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct redis *r = arg;
    (void)fd;
    r->busy = true;
    if (what & EV_WRITE)
        flush(r);
    if (!r->broken)
        read_some(r);
    r->busy = false;
    if (r->broken)
        end_connection(r);
}

/* ---- connecting ------------------------------------------------------------------------------------------
 */

static void greeted(void *arg, const struct redis_reply *reply)
{
    struct redis *r = arg;
    if (!reply) {
        breaks(r, "no answer to the greeting");
        return;
    }
    if (reply->kind == REDIS_ERROR) {
        set_trouble(r, "refused: ", reply->text);
        r->broken = true;
        return;
    }
    if (--r->greeting > 0 || r->broken)
        return;
    r->up = true;
    r->fresh = false;
    r->pause = PAUSE_FIRST;
    r->connects++;
    r->trouble[0] = '\0';
    r->o.changed(r->o.arg, true);
}

/* The answer to ROLE. */
static void role_told(void *arg, const struct redis_reply *reply)
{
    struct redis *r = arg;
    if (reply && reply->kind == REDIS_LIST && reply->count > 0 && !redis_says(reply->items[0], "master"))
        breaks(r, "the Sentinel named a server that is no master");
    else
        greeted(r, reply);
}

static bool authenticate(struct redis *r, const char *user, const char *password, redis_answered *done)
{
    struct slice auth[3] = {SLICE("AUTH")};
    size_t n = 1;
    if (*user)
        auth[n++] = (struct slice){user, strlen(user)};
    auth[n++] = (struct slice){password, strlen(password)};
    return enqueue(r, auth, n, GREETING_TIMEOUT, done, r);
}

static void greet(struct redis *r)
{
    const struct redis_address *a = r->o.address;
    char number[16];
    struct slice words[2] = {SLICE("SELECT")};
    bool ok = true;
    words[1] = (struct slice){number, (size_t)snprintf(number, sizeof(number), "%u", a->db)};
    r->greeting = 2;
    if (a->password[0] || a->user[0]) {
        r->greeting++;
        ok = authenticate(r, a->user, a->password, greeted);
    }
    if (a->master[0]) {
        r->greeting++;
        ok = ok && enqueue(r, &SLICE("ROLE"), 1, GREETING_TIMEOUT, role_told, r);
    }
    ok = ok && enqueue(r, words, 2, GREETING_TIMEOUT, greeted, r);
    words[0] = SLICE("PING");
    ok = ok && enqueue(r, words, 1, GREETING_TIMEOUT, greeted, r);
    if (!ok)
        breaks(r, "out of memory");
}

/* ---- Sentinels -------------------------------------------------------------------------------------------
 */

/* Takes "127.0.0.1", "6379". False: no memory, or no address. */
static bool take_master(struct redis *r, struct slice host, struct slice port)
{
    struct endpoint e = {.kind = ENDPOINT_TCP};
    struct address at;
    unsigned number = 0;
    for (size_t i = 0; i < port.n && number <= 65535; i++) {
        if (port.p[i] < '0' || port.p[i] > '9')
            return false;
        number = number * 10 + (unsigned)(port.p[i] - '0');
    }
    if (number == 0 || number > 65535 || host.n == 0 || host.n >= sizeof(e.host) || memchr(host.p, 0, host.n))
        return false;
    memcpy(e.host, host.p, host.n);
    e.port = (uint16_t)number;
    if (!endpoint_literal(&e, &at))
        return false;
    r->master = address_list_new(&at, 1);
    return r->master != NULL;
}

static void master_named(void *arg, const struct redis_reply *reply)
{
    struct redis *r = arg;
    if (!reply)
        breaks(r, "the Sentinel does not answer");
    else if (reply->kind == REDIS_ERROR)
        breaks_because(r, "the Sentinel refused: ", reply->text);
    else if (reply->kind != REDIS_LIST || reply->count != 2 || reply->items[0]->kind != REDIS_TEXT ||
             reply->items[1]->kind != REDIS_TEXT)
        breaks(r, "the Sentinel knows no master of this name");
    else if (!take_master(r, reply->items[0]->text, reply->items[1]->text))
        breaks_because(r,
                       "the Sentinel names its master otherwise than by an address: ", reply->items[0]->text);
    else
        r->broken = true; /* in order: the next connection is to the master */
}

static void sentinel_greeted(void *arg, const struct redis_reply *reply)
{
    struct redis *r = arg;
    if (reply && reply->kind == REDIS_ERROR)
        breaks_because(r, "the Sentinel refused: ", reply->text);
}

static void ask_sentinel(struct redis *r)
{
    const struct redis_address *a = r->o.address;
    struct slice words[] = {
        SLICE("SENTINEL"), SLICE("get-master-addr-by-name"), {a->master, strlen(a->master)}};
    if ((a->sentinel_password[0] && !authenticate(r, "", a->sentinel_password, sentinel_greeted)) ||
        !enqueue(r, words, ARRAY_LEN(words), GREETING_TIMEOUT, master_named, r))
        breaks(r, "out of memory");
}

/* What is broken, as on_event() leaves it: one to a Sentinel that has answered is followed by the one to the
 * master. */
static void end_connection(struct redis *r)
{
    if (!r->asking || !r->master) {
        give_up(r);
        return;
    }
    close_stream(r);
    fail_all(r);
    r->broken = r->asking = false;
    connect_to(r, r->master, 0);
}

static void dialled(void *arg, const struct dial_result *result)
{
    struct redis *r = arg;
    r->dial = NULL;
    r->fresh = true;
    if (result->reason != REASON_NONE) {
        set_trouble(r, "cannot connect: ", (struct slice){result->text, strlen(result->text)});
        give_up(r);
        return;
    }
    r->stream = result->stream;
    r->parser = redis_parser_new();
    r->readable = event_new(r->o.base, r->stream.fd, EV_READ | EV_PERSIST, on_event, r);
    r->writable = event_new(r->o.base, r->stream.fd, EV_WRITE, on_event, r);
    if (!r->parser || !r->readable || !r->writable || event_add(r->readable, NULL) != 0)
        breaks(r, "out of memory");
    else if (r->asking)
        ask_sentinel(r);
    else
        greet(r);
    if (r->broken)
        give_up(r);
}

/* `list` may be NULL: not known yet. */
static void connect_to(struct redis *r, struct address_list *list, uint32_t first)
{
    struct dial_request request = {
        .base = r->o.base, .addresses = list, .first = first, .tls = r->o.tls, .timeout = CONNECT_TIMEOUT};
    r->retry_at = TICK_NEVER;
    r->fresh = true;
    if (list)
        r->dial = dial_start(&request, dialled, r);
    if (r->dial)
        return;
    set_trouble(r, list ? "out of memory" : "its name is not known yet", (struct slice){"", 0});
    resolver_kick(r->o.resolver);
    give_up(r);
}

static void connect_now(struct redis *r)
{
    struct address_list *list = resolver_get(r->o.resolver);
    address_list_unref(r->master); /* of the last time; NULL is well */
    r->master = NULL;
    r->asking = r->o.address->master[0] != '\0';
    connect_to(r, list,
               r->asking ? r->sentinel++ : 0); /* another one each time: it may be the one that is cut off */
    address_list_unref(list);
}

/* ---- time ------------------------------------------------------------------------------------------------
 */

/* Tells callers whose time is over. Returns when to look again. */
static tick_t expire(struct redis *r, tick_t now)
{
    tick_t next = TICK_NEVER;
    for (unsigned i = 0; i < r->count; i++) {
        struct command *c = command_at(r, i);
        if (c->until <= now && c->told) {
            breaks(r, "no answer");
            return TICK_NEVER;
        }
        if (c->until <= now) {
            c->until = now + GHOST;
            tell(c, NULL);
        }
        next = c->until < next ? c->until : next;
    }
    return next;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct redis *r = arg;
    tick_t now = clock_now();
    (void)fd;
    (void)what;
    r->armed = TICK_NEVER;
    if (r->retry_at <= now) {
        connect_now(r);
        return;
    }
    r->busy = true;
    tick_t next = expire(r, now);
    r->busy = false;
    if (r->broken) {
        give_up(r);
        return;
    }
    next = next < r->retry_at ? next : r->retry_at;
    if (next != TICK_NEVER)
        arm(r, next);
}

/* ---- life ------------------------------------------------------------------------------------------------
 */

struct redis *redis_new(const struct redis_options *options)
{
    struct redis *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->o = *options;
    r->stream.fd = -1;
    r->armed = TICK_NEVER;
    r->pause = PAUSE_FIRST;
    rng_seed(&r->rng, options->seed);
    r->queue = calloc(REDIS_QUEUE_MAX, sizeof(*r->queue));
    r->room = 4096;
    r->out = malloc(r->room);
    r->timer = evtimer_new(options->base, on_timer, r);
    if (!r->queue || !r->out || !r->timer) {
        redis_free(r);
        return NULL;
    }
    r->retry_at = clock_now();
    arm(r, r->retry_at);
    return r;
}

void redis_free(struct redis *r)
{
    if (!r)
        return;
    dial_cancel(r->dial);
    r->up = false;
    if (r->out)
        close_stream(r);
    fail_all(r);
    if (r->timer)
        event_free(r->timer);
    address_list_unref(r->master);
    free(r->out);
    free(r->queue);
    free(r);
}

bool redis_up(const struct redis *r)
{
    return r && r->up && !r->broken;
}

const char *redis_trouble(const struct redis *r)
{
    return r ? r->trouble : "";
}

uint64_t redis_connects(const struct redis *r)
{
    return r->connects;
}

size_t redis_backlog(const struct redis *r)
{
    return r->filled - r->sent;
}
