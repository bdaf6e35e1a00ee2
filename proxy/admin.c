/*
 * Listens for the operator, lets in whom the gate lets in, finds the handler, and writes the
 * answer as JSON or MessagePack.
 *
 * Invariants: all on the control thread's loop; a handler answers exactly once, before it
 * returns. Every answer carries the security fields. A change is written to the audit log; when that
 * cannot be opened the change is not made.
 */
#include "proxy/admin.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <jansson.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "policy/config.h"
#include "proxy/address.h"
#include "proxy/admin_clients.h"
#include "proxy/admin_gate.h"
#include "proxy/admin_request.h"
#include "proxy/admin_sessions.h"
#include "proxy/live.h"
#include "proxy/pack.h"
#include "proxy/tls.h"

enum { MAX_HEAD = 16 * 1024, MAX_BODY = 64 * 1024, TIMEOUT_SECONDS = 30 };

struct admin {
    struct admin_sources sources;
    struct admin_options options; /* address and cfg are not kept */
    char *audit_log;              /* NULL: none */
    struct admin_door door;
    struct tls_context *tls; /* NULL: plain */
    struct evhttp *http;
    struct endpoint endpoint;
    char own_host[sizeof(((struct endpoint *)0)->host)];
    uint16_t port;
    struct evhttp_bound_socket *bound; /* where it listens; NULL: another process does now */
    bool bound_path;                   /* the unix socket's file is ours to remove */
};

/* ---- what handlers use ---- */

const char *admin_field(const struct admin_request *r, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(r->http), name);
}

void admin_header(struct admin_request *r, const char *name, const char *value)
{
    evhttp_add_header(evhttp_request_get_output_headers(r->http), name, value);
}

/* ---- answering ---- */

static void put_security(struct admin_request *r)
{
    admin_header(r, "X-Content-Type-Options", "nosniff");
    admin_header(r, "X-Frame-Options", "DENY");
    admin_header(r, "Content-Security-Policy",
                 r->policy ? r->policy : "default-src 'none'; frame-ancestors 'none'");
    admin_header(r, "Referrer-Policy", "no-referrer");
    admin_header(r, "Cross-Origin-Resource-Policy", "same-origin");
    admin_header(r, "Cache-Control", r->caching ? r->caching : "no-store");
}

