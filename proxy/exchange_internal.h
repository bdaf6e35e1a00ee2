/*
 * An exchange from the inside, shared by the exchange_*.c files only:
 *   exchange.c        birth, phases, timer, end
 *   exchange_auth.c   whose credential goes up, signing, and bodies that are held to be signed
 *   exchange_admit.c  the rate limit and the concurrency limit
 *   exchange_doubt.c  answers that may be a rate limit in disguise, held until that is known
 *   exchange_send.c   connection, request, attempts and retries
 *   exchange_hedge.c  the second copy of a slow read
 *   exchange_relay.c  the upstream's answer to the client and into the cache
 *   exchange_batch*.c misses that go together, and batches
 *   exchange_second.c the second look: what memory has not, the levels below it may have
 *   exchange_serve.c  answers from the cache, from another's fetch, and made-up ones
 *   exchange_ahead.c  requests of our own: what comes next, and what will soon be stale
 */
#ifndef PROXY_EXCHANGE_INTERNAL_H
#define PROXY_EXCHANGE_INTERNAL_H

#include <stdatomic.h>
#include <stdlib.h>

#include "metrics/observe.h"
#include "policy/breaker.h"
#include "policy/config.h"
#include "policy/route.h"
#include "policy/trace_context.h"
#include "proxy/admit.h"
#include "proxy/exchange.h"
#include "proxy/guard.h"
#include "proxy/pool.h"
#include "proxy/settings.h"
#include "proxy/store.h"
#include "proxy/tracing.h"
#include "proxy/worker.h"

/* Where an exchange stands. PHASE(name, allowed from) */
enum phase {
    PHASE_BEGIN,   /* the head is being looked at */
    PHASE_SECOND,  /* a level below memory is asked */
    PHASE_GATHER,  /* waits for others, to go as one batch; or for that batch */
    PHASE_HOLDING, /* waits for the rest of the request's body, which its signature will cover */
    PHASE_JOINED,  /* waits for another's fetch */
    PHASE_SERVING, /* reads another's fetch as it comes */
    PHASE_ADMIT,   /* waits for the rate limit or for a place at the upstream */
    PHASE_QUEUED,  /* waits for a connection */
    PHASE_SENT,    /* the request is on its way, no answer yet */
    PHASE_RELAY,   /* the answer is coming */
    PHASE_BACKOFF, /* waits before the next attempt */
    PHASE_TUNNEL,  /* bytes pass unread */
    PHASE_OVER,    /* done; kept only until the last letter came in */
    PHASE_COUNT
};

enum { ROOM = 3072, TAG_ROOM = 1024, ID_MAX = REQUEST_ID_MAX };

struct exchange_letter {
    struct letter letter; /* first */
    struct exchange *x;
    _Atomic bool posted;
};

struct exchange {
    struct worker *w;
    struct downstream *down; /* NULL: nobody waits for the answer (any more) */
    struct upstream *up;     /* NULL: none */
    struct settings *settings;
    struct exchange *free_next;
    tick_t began, deadline; /* deadline: of everything, TICK_NEVER when there is none */
    tick_t grace;           /* a half-closed client is given up then */
    uint8_t phase;
    tick_t phase_began;
    tick_t spent[PHASE_COUNT]; /* in the phases that are over */

    /* The request. */
    struct head req;
    char *copy; /* the bytes and fields of req; room or malloc */
    bool kept;  /* req points into copy */
    struct route_match route;
    struct slice request_id;
    struct trace_context trace;
    struct span_record *span; /* what the trace of this request will show; NULL: it is not traced */
    tick_t phase_since;       /* with span: when the phase was entered */
    bool trace_begun;         /* `trace` is there, though the client sent none */
    bool idempotent, trace_valid, body_whole, body_sent, end_sent, replayable, body_held;
    struct {
        char *p;
        size_t len, cap;
    } body; /* request body bytes at hand: not sent yet, or kept for another attempt */
    char *trailers;
    size_t trailers_len;

