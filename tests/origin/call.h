/*
 * One request as a handler sees it, and the reply it makes.
 */
#ifndef ORIGIN_CALL_H
#define ORIGIN_CALL_H

#include "policy/head.h"
#include "tests/origin/bytes.h"
#include "tests/origin/route.h"

struct origin; /* server.h */
struct key;    /* auth.h */
struct settings;
struct worker;

enum {
    MAX_FIELDS = 100,
    MAX_HEAD = 64 * 1024,
    MAX_TARGET = 16 * 1024,
    MAX_BODY = 8 * 1024 * 1024 /* of a body that is kept; /upload takes any size */
};

struct request {
    struct head head; /* its bytes stay where they are until the reply is complete */
    struct field fields[MAX_FIELDS];
    struct slice path;  /* without the query */
    struct slice query; /* behind the question mark */
    struct route_match match;
    struct text decoded; /* owner of what match.params may point to */
    struct text body;    /* whole, when the operation keeps it */
    uint64_t body_len;   /* bytes of it that came */
    struct digest *digest; /* of the body, while an upload runs; owned */
};

enum reply_source {
    FROM_NOTHING,
    FROM_BLOB,    /* reply.blob */
    FROM_PATTERN, /* reply.length bytes of the pattern */
    FROM_CHUNKS,  /* the same in chunks of reply.step bytes */
    FROM_EVENTS   /* reply.length events, reply.step ms apart, chunked */
};

enum cut { CUT_NOT, CUT_CLOSE, CUT_RESET };

struct reply {
    int status;
    const char *content_type; /* static; NULL: none */
    struct text fields;       /* more fields, `name: value CRLF` each */
    enum reply_source source;
    struct blob *blob; /* owned */
    uint64_t length;
    uint32_t step;
    uint64_t delay_us; /* before the first byte */
    bool close;        /* the connection ends with this reply */
    bool upgrade;      /* 101: a WebSocket begins */
    /* Faults on demand. */
    bool reset_before; /* no answer at all, a reset */
    bool hang;         /* no answer at all, nothing */
    enum cut cut;
    uint64_t cut_at;           /* body bytes (as on the wire) that go out before the cut */
    uint64_t bytes_per_second; /* of the body; 0: as fast as it goes */
};

struct call {
    struct origin *origin;
    struct request *request;
    struct reply *reply;
    struct key *key; /* who asks; NULL: nobody known */
    const struct settings *settings;
    struct worker *worker; /* for its randomness */
    bool control;          /* came by the control port: no fault applies */
};

typedef void handler(struct call *call);
handler handle_request; /* api.c: does everything from counting to the reply */

/* The value of a field that the table of known fields has no number for; {NULL, 0} when it is not there. */
struct slice request_field(const struct request *request, const char *name);
struct slice request_param(const struct call *call, int index);

/* Sets a reply of JSON text. The text becomes empty. */
void reply_json(struct call *call, int status, struct text *json);
/* Sets a reply of shared bytes, taking a reference of its own. */
void reply_blob(struct call *call, int status, struct blob *blob);
/* FastAPI's error body, {"detail": "..."}. */
void reply_detail(struct call *call, int status, const char *detail);
/* The guide's error body: success, error, status_code, timestamp, details. */
void reply_error(struct call *call, int status, const char *error);
/* FastAPI's 422: a member of the body is missing (name NULL: the body is no JSON object). */
void reply_missing(struct call *call, const char *name);
/* Adds a field to the reply. The value must hold no CR or LF. */
void reply_field(struct call *call, const char *name, const char *value);
const char *status_phrase(int status);

#endif
