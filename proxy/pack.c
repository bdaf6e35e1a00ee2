/*
 * Turns jansson's trees into MessagePack and back; the only includer of msgpack.
 * Invariant: what is not valid JSON content (binary, extensions, map keys that are no strings) is refused by
 * name.
 */
#include "proxy/pack.h"

#include <jansson.h>
#include <msgpack.h>

static int pack_write(void *data, const char *p, size_t n)
{
    struct text *out = data;
    text_bytes(out, p, n);
    return out->failed ? -1 : 0;
}

static void pack_value(msgpack_packer *pk, const json_t *v);

static void pack_string(msgpack_packer *pk, const char *s, size_t n)
{
    msgpack_pack_str(pk, n);
    msgpack_pack_str_body(pk, s, n);
}

static void pack_object(msgpack_packer *pk, const json_t *v)
{
    msgpack_pack_map(pk, json_object_size(v));
    for (void *i = json_object_iter((json_t *)(uintptr_t)v); i;
         i = json_object_iter_next((json_t *)(uintptr_t)v, i)) {
        const char *key = json_object_iter_key(i);
        pack_string(pk, key, strlen(key));
        pack_value(pk, json_object_iter_value(i));
    }
}

static void pack_array(msgpack_packer *pk, const json_t *v)
{
    msgpack_pack_array(pk, json_array_size(v));
    for (size_t i = 0; i < json_array_size(v); i++)
        pack_value(pk, json_array_get(v, i));
}

static void pack_value(msgpack_packer *pk, const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        pack_object(pk, v);
        break;
    case JSON_ARRAY:
        pack_array(pk, v);
        break;
    case JSON_STRING:
        pack_string(pk, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        msgpack_pack_int64(pk, json_integer_value(v));
        break;
    case JSON_REAL:
        msgpack_pack_double(pk, json_real_value(v));
        break;
    case JSON_TRUE:
        msgpack_pack_true(pk);
        break;
    case JSON_FALSE:
        msgpack_pack_false(pk);
        break;
    case JSON_NULL:
        msgpack_pack_nil(pk);
        break;
    }
}

bool pack_tree(const struct json_t *tree, struct text *out)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, out, pack_write);
    pack_value(&pk, tree);
    return !out->failed;
}

static json_t *read_value(const msgpack_object *o, const char **why);

static json_t *read_map(const msgpack_object_map *map, const char **why)
{
    json_t *object = json_object();
    for (uint32_t i = 0; object && i < map->size; i++) {
        const msgpack_object *key = &map->ptr[i].key;
        if (key->type != MSGPACK_OBJECT_STR || memchr(key->via.str.ptr, 0, key->via.str.size)) {
            *why = "A map key is not a string.";
            json_decref(object);
            return NULL;
        }
        json_t *name = json_stringn(key->via.str.ptr, key->via.str.size);
        json_t *value = name ? read_value(&map->ptr[i].val, why) : NULL;
        if (value && json_object_get(object, json_string_value(name))) {
            *why = "A map key comes twice.";
            json_decref(value);
            value = NULL;
        }
        if (!value || json_object_set_new(object, json_string_value(name), value)) {
            json_decref(object);
            object = NULL;
        }
        json_decref(name);
    }
    return object;
}

static json_t *read_array(const msgpack_object_array *list, const char **why)
{
    json_t *array = json_array();
    for (uint32_t i = 0; array && i < list->size; i++) {
        json_t *value = read_value(&list->ptr[i], why);
        if (!value || json_array_append_new(array, value)) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *read_value(const msgpack_object *o, const char **why)
{
    switch (o->type) {
    case MSGPACK_OBJECT_NIL:
        return json_null();
    case MSGPACK_OBJECT_BOOLEAN:
        return json_boolean(o->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return o->via.u64 <= INT64_MAX ? json_integer((json_int_t)o->via.u64) : NULL;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return json_integer(o->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return json_real(o->via.f64); /* NULL when it is not finite */
    case MSGPACK_OBJECT_STR:
        return json_stringn(o->via.str.ptr, o->via.str.size); /* NULL when it is not UTF-8 */
    case MSGPACK_OBJECT_ARRAY:
        return read_array(&o->via.array, why);
    case MSGPACK_OBJECT_MAP:
        return read_map(&o->via.map, why);
    default:
        *why = "Binary and extension types are not understood here.";
        return NULL;
    }
}

struct json_t *pack_read(const char *p, size_t n, const char **why)
{
    msgpack_unpacked unpacked;
    size_t used = 0;
    json_t *tree = NULL;
    *why = "It is not one whole MessagePack value, or nested deeper than 32.";
    msgpack_unpacked_init(&unpacked);
    if (n && msgpack_unpack_next(&unpacked, p, n, &used) == MSGPACK_UNPACK_SUCCESS && used == n) {
        *why = "A string is not UTF-8, or a number is too large.";
        tree = read_value(&unpacked.data, why);
    }
    msgpack_unpacked_destroy(&unpacked);
    return tree;
}