static const char *phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } phrases[] = {{200, "OK"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {409, "Conflict"},
                   {413, "Content Too Large"},
                   {415, "Unsupported Media Type"},
                   {421, "Misdirected Request"},
                   {426, "Upgrade Required"},
                   {429, "Too Many Requests"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {503, "Service Unavailable"}};
    for (size_t i = 0; i < ARRAY_LEN(phrases); i++)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "Error";
}

void admin_reply_bytes(struct admin_request *r, int status, const char *type, const struct text *t)
{
    struct evbuffer *body = evbuffer_new();
    r->status = status;
    put_security(r);
    if (type)
        admin_header(r, "Content-Type", type);
    if (evhttp_request_get_command(r->http) ==
        EVHTTP_REQ_HEAD) { /* evhttp would send the content, too (RFC 9110 9.3.2) */
        char length[24];
        snprintf(length, sizeof length, "%zu", t->n);
        admin_header(r, "Content-Length", length);
    } else if (body && t->n && evbuffer_add(body, t->p, t->n) != 0) {
        evbuffer_drain(body, evbuffer_get_length(body));
    }
    evhttp_send_reply(r->http, status, phrase(status), body);
    if (body)
        evbuffer_free(body);
}

void admin_reply_text(struct admin_request *r, const char *type, struct text *t)
{
    admin_reply_bytes(r, 200, type, t);
    text_dispose(t);
}

double admin_weight(const char *accept, const char *type)
{
    size_t n = strlen(type);
    for (const char *p = accept; *p; p += *p == ',') {
        size_t length = strcspn(p, ",");
        p += strspn(p, " \t");
        size_t name = strcspn(p, ";, \t");
        const char *end = p + strcspn(p, ",");
        if (name == n && strncasecmp(p, type, n) == 0) {
            const char *q = memmem(p, (size_t)(end - p), "q=", 2);
            return q ? strtod(q + 2, NULL) : 1;
        }
        p = length ? end : p;
    }
    return -1;
}

static bool wants_msgpack(const struct admin_request *r)
{
    const char *accept = admin_field(r, "Accept");
    if (!accept)
        return false;
    double pack = admin_weight(accept, "application/msgpack");
    double old = admin_weight(accept, "application/x-msgpack");
    double json = admin_weight(accept, "application/json");
    return (pack > old ? pack : old) > (json > 0 ? json : 0);
}

static int dump_into(const char *p, size_t n, void *data)
{
    struct text *t = data;
    text_bytes(t, p, n);
    return t->failed ? -1 : 0;
}

static void reply_tree(struct admin_request *r, int status, const json_t *tree, bool msgpack)
{
    struct text t = {0};
    bool whole = msgpack ? pack_tree(tree, &t) : json_dump_callback(tree, dump_into, &t, JSON_COMPACT) == 0;
    if (!msgpack)
        text_bytes(&t, "\n", 1);
    admin_header(r, "Vary", "Accept");
    if (whole && !t.failed)
        admin_reply_bytes(r, status, msgpack ? "application/msgpack" : "application/json", &t);
    else
        admin_reply_bytes(r, 503, NULL, &(struct text){0});
    text_dispose(&t);
}

void admin_reply(struct admin_request *r, int status, struct view *v)
{
    json_t *tree = v ? view_take(v) : NULL;
    if (tree)
        reply_tree(r, status, tree, wants_msgpack(r));
    else
        admin_reply_error(r, 503, "The sidecar is out of memory.",
                          "Try again; look at memory use and its limit.");
    json_decref(tree);
}

void admin_reply_error(struct admin_request *r, int status, const char *what, const char *how)
{
    json_t *tree =
        json_pack("{s:b, s:s, s:s, s:i}", "success", 0, "error", what, "remedy", how, "status_code", status);
    if (tree)
        reply_tree(r, status, tree, wants_msgpack(r));
    else
        admin_reply_bytes(r, 503, NULL, &(struct text){0});
    json_decref(tree);
}

void admin_reply_as(struct admin_request *r, const char *format, struct view *v)
{
    json_t *tree = v && format ? view_take(v) : NULL;
    if (tree)
        reply_tree(r, 200, tree, strcmp(format, "msgpack") == 0);
    else
        admin_reply(r, 200, format ? NULL : v);
    json_decref(tree);
}

bool admin_reply_start(struct admin_request *r, const char *type)
{
    if (evhttp_request_get_command(r->http) == EVHTTP_REQ_HEAD) {
        admin_reply_bytes(r, 200, type, &(struct text){0});
        return false;
    }
    r->status = 200;
    put_security(r);
    admin_header(r, "Content-Type", type);
    evhttp_send_reply_start(r->http, 200, phrase(200));
    return true;
}

/* ---- the body of a change ---- */

static bool has_media_type(const char *field, const char *type)
{
    size_t n = strlen(type);
    return field && strncasecmp(field, type, n) == 0 && strchr("; \t", field[n]);
}

static json_t *read_body(struct admin_request *r, bool list)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(r->http);
    size_t n = evbuffer_get_length(in);
    const char *p = n ? (const char *)evbuffer_pullup(in, -1) : "";
    const char *type = admin_field(r, "Content-Type");
    const char *why = NULL;
    char what[256];
    json_error_t error;
    json_t *tree;
    if (has_media_type(type, "application/msgpack") || has_media_type(type, "application/x-msgpack")) {
        tree = p ? pack_read(p, n, &why) : NULL;
        snprintf(what, sizeof what, "The body is not usable MessagePack. %s", why ? why : "");
    } else {
        tree = p ? json_loadb(p, n, JSON_REJECT_DUPLICATES, &error) : NULL;
        snprintf(what, sizeof what, "The body is not valid JSON: %s, at line %d, column %d.",
                 p ? error.text : "no memory", p ? error.line : 0, p ? error.column : 0);
    }
    if (tree && !json_is_object(tree) && !(list && json_is_array(tree))) {
        json_decref(tree);
        tree = NULL;
        snprintf(what, sizeof what, "The body is not an object%s.", list ? " and no list" : "");
    }
    if (!tree)
        admin_reply_error(
            r, 400, what,
            "Send one object, as JSON, or as MessagePack with Content-Type: application/msgpack.");
    return tree;
}

