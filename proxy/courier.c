/*
 * A queue of messages to one address. Invariants: a message leaves the queue taken, given up, refused for
 * good, or pushed out by a newer one, and `ended` is told once; at most one call is under way, of the first
 * message, and it has an end by itself.
 */
#include "proxy/courier.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/rng.h"
#include "proxy/log.h"

#define FIRST_DELAY TICK_S
#define LAST_DELAY  (60 * TICK_S)
#define AFTER_MOST  (300 * TICK_S) /* of a Retry-After */
#define TELL_AGAIN  (60 * TICK_S)  /* the log hears of messages that are given up so often at most */

enum { FIELDS_MOST = 32 };

struct message {
    struct message *next;
    char *body;
    size_t n;
    unsigned units, kind;
};

struct courier {
    struct courier_setup setup;
    struct post_job job;
    char *url, *type, *what, *ca_file;
    char *fields[FIELDS_MOST + 1];
    struct rng rng;
    struct message *first, *last;
    unsigned waiting;
    size_t bytes;
    struct post_call *call; /* under way, of `first` */
    unsigned attempts;      /* of `first` */
    tick_t next_at;         /* not before */
    tick_t now;             /* of the newest call from outside */
    uint64_t sent, failed, dropped;
    uint64_t untold;  /* given up since the log was told */
    tick_t tell_next; /* not before */
    char error[128];
    char why[256]; /* why nothing can be sent; empty: it can */
};

/* ---- the queue ---- */

static void end(struct courier *c, struct message *m, enum courier_end how)
{
    c->waiting--;
    c->bytes -= m->n;
    if (how == COURIER_TAKEN)
        c->sent += 1;
    else if (how == COURIER_DROPPED)
        c->dropped += 1;
    else
        c->failed += 1;
    if (c->setup.ended)
        c->setup.ended(c->setup.ctx, how, m->units, m->kind);
    free(m->body);
    free(m);
}

static void end_first(struct courier *c, enum courier_end how)
{
    struct message *m = c->first;
    c->first = m->next;
    if (!c->first)
        c->last = NULL;
    c->attempts = 0;
    end(c, m, how);
}

/* The oldest that is not under way goes. False: there is none. */
static bool drop_oldest(struct courier *c)
{
    struct message *m = c->call ? c->first->next : c->first;
    if (!m)
        return false;
    if (!c->call) {
        end_first(c, COURIER_DROPPED);
        return true;
    }
    c->first->next = m->next;
    if (!m->next)
        c->last = c->first;
    end(c, m, COURIER_DROPPED);
    return true;
}

/* ---- sending ---- */

enum courier_verdict courier_judge_status(int status)
{
    if (status >= 200 && status < 300)
        return COURIER_GOOD;
    bool for_good = status >= 300 && status < 500 && status != 408 && status != 425 && status != 429;
    return for_good ? COURIER_NEVER : COURIER_AGAIN;
}

static tick_t delay_of(struct courier *c, tick_t retry_after)
{
    tick_t delay = FIRST_DELAY << (c->attempts < 7 ? c->attempts - 1 : 6);
    delay = delay < LAST_DELAY ? delay : LAST_DELAY;
    delay = delay / 2 + rng_range(&c->rng, 0, delay / 2);
    retry_after = retry_after < AFTER_MOST ? retry_after : AFTER_MOST;
    return delay > retry_after ? delay : retry_after;
}

static void note_failure(struct courier *c, const struct post_result *result)
{
    if (result->status >= 200 && result->status < 300 && result->grpc_status > 0)
        snprintf(c->error, sizeof c->error, "answered grpc-status %d", result->grpc_status);
    else if (result->status)
        snprintf(c->error, sizeof c->error, "answered %d", result->status);
    else
        snprintf(c->error, sizeof c->error, "%s", result->error ? result->error : "could not be asked");
}

static void tell(struct courier *c)
{
    char others[80] = "";
    if (c->now < c->tell_next) {
        c->untold++;
        return;
    }
    if (c->untold)
        snprintf(others, sizeof others, "; so were %llu others since the line before",
                 (unsigned long long)c->untold);
    log_write(c->setup.log, LOG_ERROR, c->setup.module,
              "a message for %s is given up after %u attempts: %s%s", c->what, c->attempts, c->error, others);
    c->tell_next = c->now + TELL_AGAIN;
    c->untold = 0;
}

static void failed(struct courier *c, const struct post_result *result, enum courier_verdict verdict,
                   tick_t retry_after)
{
    note_failure(c, result);
    if (verdict == COURIER_AGAIN && c->attempts < c->setup.attempts) {
        c->next_at = c->now + delay_of(c, retry_after);
        return;
    }
    tell(c);
    end_first(c, verdict == COURIER_NEVER ? COURIER_REFUSED : COURIER_GIVEN_UP);
}

