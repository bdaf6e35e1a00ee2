/* Tests of proxy/batch_json.c: objects and answers taken apart and put together byte by byte, and what is
 * refused. */
#include "proxy/batch_json.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/head.h"

static struct slice text(const char *s)
{
    return (struct slice){s, strlen(s)};
}

static bool is(const struct text *t, const char *s)
{
    return t->n == strlen(s) && memcmp(t->p, s, t->n) == 0;
}

static const char SINGLE[] = "{\"id\":\"a\", \"n\" : 1.50,\"deep\":{\"x\":[1,{}]},\"s\":\"\\u00e9\"}";
static const char ITEM[] = "{\"s\":\"\\u00e9\",\"id\":\"a\",\"deep\":{\"x\":[1,{}]},\"n\":1.50}";

START_TEST(one_form_becomes_the_other)
{
    struct batch_object single, item;
    struct text out = {0};
    ck_assert(batch_object_read(text(SINGLE), &single));
    ck_assert(batch_object_read(text(ITEM), &item));
    ck_assert_uint_eq(single.count, 4);
    struct batch_shape *as_single = batch_shape_new(&single), *as_item = batch_shape_new(&item);
    ck_assert(as_single && as_item);
    ck_assert(batch_shape_write(as_single, &item, &out));
    ck_assert(is(&out, SINGLE));
    text_clear(&out);
    ck_assert(batch_shape_write(as_item, &single, &out));
    ck_assert(is(&out, ITEM));
    ck_assert(batch_shape_fits(as_single, &single));
    ck_assert(!batch_shape_fits(as_single, &item));
    text_dispose(&out);
    batch_shape_unref(batch_shape_ref(as_single));
    batch_shape_unref(as_single);
    batch_shape_unref(as_item);
}
END_TEST

START_TEST(a_member_that_is_missing_is_not_made_up)
{
    struct batch_object single, item;
    struct text out = {0};
    ck_assert(batch_object_read(text("{\"a\":1,\"b\":2}"), &single));
    ck_assert(batch_object_read(text("{\"a\":1}"), &item));
    struct batch_shape *shape = batch_shape_new(&single);
    ck_assert(!batch_shape_write(shape, &item, &out));
    ck_assert(batch_object_read(text(" {\"a\":1,\"b\":2}"), &item));
    ck_assert(!batch_shape_fits(shape, &item)); /* white space counts */
    text_dispose(&out);
    batch_shape_unref(shape);
}
END_TEST

START_TEST(what_is_no_object)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{",
        "{}x",
        "{\"a\":1",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":\"",
        "{\"a\":nul}",
        "{\"a\":{}",
        "{\"a\":]}",
        "{\"a\":\"\x80\"}",
        "{\"a\":{\"b\":1,\"b\":2}}",
        "{,}",
        "{\"a\":1}}",
        "null",
        "{\"a\":123456789012345678901234567890}",
    };
    struct batch_object o;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!batch_object_read(text(bad[i]), &o), "%s", bad[i]);
    ck_assert(batch_object_read(text("{}"), &o));
    ck_assert_uint_eq(o.count, 0);
    ck_assert(batch_object_read(text(" { \"a\" : null } "), &o));
}
END_TEST