struct json_t *admin_body(struct admin_request *r)
{
    return read_body(r, false);
}

struct json_t *admin_body_or_list(struct admin_request *r)
{
    return read_body(r, true);
}

/* ---- finding the handler ---- */

/* Matches a path with a pattern in which `{...}` is one segment; that segment goes, still encoded, to *name.
 */
static bool path_matches(const char *pattern, const char *path, struct slice *name)
{
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        *name = (struct slice){path, strcspn(path, "/")};
        path += name->n;
        pattern += strcspn(pattern, "}") + 1;
        if (!name->n)
            return false;
    }
    return !*path;
}

static unsigned method_bit(enum evhttp_cmd_type type)
{
    switch (type) {
    case EVHTTP_REQ_GET:
    case EVHTTP_REQ_HEAD:
        return ADMIN_GET;
    case EVHTTP_REQ_POST:
        return ADMIN_POST;
    case EVHTTP_REQ_PUT:
        return ADMIN_PUT;
    case EVHTTP_REQ_PATCH:
        return ADMIN_PATCH;
    case EVHTTP_REQ_DELETE:
        return ADMIN_DELETE;
    case EVHTTP_REQ_OPTIONS:
        return ADMIN_OPTIONS;
    default:
        return 0;
    }
}

/* The endpoint for path and method; NULL with *allowed = the methods that the path does have. */
static const struct admin_endpoint *find_endpoint(const char *path, unsigned method, struct slice *name,
                                                  unsigned *allowed)
{
    bool outright = false; /* a path that stands there hides the ones with {...} */
    *allowed = 0;
    for (const struct admin_endpoint *e = admin_endpoints; e->path; e++) {
        struct slice segment = {NULL, 0};
        if (!path_matches(e->path, path, &segment) || (outright && segment.p))
            continue;
        outright |= !segment.p;
        *name = segment;
        if (e->method & method)
            return e;
        *allowed |= e->method;
    }
    return NULL;
}

/* The Allow field (RFC 9110 10.2.1). */
static void list_methods(unsigned allowed, char *out, size_t room)
{
    size_t n = 0;
    *out = '\0';
    for (unsigned bit = ADMIN_GET; bit <= ADMIN_DELETE; bit <<= 1)
        if (allowed & bit)
            n += (size_t)snprintf(out + n, room - n, "%s%s, ", admin_method_name((enum admin_method)bit),
                                  bit == ADMIN_GET ? ", HEAD" : "");
    snprintf(out + n, room - n, "OPTIONS");
}

static void reply_no_endpoint(struct admin_request *r, unsigned method, unsigned allowed)
{
    char allow[64], how[128];
    if (!allowed) {
        admin_reply_error(r, 404, "There is nothing under this path.", "GET /api/v1 lists what there is.");
        return;
    }
    list_methods(allowed, allow, sizeof allow);
    admin_header(r, "Allow", allow);
    if (method == ADMIN_OPTIONS) {
        admin_reply_bytes(r, 204, NULL, &(struct text){0});
        return;
    }
    snprintf(how, sizeof how, "Use one of: %s.", allow);
    admin_reply_error(r, 405, "This path has no such method.", how);
}

void admin_absent(struct admin_request *r)
{
    admin_reply_error(r, 501, "This part of the admin port is not built yet in this version.",
                      "GET /api/v1 lists what there is.");
}

/* ---- the audit log ---- */

static int audit_open(const struct admin *a)
{
    return a->audit_log ? open(a->audit_log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640)
                        : -1;
}