    /* The credential: exchange_auth.c. */
    bool held_key;      /* the sidecar's goes up; the client's own, if any, does not */
    bool client_signed; /* the client's goes up, and the client has signed the request */
    bool client_nonce;  /* ... with a nonce, which is good for one sending */
    bool unchecked;     /* ... and that signature is not known here to be good: the cache has no part in it */
    bool body_hashed;   /* body_sha256 is that of the whole body */
    tick_t signature_until;     /* of the client's signature; TICK_NEVER: there is none */
    struct body_digest *digest; /* HOLDING: of the body so far */

    /* The cache. */
    struct store_result look;
    struct fill *fill;   /* the leader's role */
    struct entry *entry; /* being validated or served */
    struct fill_waiter waiter;
    struct exchange_letter news, drained;
    struct level_look *second;      /* SECOND: the question under way */
    struct batch_seat *seat;        /* GATHER: where it waits */
    struct batch_call *call;        /* this is a call of the sidecar's own; NULL: it is not */
    struct batch_kind *batch_alone; /* a miss that could have been in a batch: a reference on its kind */
    uint16_t batch;                 /* prompts in this batch; 0: it is none */
    bool reads_batch;               /* HOLDING: the body of a client's batch_get is being read */
    bool for_clients;               /* clients wait for it although it has none of its own */
    uint8_t second_level;           /* ... to this level */
    uint8_t second_verdict;         /* of the lookup that came before */
    bool second_done;               /* once a request */
    bool second_leads;              /* SECOND: `fill` is to be led when nothing is found */
    struct slice found_in;          /* the name of the level that had it; n = 0: none */
    tick_t held;     /* the leader has stopped reading since then: somebody is slow; 0 = it has not */
    bool completing; /* entry is the beginning of the answer: the rest is asked for */
    bool looked, refresh, health, unconditional, stored, went_loose, fill_full;
    uint8_t ahead;          /* enum store_ahead: fetches ahead, for nobody; 0: it does not */
    bool flying;            /* ... and is counted among those */
    bool brought;           /* an answer is in the cache now that was not there before, or is fresher */
    tick_t renew;           /* RENEWED: what has more left than this need not be fetched */
    enum storable storable; /* why the answer is not stored; YES (0) until that is known */
    uint64_t serve_left;    /* SERVING: bytes still to come when the length is known */

    /* Attempts. */
    struct admit_ticket ticket;
    struct exchange_letter admitted_news;
    uint8_t admit_step;  /* what the ticket holds: exchange_admit.c's */
    bool admit_waited;   /* the ticket stood in a queue, and may still */
    struct doubt *doubt; /* an answer that may be a rate limit in disguise, held back; else NULL */
    struct pool_wait wait;
    struct guard_permit permit;
    bool admitted;
    int attempts, replaced;
    struct exchange *hedge;       /* sends a second copy of this request; NULL: none */
    struct exchange *original;    /* this is the second copy of that one's request; NULL: it is not */
    bool hedgeable;               /* the attempt may be hedged: its latency is a sample */
    tick_t hedge_at;              /* SENT: when to send a second copy; 0: never */
    tick_t sent_until;            /* SENT: when the attempt is given up */
    enum retry_hint should_retry; /* what the answer said of another attempt */
    tick_t attempt_began, sent_at, wait_began, last_delay;
    tick_t whole_at; /* SENT: the request's last byte was handed over; 0: not yet */
    bool retried;    /* this attempt follows one that failed for: */
    enum reason retried_for;
    uint16_t retried_status;
    struct attempt a;

    /* The answer. */
    bool plain;     /* a large text without a content coding */
    bool replied;   /* a final head went to the client */
    bool refused;   /* this credential was, by a 401 or 403: acted on at the end of the answer */
    bool drops;     /* and what is stored under look.key's partition goes with it */
    bool up_closed; /* tunnel: the upstream sends no more */
    struct observation o;
    enum reason why;

    /* From here on nothing is cleared for a new exchange. */
    struct timer timer; /* may lie in the wheel, at rest, while the exchange lies among the free ones */
    char id[ID_MAX];
    char body_sha256[64];
    char room[ROOM];
};

/* n, of which the compiler knows no bounds: it would put `rep stos` or `rep movs` in the place of memset()
 * and memcpy(), and these begin slowly. */
static inline size_t unseen(size_t n)
{
    __asm__("" : "+r"(n));
    return n;
}

static inline const struct config *x_config(const struct exchange *x)
{
    return x->settings->p->cfg;
}

