/*
 * GET /api/v1/stream: a WebSocket that tells a snapshot, then what changed, and events as they happen.
 *
 *   {"type":"snapshot","seq":1,"time":"...","interval":30,"data":{...}}   first: all sections of the snapshot
 *   {"type":"update","seq":2,"time":"...","lost":0,"data":{...}}           those that changed since the last
 *   {"type":"event","seq":2,"time":"...","event":"alert","data":{...}}
 *
 * Invariants: a section's text is made once for all streams, and knows the turn in which it changed; a stream
 * knows the turn that it was told last, so that one which missed updates gets all that changed since. What
 * finds the queue full is not sent but counted, and told as `lost` by the next update. A stream that was let
 * in by a token or a session ends with it. While nobody listens there is no timer and no text. Streams of one
 * interval are due at the same moments, however they were opened, so that one look serves them all.
 */
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "policy/config.h"
#include "proxy/admin_clients.h"
#include "proxy/admin_gate.h"
#include "proxy/admin_sessions.h"
#include "proxy/admin_snapshot.h"
#include "proxy/live.h"
#include "proxy/log.h"
#include "proxy/websocket.h"

/* A new stream is told what was seen this recently, not a look of its own. */
#define FRESH (200 * TICK_MS)
/* Streams of an interval up to this are told together. */
#define SHARED_MOST (60 * TICK_S)

struct stream {
    struct live *live;
    struct evhttp_connection *connection; /* NULL: this place is free */
    struct websocket *ws;
    tick_t interval; /* the client's wish; 0: the configuration's */
    tick_t due;
    uint64_t told;       /* turn of the last update that it got; 0: none */
    uint64_t lost;       /* messages that found its queue full since */
    uint64_t generation; /* of the token that let it in */
    char session[ADMIN_SESSION_ID];
    bool by_session;
};

struct section {
    char *text;
    uint64_t changed; /* turn */
};

struct live {
    const struct admin_sources *sources;
    struct admin_door *door;
    struct log *log;
    struct event *timer;
    uint64_t turn;
    tick_t looked; /* when the sections were worked out last */
    unsigned count;
    struct section sections[SNAPSHOT_SECTIONS];
    struct stream streams[LIVE_STREAMS];
};

static tick_t now_of(const struct live *l)
{
    return l->sources->now(l->sources->ctx);
}

/* ---- what is told ---- */

/* Works out the sections as they are now: a new turn. False: out of memory, the old ones stay. */
static bool look(struct live *l)
{
    struct view *v = snapshot_view(l->sources);
    json_t *tree = v ? view_take(v) : NULL;
    bool good = tree != NULL;
    l->turn += good;
    for (size_t i = 0; good && i < SNAPSHOT_SECTIONS; i++) {
        struct section *s = &l->sections[i];
        char *text = json_dumps(json_object_get(tree, snapshot_sections[i]), JSON_COMPACT | JSON_ENCODE_ANY);
        good = text != NULL;
        if (text && s->text && strcmp(text, s->text) == 0) {
            free(text);
        } else if (text) {
            free(s->text);
            *s = (struct section){text, l->turn};
        }
    }
    json_decref(tree);
    if (good)
        l->looked = now_of(l);
    return good;
}

static void begin(struct text *t, const struct live *l, const char *type)
{
    char when[LOG_TIME_BYTES];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    log_time(now.tv_sec * TICK_S + now.tv_nsec, when);
    text_string(t, "{\"type\":\"");
    text_string(t, type);
    text_string(t, "\",\"seq\":");
    text_uint(t, l->turn);
    text_string(t, ",\"time\":\"");
    text_string(t, when);
    text_string(t, "\"");
}

static tick_t interval_of(const struct stream *s)
{
    const struct admin_sources *sources = s->live->sources;
    const struct config *cfg = sources->snapshot ? sources->snapshot(sources->ctx) : NULL;
    return s->interval ? s->interval : cfg ? cfg->performance_dashboard_refresh_interval : 30 * TICK_S;
}

/* The snapshot, or the sections that changed since the stream was told. */
static void tell(struct stream *s)
{
    struct live *l = s->live;
    struct text t = {0};
    bool any = false;
    begin(&t, l, s->told ? "update" : "snapshot");
    text_string(&t, ",\"interval\":");
    text_real(&t, (double)interval_of(s) / (double)TICK_S);
    text_string(&t, ",\"lost\":");
    text_uint(&t, s->lost);
    text_string(&t, ",\"data\":{");
    for (size_t i = 0; i < SNAPSHOT_SECTIONS; i++) {
        if (!l->sections[i].text || l->sections[i].changed <= s->told)
            continue;
        text_string(&t, any ? ",\"" : "\"");
        text_string(&t, snapshot_sections[i]);
        text_string(&t, "\":");
        text_string(&t, l->sections[i].text);
        any = true;
    }
    text_string(&t, "}}");
    if (!t.failed && websocket_send(s->ws, (struct slice){t.p, t.n})) {
        s->told = l->turn;
        s->lost = 0;
    } else {
        s->lost++;
    }
    text_dispose(&t);
}

