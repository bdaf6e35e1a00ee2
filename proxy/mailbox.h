/*
 * Messages to one thread from any other: a lock-free stack that the owner takes whole, and an
 * eventfd that wakes the owner's loop. Letters are embedded in the objects that send them.
 */
#ifndef PROXY_MAILBOX_H
#define PROXY_MAILBOX_H

#include <stdatomic.h>

#include "policy/base.h"

struct event_base;
struct event;

struct letter {
    struct letter *next;
    void (*deliver)(struct letter *letter, void *owner); /* runs on the owner's thread; may free the letter */
};

struct mailbox {
    _Atomic(struct letter *) top;
    int fd;
    struct event *wake;
    void *owner; /* given to deliver() */
};

/* False when no eventfd or event could be had (errno). */
bool mailbox_init(struct mailbox *box, struct event_base *base, void *owner) MUSTCHECK;

/* Delivers what is there now. The owner's thread only. */
void mailbox_drain(struct mailbox *box);

/* Delivers what is still there, then frees. Nobody may post any more. */
void mailbox_dispose(struct mailbox *box);

/* Any thread. The letter belongs to the mailbox until it is delivered. In order per sender. */
void mailbox_post(struct mailbox *box, struct letter *letter);

#endif
