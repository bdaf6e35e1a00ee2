/*
 * Names in Redis. Invariant: what Redis sees of a place (`promptops:1:SPACE:ID`) and the key of its value are
 * both derived from the secret name (persons.h), so that neither tells the other.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/shared_inner.h"
#include "proxy/store_inner.h"

void shared_name_of(void *self, const struct store_request *request, struct hash128 *name)
{
    struct shared *s = self;
    persons_name_of(s->persons, request, name);
}

static size_t write_key(char out[SHARED_KEY_MAX], const char *space, const struct seal_key *id)
{
    size_t n = strlen(space);
    memcpy(out, space, n);
    for (int i = 0; i < 16; i++) {
        out[n++] = "0123456789abcdef"[id->bytes[i] >> 4];
        out[n++] = "0123456789abcdef"[id->bytes[i] & 15];
    }
    out[n] = '\0';
    return n;
}

bool shared_place_of(struct shared *s, struct hash128 name, struct shared_place *out)
{
    struct seal_key key = {{0}}, id;
    if (name.lo == 0 && name.hi == 0)
        return false;
    memcpy(key.bytes, &name, sizeof(name));
    if (!seal_derive(s->sealer, &key, "key", NULL, 0, &id) ||
        !seal_derive(s->sealer, &key, "value", NULL, 0, &out->seal))
        return false;
    out->key_n = write_key(out->key, s->space, &id);
    return true;
}

bool shared_variant_of(struct shared *s, const struct shared_place *place, uint64_t generation,
                       const struct vary_key *vary, struct shared_place *out)
{
    const struct slice parts[] = {{(const char *)&generation, sizeof(generation)},
                                  {(const char *)&vary->fields, sizeof(vary->fields)},
                                  {(const char *)&vary->language, sizeof(vary->language)},
                                  {(const char *)&vary->coding, sizeof(vary->coding)}};
    struct seal_key id;
    if (!seal_derive(s->sealer, &place->seal, "variant", parts, ARRAY_LEN(parts), &id) ||
        !seal_derive(s->sealer, &id, "value", NULL, 0, &out->seal))
        return false;
    out->key_n = write_key(out->key, s->space, &id);
    return true;
}
