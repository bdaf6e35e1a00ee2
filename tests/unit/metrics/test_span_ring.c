/* metrics/span_ring.c: whole records through a ring that wraps, a full ring, two threads. */
#include <pthread.h>
#include <string.h>

#include "main.h"
#include "metrics/span.h"

static struct span_record made(unsigned number)
{
    struct span_record s;
    memset(&s, 0, sizeof s);
    s.head.operation = (uint16_t)number;
    s.head.began = number;
    s.head.attempts = (uint8_t)(number % (SPAN_ATTEMPTS + 1));
    s.head.events = (uint8_t)(number % (SPAN_EVENTS + 1));
    s.head.path_bytes = (uint16_t)(number % (SPAN_PATH_BYTES + 1));
    s.head.host_bytes = (uint16_t)(number % (SPAN_HOST_BYTES + 1));
    s.head.request_id_bytes = (uint16_t)(number % (SPAN_ID_BYTES + 1));
    for (unsigned i = 0; i < s.head.attempts; i++)
        s.attempts[i].total = number + i;
    for (unsigned i = 0; i < s.head.events; i++)
        s.events[i].at = number + i;
    memset(s.path, (int)(number % 128), s.head.path_bytes);
    memset(s.host, (int)(number % 64), s.head.host_bytes);
    memset(s.request_id, (int)(number % 32), s.head.request_id_bytes);
    return s;
}

/* Reads the next, and looks whether all of it is there. */
static bool take(struct span_ring *r, unsigned *number)
{
    static struct span_record got;
    if (!span_ring_take(r, &got))
        return false;
    struct span_record want = made((unsigned)got.head.began);
    must(memcmp(&got.head, &want.head, sizeof got.head) == 0);
    must(memcmp(got.attempts, want.attempts, want.head.attempts * sizeof *want.attempts) == 0);
    must(memcmp(got.events, want.events, want.head.events * sizeof *want.events) == 0);
    must(memcmp(got.path, want.path, want.head.path_bytes) == 0);
    must(memcmp(got.host, want.host, want.head.host_bytes) == 0);
    must(memcmp(got.request_id, want.request_id, want.head.request_id_bytes) == 0);
    *number = (unsigned)got.head.began;
    return true;
}

START_TEST(records_come_out_as_they_went_in)
{
    struct span_ring *r = span_ring_new(8192);
    unsigned number, next = 0;
    for (unsigned i = 0; i < 5000; i++) {
        struct span_record s = made(i);
        while (!span_ring_put(r, &s)) {
            must(take(r, &number));
            must(number == next++);
        }
    }
    while (take(r, &number))
        must(number == next++);
    ck_assert_uint_eq(next, 5000);
    span_ring_free(r);
}
END_TEST

START_TEST(a_full_ring_keeps_what_it_has)
{
    struct span_ring *r = span_ring_new(4096);
    unsigned n = 0, number;
    struct span_record s = made(7);
    while (span_ring_put(r, &s))
        n++;
    ck_assert(n > 0 && !span_ring_put(r, &s));
    for (unsigned i = 0; i < n; i++)
        ck_assert(take(r, &number));
    ck_assert(!take(r, &number));
    ck_assert(span_ring_put(r, &s));
    span_ring_free(r);
    ck_assert_ptr_null(span_ring_new(100));
    ck_assert_ptr_null(span_ring_new(5000));
}
END_TEST

static void *writer(void *arg)
{
    for (unsigned i = 0; i < 20000; i++) {
        struct span_record s = made(i);
        while (!span_ring_put(arg, &s))
            sched_yield();
    }
    return NULL;
}

START_TEST(one_thread_writes_while_another_reads)
{
    struct span_ring *r = span_ring_new(65536);
    pthread_t thread;
    unsigned number;
    ck_assert_int_eq(pthread_create(&thread, NULL, writer, r), 0);
    for (unsigned next = 0; next < 20000;) {
        if (take(r, &number))
            must(number == next++);
        else
            sched_yield();
    }
    pthread_join(thread, NULL);
    span_ring_free(r);
}
END_TEST

SUITE("metrics/span_ring", records_come_out_as_they_went_in, a_full_ring_keeps_what_it_has,
      one_thread_writes_while_another_reads)