/* Traces: nothing but a look at a pointer when the request is not traced. */
static inline void exchange_trace_over(struct exchange *x)
{
    if (x->span)
        tracing_over_slow(x);
}

/* exchange.c */
struct exchange *exchange_new(struct worker *w);
void exchange_set_phase(struct exchange *x, enum phase phase);
void exchange_arm(struct exchange *x, tick_t due);
/* Copies the request head, so that it outlives the read buffer. False: no memory. */
bool exchange_keep_head(struct exchange *x);
/* The end. `whole`: the client has its answer (or was told what went wrong); false: it was broken off. */
void exchange_over(struct exchange *x, bool whole);
/* The fetch goes on without its client, who is counted and let go. */
void exchange_detach_client(struct exchange *x, enum reason why);
/* Looks the request up in the cache and acts on the verdict. */
void exchange_look(struct exchange *x);
/* Fills in what the store asks about a request. `tags` has room for STORE_MAX_TAGS. */
void exchange_store_request(struct exchange *x, struct store_request *out, struct slice *tags, char *tag_room,
                            size_t tag_size);
/* True when the client can still be answered. */
static inline bool exchange_client(const struct exchange *x)
{
    return x->down != NULL;
}

/* Arms the clock between two bytes of an answer. */
void exchange_arm_stream(struct exchange *x);

/* exchange_account.c */
/* How long it has been in a phase, the present stay included. */
tick_t exchange_spent(struct exchange *x, enum phase phase);
/* Counts it and writes its line of the access log; once a request of a client. */
void exchange_account(struct exchange *x, bool whole);
/* Notes an attempt that is over, for who looks at the request later. */
void exchange_note_attempt(struct exchange *x);
/* What the API's answer said of its rate limit. */
struct rate_reading;
void exchange_note_quota(struct exchange *x, const struct rate_reading *reading);

/* exchange_auth.c */
/* Settles whose credential goes up; once the head and the settings are there. */
void exchange_settle_credential(struct exchange *x);
/* For an exchange that sends the request of another on its own. */
void exchange_inherit_credential(struct exchange *x, const struct exchange *from);
/* The sidecar's own, as a line; {NULL, 0}: the client's goes up. */
struct slice exchange_held_credential(const struct exchange *x);
/* The client's fields (FIELD_BIT) that do not go up. */
uint64_t exchange_dropped_fields(const struct exchange *x);
/* False: the client signed the request, and its signature is not known here to be good: nothing stored may
 * answer it. */
bool exchange_credential_checked(struct exchange *x);
/* False: what was sent once may not be sent again, whatever the method: the client's nonce was seen. */
bool exchange_may_resend(const struct exchange *x);
/* The field lines that show and sign the call; out holds SIGNED_LINES_MAX bytes and must stay with the runs.
 * False: no memory. */
bool exchange_sign(struct exchange *x, const struct call *call, char *out, struct slice runs[2]) MUSTCHECK;
/* True: not to be sent yet, because the body must be whole to be signed (or it was answered: it cannot be).
 */
bool exchange_hold(struct exchange *x);
void exchange_hold_data(struct exchange *x, struct slice data);
void exchange_hold_end(struct exchange *x);
/* The body is at hand, and its hash will be signed where the signature covers it. False: no memory. */
bool exchange_hash_body(struct exchange *x) MUSTCHECK;
/* A 401 or 403 that is no rate limit: counts and tells it when it was our key. */
void exchange_credential_refused(struct exchange *x);

/* exchange_admit.c */
/* May the attempt go on? False: it waits, or was answered. */
bool exchange_admit(struct exchange *x);
/* PHASE_ADMIT: time has passed, or a letter came. */
void exchange_admit_turn(struct exchange *x);
/* The head of an answer came. / The attempt ended without one. Before exchange_report. */
void exchange_admit_answered(struct exchange *x, const struct head *response, enum outcome outcome);
void exchange_admit_failed(struct exchange *x, enum outcome outcome);
/* Whatever is still held or awaited is given up. */
void exchange_admit_leave_slow(struct exchange *x);
static inline void exchange_admit_leave(struct exchange *x)
{
    if (x->admit_step || x->admit_waited)
        exchange_admit_leave_slow(x);
}
/* Whose rate limit the request counts against. */
struct slice exchange_quota_credential(const struct exchange *x);