static void judge(struct courier *c, const struct post_result *result)
{
    tick_t retry_after = result->retry_after;
    enum courier_verdict verdict = !result->status  ? COURIER_AGAIN
                                   : c->setup.judge ? c->setup.judge(c->setup.ctx, result, &retry_after)
                                                    : courier_judge_status(result->status);
    struct courier_call call = {result, verdict, c->attempts};
    if (c->setup.called)
        c->setup.called(c->setup.ctx, &call);
    if (verdict != COURIER_GOOD) {
        failed(c, result, verdict, retry_after);
        return;
    }
    c->error[0] = '\0';
    c->next_at = 0;
    end_first(c, COURIER_TAKEN);
}

static void send_first(struct courier *c);

static void on_done(void *ctx, const struct post_result *result)
{
    struct courier *c = ctx;
    c->call = NULL;
    judge(c, result);
    send_first(c);
}

static void send_first(struct courier *c)
{
    if (!c->first || c->call || c->now < c->next_at)
        return;
    c->job.body = c->first->body;
    c->job.n = c->first->n;
    c->attempts++;
    if (!*c->why)
        c->call = post_start(c->setup.post, &c->job, on_done, c);
    if (!c->call) {
        struct post_result none = {
            .retry_after = -1, .grpc_status = -1, .error = *c->why ? c->why : "out of memory"};
        judge(c, &none);
    }
}

/* ---- making and freeing ---- */

char *courier_host(const char *url)
{
    const char *from = strstr(url, "://"), *at;
    from = from ? from + 3 : url;
    size_t n = strcspn(from, "/?#");
    at = memchr(from, '@', n);
    if (at) {
        n -= (size_t)(at + 1 - from);
        from = at + 1;
    }
    return strndup(from, n);
}

static bool copy_job(struct courier *c, const struct post_job *job)
{
    c->job = *job;
    c->url = strdup(job->url);
    c->type = strdup(job->content_type);
    c->what = strdup(c->setup.what);
    c->ca_file = job->ca_file ? strdup(job->ca_file) : NULL;
    bool good = c->url && c->type && c->what && (c->ca_file || !job->ca_file);
    for (size_t i = 0; good && job->fields && job->fields[i]; i++)
        good = i < FIELDS_MOST && (c->fields[i] = strdup(job->fields[i])) != NULL;
    c->job.url = c->url;
    c->job.content_type = c->type;
    c->job.ca_file = c->ca_file;
    c->job.fields = (const char *const *)c->fields;
    return good;
}

struct courier *courier_new(const struct courier_setup *setup)
{
    struct courier *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->setup = *setup;
    rng_seed(&c->rng, setup->seed);
    if (!copy_job(c, setup->job)) {
        courier_free(c);
        return NULL;
    }
    if (!post_ready(setup->post, c->why, sizeof c->why)) {
        if (!*c->why)
            snprintf(c->why, sizeof c->why, "libcurl cannot be used");
    } else {
        c->why[0] = '\0';
    }
    return c;
}

void courier_free(struct courier *c)
{
    if (!c)
        return;
    if (c->call)
        post_cancel(c->call);
    c->setup.ended = NULL;
    while (c->first)
        end_first(c, COURIER_DROPPED);
    for (size_t i = 0; i < FIELDS_MOST; i++) {
        if (c->fields[i])
            explicit_bzero(c->fields[i], strlen(c->fields[i])); /* tokens */
        free(c->fields[i]);
    }
    free(c->url);
    free(c->type);
    free(c->what);
    free(c->ca_file);
    free(c);
}

/* ---- from outside ---- */

void courier_put(struct courier *c, char *body, size_t n, unsigned units, unsigned kind, tick_t now)
{
    struct message *m = body ? calloc(1, sizeof *m) : NULL;
    c->now = now;
    if (!m) {
        free(body);
        c->dropped++;
        if (c->setup.ended)
            c->setup.ended(c->setup.ctx, COURIER_DROPPED, units, kind);
        return;
    }
    *m = (struct message){NULL, body, n, units, kind};
    while (c->waiting >= c->setup.messages || (c->setup.bytes && c->bytes + n > c->setup.bytes))
        if (!drop_oldest(c))
            break;
    if (c->last)
        c->last->next = m;
    else
        c->first = m;
    c->last = m;
    c->waiting++;
    c->bytes += n;
    send_first(c);
}

void courier_second(struct courier *c, tick_t now)
{
    c->now = now;
    send_first(c);
}

bool courier_holds(const struct courier *c, unsigned kind)
{
    for (const struct message *m = c->first; m; m = m->next)
        if (m->kind == kind)
            return true;
    return false;
}

void courier_look(const struct courier *c, struct courier_view *out)
{
    *out = (struct courier_view){c->waiting, c->bytes,        c->sent, c->failed,
                                 c->dropped, c->call != NULL, c->error};
}

const char *courier_url(const struct courier *c)
{
    return c->url;
}
