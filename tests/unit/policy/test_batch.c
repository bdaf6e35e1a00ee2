/* Tests of policy/batch.c: which requests go together, how a proof is won and lost, and when a miss waits. */
#include "policy/batch.h"

#include <string.h>

#include "tests/unit/policy/harness.h"

static const tick_t T0 = 1000 * TICK_S;

static struct slice text(const char *s)
{
    return (struct slice){s, strlen(s)};
}

START_TEST(targets)
{
    static const struct {
        const char *path, *id, *project;
    } good[] = {
        {"/v1/client/prompts/p-1", "p-1", NULL},
        {"/v1/client/prompts/A.b_~9", "A.b_~9", NULL},
        {"/v1/client/prompts/p?project_id=q", "p", "q"},
    };
    static const char *const bad[] = {
        "/v1/client/prompts/",
        "/v1/client/prompts",
        "/v1/client/prompts/.",
        "/v1/client/prompts/..",
        "/v1/client/prompts/p/",
        "/v1/client/prompts/p/versions",
        "/v1/client/prompts/p%31",
        "/v1/client/prompts/p\"",
        "/v1/client/prompts/p?",
        "/v1/client/prompts/p?project_id=",
        "/v1/client/prompts/p?project_id=a&x=1",
        "/v1/client/prompts/p?x=1",
        "/v1/client/prompts/p?project_id=%41",
        "/v1/client/prompts/?project_id=a",
        "/v1/client/promptsx/p",
        "/api/prompts/p",
        "/",
    };
    struct batch_target t;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        ck_assert_msg(batch_target_read(text(good[i].path), &t), "%s", good[i].path);
        ck_assert(slice_equal(t.id, text(good[i].id)));
        ck_assert_int_eq(t.project.p != NULL, good[i].project != NULL);
        if (good[i].project)
            ck_assert(slice_equal(t.project, text(good[i].project)));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!batch_target_read(text(bad[i]), &t), "%s", bad[i]);
    char long_one[19 + BATCH_ID_MAX + 2] = "/v1/client/prompts/";
    memset(long_one + 19, 'a', BATCH_ID_MAX + 1);
    ck_assert(!batch_target_read((struct slice){long_one, 19 + BATCH_ID_MAX + 1}, &t));
    ck_assert(batch_target_read((struct slice){long_one, 19 + BATCH_ID_MAX}, &t));
    ck_assert(batch_path_is(text("/v1/client/prompts/batch")));
    ck_assert(!batch_path_is(text("/v1/client/prompts/batch?x=1")));
}
END_TEST

START_TEST(fields)
{
    ck_assert(batch_field_of_call(text("Date")));
    ck_assert(batch_field_of_call(text("X-RateLimit-Remaining-Minute")));
    ck_assert(batch_field_of_call(text("RateLimit-Policy")));
    ck_assert(!batch_field_of_call(text("ETag")));
    ck_assert(!batch_field_of_call(text("Cache-Control")));
    ck_assert(!batch_field_of_call(text("Content-Type")));
    ck_assert(!batch_field_of_call(text("Set-Cookie")));
    ck_assert(!batch_field_of_call(text("X-Rate")));
    ck_assert(!batch_field_of_call(text("X-RateLimit-")));
    ck_assert(!batch_field_of_call(text("RateLimits")));
    ck_assert(!batch_field_of_call(text("")));
}
END_TEST

START_TEST(request_fields)
{
    static const struct {
        enum field_id id;
        bool hop, counts;
    } rows[] = {{FIELD_AUTHORIZATION, false, true}, {FIELD_COOKIE, false, true},
                {FIELD_OTHER, false, true},         {FIELD_ACCEPT_LANGUAGE, false, true},
                {FIELD_X_REQUEST_ID, false, false}, {FIELD_CONTENT_LENGTH, false, false},
                {FIELD_HOST, false, false},         {FIELD_OTHER, true, false}};
    static const char names[] = "X-Tenant"
                                "X-B3-TraceId"
                                "Baggage"
                                "B3x";
    static const struct {
        uint32_t at;
        uint16_t n;
        bool counts;
    } others[] = {{0, 8, true}, {8, 12, false}, {20, 7, false}, {27, 2, false}, {27, 3, true}, {8, 5, true}};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct field f = {.id = FIELD_OTHER, .name = others[i].at, .name_len = others[i].n};
        struct head h = {.base = names, .fields = &f, .field_count = 1};
        ck_assert_msg(batch_field_counts(&h, 0) == others[i].counts, "name %zu", i);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct field f = {.id = (uint8_t)rows[i].id, .hop = rows[i].hop};
        struct head h = {.base = names, .fields = &f, .field_count = 1};
        ck_assert_msg(batch_field_counts(&h, 0) == rows[i].counts, "row %zu", i);
    }
}
END_TEST

