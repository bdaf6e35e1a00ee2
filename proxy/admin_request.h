/*
 * One request to the admin port, as its handlers see it. Private to admin*.c.
 */
#ifndef PROXY_ADMIN_REQUEST_H
#define PROXY_ADMIN_REQUEST_H

#include "metrics/text.h"
#include "proxy/admin.h"

struct admin_clients;
struct admin_gate;
struct admin_sessions;
struct live;
struct summary;

/* What keeps the port's door. */
struct admin_door {
    struct admin_gate *gate;
    struct admin_sessions *sessions;
    struct admin_clients *clients;
    struct live *live; /* streams */
    bool encrypted;    /* TLS */
};

struct admin_request {
    const struct admin_sources *sources;
    struct admin_door *door;
    struct metrics_block *block; /* the control thread's; may be NULL */
    struct evhttp_request *http;
    struct evkeyvalq *query;
    char name[256];         /* what stood for the `*` of the route's path, decoded */
    int status;             /* answered with; 0 = not yet */
    char detail[256];       /* of a change, for the audit log; set by the handler */
    struct json_t *changes; /* likewise: [{key, from, to}]; a reference, or NULL */
    const char *who;        /* "token", "session", "page", "local", or "nobody" at a login */
    const char *policy;     /* Content-Security-Policy and Cache-Control of the answer; NULL: load nothing, */
    const char *caching;    /* store nothing */
};

enum admin_method {
    ADMIN_GET = 1,
    ADMIN_POST = 2,
    ADMIN_PUT = 4,
    ADMIN_PATCH = 8,
    ADMIN_DELETE = 16,
    ADMIN_OPTIONS = 32
};
enum admin_access {
    ADMIN_ACCESS_GUARDED,
    ADMIN_ACCESS_OPEN,  /* health */
    ADMIN_ACCESS_LOGIN, /* no token asked for */
    ADMIN_ACCESS_LIVE   /* GUARDED, and closed to pages of other origins */
};

/* A row of admin_endpoints.def, which says what each member means. */
struct admin_endpoint {
    enum admin_method method;
    const char *path;
    void (*handle)(struct admin_request *r);
    enum admin_access access;
    const char *statuses;
    const char *query;
    const char *body;
    const char *answer;
    const char *what;
};

/* The table, ended by a NULL path: admin_endpoints.c. */
extern const struct admin_endpoint admin_endpoints[];

/* "GET" and so on. */
const char *admin_method_name(enum admin_method method);

/* A query parameter, or NULL. The last one counts when it comes twice. */
const char *admin_query(const struct admin_request *r, const char *name);

/* Reads a whole number of least ... most. Absent: *out stays. False when it is something else: then the
 * answer was given. */
bool admin_query_number(struct admin_request *r, const char *name, uint64_t most, uint64_t *out);

/* Reads a duration (250ms, 30s, 5m, 1h or plain seconds) in nanoseconds, likewise. */
bool admin_query_duration(struct admin_request *r, const char *name, int64_t *out);

/* False, and answered, when there is a parameter that the endpoint's row does not name. */
bool admin_query_known(struct admin_request *r, const struct admin_endpoint *e);

/* False, and answered, when the parameter is there and none of the words ("a|b|c"). */
bool admin_query_word(struct admin_request *r, const char *name, const char *words);

/* The body as a tree (JSON, or MessagePack by Content-Type); NULL when the answer was given already. A new
 * reference. */
struct json_t *admin_body(struct admin_request *r);
/* The same, or a list. */
struct json_t *admin_body_or_list(struct admin_request *r);

/* Answers. Exactly one of these a request; each takes over what it is given. A NULL view means out of memory.
 */
void admin_reply(struct admin_request *r, int status, struct view *v);
void admin_reply_text(struct admin_request *r, const char *type, struct text *t);
/* As admin_reply() with 200; "json" or "msgpack" goes before what Accept says, NULL does not. */
void admin_reply_as(struct admin_request *r, const char *format, struct view *v);
/* Begins an answer of 200 that the caller goes on with in pieces. False: it was answered whole (HEAD). */
bool admin_reply_start(struct admin_request *r, const char *type);
void admin_reply_error(struct admin_request *r, int status, const char *what, const char *how);
/* `type` may be NULL; the text stays the caller's. */
void admin_reply_bytes(struct admin_request *r, int status, const char *type, const struct text *t);

/* A header field that the answer is to have. */
void admin_header(struct admin_request *r, const char *name, const char *value);

/* A header field of the request, or NULL. */
const char *admin_field(const struct admin_request *r, const char *name);

/* The weight that an Accept or Accept-Encoding field gives to what is named outright; -1 when it is not (RFC
 * 9110 12.4.2). */
double admin_weight(const char *accept, const char *name);

/* What several views show. */
void admin_put_summary(struct view *v, const struct summary *s);
void admin_put_notable(const struct admin_sources *s, struct view *v, const char *key, size_t limit,
                       bool failed);
/* The members of GET /api/v1/alerts, of those in `state` (NULL: all); of GET /api/v1/recommendations. */
void admin_put_alerts(const struct admin_sources *s, struct view *v, const char *state);
void admin_put_advice(const struct admin_sources *s, struct view *v);

/* Takes one from the tokens for requests that were refused; true when there was none, and that is answered.
 */
bool admin_too_many_failed(struct admin_request *r);

/* Answers 501: what would answer is not there. */
void admin_absent(struct admin_request *r);

/* The handlers that the table names. */
#define ENDPOINT(method, path, handler, ...) void handler(struct admin_request *r);
#include "proxy/admin_endpoints.def"

#endif