START_TEST(limits)
{
    struct batch_object o;
    char deep[2 * BATCH_DEPTH_MAX + 64], many[BATCH_MEMBERS_MAX * 16 + 64];
    int n = snprintf(deep, sizeof deep, "{\"a\":");
    for (int depth = BATCH_DEPTH_MAX - 1; depth <= BATCH_DEPTH_MAX; depth++) {
        size_t at = (size_t)n;
        memset(deep + at, '[', (size_t)depth);
        memset(deep + at + depth, ']', (size_t)depth);
        strcpy(deep + at + 2 * depth, "}");
        ck_assert_int_eq(batch_object_read(text(deep), &o), depth < BATCH_DEPTH_MAX);
    }
    ck_assert(batch_object_read(
        text("{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"}"), &o));
    for (int count = BATCH_MEMBERS_MAX; count <= BATCH_MEMBERS_MAX + 1; count++) {
        size_t at = 0;
        for (int i = 0; i < count; i++)
            at += (size_t)snprintf(many + at, sizeof many - at, "%c\"m%d\":1", i ? ',' : '{', i);
        strcpy(many + at, "}");
        ck_assert_int_eq(batch_object_read(text(many), &o), count == BATCH_MEMBERS_MAX);
    }
    char *huge = malloc(BATCH_TEXT_MAX + 16);
    memset(huge, ' ', BATCH_TEXT_MAX + 16);
    memcpy(huge, "{}", 2);
    ck_assert(batch_object_read((struct slice){huge, BATCH_TEXT_MAX}, &o));
    ck_assert(!batch_object_read((struct slice){huge, BATCH_TEXT_MAX + 1}, &o));
    free(huge);
}
END_TEST

#define TWO                                                                                                  \
    {.id = {"a", 1}},                                                                                        \
    {                                                                                                        \
        .id = { "b", 1 }                                                                                     \
    }

START_TEST(an_answer_is_split)
{
    struct batch_wanted w[] = {TWO, {.id = {"c", 1}}};
    struct batch_answer a;
    const char *t =
        "{\"prompts\":{\"c\":{\"x\":1},\"a\":{}},\"errors\":[{\"prompt_id\":\"b\",\"error\":\"no\"}],"
        "\"total_requested\":3,\"total_found\":2}";
    ck_assert(batch_answer_read(text(t), w, 3, &a));
    ck_assert(slice_equal(w[0].item, text("{}")));
    ck_assert(!w[1].item.p);
    ck_assert(slice_equal(w[2].item, text("{\"x\":1}")));
    ck_assert(slice_equal(a.errors, text("[{\"prompt_id\":\"b\",\"error\":\"no\"}]")));
    ck_assert_int_eq(a.total_requested, 3);
    ck_assert_int_eq(a.total_found, 2);
}
END_TEST

START_TEST(what_is_no_answer)
{
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"prompts\":{},\"errors\":[],\"total_requested\":2}",
        "{\"prompts\":{},\"errors\":[],\"total_requested\":2,\"total_found\":0,\"more\":1}",
        "{\"prompts\":{\"z\":{}},\"errors\":[],\"total_requested\":2,\"total_found\":0}",
        "{\"prompts\":{\"a\":{},\"a\":{}},\"errors\":[],\"total_requested\":2,\"total_found\":2}",
        "{\"prompts\":{\"a\":1},\"errors\":[],\"total_requested\":2,\"total_found\":0}",
        "{\"prompts\":[],\"errors\":[],\"total_requested\":2,\"total_found\":0}",
        "{\"prompts\":{},\"errors\":{},\"total_requested\":2,\"total_found\":0}",
        "{\"prompts\":{},\"errors\":[],\"total_requested\":\"2\",\"total_found\":0}",
        "{\"prompts\":{},\"errors\":[],\"total_requested\":2,\"total_found\":0}}",
        "{\"prompts\":{},\"prompts\":{},\"total_requested\":2,\"total_found\":0}",
        "{\"prompts\":",
        "{\"prompts\":{\"a\":",
        "{\"prompts\":{\"a\":{}",
    };
    struct batch_wanted w[] = {TWO};
    struct batch_answer a;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!batch_answer_read(text(bad[i]), w, 2, &a), "%s", bad[i]);
}
END_TEST