START_TEST(a_proof_is_won_by_equal_answers_in_a_row)
{
    struct batch_proof p = {0};
    ck_assert(!batch_proof_due(&p, BATCH_PROOF_NEEDED - 1, T0));
    ck_assert(batch_proof_due(&p, BATCH_PROOF_NEEDED, T0));
    for (int i = 0; i < BATCH_PROOF_NEEDED; i++) {
        ck_assert_int_eq(p.state, BATCH_UNPROVEN);
        batch_proof_equal(&p, T0);
    }
    ck_assert_int_eq(p.state, BATCH_PROVEN);
    ck_assert(!batch_proof_due(&p, 100, T0 + 59 * TICK_S));
    ck_assert(!batch_proof_due(&p, 0, T0 + 61 * TICK_S));
    ck_assert(batch_proof_due(&p, 1, T0 + 61 * TICK_S));
    ck_assert(!batch_proof_wants_sample(&p, T0 + 599 * TICK_S));
    ck_assert(batch_proof_wants_sample(&p, T0 + 600 * TICK_S));
    ck_assert_str_eq(batch_proof_name(p.state), "proven");
}
END_TEST

START_TEST(the_first_difference_refutes)
{
    struct batch_proof p = {0};
    for (int i = 0; i < 10; i++)
        batch_proof_equal(&p, T0);
    ck_assert(batch_proof_differs(&p, T0));
    ck_assert(!batch_proof_differs(&p, T0)); /* no news */
    ck_assert_int_eq(p.state, BATCH_REFUTED);
    ck_assert(!batch_proof_wants_sample(&p, T0 + 10000 * TICK_S));
    ck_assert(!batch_proof_due(&p, 100, p.again_at - 1));
    ck_assert(!batch_proof_due(&p, BATCH_PROOF_NEEDED - 1, p.again_at));
    ck_assert(batch_proof_due(&p, BATCH_PROOF_NEEDED, p.again_at));
    batch_proof_equal(&p, p.again_at);
    ck_assert_int_eq(p.state, BATCH_UNPROVEN); /* one is not enough */
    for (int i = 1; i < BATCH_PROOF_NEEDED; i++)
        batch_proof_equal(&p, p.again_at);
    ck_assert_int_eq(p.state, BATCH_PROVEN);
}
END_TEST

START_TEST(a_difference_in_between_begins_anew)
{
    struct batch_proof p = {0};
    for (int i = 1; i < BATCH_PROOF_NEEDED; i++)
        batch_proof_equal(&p, T0);
    batch_proof_differs(&p, T0);
    for (int i = 1; i < BATCH_PROOF_NEEDED; i++)
        batch_proof_equal(&p, T0);
    ck_assert_int_eq(p.state, BATCH_UNPROVEN);
    for (int i = 0; i < 40; i++)
        batch_proof_differs(&p, T0);
    ck_assert_int_eq(p.again_at, T0 + 24 * 3600 * TICK_S); /* never longer */
}
END_TEST

START_TEST(pauses_grow_and_end)
{
    struct batch_pause p = {0};
    tick_t before = 0;
    for (int i = 0; i < 40; i++) {
        batch_pause_failed(&p, T0);
        ck_assert(p.until - T0 >= before && p.until - T0 <= 60 * TICK_S);
        before = p.until - T0;
    }
    ck_assert_int_eq(before, 60 * TICK_S);
    batch_pause_worked(&p);
    batch_pause_failed(&p, T0);
    ck_assert_int_eq(p.until, T0 + TICK_S);
}
END_TEST

START_TEST(who_waits)
{
    for (int bits = 0; bits < 32; bits++) {
        struct batch_facts f = {.proven = bits & 1,
                                .paused = bits & 2,
                                .tight = bits & 4,
                                .gathered = bits & 8 ? 3 : 0,
                                .alone = bits & 16 ? 1 : 0};
        bool wanted = f.proven && !f.paused && (f.tight || f.gathered || f.alone);
        ck_assert_msg(batch_worth_waiting(&f) == wanted, "%d", bits);
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("batch");
    tcase_add_test(t, targets);
    tcase_add_test(t, fields);
    tcase_add_test(t, request_fields);
    tcase_add_test(t, a_proof_is_won_by_equal_answers_in_a_row);
    tcase_add_test(t, the_first_difference_refutes);
    tcase_add_test(t, a_difference_in_between_begins_anew);
    tcase_add_test(t, pauses_grow_and_end);
    tcase_add_test(t, who_waits);
    return run_case("batch", t);
}