/* The line, made as a view so that bytes which are not UTF-8 do no harm. To be freed. */
static char *audit_line(const struct admin_request *r, const char *action)
{
    char when[LOG_TIME_BYTES], *peer = NULL;
    uint16_t port;
    struct timespec now;
    struct view *v = view_new();
    if (!v)
        return NULL;
    clock_gettime(CLOCK_REALTIME, &now);
    log_time(now.tv_sec * TICK_S + now.tv_nsec, when);
    if (r->http)
        evhttp_connection_get_peer(evhttp_request_get_connection(r->http), &peer, &port);
    view_text(v, "time", when);
    view_text(v, "who", r->who);
    view_text(v, "peer", peer);
    view_text(v, "action", action);
    view_text(v, "detail", r->detail);
    view_int(v, "status", r->status);
    json_t *tree = view_take(v);
    if (tree && r->changes && json_object_set(tree, "changes", r->changes) != 0) {
        json_decref(tree);
        tree = NULL;
    }
    char *line = tree ? json_dumps(tree, JSON_COMPACT) : NULL;
    json_decref(tree);
    return line;
}

static void audit_write(const struct admin *a, int fd, const struct admin_request *r, const char *action)
{
    char *line = audit_line(r, action);
    struct iovec iov[2] = {{line, line ? strlen(line) : 0}, {(char[]){'\n'}, 1}};
    ssize_t wanted = (ssize_t)iov[0].iov_len + 1;
    errno = ENOMEM;
    if (!line || writev(fd, iov, 2) != wanted)
        log_write(a->options.log, LOG_ERROR, "admin",
                  "a change (%s) could not be written to admin.audit_log: %s", action, strerror(errno));
    free(line);
}

bool admin_audit(struct admin *a, const char *action, const char *detail)
{
    struct admin_request r = {.who = "optimizer", .status = 200};
    int fd = a ? audit_open(a) : -1;
    if (a && a->audit_log && fd < 0)
        return false;
    snprintf(r.detail, sizeof r.detail, "%s", detail);
    if (fd >= 0) {
        audit_write(a, fd, &r, action);
        close(fd);
    }
    return true;
}

static void run_change(struct admin *a, struct admin_request *r, const struct admin_endpoint *e)
{
    int fd = audit_open(a);
    if (a->audit_log && fd < 0) {
        log_write(a->options.log, LOG_ERROR, "admin",
                  "admin.audit_log cannot be opened (%s): a change was refused", strerror(errno));
        admin_reply_error(r, 503, "The audit log cannot be written, so nothing was changed.",
                          "Make the file of admin.audit_log writable.");
        return;
    }
    e->handle(r);
    if (fd >= 0) {
        audit_write(a, fd, r, e->what);
        close(fd);
    }
}

/* ---- one request ---- */

static bool too_many(struct admin_request *r, bool failed)
{
    unsigned wait = admin_clients_wait(r->door->clients, failed, r->sources->now(r->sources->ctx));
    char seconds[16];
    if (!wait)
        return false;
    if (r->block)
        metric_add(r->block, METRIC_ADMIN_REFUSED, 1);
    snprintf(seconds, sizeof seconds, "%u", wait);
    admin_header(r, "Retry-After", seconds);
    admin_reply_error(r, 429, "Too many requests to the admin port.", "Wait as long as Retry-After says.");
    return true;
}

bool admin_too_many_failed(struct admin_request *r)
{
    return too_many(r, true);
}

static void refuse(struct admin_request *r, const struct gate_verdict *verdict)
{
    if (verdict->status == 401 && too_many(r, true))
        return;
    if (r->block)
        metric_add(r->block, METRIC_ADMIN_REFUSED, 1);
    if (verdict->status == 401)
        admin_header(r, "WWW-Authenticate", "Bearer realm=\"promptops-sidecar\"");
    admin_reply_error(r, verdict->status, verdict->what, verdict->how);
}

/* What is larger than evhttp takes at all is answered by evhttp. */
static bool body_fits(struct admin_request *r)
{
    if (evbuffer_get_length(evhttp_request_get_input_buffer(r->http)) <= MAX_BODY)
        return true;
    admin_reply_error(r, 413, "The body has more than 65536 bytes.", "Send less at a time.");
    return false;
}

static void copy_name(struct admin_request *r, struct slice name)
{
    char *encoded = name.n ? strndup(name.p, name.n) : NULL;
    char *decoded = encoded ? evhttp_uridecode(encoded, 0, NULL) : NULL;
    if (decoded)
        snprintf(r->name, sizeof r->name, "%s", decoded);
    free(decoded);
    free(encoded);
}

