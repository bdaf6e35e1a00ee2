/*
 * Words for numbers. Invariant: method names stand in the order of enum method, reasons in that of
 * reason.def, outcomes in that of outcome.def.
 */
#include "proxy/names.h"

#include "policy/head.h"
#include "policy/outcome.h"
#include "policy/reason.h"

struct metrics *names_metrics_new(int workers)
{
    static const char *const methods[METHOD_COUNT] = {
        [METHOD_OTHER] = "OTHER",     [METHOD_GET] = "GET",         [METHOD_HEAD] = "HEAD",
        [METHOD_POST] = "POST",       [METHOD_PUT] = "PUT",         [METHOD_DELETE] = "DELETE",
        [METHOD_PATCH] = "PATCH",     [METHOD_OPTIONS] = "OPTIONS", [METHOD_TRACE] = "TRACE",
        [METHOD_CONNECT] = "CONNECT",
    };
    const char *reasons[REASON_COUNT];
    for (int i = 0; i < REASON_COUNT; i++)
        reasons[i] = reason_row((enum reason)i)->name;
    const char *outcomes[OUTCOME_COUNT];
    for (int i = 0; i < OUTCOME_COUNT; i++)
        outcomes[i] = outcome_row((enum outcome)i)->name;
    struct metrics_config config = {workers,      methods,  METHOD_COUNT, reasons,
                                    REASON_COUNT, outcomes, OUTCOME_COUNT};
    return metrics_new(&config);
}
