/*
 * The table behind reason.h. Invariant: one row for each enumerator, in order,
 * because both are made from reason.def.
 */
#include "policy/reason.h"

static const struct reason_row rows[] = {
#define REASON(name, fault, status, retry, proxy_status, sentence)                                           \
    {#name, FAULT_##fault, status, RETRY_##retry, proxy_status, sentence},
#include "policy/reason.def"
#undef REASON
};

const struct reason_row *reason_row(enum reason reason)
{
    if ((unsigned)reason >= ARRAY_LEN(rows))
        return &rows[REASON_NONE];
    return &rows[reason];
}