static void dispatch(struct admin *a, struct admin_request *r, const char *path)
{
    unsigned method = method_bit(evhttp_request_get_command(r->http)), allowed;
    struct slice name = {NULL, 0};
    const struct admin_endpoint *e = find_endpoint(path, method, &name, &allowed);
    char session[ADMIN_SESSION_ID];
    struct gate_request asked = {
        .authorization = admin_field(r, "Authorization"),
        .host = admin_field(r, "Host"),
        .origin = admin_field(r, "Origin"),
        .fetch_site = admin_field(r, "Sec-Fetch-Site"),
        .requested_with = admin_field(r, "X-Requested-With"),
        .content_type = admin_field(r, "Content-Type"),
        .session = admin_sessions_read(admin_field(r, "Cookie"), session) &&
                   admin_sessions_left(a->door.sessions, session, admin_gate_generation(a->door.gate),
                                       r->sources->now(r->sources->ctx)),
        .open = e && e->access == ADMIN_ACCESS_OPEN,
        .login = e && e->access == ADMIN_ACCESS_LOGIN,
        .live = e && e->access == ADMIN_ACCESS_LIVE,
        .scrape = strcmp(path, "/metrics") == 0,
        .changes = method != ADMIN_GET && method != ADMIN_OPTIONS,
    };
    struct gate_verdict verdict = admin_gate_check(a->door.gate, &asked);
    if (verdict.status) {
        refuse(r, &verdict);
        return;
    }
    if (!asked.open && too_many(r, false))
        return;
    copy_name(r, name);
    r->who = verdict.token                       ? "token"
             : !admin_gate_guarded(a->door.gate) ? (asked.origin ? "page" : "local")
             : asked.session                     ? "session"
                                                 : "nobody";
    if (!e)
        reply_no_endpoint(r, method, allowed);
    else if (!body_fits(r) || !admin_query_known(r, e))
        return; /* answered */
    else if (method == ADMIN_GET || e->handle == admin_absent || e->handle == admin_custom_metrics)
        e->handle(r); /* what the application counts changes nothing here */
    else
        run_change(a, r, e);
}

static void on_request(struct evhttp_request *http, void *arg)
{
    struct admin *a = arg;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(http);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
    struct evkeyvalq parameters = {0};
    struct admin_request r = {.sources = &a->sources,
                              .door = &a->door,
                              .block = a->options.block,
                              .http = http,
                              .query = &parameters};
    if (a->options.block)
        metric_add(a->options.block, METRIC_ADMIN_REQUESTS, 1);
    admin_clients_asked(a->door.clients,
                        evhttp_connection_get_bufferevent(evhttp_request_get_connection(http)));
    if (query && evhttp_parse_query_str(query, &parameters) != 0)
        admin_reply_error(&r, 400, "The query is malformed.", "Write it as name=value&name=value.");
    else
        dispatch(a, &r, path && *path ? path : "/");
    evhttp_clear_headers(&parameters);
    json_decref(r.changes);
}

/* ---- listening ---- */

static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
    struct admin *a = arg;
    struct bufferevent *b =
        a->tls ? tls_bufferevent(a->tls, base) : bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    admin_clients_add(a->door.clients, b);
    return b;
}

