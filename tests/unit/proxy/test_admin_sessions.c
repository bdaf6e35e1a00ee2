/*
 * proxy/admin_sessions.c and websocket_accept: who is known, for how long, and the handshake's answer.
 */
#include "proxy/admin_sessions.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/websocket.h"

START_TEST(a_session_is_good_for_a_while)
{
    struct admin_sessions *s = admin_sessions_new();
    char id[ADMIN_SESSION_ID], other[ADMIN_SESSION_ID];
    ck_assert(admin_sessions_begin(s, 1, TICK_S, id));
    ck_assert_uint_eq(strlen(id), ADMIN_SESSION_ID - 1);
    ck_assert_uint_eq(admin_sessions_left(s, id, 1, TICK_S), ADMIN_SESSION_SECONDS);
    ck_assert_uint_eq(admin_sessions_left(s, id, 2, TICK_S), 0); /* another token */
    ck_assert_uint_eq(admin_sessions_left(s, id, 1, (ADMIN_SESSION_SECONDS + 1) * TICK_S), 0);
    ck_assert_uint_eq(admin_sessions_left(s, "short", 1, TICK_S), 0);
    memset(other, '0', sizeof other - 1);
    other[sizeof other - 1] = '\0';
    ck_assert_uint_eq(admin_sessions_left(s, other, 1, TICK_S), 0);
    admin_sessions_end(s, id);
    ck_assert_uint_eq(admin_sessions_left(s, id, 1, TICK_S), 0);
    admin_sessions_free(s);
}
END_TEST

START_TEST(the_one_that_was_used_least_makes_room)
{
    struct admin_sessions *s = admin_sessions_new();
    char ids[ADMIN_SESSIONS_MAX + 1][ADMIN_SESSION_ID];
    for (int i = 0; i < ADMIN_SESSIONS_MAX; i++)
        ck_assert(admin_sessions_begin(s, 1, (i + 1) * TICK_S, ids[i]));
    ck_assert_uint_gt(admin_sessions_left(s, ids[0], 1, 100 * TICK_S), 0); /* used now */
    ck_assert(admin_sessions_begin(s, 1, 101 * TICK_S, ids[ADMIN_SESSIONS_MAX]));
    ck_assert_uint_gt(admin_sessions_left(s, ids[0], 1, 102 * TICK_S), 0);
    ck_assert_uint_eq(admin_sessions_left(s, ids[1], 1, 102 * TICK_S), 0);
    admin_sessions_free(s);
}
END_TEST

START_TEST(cookies)
{
    char field[256], id[ADMIN_SESSION_ID], wanted[ADMIN_SESSION_ID];
    memset(wanted, 'a', sizeof wanted - 1);
    wanted[sizeof wanted - 1] = '\0';
    snprintf(field, sizeof field, "x=1; " ADMIN_SESSION_COOKIE "=%s; y=2", wanted);
    ck_assert(admin_sessions_read(field, id));
    ck_assert_str_eq(id, wanted);
    snprintf(field, sizeof field, "x" ADMIN_SESSION_COOKIE "=%s", wanted);
    ck_assert(!admin_sessions_read(field, id));
    ck_assert(!admin_sessions_read(ADMIN_SESSION_COOKIE "=short", id));
    ck_assert(!admin_sessions_read("", id));
    ck_assert(!admin_sessions_read(NULL, id));
}
END_TEST

START_TEST(the_handshakes_answer)
{
    char accept[WEBSOCKET_ACCEPT];
    ck_assert(websocket_accept("dGhlIHNhbXBsZSBub25jZQ==", accept)); /* RFC 6455 1.3 */
    ck_assert_str_eq(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    ck_assert(!websocket_accept("dGhlIHNhbXBsZSBub25jZQ=", accept));
    ck_assert(!websocket_accept("dGhlIHNhbXBsZSBub25jZ(==", accept));
    ck_assert(!websocket_accept("", accept));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/admin_sessions");
    TCase *t = tcase_create("sessions");
    tcase_add_test(t, a_session_is_good_for_a_while);
    tcase_add_test(t, the_one_that_was_used_least_makes_room);
    tcase_add_test(t, cookies);
    tcase_add_test(t, the_handshakes_answer);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