START_TEST(an_envelope_is_learnt_and_written)
{
    static const char *const styles[] = {
        "{\"prompts\":{\"a\":{},\"b\":{\"x\":1}},\"errors\":[],\"total_requested\":2,\"total_found\":2}",
        "{\"total_found\": 2, \"errors\": [], \"prompts\": {\"a\": {}, \"b\": {}}, \"total_requested\": 2}",
    };
    static const char *const odd[] = {
        "{\"prompts\":{\"b\":{},\"a\":{}},\"errors\":[],\"total_requested\":2,\"total_found\":2}",  /* the
                                                                                                       order */
        "{\"prompts\":{\"a\":{},\"b\":{}},\"errors\":[],\"total_requested\":3,\"total_found\":2}",  /* a count
                                                                                                     */
        "{\"prompts\": {\"a\":{},\"b\":{}},\"errors\":[],\"total_requested\":2,\"total_found\":2}", /* the
                                                                                                       style
                                                                                                     */
    };
    struct batch_wanted w[] = {TWO};
    struct batch_answer a;
    struct batch_envelope e;
    struct text out = {0};
    for (size_t i = 0; i < ARRAY_LEN(styles); i++) {
        ck_assert(batch_answer_read(text(styles[i]), w, 2, &a));
        ck_assert_msg(batch_envelope_learn(text(styles[i]), w, 2, &a, &e), "%s", styles[i]);
        text_clear(&out);
        ck_assert(batch_envelope_write(&e, w, 2, a.errors, &out));
        ck_assert(is(&out, styles[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        ck_assert(batch_answer_read(text(odd[i]), w, 2, &a));
        ck_assert_msg(!batch_envelope_learn(text(odd[i]), w, 2, &a, &e), "%s", odd[i]);
    }
    text_dispose(&out);
}
END_TEST

START_TEST(requests)
{
    struct batch_request r;
    struct text out = {0};
    ck_assert(batch_request_read(text("{\"prompt_ids\": [\"a\", \"b\"], \"include_metadata\": true}"), &r));
    ck_assert_uint_eq(r.count, 2);
    ck_assert_uint_eq(batch_form(r.versions, r.metadata), batch_form(BATCH_UNSAID, BATCH_TRUE));
    struct batch_wanted w = {.id = r.ids[1]};
    ck_assert(batch_request_write(&r, &w, 1, &out));
    ck_assert(is(&out, "{\"prompt_ids\":[\"b\"],\"include_metadata\":true}"));
    batch_request_free(&r);
    text_clear(&out);
    ck_assert(batch_request_read(
        text("{\"project_id\":\"q\",\"prompt_ids\":[\"a\"],\"include_versions\":false}"), &r));
    ck_assert(batch_request_write(&r, &w, 0, &out));
    ck_assert(is(&out, "{\"prompt_ids\":[],\"project_id\":\"q\",\"include_versions\":false}"));
    batch_request_free(&r);
    ck_assert(batch_request_read(text("{\"prompt_ids\":[\"a\"],\"project_id\":null}"), &r));
    ck_assert(r.null_project && !r.has_project);
    batch_request_free(&r);
    text_dispose(&out);
}
END_TEST

START_TEST(what_is_no_request)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"prompt_ids\":[]}",
        "{\"prompt_ids\":\"a\"}",
        "{\"prompt_ids\":[1]}",
        "{\"prompt_ids\":[\"a\",\"b\",\"a\"]}",
        "{\"prompt_ids\":[\"a\"],\"more\":1}",
        "{\"prompt_ids\":[\"a\"],\"include_metadata\":1}",
        "{\"prompt_ids\":[\"a\"],\"include_versions\":null}",
        "{\"prompt_ids\":[\"a\"],\"project_id\":1}",
        "{\"prompt_ids\":[\"a\"]} x",
        "{\"prompt_ids\":[\"a\"],\"prompt_ids\":[\"b\"]}",
    };
    struct batch_request r;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!batch_request_read(text(bad[i]), &r), "%s", bad[i]);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("batch_json");
    Suite *s = suite_create("batch_json");
    tcase_add_test(t, one_form_becomes_the_other);
    tcase_add_test(t, a_member_that_is_missing_is_not_made_up);
    tcase_add_test(t, what_is_no_object);
    tcase_add_test(t, limits);
    tcase_add_test(t, an_answer_is_split);
    tcase_add_test(t, what_is_no_answer);
    tcase_add_test(t, an_envelope_is_learnt_and_written);
    tcase_add_test(t, requests);
    tcase_add_test(t, what_is_no_request);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