/* A socket file that nobody answers on any more is removed. False when somebody does, or it is no socket. */
static bool clear_path(const struct sockaddr_un *sun)
{
    struct stat st;
    if (lstat(sun->sun_path, &st) != 0)
        return errno == ENOENT;
    if (!S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool dead =
        fd >= 0 && connect(fd, (const struct sockaddr *)sun, sizeof *sun) != 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return dead && unlink(sun->sun_path) == 0;
}

static struct evconnlistener *listen_address(struct admin *a, struct event_base *base,
                                             const struct sockaddr *sa, socklen_t n)
{
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    struct evconnlistener *l = a->options.fd > 0
                                   ? evconnlistener_new(base, NULL, NULL, flags, 0, a->options.fd)
                                   : evconnlistener_new_bind(base, NULL, NULL, flags, 128, sa, (int)n);
    a->bound = l ? evhttp_bind_listener(a->http, l) : NULL;
    if (l && !a->bound) {
        evconnlistener_free(l);
        return NULL;
    }
    return l;
}

static void note_port(struct admin *a, struct evconnlistener *l)
{
    struct sockaddr_storage sa;
    socklen_t n = sizeof sa;
    char service[8];
    if (getsockname(evconnlistener_get_fd(l), (struct sockaddr *)&sa, &n) == 0 &&
        getnameinfo((struct sockaddr *)&sa, n, NULL, 0, service, sizeof service, NI_NUMERICSERV) == 0)
        a->port = sa.ss_family == AF_UNIX ? 0 : (uint16_t)strtoul(service, NULL, 10);
}

/* Somebody opened it before; its file, when it has one, is theirs. */
static const char *listen_inherited(struct admin *a, struct event_base *base)
{
    struct evconnlistener *l = listen_address(a, base, NULL, 0);
    if (!l)
        return "out of memory";
    note_port(a, l);
    return NULL;
}

static const char *listen_unix(struct admin *a, struct event_base *base)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    if (strlen(a->endpoint.host) >= sizeof sun.sun_path)
        return "the path is too long for a unix socket";
    memcpy(sun.sun_path, a->endpoint.host, strlen(a->endpoint.host));
    if (!clear_path(&sun))
        return "something else is at this path; remove it or take another path";
    mode_t old = umask(0117); /* owner and group only */
    struct evconnlistener *l = listen_address(a, base, (struct sockaddr *)&sun, sizeof sun);
    umask(old);
    a->bound_path = l != NULL;
    return l ? NULL : strerror(errno);
}

static const char *listen_tcp(struct admin *a, struct event_base *base)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    char port[8];
    bool any = strcmp(a->endpoint.host, "*") == 0 || !*a->endpoint.host;
    snprintf(port, sizeof port, "%u", a->endpoint.port);
    int failed = getaddrinfo(any ? NULL : a->endpoint.host, port, &hints, &found);
    if (failed)
        return gai_strerror(failed);
    struct evconnlistener *l = listen_address(a, base, found->ai_addr, found->ai_addrlen);
    int error = errno;
    freeaddrinfo(found);
    if (!l)
        return strerror(error);
    note_port(a, l);
    return NULL;
}

static bool is_loopback(const struct endpoint *e)
{
    return e->kind == ENDPOINT_UNIX || strcmp(e->host, "localhost") == 0 || strcmp(e->host, "::1") == 0 ||
           (strncmp(e->host, "127.", 4) == 0 && address_is_ip(e->host));
}

static bool start(struct admin *a, struct event_base *base, char *error, size_t error_size)
{
    char why[256];
    const char *failed;
    if (!endpoint_parse(a->options.address, &a->endpoint, why, sizeof why)) {
        snprintf(error, error_size, "admin.address: %s: %s", a->options.address, why);
        return false;
    }
    bool local = a->endpoint.kind == ENDPOINT_UNIX;
    const char *own_host = local ? "" : *a->endpoint.host ? a->endpoint.host : "*";
    snprintf(a->own_host, sizeof a->own_host, "%s", own_host);
    if (!admin_retune(a, a->options.cfg, error, error_size))
        return false;
    a->http = evhttp_new(base);
    a->door.clients = admin_clients_new(base);
    a->door.sessions = admin_sessions_new();
    a->door.live = live_new(base, &a->sources, &a->door, a->options.log);
    if (!a->http || !a->door.clients || !a->door.sessions || !a->door.live) {
        snprintf(error, error_size, "admin.address: out of memory");
        return false;
    }
    evhttp_set_max_headers_size(a->http, MAX_HEAD);
    evhttp_set_max_body_size(a->http, 16 * MAX_BODY);
    evhttp_set_timeout(a->http, TIMEOUT_SECONDS);
    evhttp_set_allowed_methods(a->http, 0x1FF); /* all: what a path does not have is answered 405 here */
    evhttp_set_default_content_type(a->http, NULL);
    evhttp_set_gencb(a->http, on_request, a);
    evhttp_set_bevcb(a->http, on_accept, a);
    failed = a->options.fd > 0 ? listen_inherited(a, base)
             : local           ? listen_unix(a, base)
                               : listen_tcp(a, base);
    if (failed)
        snprintf(error, error_size, "admin.address: %s: cannot listen: %s", a->options.address, failed);
    return !failed;
}

