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

/* The whole line of a field as it was received, when that is as we would write it; else {NULL, 0}. */
static struct slice plain_line(const struct head *head, const struct field *f)
{
    const char *base = head->base;
    uint32_t colon = f->name + f->name_len, end = f->value + f->value_len;
    if (f->value != colon + 2 || base[colon + 1] != ' ' || end + 2 > head->len || base[end] != '\r')
        return (struct slice){NULL, 0};
    return (struct slice){base + f->name, end + 2 - f->name};
}

void compose_fields(struct compose *c, const struct head *head, uint64_t drop)
{
    struct slice run = {NULL, 0}; /* lines side by side, to be copied together */
    drop |= FIELD_BIT(CONTENT_LENGTH);
    for (int i = 0; i < head->field_count; i++) {
        const struct field *f = &head->fields[i];
        if (f->hop || ((drop >> f->id) & 1))
            continue;
        struct slice line = plain_line(head, f);
        if (line.n > 0 && line.p == run.p + run.n) {
            run.n += line.n;
            continue;
        }
        compose_slice(c, run);
        run = line;
        if (line.n == 0)
            compose_line(c, head_name(head, i), head_value(head, i));
    }
    compose_slice(c, run);
}
