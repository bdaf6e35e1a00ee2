/*
 * The head of an HTTP message, as every codec delivers it and every decision reads it:
 * a table of fields over bytes that somebody else owns. Field names became numbers
 * when they were parsed, so that nobody compares strings afterwards.
 *
 * All places are offsets from `base`, so a head is moved by copying its bytes and
 * setting `base` anew.
 */
#ifndef POLICY_HEAD_H
#define POLICY_HEAD_H

#include "policy/base.h"

enum field_id {
    FIELD_OTHER = 0, /* a name that the code does not act on */
#define FIELD(id, name, flags) FIELD_##id,
#include "policy/field.def"
#undef FIELD
    FIELD_COUNT
};
_Static_assert(FIELD_COUNT <= 64, "head.present is a set of 64 bits");

enum method {
    METHOD_OTHER = 0, /* a valid token that is none of the following */
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_PATCH,
    METHOD_OPTIONS,
    METHOD_TRACE,
    METHOD_CONNECT,
    METHOD_COUNT
};

enum body_kind {
    BODY_NONE,       /* no body, whatever the fields say */
    BODY_LENGTH,     /* content_length bytes (may be 0) */
    BODY_CHUNKED,    /* chunked transfer coding */
    BODY_UNTIL_CLOSE /* responses only: until the connection closes */
};

struct field {
    uint32_t name;  /* offset of the name as received */
    uint32_t value; /* offset of the value, white space around it trimmed */
    uint32_t value_len;
    uint16_t name_len;
    uint8_t id;  /* enum field_id */
    uint8_t hop; /* 1: this connection's only, not to be forwarded (RFC 9110 7.6.1) */
};

struct head {
    const char *base; /* not owned */
    uint32_t len;     /* bytes of the whole head, its empty line included */
    uint16_t field_count;
    uint16_t field_max;   /* room in `fields` */
    struct field *fields; /* not owned: the caller of the parser provides it */
    uint64_t present;     /* bit i: a field with id i is in the table */

    /* Requests. */
    uint8_t method;      /* enum method */
    uint8_t target_form; /* enum target_form */
    uint16_t method_len; /* the method's name is base[method_at ... method_at + method_len) */
    uint32_t method_at;
    uint32_t path_at;      /* path and query in origin form: for absolute-form, behind the authority */
    uint32_t path_len;     /* 0: absolute-form with an empty path, to be read as "/" */
    uint32_t authority_at; /* from the target when absolute-form, else Host's value */
    uint32_t authority_len;

    /* Responses. */
    uint16_t status;
    uint32_t reason_at; /* the reason phrase */
    uint32_t reason_len;

    /* Framing and connection, decided once by the codec (RFC 9112 6.3, 9.3). */
    uint8_t minor;   /* 0 or 1: HTTP/1.minor; other codecs say 1 */
    uint8_t body;    /* enum body_kind */
    bool keep_alive; /* the peer lets the connection live on after this message */
    bool expect_continue;
    bool upgrade;     /* asks for, or agrees to, a WebSocket: see h1_head.c */
    bool te_trailers; /* TE has the member `trailers` */
    uint64_t
        content_length; /* when body is BODY_LENGTH; for a 304 or an answer to HEAD what the field said */
    bool has_content_length; /* Content-Length was there, and valid */
};

enum target_form { TARGET_ORIGIN, TARGET_ABSOLUTE, TARGET_ASTERISK, TARGET_AUTHORITY };

static inline bool head_has(const struct head *h, enum field_id id)
{
    return (h->present >> id) & 1;
}

/* Place of the first field with this id at or after index `from`, or -1. */
static inline int head_find(const struct head *h, enum field_id id, int from)
{
    if (!head_has(h, id))
        return -1;
    for (int i = from; i < h->field_count; i++)
        if (h->fields[i].id == id)
            return i;
    return -1;
}

static inline struct slice head_value(const struct head *h, int index)
{
    return (struct slice){h->base + h->fields[index].value, h->fields[index].value_len};
}

static inline struct slice head_name(const struct head *h, int index)
{
    return (struct slice){h->base + h->fields[index].name, h->fields[index].name_len};
}

/* Value of the first field with this id; {NULL, 0} when there is none. */
static inline struct slice head_first(const struct head *h, enum field_id id)
{
    int i = head_find(h, id, 0);
    return i < 0 ? (struct slice){NULL, 0} : head_value(h, i);
}

static inline struct slice head_path(const struct head *h)
{
    if (h->path_len)
        return (struct slice){h->base + h->path_at, h->path_len};
    return h->method == METHOD_OPTIONS ? SLICE("*") : SLICE("/"); /* RFC 9112 3.2.1, 3.2.4 */
}

static inline struct slice head_method(const struct head *h)
{
    return (struct slice){h->base + h->method_at, h->method_len};
}

/* The number of a field name, compared without case (RFC 9110 5.1). */
enum field_id field_lookup(const char *name, size_t n);

/* The name in lower case, "" for FIELD_OTHER. */
struct slice field_name(enum field_id id);

/* May not be forwarded, by its name alone. / Stays although Connection names it. */
bool field_is_hop(enum field_id id);
bool field_is_kept(enum field_id id);

/* Compares ASCII without case. */
bool slice_equal_nocase(struct slice a, struct slice b);
bool slice_equal(struct slice a, struct slice b);

/*
 * Walks a comma-separated list field over all its lines (RFC 9110 5.6.1): gives the next
 * member, white space trimmed, quoted strings respected, empty members left out.
 * Start with *cursor all zero. Returns false at the end.
 */
struct list_cursor {
    int field; /* index of the line being read, plus one; 0 before the first */
    size_t at;
};
bool head_list_next(const struct head *h, enum field_id id, struct list_cursor *cursor, struct slice *member);

#endif