/* exchange_doubt.c */
/* The head of an answer came. True: it may be a rate limit in disguise, and is held until its body tells. */
bool exchange_doubt(struct exchange *x, const struct head *response);
/* Bytes of a body that is held. */
void exchange_doubt_data(struct exchange *x, struct slice data);
/* No more of the body is waited for: the answer is judged by what came, and acted upon. */
void exchange_doubt_over(struct exchange *x);
/* The body is whole: judged and acted upon; true when it went to exchange_answered's relay, so that its end
 * may follow. */
bool exchange_doubt_end(struct exchange *x);
/* Forgets what is held, if anything. */
static inline void exchange_doubt_drop(struct exchange *x)
{
    if (x->doubt)
        free(x->doubt);
    x->doubt = NULL;
}

/* exchange_send.c */
/* Appends to `body`. False: no memory. */
bool exchange_buffer_body(struct exchange *x, struct slice data);
void exchange_forward(struct exchange *x);
void exchange_attempt(struct exchange *x);
/* The attempt is over without an answer for the client: again, stale, or an error. */
void exchange_attempt_failed(struct exchange *x, enum reason why, int status, tick_t retry_after);
/* Asks whether to try again and does so. False: no. */
bool exchange_retry(struct exchange *x, enum reason why, int status, tick_t retry_after);
/* What an attempt came to that ended without an answer. */
enum outcome exchange_outcome(const struct exchange *x, enum reason why);
void exchange_report_slow(struct exchange *x, enum outcome outcome);
static inline void exchange_report(struct exchange *x, enum outcome outcome)
{
    if (x->admitted)
        exchange_report_slow(x, outcome);
}
void exchange_attempt_done(struct exchange *x, enum reason why, int status);
/* Notes what an attempt's connection has carried. */
void exchange_note_upstream(struct exchange *x, const struct upstream *u);
/* Leaves the upstream, if any. */
void exchange_leave_upstream_slow(struct exchange *x, bool drain);
static inline void exchange_leave_upstream(struct exchange *x, bool drain)
{
    if (x->up)
        exchange_leave_upstream_slow(x, drain);
}
/* The role of a leader ends without an answer. */
static inline void exchange_abandon_fill(struct exchange *x, enum reason why, bool hand_over)
{
    struct fill *fill = x->fill;
    x->fill = NULL;
    if (fill)
        fill_abort(fill, why, hand_over);
}
void exchange_drop_body(struct exchange *x);

/* Arms the clock of an attempt that was sent. */
void exchange_arm_sent(struct exchange *x);

/* exchange_hedge.c */
/* The attempt was sent: may a second copy follow, and when? */
void exchange_hedge_plan(struct exchange *x);
/* That time has come. */
void exchange_hedge_due(struct exchange *x);
/*
 * The head of an answer came to x, which is hedged or is the second copy. Returns whose answer it is from
 * here on; NULL: it is nobody's, because it is a failure and the other copy is still under way.
 */
struct exchange *exchange_hedge_response(struct exchange *x, const struct head *response);
/* The attempt of x failed. True: the matter is dealt with, because x is a second copy, or has one under way.
 */
bool exchange_hedge_failed(struct exchange *x, enum reason why, int status);
/* The second copy, if any, is given up. */
void exchange_hedge_cancel_slow(struct exchange *x);
static inline void exchange_hedge_cancel(struct exchange *x)
{
    if (x->hedge)
        exchange_hedge_cancel_slow(x);
}

/* exchange_relay.c */
/* Acts on the head of a final answer whose outcome is known. True: it is relayed, and its body is wanted. */
bool exchange_answered(struct exchange *x, const struct head *response, enum outcome outcome);
/* What an answer comes to: an error that states for how long it holds is not one of the upstream (outcome.h).
 */
enum outcome exchange_outcome_of_answer(const struct exchange *x, const struct head *response,
                                        enum outcome by_status);
