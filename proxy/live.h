/*
 * The live stream of the admin port: who hears it, what each was told last, and when the next is due.
 * Control thread only. Private to admin*.c.
 */
#ifndef PROXY_LIVE_H
#define PROXY_LIVE_H

#include "proxy/admin_request.h"

/* Most streams at once; the least interval that a client may wish. */
enum { LIVE_STREAMS = 32, LIVE_INTERVAL_SECONDS = 1 };

/* Everything is borrowed, and outlives it. NULL: out of memory. */
struct live *live_new(struct event_base *base, const struct admin_sources *sources, struct admin_door *door,
                      struct log *log);

/* Tells all who hear that the sidecar stops; the loop must go on for it to reach them. */
void live_leave(struct live *l);

/* Cuts all. NULL is fine. */
void live_free(struct live *l);

unsigned live_count(const struct live *l);

/* Takes `data` over. */
void live_event(struct live *l, const char *kind, struct view *data);

#endif
