/*
 * The files of the dashboard, as the build put them into the program: build/dashboard.c, made by
 * metrics/dashboard/build.sh.
 */
#ifndef PROXY_PAGE_ASSETS_H
#define PROXY_PAGE_ASSETS_H

#include <stdbool.h>
#include <stddef.h>

struct page_asset {
    const char *name; /* below assets/; "" is the page itself */
    const char *type; /* media type */
    const char *etag; /* a strong one of the content, quoted */
    const char *bytes;
    size_t n;     /* of `bytes` */
    size_t plain; /* of the content, when `bytes` is that in gzip; 0: `bytes` is the content */
};

/* Ended by a NULL name. Empty when the dashboard was left out of the build. */
extern const struct page_asset page_assets[];

/* Why it was left out, a sentence; "" when it was not. */
extern const char page_left_out[];

#endif
