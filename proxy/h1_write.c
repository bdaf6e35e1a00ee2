/*
 * Writing of heads. Invariant: nothing is written behind out + cap; a head that does not fit
 * gives 0, and the caller fails the message instead of cutting it.
 */
#include "proxy/h1_write.h"

#include <string.h>

#include "policy/decimal.h"

struct writer {
    char *p, *end;
    bool full;
};

static void add(struct writer *w, const char *p, size_t n)
{
    if (n > (size_t)(w->end - w->p)) {
        w->full = true;
        w->end = w->p; /* nothing fits any more */
        return;
    }
    if (n)
        memcpy(w->p, p, n);
    w->p += n;
}

#define ADD(w, literal) add(w, literal, sizeof(literal) - 1)

static void add_number(struct writer *w, uint64_t v)
{
    char digits[DECIMAL_MAX];
    add(w, digits, decimal_write(digits, v));
}

static void add_runs(struct writer *w, const struct slice *runs, int count)
{
    for (int i = 0; i < count; i++)
        add(w, runs[i].p, runs[i].n);
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

size_t h1_write_reply(char *out, size_t cap, const struct reply *r, unsigned flags)
{
    struct writer w = {out, out + cap, false};
    struct slice reason = r->reason;
    char code[4] = {(char)('0' + r->status / 100 % 10), (char)('0' + r->status / 10 % 10),
                    (char)('0' + r->status % 10), ' '};
    ADD(&w, "HTTP/1.1 ");
    add(&w, code, sizeof(code));
    if (!reason.p) {
        reason.p = h1_reason_phrase(r->status);
        reason.n = strlen(reason.p);
    }
    add(&w, reason.p, reason.n);
    ADD(&w, "\r\n");
    add_runs(&w, r->runs, r->run_count);
    if (!(flags & H1_INTERIM)) {
        if (flags & H1_CHUNKED) {
            ADD(&w, "Transfer-Encoding: chunked\r\n");
        } else if (!r->length_given && (r->framing == BODY_LENGTH || r->show_length)) {
            ADD(&w, "Content-Length: ");
            add_number(&w, r->length);
            ADD(&w, "\r\n");
        }
        if (flags & H1_CLOSE)
            ADD(&w, "Connection: close\r\n");
        else if (flags & H1_KEEP_ALIVE)
            ADD(&w, "Connection: keep-alive\r\n");
    }
    ADD(&w, "\r\n");
    return w.full ? 0 : (size_t)(w.p - out);
}

size_t h1_write_call(char *out, size_t cap, const struct call *c, unsigned flags)
{
    struct writer w = {out, out + cap, false};
    add(&w, c->method.p, c->method.n);
    ADD(&w, " ");
    add(&w, c->base_path.p, c->base_path.n);
    add(&w, c->path.p, c->path.n);
    ADD(&w, " HTTP/1.1\r\nHost: ");
    add(&w, c->authority.p, c->authority.n);
    ADD(&w, "\r\n");
    add_runs(&w, c->runs, c->run_count);
    if (c->framing == BODY_CHUNKED) {
        ADD(&w, "Transfer-Encoding: chunked\r\n");
    } else if (c->framing == BODY_LENGTH) {
        ADD(&w, "Content-Length: ");
        add_number(&w, c->length);
        ADD(&w, "\r\n");
    }
    if (c->expect_continue)
        ADD(&w, "Expect: 100-continue\r\n");
    if (c->upgrade)
        ADD(&w, "Connection: upgrade\r\n");
    else if (flags & H1_CLOSE)
        ADD(&w, "Connection: close\r\n");
    ADD(&w, "\r\n");
    return w.full ? 0 : (size_t)(w.p - out);
}
