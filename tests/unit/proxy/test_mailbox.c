/*
 * mailbox.c: letters from several threads all arrive, once, in order per sender, on the owner's loop.
 */
#include <check.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>

#include "proxy/mailbox.h"

enum { SENDERS = 4, LETTERS = 5000 };

struct numbered {
    struct letter letter;
    int sender, number;
};

static struct mailbox box;
static struct event_base *base;
static int next_of[SENDERS];
static int total;

static void deliver(struct letter *letter, void *owner)
{
    struct numbered *n = (struct numbered *)letter;
    ck_assert_ptr_eq(owner, &box);
    ck_assert_int_eq(n->number, next_of[n->sender]);
    next_of[n->sender]++;
    free(n);
    if (++total == SENDERS * LETTERS)
        event_base_loopbreak(base);
}

static void *sender(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < LETTERS; i++) {
        struct numbered *n = malloc(sizeof(*n));
        ck_assert_ptr_nonnull(n);
        *n = (struct numbered){{NULL, deliver}, me, i};
        mailbox_post(&box, &n->letter);
    }
    return NULL;
}

START_TEST(test_letters_of_many_threads)
{
    pthread_t threads[SENDERS];
    struct timeval limit = {20, 0};
    base = event_base_new();
    ck_assert(mailbox_init(&box, base, &box));
    for (int i = 0; i < SENDERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, sender, (void *)(intptr_t)i), 0);
    event_base_loopexit(base, &limit);
    event_base_dispatch(base);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(total, SENDERS * LETTERS);
    mailbox_dispose(&box);
    event_base_free(base);
}
END_TEST

START_TEST(test_dispose_delivers_what_is_left)
{
    base = event_base_new();
    ck_assert(mailbox_init(&box, base, &box));
    struct numbered *n = malloc(sizeof(*n));
    *n = (struct numbered){{NULL, deliver}, 0, 0};
    mailbox_post(&box, &n->letter);
    mailbox_dispose(&box);
    ck_assert_int_eq(total, 1);
    event_base_free(base);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mailbox");
    TCase *c = tcase_create("mailbox");
    tcase_set_timeout(c, 30);
    tcase_add_test(c, test_letters_of_many_threads);
    tcase_add_test(c, test_dispose_delivers_what_is_left);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
