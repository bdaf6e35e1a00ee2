/*
 * Where the listening sockets come from, and to whom they go: opened here, handed over by a supervisor
 * (socket activation) or by the process before, lent to the next one. Invariant: every socket that was handed
 * over is served by some worker, since the kernel spreads connections over all of them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proxy/address.h"
#include "proxy/control_internal.h"
#include "proxy/handover.h"
#include "proxy/listener.h"
#include "proxy/log.h"
#include "proxy/worker.h"

bool control_inherit(struct control *c, char *err, size_t err_size)
{
    const struct config *cfg = c->cfg;
    c->handover_fd = -1;
    if (!supervisor_sockets(&c->inherited, err, err_size))
        return false;
    c->supervised = c->inherited.listen_count > 0;
    if (c->inherited.listen_count || c->inherited.admin >= 0) {
        c->admin_supervised = c->inherited.admin >= 0;
        log_write(c->service.log, LOG_INFO, "control", "%d listening sockets were handed over%s",
                  c->inherited.listen_count + (c->inherited.admin >= 0),
                  c->inherited.admin >= 0 ? ", one of them for the admin port" : "");
        return true;
    }
    if (!*cfg->listen_handover)
        return true;
    c->handover_fd = handover_take(cfg->listen_handover, cfg->listen_address.text, cfg->admin_address.text,
                                   &c->inherited, err, err_size);
    if (c->handover_fd >= 0)
        log_write(c->service.log, LOG_INFO, "control",
                  "took over %d listening sockets from the process before", c->inherited.listen_count);
    else if (*err)
        log_write(c->service.log, LOG_WARNING, "control", "%s", err);
    return true;
}

/* The i-th socket: one that was handed over, or one of our own. A socket that several workers share (a unix
 * path, fewer sockets than workers) is duplicated. */
static int socket_at(struct control *c, int i, char *err, size_t err_size)
{
    const char *address = c->cfg->listen_address.text;
    char name[ADDRESS_TEXT_MAX];
    struct inherited *in = &c->inherited;
    int fd;
    if (i < in->listen_count) {
        fd = in->listen[i];
        in->listen[i] = -1;
    } else if (c->socket_count && (in->listen_count || strncmp(address, "unix:", 5) == 0)) {
        fd = dup(c->sockets[i % c->socket_count]);
        if (fd < 0)
            snprintf(err, err_size, "listen.address: %s", strerror(errno));
        return fd;
    } else if (c->socket_count) {
        listener_name(c->sockets[0], name,
                      sizeof(name)); /* port 0 was asked for: all share what the first got */
        fd = listener_open(name, true, err, err_size);
    } else {
        fd = listener_open(address, true, err, err_size);
    }
    if (fd >= 0)
        c->sockets[c->socket_count++] = fd;
    return fd;
}

bool control_listen(struct control *c, int workers, char *err, size_t err_size)
{
    struct service *s = &c->service;
    int count = workers > c->inherited.listen_count ? workers : c->inherited.listen_count;
    for (int i = 0; i < count; i++) {
        int fd = socket_at(c, i, err, err_size);
        if (fd < 0)
            return false;
        if (i < workers)
            s->workers[i] = worker_new(s, i, fd, c->published);
        if (i < workers ? !s->workers[i] : !worker_listen(s->workers[i % workers], fd)) {
            snprintf(err, err_size, "out of memory or file descriptors: %s", strerror(errno));
            return false;
        }
    }
    return true;
}

/* ---- to the next process
 * ------------------------------------------------------------------------------------ */

static bool lend(void *ctx, const char *listen, const char *admin, struct inherited *out, char *why,
                 size_t why_size)
{
    struct control *c = ctx;
    const struct config *cfg = c->cfg;
    if (c->stage != STAGE_SERVING) {
        snprintf(why, why_size, "this process is stopping");
        return false;
    }
    if (strcmp(listen, cfg->listen_address.text) != 0 || strcmp(admin, cfg->admin_address.text) != 0) {
        snprintf(why, why_size, "it listens at %s and %s", cfg->listen_address.text, cfg->admin_address.text);
        return false;
    }
    memcpy(out->listen, c->sockets, (size_t)c->socket_count * sizeof(c->sockets[0]));
    out->listen_count = c->socket_count;
    out->admin = admin_socket(c->admin);
    return true;
}

static void leave(void *ctx)
{
    struct control *c = ctx;
    if (c->stage != STAGE_SERVING)
        return;
    log_write(
        c->service.log, LOG_INFO, "control",
        "the next process serves: no connection is accepted any more, those that are there are finished");
    admin_leave(c->admin);
    admin_say_goodbye(c->admin); /* who hears the live stream comes anew, to the next process */
    control_leave(c);
}

bool control_yield(struct control *c)
{
    if (!c->supervised || c->stage != STAGE_SERVING)
        return false;
    log_write(c->service.log, LOG_INFO, "control",
              "draining: connections wait in the supervisor's sockets, those that are there are finished");
    supervisor_tell("STOPPING=1");
    if (c->admin_supervised)
        admin_leave(c->admin);
    admin_say_goodbye(c->admin);
    control_leave(c);
    return true;
}

void control_handover(struct control *c)
{
    struct handover_source source = {c, lend, leave};
    char err[512];
    if (*c->cfg->listen_handover) {
        c->handover =
            handover_listen(c->base, c->cfg->listen_handover, c->handover_fd >= 0, &source, err, sizeof(err));
        if (!c->handover)
            log_write(c->service.log, LOG_ERROR, "control", "%s; the next process cannot take over", err);
    }
    handover_confirm(c->handover_fd);
    c->handover_fd = -1;
}

void control_sockets_end(struct control *c)
{
    handover_free(c->handover);
    if (c->handover_fd >= 0)
        close(c->handover_fd); /* we failed to start: the process before goes on */
    inherited_close(&c->inherited);
}