bool admin_tls(const struct config *cfg, struct tls_context **out, char *error, size_t error_size)
{
    struct tls_server_options options = {.certificate_file = cfg->admin_tls_certificate_file,
                                         .key_file = cfg->admin_tls_key_file,
                                         .alpn = "http/1.1"};
    *out = NULL;
    if (!*options.certificate_file)
        return true;
    *out = tls_context_server(&options, error, error_size);
    return *out != NULL;
}

bool admin_retune(struct admin *a, const struct config *cfg, char *error, size_t error_size)
{
    if (!a)
        return true;
    bool logged = *cfg->admin_audit_log, encrypted = *cfg->admin_tls_certificate_file;
    struct tls_context *tls = NULL;
    struct admin_gate *gate = admin_gate_new(cfg->admin_token_file, a->own_host, error, error_size);
    bool usable = gate && admin_tls(cfg, &tls, error, error_size);
    char *audit_log = logged ? strdup(cfg->admin_audit_log) : NULL;
    if (!usable || (logged && !audit_log)) {
        if (usable)
            snprintf(error, error_size, "admin.audit_log: out of memory");
        admin_gate_free(gate);
        tls_context_unref(tls);
        free(audit_log);
        return false;
    }
    admin_gate_succeed(gate, a->door.gate);
    admin_gate_free(a->door.gate);
    tls_context_unref(a->tls);
    free(a->audit_log);
    a->door.gate = gate;
    a->door.encrypted = encrypted;
    a->tls = tls;
    a->audit_log = audit_log;
    return true;
}

struct admin *admin_new(struct event_base *base, const struct admin_options *options,
                        const struct admin_sources *sources, char *error, size_t error_size)
{
    struct admin *a = calloc(1, sizeof *a);
    if (!a) {
        snprintf(error, error_size, "admin.address: out of memory");
        return NULL;
    }
    a->options = *options;
    a->sources = *sources;
    if (start(a, base, error, error_size)) {
        if (!admin_gate_guarded(a->door.gate) && !is_loopback(&a->endpoint))
            log_write(options->log, LOG_WARNING, "admin",
                      "the admin port can be reached from other machines and asks for no token; set "
                      "admin.token_file");
        a->options.address = NULL;
        a->options.cfg = NULL;
        return a;
    }
    admin_free(a);
    return NULL;
}

void admin_free(struct admin *a)
{
    if (!a)
        return;
    live_free(a->door.live);
    if (a->http)
        evhttp_free(a->http);
    if (a->bound_path)
        unlink(a->endpoint.host);
    admin_clients_free(a->door.clients);
    admin_sessions_free(a->door.sessions);
    admin_gate_free(a->door.gate);
    tls_context_unref(a->tls);
    free(a->audit_log);
    free(a);
}

int admin_socket(const struct admin *a)
{
    return a && a->bound ? (int)evhttp_bound_socket_get_fd(a->bound) : -1;
}

void admin_leave(struct admin *a)
{
    if (!a || !a->bound)
        return;
    evhttp_del_accept_socket(a->http, a->bound);
    a->bound = NULL;
    a->bound_path = false;
}

uint16_t admin_port(const struct admin *a)
{
    return a->port;
}

int64_t admin_certificate_not_after(const struct admin *a)
{
    return a && a->tls ? tls_certificate_not_after(a->tls) : INT64_MAX;
}

void admin_event(struct admin *a, const char *kind, struct view *data)
{
    if (a && data)
        live_event(a->door.live, kind, data);
    else
        view_free(data);
}

void admin_say_goodbye(struct admin *a)
{
    if (a)
        live_leave(a->door.live);
}

bool admin_heard(const struct admin *a)
{
    return a && live_count(a->door.live) > 0;
}
