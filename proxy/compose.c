/*
 * Field lines copied from one message into another. Invariant: a field of this hop only
 * (RFC 9110 7.6.1) never gets through here, and neither does Content-Length: framing is the codec's.
 */
#include "proxy/compose.h"

#include "policy/decimal.h"

void compose_number(struct compose *c, uint64_t v)
{
    char digits[DECIMAL_MAX];
    compose_add(c, digits, decimal_write(digits, v));
}

void compose_fields(struct compose *c, const struct head *head, uint64_t drop)
{
    drop |= FIELD_BIT(CONTENT_LENGTH);
    for (int i = 0; i < head->field_count; i++) {
        const struct field *f = &head->fields[i];
        if (f->hop || ((drop >> f->id) & 1))
            continue;
        compose_line(c, head_name(head, i), head_value(head, i));
    }
}
