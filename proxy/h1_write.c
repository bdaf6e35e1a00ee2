/*
 * Writing of heads. Invariant: nothing is written behind out + cap; a head that might not fit
 * (by FRAME_MAX) gives 0, and the caller fails the message instead of cutting it.
 */
#include "proxy/h1_write.h"

#include <string.h>

#include "policy/decimal.h"

/* What a head takes at most beside its runs and the parts of its start line: all the words below, and a
 * number. */
enum { FRAME_MAX = 160 };

/* The callers below have counted: it fits. */
static inline char *add(char *to, struct slice s)
{
    if (s.n)
        memcpy(to, s.p, s.n);
    return to + s.n;
}

#define ADD(to, literal) (memcpy(to, literal, sizeof(literal) - 1), (to) + sizeof(literal) - 1)

static size_t runs_size(const struct slice *runs, int count)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += runs[i].n;
    return n;
}

static inline char *add_runs(char *to, const struct slice *runs, int count)
{
    for (int i = 0; i < count; i++)
        to = add(to, runs[i]);
    return to;
}

static inline char *add_length(char *to, uint64_t length)
{
    to = ADD(to, "Content-Length: ");
    to += decimal_write(to, length);
    return ADD(to, "\r\n");
}

const char *h1_reason_phrase(unsigned status)
{
    static const struct {
        uint16_t status;
        const char *phrase;
    } table[] = {
        {200, "OK"},
        {100, "Continue"},
        {101, "Switching Protocols"},
        {103, "Early Hints"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {508, "Loop Detected"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].status == status)
            return table[i].phrase;
    return "";
}

static char *add_status_line(char *to, const struct reply *r)
{
    struct slice reason = r->reason;
    if (!reason.p) {
        reason.p = h1_reason_phrase(r->status);
        reason.n = strlen(reason.p);
    }
    to = ADD(to, "HTTP/1.1 ");
    to[0] = (char)('0' + r->status / 100 % 10);
    memcpy(to + 1, decimal_pairs + r->status % 100 * 2, 2);
    to[3] = ' ';
    return ADD(add(to + 4, reason), "\r\n");
}

size_t h1_write_reply(char *out, size_t cap, const struct reply *r, unsigned flags)
{
    char *p = out;
    if (r->reason.n + runs_size(r->runs, r->run_count) + FRAME_MAX > cap)
        return 0;
    if (!r->line_given)
        p = add_status_line(p, r);
    p = add_runs(p, r->runs, r->run_count);
    if (!(flags & H1_INTERIM)) {
        if (flags & H1_CHUNKED)
            p = ADD(p, "Transfer-Encoding: chunked\r\n");
        else if (!r->length_given && (r->framing == BODY_LENGTH || r->show_length))
            p = add_length(p, r->length);
        if (flags & H1_CLOSE)
            p = ADD(p, "Connection: close\r\n");
        else if (flags & H1_KEEP_ALIVE)
            p = ADD(p, "Connection: keep-alive\r\n");
    }
    p = ADD(p, "\r\n");
    return (size_t)(p - out);
}

size_t h1_write_call(char *out, size_t cap, const struct call *c, unsigned flags)
{
    size_t start = c->method.n + c->base_path.n + c->path.n + c->authority.n;
    if (start + runs_size(c->runs, c->run_count) + FRAME_MAX > cap)
        return 0;
    char *p = add(out, c->method);
    p = ADD(p, " ");
    p = add(add(p, c->base_path), c->path);
    p = ADD(p, " HTTP/1.1\r\nHost: ");
    p = add(p, c->authority);
    p = ADD(p, "\r\n");
    p = add_runs(p, c->runs, c->run_count);
    if (c->framing == BODY_CHUNKED)
        p = ADD(p, "Transfer-Encoding: chunked\r\n");
    else if (c->framing == BODY_LENGTH)
        p = add_length(p, c->length);
    if (c->expect_continue)
        p = ADD(p, "Expect: 100-continue\r\n");
    if (c->upgrade)
        p = ADD(p, "Connection: upgrade\r\n");
    else if (flags & H1_CLOSE)
        p = ADD(p, "Connection: close\r\n");
    p = ADD(p, "\r\n");
    return (size_t)(p - out);
}
