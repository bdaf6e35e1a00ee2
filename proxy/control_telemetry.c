/*
 * What leaves the process for the operator: OTLP and custom metrics. Invariant: the end of the process waits
 * for it a second at most, and only when something is on its way.
 */
#include <time.h>

#include "metrics/custom.h"
#include "proxy/control_internal.h"
#include "proxy/custom_push.h"
#include "proxy/process.h"
#include "proxy/telemetry.h"

#define FLUSH_MOST TICK_S

static void process(void *ctx, struct process_values *out)
{
    (void)ctx;
    process_read(out);
}

bool control_telemetry_start(struct control *c)
{
    struct metrics_block *block = metrics_block(c->service.metrics, c->service.worker_count);
    struct telemetry_setup setup = {.ctx = c,
                                    .service = &c->service,
                                    .custom = c->custom,
                                    .post = c->post,
                                    .block = block,
                                    .supply = control_supply,
                                    .process = process,
                                    .start = c->began_wall,
                                    .seed = (uint64_t)control_now()};
    struct custom_push_setup push = {.custom = c->custom,
                                     .post = c->post,
                                     .log = c->service.log,
                                     .block = block,
                                     .seed = (uint64_t)control_now() + 1};
    c->telemetry = telemetry_new(&setup);
    c->custom_push = custom_push_new(&push);
    control_telemetry_tune(c);
    return c->telemetry && c->custom_push;
}

void control_telemetry_tune(struct control *c)
{
    if (!c->telemetry || !c->custom_push)
        return;
    telemetry_tune(c->telemetry, c->cfg);
    custom_push_tune(c->custom_push, c->cfg);
}

void control_telemetry_turn(struct control *c)
{
    if (c->telemetry)
        telemetry_gather(c->telemetry, control_now());
}

void control_telemetry_second(struct control *c, tick_t now)
{
    telemetry_second(c->telemetry, now);
    custom_push_second(c->custom_push, now);
}

bool control_telemetry_ended(struct control *c, tick_t now)
{
    if (!c->telemetry || !c->custom_push)
        return true;
    if (!c->flushed) {
        c->flushed = now;
        custom_push_flush(c->custom_push, now);
        telemetry_flush(c->telemetry, now);
    }
    return now - c->flushed >= FLUSH_MOST ||
           (telemetry_idle(c->telemetry) && custom_push_idle(c->custom_push));
}

void control_telemetry_stop(struct control *c)
{
    telemetry_free(c->telemetry);
    custom_push_free(c->custom_push);
}
