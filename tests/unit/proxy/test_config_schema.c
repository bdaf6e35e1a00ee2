/*
 * The schema is JSON, and every option is where its key says, with what the table says of it.
 */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config.h"
#include "proxy/config_schema.h"

static json_t *schema(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    json_error_t error;
    ck_assert_ptr_nonnull(out);
    config_schema_print(out);
    fclose(out);
    json_t *root = json_loads(text, 0, &error);
    ck_assert_msg(root != NULL, "line %d: %s", error.line, error.text);
    free(text);
    return root;
}

/* The property of a key; the objects on the way take no others. */
static const json_t *property(const json_t *root, const char *key)
{
    while (root) {
        char name[64];
        size_t n = strcspn(key, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, key);
        ck_assert(json_is_false(json_object_get(root, "additionalProperties")));
        root = json_object_get(json_object_get(root, "properties"), name);
        if (!key[n])
            break;
        key += n + 1;
    }
    return root;
}

START_TEST(test_every_option)
{
    json_t *root = schema();
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct config_option_row *row = config_option_row(i);
        const json_t *at = property(root, row->key);
        ck_assert_msg(at != NULL, "%s", row->key);
        ck_assert_str_eq(json_string_value(json_object_get(at, "description")), row->help);
    }
    json_decref(root);
}
END_TEST

START_TEST(test_types)
{
    json_t *root = schema();
    const json_t *at = property(root, "retry.max_attempts");
    ck_assert_str_eq(json_string_value(json_object_get(at, "type")), "integer");
    ck_assert_int_eq(json_integer_value(json_object_get(at, "minimum")), 1);
    ck_assert_int_eq(json_integer_value(json_object_get(at, "maximum")), 20);
    at = json_object_get(property(root, "pool.strategy"), "enum");
    ck_assert_uint_eq(json_array_size(at), 4);
    at = json_object_get(property(root, "drain_timeout"), "pattern");
    ck_assert_ptr_nonnull(strstr(json_string_value(at), "ms"));
    ck_assert_str_eq(json_string_value(json_object_get(property(root, "routes"), "type")), "array");
    json_decref(root);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config_schema");
    TCase *c = tcase_create("config_schema");
    tcase_add_test(c, test_every_option);
    tcase_add_test(c, test_types);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
