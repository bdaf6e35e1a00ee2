/*
 * The wire format of Protocol Buffers (protobuf.dev/programming-guides/encoding): an encoder that appends to
 * a text, and a reader that trusts nothing. What fields mean is the caller's.
 */
#ifndef METRICS_PROTOBUF_H
#define METRICS_PROTOBUF_H

#include "metrics/text.h"

/* Each writes one field. Running out of memory is remembered in the text. */
void pb_uint(struct text *t, unsigned field, uint64_t v); /* uint32, uint64, int64 >= 0, bool, enum */
void pb_sint(struct text *t, unsigned field, int64_t v);  /* sint32, sint64 */
void pb_fixed64(struct text *t, unsigned field, uint64_t v);
void pb_fixed32(struct text *t, unsigned field, uint32_t v);
void pb_double(struct text *t, unsigned field, double v);
void pb_bytes(struct text *t, unsigned field, const void *p, size_t n);
void pb_string(struct text *t, unsigned field, const char *s);

/* A message inside, or a packed list: what is written up to pb_close(t, mark) is its content. */
size_t pb_open(struct text *t, unsigned field);
void pb_close(struct text *t, size_t mark);

/* An element of a packed list of varints. */
void pb_element(struct text *t, uint64_t v);

enum pb_kind { PB_VARINT = 0, PB_FIXED64 = 1, PB_LENGTH = 2, PB_FIXED32 = 5 };

struct pb_reader {
    const uint8_t *p, *end;
};

/* One field that was read. */
struct pb_field {
    unsigned number;
    enum pb_kind kind;
    uint64_t value;           /* of VARINT, FIXED64, FIXED32 */
    struct pb_reader content; /* of LENGTH: what lies in it */
};

/* The next field. False at the end, or when what is there is malformed: then *bad is set. */
bool pb_next(struct pb_reader *r, struct pb_field *out, bool *bad);

#endif
