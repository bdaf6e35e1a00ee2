/*
 * WebSocket frames for /ws. Invariant: `frame` holds at most one incomplete frame; masked frames only are
 * taken (RFC 6455 5.1), unmasked ones only are sent.
 */
#include "tests/origin/ws.h"

#include <openssl/evp.h>
#include <string.h>

enum { OPCODE_CLOSE = 8, OPCODE_PING = 9, OPCODE_PONG = 10 };

bool ws_accept(struct slice key, char out[29])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char joined[24 + sizeof(magic)];
    unsigned char sum[EVP_MAX_MD_SIZE];
    if (key.n != 24)
        return false;
    memcpy(joined, key.p, 24);
    memcpy(joined + 24, magic, sizeof(magic));
    if (EVP_Digest(joined, 24 + sizeof(magic) - 1, sum, NULL, EVP_sha1(), NULL) != 1)
        return false;
    EVP_EncodeBlock((unsigned char *)out, sum, 20);
    return true;
}

static void send_frame(struct text *out, unsigned char first, const char *p, size_t n)
{
    unsigned char head[10] = {first};
    size_t len = 2;
    if (n < 126) {
        head[1] = (unsigned char)n;
    } else if (n < 65536) {
        head[1] = 126;
        head[2] = (unsigned char)(n >> 8);
        head[3] = (unsigned char)n;
        len = 4;
    } else {
        head[1] = 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (unsigned char)((uint64_t)n >> (56 - 8 * i));
        len = 10;
    }
    text_add(out, (const char *)head, len);
    text_add(out, p, n);
}

static void send_close(struct ws *ws, struct text *out, unsigned code)
{
    char body[2] = {(char)(code >> 8), (char)code};
    send_frame(out, 0x80 | OPCODE_CLOSE, body, 2);
    ws->ended = true;
}

/* Sizes of a frame's head and body; 0 when more bytes are needed to know. */
static size_t frame_head(const struct text *f, uint64_t *body)
{
    const unsigned char *p = (const unsigned char *)f->p;
    if (f->n < 2)
        return 0;
    unsigned len = p[1] & 127;
    size_t head = len < 126 ? 2 : len == 126 ? 4 : 10;
    if (f->n < head)
        return 0;
    *body = len;
    if (len == 126)
        *body = (uint64_t)p[2] << 8 | p[3];
    if (len == 127) {
        *body = 0;
        for (int i = 0; i < 8; i++)
            *body = *body << 8 | p[2 + i];
    }
    return head + 4; /* the mask */
}

static void answer(struct ws *ws, char *body, size_t n, struct text *out, unsigned *messages)
{
    unsigned char first = (unsigned char)ws->frame.p[0];
    switch (first & 15) {
    case OPCODE_CLOSE:
        send_frame(out, 0x80 | OPCODE_CLOSE, body, n);
        ws->ended = true;
        break;
    case OPCODE_PING:
        send_frame(out, 0x80 | OPCODE_PONG, body, n);
        break;
    case OPCODE_PONG:
        break;
    default:
        send_frame(out, first, body, n);
        (*messages)++;
    }
}

/* Says whether this much of the frame is allowed at all. */
static bool frame_allowed(struct ws *ws, uint64_t body, struct text *out)
{
    unsigned char first = (unsigned char)ws->frame.p[0], opcode = first & 15;
    bool control = opcode >= 8;
    bool known = opcode <= 2 || (opcode >= OPCODE_CLOSE && opcode <= OPCODE_PONG);
    if ((first & 0x70) || !known || !(ws->frame.p[1] & 0x80) || (control && (body > 125 || !(first & 0x80)))) {
        send_close(ws, out, 1002);
        return false;
    }
    if (body > WS_MAX_FRAME) {
        send_close(ws, out, 1009);
        return false;
    }
    return true;
}

bool ws_read(struct ws *ws, const char *in, size_t n, struct text *out, unsigned *messages)
{
    while (n && !ws->ended) {
        uint64_t body = 0;
        size_t head = frame_head(&ws->frame, &body), want;
        if (!head)
            want = 1; /* heads are short: byte by byte */
        else if (ws->frame.n < head + body)
            want = (size_t)(head + body) - ws->frame.n;
        else
            want = 0;
        if (want > n)
            want = n;
        text_add(&ws->frame, in, want);
        if (ws->frame.failed)
            return false;
        in += want;
        n -= want;
        head = frame_head(&ws->frame, &body);
        if (!head)
            continue;
        if (!frame_allowed(ws, body, out))
            return false;
        if (ws->frame.n < head + body)
            continue;
        for (size_t i = 0; i < body; i++)
            ws->frame.p[head + i] ^= ws->frame.p[head - 4 + i % 4];
        answer(ws, ws->frame.p + head, (size_t)body, out, messages);
        ws->frame.n = 0;
    }
    return true;
}

void ws_free(struct ws *ws)
{
    text_free(&ws->frame);
}
