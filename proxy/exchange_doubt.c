/*
 * A status that may be a rate limit in disguise (rate_limit.disguised: the PromptOps API says 401 "Rate limit
 * exceeded") is not believed before the body is known: until then the answer is held back, and nobody hears
 * of it, neither the client nor the breaker, the quota governor, the cache or the credential. Invariants:
 * held are at most DOUBT_MAX bytes of body, for at most DOUBT_TIME; while x->doubt is set the phase is SENT;
 * every answer that is held is judged once (exchange_answered) or forgotten with its attempt.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/exchange_internal.h"

enum { DOUBT_MAX = 4096 };
#define DOUBT_TIME TICK_S

struct doubt {
    struct head head; /* points into bytes */
    size_t body_len;
    char body[DOUBT_MAX];
    char bytes[]; /* the fields, then the bytes of the head */
};

static struct doubt *keep(const struct head *response)
{
    size_t fields = sizeof(struct field) * response->field_count;
    struct doubt *d = malloc(sizeof(*d) + fields + response->len);
    if (!d)
        return NULL;
    d->head = *response;
    d->body_len = 0;
    memcpy(d->bytes, response->fields, fields);
    memcpy(d->bytes + fields, response->base, response->len);
    d->head.fields = (struct field *)(void *)d->bytes;
    d->head.base = d->bytes + fields;
    return d;
}

bool exchange_doubt(struct exchange *x, const struct head *response)
{
    const struct outcome_disguises *known = &x->settings->p->disguises;
    bool has_body =
        response->body != BODY_NONE && (response->body != BODY_LENGTH || response->content_length > 0);
    if (!has_body || x->health || !outcome_may_be_disguised(known, response->status))
        return false;
    x->doubt = keep(response);
    if (x->doubt)
        exchange_arm(x, worker_now(x->w) + DOUBT_TIME);
    return x->doubt != NULL;
}

/* True: it is relayed, and what was held is on its way to the client. */
static bool judge(struct exchange *x)
{
    struct doubt *d = x->doubt;
    struct slice body = {d->body, d->body_len};
    x->doubt = NULL;
    bool relayed = exchange_answered(
        x, &d->head,
        exchange_outcome_of_answer(x, &d->head,
                                   outcome_of_answer(&x->settings->p->disguises, d->head.status, body)));
    if (relayed && body.n) {
        exchange_response_data(x, body, NULL, NULL);
        exchange_response_flush(x); /* what it does not take is copied: d goes */
    }
    free(d);
    return relayed;
}

void exchange_doubt_over(struct exchange *x)
{
    (void)judge(x);
}

bool exchange_doubt_end(struct exchange *x)
{
    exchange_note_upstream(x, x->up);
    x->up = NULL; /* it is through with its answer: there is nothing to leave */
    return judge(x);
}

void exchange_doubt_data(struct exchange *x, struct slice data)
{
    struct doubt *d = x->doubt;
    size_t room = DOUBT_MAX - d->body_len, n = data.n < room ? data.n : room;
    memcpy(d->body + d->body_len, data.p, n);
    d->body_len += n;
    if (d->body_len == DOUBT_MAX && judge(x) && data.n > n) {
        exchange_response_data(x, (struct slice){data.p + n, data.n - n}, NULL, NULL);
        exchange_response_flush(x);
    }
}
