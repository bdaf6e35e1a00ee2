/*
 * The dashboard: the page at / and the files that it loads from assets/, as the build put them into the
 * program.
 *
 * Invariants: nothing here depends on who asks, so no token is asked for: what the page shows it gets from
 * the API, where one is. A file's name has a hash of its content in it, so it may be kept for ever; the page
 * may not. The page may run and load what this port serves, and nothing else: no inline script or style.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "proxy/admin_request.h"
#include "proxy/page_assets.h"

#define PAGE_POLICY                                                                                          \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "             \
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
#define KEPT_FOR_EVER   "public, max-age=31536000, immutable"
#define ASKED_EACH_TIME "no-cache"

static const struct page_asset *find(const char *name)
{
    for (const struct page_asset *a = page_assets; a->name; a++)
        if (strcmp(a->name, name) == 0)
            return a;
    return NULL;
}

/* True when gzip may be sent (RFC 9110 12.5.3). */
static bool takes_gzip(const struct admin_request *r)
{
    const char *accept = admin_field(r, "Accept-Encoding");
    double gzip = accept ? admin_weight(accept, "gzip") : 0;
    return gzip > 0 || (gzip < 0 && admin_weight(accept, "*") > 0);
}

/* The content of a file that is kept in gzip. False when memory is short. */
static bool unpack(const struct page_asset *a, struct text *out)
{
    z_stream z = {0};
    out->p = malloc(a->plain);
    if (!out->p || inflateInit2(&z, MAX_WBITS + 16) != Z_OK) /* + 16: with gzip's head and foot */
        return false;
    z.next_in = (z_const Bytef *)(uintptr_t)a->bytes;
    z.avail_in = (uInt)a->n;
    z.next_out = (Bytef *)out->p;
    z.avail_out = (uInt)a->plain;
    bool whole = inflate(&z, Z_FINISH) == Z_STREAM_END && !z.avail_out;
    inflateEnd(&z);
    out->n = out->cap = a->plain;
    return whole;
}

static void reply_asset(struct admin_request *r, const struct page_asset *a, const char *caching)
{
    const char *seen = admin_field(r, "If-None-Match");
    struct text content = {.p = (char *)(uintptr_t)a->bytes, .n = a->n}, unpacked = {0};
    r->policy = PAGE_POLICY;
    r->caching = caching;
    admin_header(r, "ETag", a->etag);
    if (a->plain)
        admin_header(r, "Vary", "Accept-Encoding");
    if (seen && strstr(seen, a->etag)) {
        admin_reply_bytes(r, 304, NULL, &(struct text){0});
        return;
    }
    if (a->plain && takes_gzip(r)) {
        admin_header(r, "Content-Encoding", "gzip");
    } else if (a->plain) {
        if (!unpack(a, &unpacked)) {
            text_dispose(&unpacked);
            admin_reply(r, 503, NULL);
            return;
        }
        content = unpacked;
    }
    admin_reply_bytes(r, 200, a->type, &content);
    text_dispose(&unpacked);
}

void admin_show_page(struct admin_request *r)
{
    const struct page_asset *page = find("");
    struct text why = {0};
    if (page) {
        reply_asset(r, page, ASKED_EACH_TIME);
        return;
    }
    text_string(&why, "The dashboard was left out when this program was built: ");
    text_string(&why, page_left_out);
    text_string(
        &why,
        "\nEverything that it shows is at api/v1 and metrics; promptops-perf shows it in a terminal.\n");
    admin_reply_bytes(r, 501, "text/plain; charset=utf-8", &why);
    text_dispose(&why);
}

void admin_show_asset(struct admin_request *r)
{
    const struct page_asset *a = *r->name ? find(r->name) : NULL;
    if (a)
        reply_asset(r, a, KEPT_FOR_EVER);
    else
        admin_reply_error(r, 404, "The dashboard has no file of this name.", "Load the page again.");
}
