/*
 * The one table of ends: what went wrong, whose fault it is, what the client is
 * told and whether another attempt may follow. See reason.def.
 */
#ifndef POLICY_REASON_H
#define POLICY_REASON_H

#include "policy/base.h"

enum reason {
#define REASON(name, fault, status, retry, proxy_status, sentence) REASON_##name,
#include "policy/reason.def"
#undef REASON
    REASON_COUNT
};

enum fault { FAULT_CLIENT, FAULT_UPSTREAM, FAULT_LOCAL };
enum retry_class { RETRY_NEVER, RETRY_UNSENT, RETRY_IDEMPOTENT };

struct reason_row {
    const char *name; /* as in logs and labels, in lower case */
    enum fault fault;
    int status; /* 0: close without an answer */
    enum retry_class retry;
    const char *proxy_status; /* RFC 9209 2.3, "" for none */
    const char *sentence;
};

/* The row of a reason; never NULL. An unknown number is a bug and gives NONE's row. */
const struct reason_row *reason_row(enum reason reason);

#endif
