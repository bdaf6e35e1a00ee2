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

/* A length in big-endian order; beyond any message when its bytes are not all there. */
static uint64_t length_at(const unsigned char *p, const unsigned char *end, size_t bytes)
{
    uint64_t v = 0;
    if ((size_t)(end - p) < bytes)
        return UINT64_MAX / 4;
    while (bytes--)
        v = v << 8 | *p++;
    return v;
}

/*
 * An item's first byte: how many bytes of length follow, how many other bytes, and how many items it holds
 * for each of that length (else the length counts bytes).
 */
static void item_at(unsigned char first, size_t *lengths, uint64_t *bytes, unsigned *each)
{
    static const unsigned char sizes[32] = {
        [0x04] = 1, [0x05] = 2, [0x06] = 4, [0x07] = 1, [0x08] = 2, [0x09] = 4, [0x19] = 1,
        [0x1a] = 2, [0x1b] = 4, [0x1c] = 2, [0x1d] = 4, [0x1e] = 2, [0x1f] = 4}; /* c4 ... c9, d9 ... df */
    static const unsigned char plain[32] = {
        [0x07] = 1, [0x08] = 1, [0x09] = 1, [0x0a] = 4, [0x0b] = 8, [0x0c] = 1,
        [0x0d] = 2, [0x0e] = 4, [0x0f] = 8, [0x10] = 1, [0x11] = 2, [0x12] = 4,
        [0x13] = 8, [0x14] = 2, [0x15] = 3, [0x16] = 5, [0x17] = 9, [0x18] = 17};
    bool wide = first >= 0xc0 && first < 0xe0;
    *lengths = wide ? sizes[first & 31] : 0;
    *bytes = wide ? plain[first & 31] : first >= 0xa0 && first < 0xc0 ? first & 31u : 0;
    *each = first >= 0xde && first < 0xe0 ? 2 : first >= 0xdc && first < 0xde ? 1 : 0;
}

/* No array or map claims more items than there are bytes left: the library would take memory for all of them.
 */
static bool counts_fit(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + n;
    for (uint64_t wanted = 1; wanted; wanted--) {
        size_t lengths;
        uint64_t bytes;
        unsigned each;
        if (p == end || wanted > (uint64_t)(end - p))
            return false;
        unsigned char first = *p++;
        item_at(first, &lengths, &bytes, &each);
        uint64_t length = length_at(p, end, lengths);
        if (first >= 0x80 && first < 0xa0) /* a short map or array */
            wanted += (first & 15u) * (first < 0x90 ? 2u : 1u);
        wanted += each * length;
        bytes += lengths + (each ? 0 : length);
        if (bytes > (uint64_t)(end - p))
            return false;
        p += bytes;
    }
    return true;
}

struct json_t *pack_read(const char *p, size_t n, const char **why)
{
    msgpack_unpacked unpacked;
    size_t used = 0;
    json_t *tree = NULL;
    *why = "It is not one whole MessagePack value, or nested deeper than 32.";
    msgpack_unpacked_init(&unpacked);
    if (n && counts_fit(p, n) && msgpack_unpack_next(&unpacked, p, n, &used) == MSGPACK_UNPACK_SUCCESS &&
        used == n) {
        *why = "A string is not UTF-8, or a number is too large.";
        tree = read_value(&unpacked.data, why);
    }
    msgpack_unpacked_destroy(&unpacked);
    return tree;
}