void live_event(struct live *l, const char *kind, struct view *data)
{
    struct text t = {0};
    char *text = l->count ? view_print(data, NULL) : NULL;
    if (!l->count)
        view_free(data);
    if (!text)
        return;
    begin(&t, l, "event");
    text_string(&t, ",\"event\":\"");
    text_string(&t, kind);
    text_string(&t, "\",\"data\":");
    text_string(&t, text);
    text_string(&t, "}");
    free(text);
    for (size_t i = 0; i < LIVE_STREAMS; i++) {
        struct stream *s = &l->streams[i];
        if (s->connection && s->told && (t.failed || !websocket_send(s->ws, (struct slice){t.p, t.n})))
            s->lost++;
    }
    text_dispose(&t);
}

/* ---- who hears ---- */

static void forget_sections(struct live *l)
{
    for (size_t i = 0; i < SNAPSHOT_SECTIONS; i++) {
        free(l->sections[i].text);
        l->sections[i].text = NULL;
    }
}

/* The server drops the connection: at its end, when the process stops. */
static void on_dropped(struct evhttp_connection *connection, void *arg)
{
    struct stream *s = arg;
    struct live *l = s->live;
    (void)connection;
    websocket_free(s->ws);
    explicit_bzero(s->session, sizeof s->session);
    *s = (struct stream){.live = l};
    if (--l->count)
        return;
    event_del(l->timer);
    forget_sections(l);
}

static void drop(struct stream *s)
{
    struct evhttp_connection *connection = s->connection;
    evhttp_connection_set_closecb(connection, NULL, NULL);
    on_dropped(connection, s);
    evhttp_connection_free(connection);
}

static void on_over(void *arg)
{
    drop(arg);
}

/* What let it in is no more, or it is not wanted. */
static bool unwelcome(struct stream *s, const char **why)
{
    const struct live *l = s->live;
    const struct config *cfg = l->sources->snapshot ? l->sources->snapshot(l->sources->ctx) : NULL;
    uint64_t generation = admin_gate_generation(l->door->gate);
    *why = "The live stream was switched off.";
    if (cfg && !(cfg->performance_enabled && cfg->performance_enable_real_time_monitoring))
        return true;
    *why = "The session or the token is not good any more.";
    return generation != s->generation ||
           (s->by_session && !admin_sessions_left(l->door->sessions, s->session, generation, now_of(l)));
}

/* The next of the moments that all streams of this interval share; rare updates are no cost to be shared. */
static tick_t next_due(const struct stream *s, tick_t now)
{
    tick_t interval = interval_of(s);
    return interval > SHARED_MOST ? now + interval : now - now % interval + interval;
}

static void arm(struct live *l)
{
    tick_t now = now_of(l), wait = TICK_S;
    for (size_t i = 0; i < LIVE_STREAMS; i++) {
        const struct stream *s = &l->streams[i];
        if (s->connection && s->due - now < wait)
            wait = s->due - now;
    }
    if (wait < 10 * TICK_MS)
        wait = 10 * TICK_MS;
    struct timeval time = {wait / TICK_S, wait % TICK_S / 1000};
    event_add(l->timer, &time);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct live *l = arg;
    tick_t now = now_of(l);
    bool looked = false;
    const char *why;
    (void)fd;
    (void)what;
    for (size_t i = 0; i < LIVE_STREAMS; i++) {
        struct stream *s = &l->streams[i];
        if (!s->connection)
            continue;
        websocket_tick(s->ws, now);
        if (unwelcome(s, &why)) {
            websocket_close(s->ws, WEBSOCKET_POLICY, why);
            s->due = now + TICK_S;
        } else if (s->due <= now) {
            s->due = next_due(s, now);
            if (looked || (looked = look(l)))
                tell(s);
            else
                s->lost++;
        }
    }
    arm(l);
}

struct live *live_new(struct event_base *base, const struct admin_sources *sources, struct admin_door *door,
                      struct log *log)
{
    struct live *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->sources = sources;
    l->door = door;
    l->log = log;
    for (size_t i = 0; i < LIVE_STREAMS; i++)
        l->streams[i].live = l;
    l->timer = evtimer_new(base, on_timer, l);
    if (l->timer)
        return l;
    free(l);
    return NULL;
}

void live_leave(struct live *l)
{
    for (size_t i = 0; i < LIVE_STREAMS; i++)
        if (l->streams[i].connection)
            websocket_close(l->streams[i].ws, WEBSOCKET_GOING_AWAY, "The sidecar stops.");
}

