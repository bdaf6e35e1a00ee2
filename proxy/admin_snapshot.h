/*
 * Everything that the dashboard shows, as one object of sections: GET /api/v1/snapshot, and what the live
 * stream tells. Private to admin*.c.
 */
#ifndef PROXY_ADMIN_SNAPSHOT_H
#define PROXY_ADMIN_SNAPSHOT_H

#include "proxy/admin.h"

/* The names of its members, in their order. */
enum { SNAPSHOT_SECTIONS = 9 };
extern const char *const snapshot_sections[SNAPSHOT_SECTIONS];

/* All sections as they are now. NULL: out of memory. Control thread only. */
struct view *snapshot_view(const struct admin_sources *sources);

#endif