/* The answer that is being relayed cannot be completed. */
void exchange_break_off(struct exchange *x, enum reason why);
/* The leader waits for a slow reader: is that over, or too long? */
void exchange_held_drained(struct exchange *x);
void exchange_held_too_long(struct exchange *x);
/* How long a leader may be held up by one slow reader while others wait. */
#define EXCHANGE_HELD_MAX (2 * TICK_S)
/* An answer that was put together, with this head and body, to the client. Ends the exchange. */
void exchange_put_together(struct exchange *x, const struct head *response, struct slice body);
/* The whole answer comes from a call that was made for many, sent at `sent`: to the client and into the
 * cache. The body is the caller's. Ends the exchange. */
void exchange_given(struct exchange *x, const struct head *response, struct slice body, tick_t sent);
/* Acts on a credential that was refused, once. */
void exchange_judge_refusal_slow(struct exchange *x);
static inline void exchange_judge_refusal(struct exchange *x)
{
    if (x->refused)
        exchange_judge_refusal_slow(x);
}

/* exchange_second.c */
/* Asks the levels below memory, when there are any and the verdict calls for it. True: it does, and acts when
 * they have answered. */
bool exchange_second(struct exchange *x, enum store_verdict verdict);
/* PHASE_SECOND: the level's patience is over. */
void exchange_second_late(struct exchange *x);
/* Nobody waits for an answer any more. */
void exchange_second_leave(struct exchange *x);

/* exchange_ahead.c */
/* The cache was asked for a client: learns from it. */
void exchange_ahead_note(struct exchange *x, enum store_verdict verdict);
/* The answer is in the cache. */
void exchange_ahead_stored(struct exchange *x);
/* The end of one that fetched ahead. */
void exchange_ahead_over(struct exchange *x);

/* exchange_batch.c */
/* Where batching.enabled is set: a miss leads a fill; does it wait to go with others? False: forward it. */
bool exchange_batch(struct exchange *x);
/* PHASE_GATHER: the window, or the patience, is over. */
void exchange_batch_turn(struct exchange *x);
/* The attempt was let go: nobody joins the batch any more, and its request is written. False: it is over. */
bool exchange_batch_close(struct exchange *c);
/* The exchange ends: what it owes to batches is settled. */
void exchange_batch_over(struct exchange *x, bool whole);
/*
 * The answer to a call of our own, or to a client's batch_get (x->call). Each true: it is dealt with, and is
 * not to be relayed. Data may end the exchange.
 */
bool exchange_call_answered(struct exchange *x, const struct head *response);
bool exchange_call_data(struct exchange *x, struct slice data);
bool exchange_call_end(struct exchange *x);
bool exchange_call_broken(struct exchange *x);

/* exchange_batch_client.c */
/* Where batching.enabled is set: is it a batch_get that may be answered from the cache? True: its body is
 * being read. */
bool exchange_batch_read(struct exchange *x);
void exchange_batch_read_data(struct exchange *x, struct slice data);
void exchange_batch_read_end(struct exchange *x);

/* exchange_serve.c */
/* A GET whose answer depends on nothing but what is fetched: no ranges, no conditions. */
bool exchange_plain_request(const struct exchange *x);
void exchange_serve_entry(struct exchange *x, struct entry *entry, struct cache_status status,
                          enum cache_word word);
/* A 200 that was put together from stored answers: the fields of `entry`, which is the oldest. */
void exchange_serve_made(struct exchange *x, struct entry *entry, struct slice body);
/* The head of a 200 that the cache made whole: to the client with the bytes that were stored. `whole` is
 * borrowed. */
void exchange_serve_completed(struct exchange *x, struct entry *whole);
/* A stale answer instead of a failure, when there is one that is allowed. */
bool exchange_serve_stale(struct exchange *x);
/* Acts on a lookup's verdict. */
void exchange_act(struct exchange *x, enum store_verdict verdict);
void exchange_poll_fill(struct exchange *x);
/* An answer of our own. retry_after 0: no such field. */
void exchange_answer(struct exchange *x, enum reason why, tick_t retry_after);
/* The trailers of an answer: those of the upstream and, where the client takes any, Server-Timing for what
 * the head could not tell. In the worker's `lines`, until those are used again. */
struct slice exchange_last_lines(struct exchange *x, struct slice trailers);
/* Our own field lines of a final answer: Via, X-Request-Id, Cache-Status, ... into out; returns the bytes. */
size_t exchange_own_lines(struct exchange *x, const struct cache_status *status, char *out, size_t cap);

#endif