void live_free(struct live *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < LIVE_STREAMS; i++)
        if (l->streams[i].connection)
            drop(&l->streams[i]);
    event_free(l->timer);
    forget_sections(l);
    free(l);
}

unsigned live_count(const struct live *l)
{
    return l->count;
}

/* ---- the handshake (RFC 6455 4.2) ---- */

/* True when the list of words in a field has this one. */
static bool has_word(const char *field, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = field; p && *p; p += *p == ',') {
        p += strspn(p, " \t");
        size_t length = strcspn(p, ", \t");
        if (length == n && strncasecmp(p, word, n) == 0)
            return true;
        p += strcspn(p, ",");
    }
    return false;
}

/* Answered, and false, when this is no handshake that can be gone along with. */
static bool read_handshake(struct admin_request *r, char accept[WEBSOCKET_ACCEPT])
{
    const char *version = admin_field(r, "Sec-WebSocket-Version"), *key = admin_field(r, "Sec-WebSocket-Key");
    if (evhttp_request_get_command(r->http) != EVHTTP_REQ_GET ||
        !has_word(admin_field(r, "Upgrade"), "websocket") ||
        !has_word(admin_field(r, "Connection"), "upgrade") || !version || strcmp(version, "13") != 0) {
        admin_header(r, "Upgrade", "websocket");
        admin_header(r, "Connection", "Upgrade");
        admin_header(r, "Sec-WebSocket-Version", "13");
        admin_reply_error(r, 426, "This is a stream, which is heard by WebSocket of version 13.",
                          "Open it with a WebSocket client; GET /api/v1/snapshot gives the same once.");
        return false;
    }
    if (key && !has_word(admin_field(r, "Connection"), "close") && websocket_accept(key, accept))
        return true;
    admin_reply_error(r, 400, "Sec-WebSocket-Key is not 16 bytes in base64, or Connection has `close`.",
                      "Open the stream with a WebSocket client.");
    return false;
}

/* Answered, and false, when no stream is to be had. */
static bool may_have_stream(struct admin_request *r, tick_t *interval)
{
    const struct config *cfg = r->sources->snapshot ? r->sources->snapshot(r->sources->ctx) : NULL;
    int64_t wish = 0;
    if (!admin_query_duration(r, "interval", &wish))
        return false;
    if (admin_query(r, "interval") && (wish < LIVE_INTERVAL_SECONDS * TICK_S || wish > 3600 * TICK_S)) {
        admin_reply_error(
            r, 400, "The query parameter `interval` is out of bounds.",
            "Give 1s to 1h, or leave it out: then it is performance.dashboard_refresh_interval.");
        return false;
    }
    *interval = wish;
    if (cfg && !(cfg->performance_enabled && cfg->performance_enable_real_time_monitoring)) {
        admin_reply_error(r, 409, "The live stream is switched off.",
                          "Set performance.enabled and performance.enable_real_time_monitoring; GET "
                          "/api/v1/snapshot answers all the same.");
        return false;
    }
    if (r->door->live->count < LIVE_STREAMS)
        return true;
    admin_header(r, "Retry-After", "30");
    admin_reply_error(r, 503, "Too many live streams are open.", "Close one; 32 may be.");
    return false;
}

static void note_who(struct stream *s, const struct admin_request *r)
{
    s->generation = admin_gate_generation(r->door->gate);
    s->by_session =
        strcmp(r->who, "session") == 0 && admin_sessions_read(admin_field(r, "Cookie"), s->session);
}

void admin_show_stream(struct admin_request *r)
{
    char accept[WEBSOCKET_ACCEPT];
    tick_t interval;
    struct live *l = r->door->live;
    struct evhttp_connection *connection = evhttp_request_get_connection(r->http);
    if (!may_have_stream(r, &interval) || !read_handshake(r, accept))
        return;
    bool fresh = l->count && now_of(l) - l->looked < FRESH; /* many come back at once after a restart */
    if (!fresh && !look(l)) {
        admin_reply(r, 503, NULL);
        return;
    }
    struct stream *s = l->streams;
    while (s->connection)
        s++;
    note_who(s, r);
    admin_header(r, "Upgrade", "websocket");
    admin_header(r, "Connection", "Upgrade");
    admin_header(r, "Sec-WebSocket-Accept", accept);
    r->status = 101;
    evhttp_send_reply_start(r->http, 101, "Switching Protocols");
    struct bufferevent *b = evhttp_connection_get_bufferevent(connection);
    struct websocket *ws = websocket_new(b, on_over, s);
    if (!ws) {
        evhttp_connection_free(connection);
        return;
    }
    admin_clients_leave(r->door->clients, b);
    s->connection = connection;
    s->ws = ws;
    s->interval = interval;
    s->due = next_due(s, now_of(l));
    l->count++;
    evhttp_connection_set_closecb(connection, on_dropped, s);
    tell(s);
    websocket_go(ws);
    arm(l);
}
