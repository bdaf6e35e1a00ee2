/*
 * The stack is pushed with a compare-and-swap and taken whole by its only reader, so a letter
 * is never looked at by two threads. Invariant: whenever the stack is not empty, the eventfd is
 * readable or the owner is inside mailbox_drain().
 */
#include "proxy/mailbox.h"

#include <event2/event.h>
#include <sys/eventfd.h>
#include <unistd.h>

void mailbox_drain(struct mailbox *box)
{
    struct letter *list = atomic_exchange_explicit(&box->top, NULL, memory_order_acquire);
    struct letter *ordered = NULL;
    while (list) {
        struct letter *next = list->next;
        list->next = ordered;
        ordered = list;
        list = next;
    }
    while (ordered) {
        struct letter *l = ordered;
        ordered = l->next;
        l->deliver(l, box->owner);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;
    (void)what;
    if (read(fd, &count, sizeof(count)) < 0) {
        /* Another turn took it already: draining an empty stack does no harm. */
    }
    mailbox_drain(arg);
}

bool mailbox_init(struct mailbox *box, struct event_base *base, void *owner)
{
    atomic_init(&box->top, NULL);
    box->owner = owner;
    box->wake = NULL;
    box->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (box->fd < 0)
        return false;
    box->wake = event_new(base, box->fd, EV_READ | EV_PERSIST, on_wake, box);
    return box->wake && event_add(box->wake, NULL) == 0;
}

void mailbox_dispose(struct mailbox *box)
{
    mailbox_drain(box);
    if (box->wake)
        event_free(box->wake);
    if (box->fd >= 0)
        close(box->fd);
    box->wake = NULL;
    box->fd = -1;
}

void mailbox_post(struct mailbox *box, struct letter *letter)
{
    struct letter *top = atomic_load_explicit(&box->top, memory_order_relaxed);
    do {
        letter->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&box->top, &top, letter, memory_order_release,
                                                    memory_order_relaxed));
    if (!top) {
        uint64_t one = 1;
        if (write(box->fd, &one, sizeof(one)) < 0) {
            /* The counter is full only when the owner has a wake-up pending anyway. */
        }
    }
}
