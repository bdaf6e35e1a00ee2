/*
 * The second look. What memory has not is looked up in the levels below it (level.h), one after the other,
 * before the upstream is asked. Invariants: in PHASE_SECOND the exchange has exactly one look under way, and
 * a fill in the store's table, so that a purge meanwhile dooms what the look may bring; the worker goes on
 * with other requests; an answer that comes after the level's patience finds nobody and is thrown away.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/exchange_internal.h"
#include "proxy/level.h"
#include "proxy/service.h"

static struct store *store_of(const struct exchange *x)
{
    return x->w->service->store;
}

/* Does the verdict leave a question that a level may answer? A level that is not fresher than memory is asked
 * only when nothing fitted there. */
static bool wants(const struct exchange *x, enum store_verdict verdict, const struct level *level)
{
    switch (verdict) {
    case STORE_LEAD:
        return x->look.fwd == CACHE_FWD_URI_MISS || x->look.fwd == CACHE_FWD_VARY_MISS || level->fresher;
    case STORE_PASS: /* a HEAD, or ranges that no fetch is led for */
    case STORE_REFUSE:
        return x->look.fwd == CACHE_FWD_URI_MISS || x->look.fwd == CACHE_FWD_VARY_MISS;
    case STORE_REVALIDATE:
        return level->fresher;
    default:
        return false;
    }
}

static void look_free(struct level_look *look)
{
    explicit_bzero(look, look->size); /* the head shows who asks */
    free(look);
}

static void answered(struct level_look *look);

static void delivered(struct letter *letter, void *owner)
{
    (void)owner;
    answered((struct level_look *)letter);
}

/* A question with a head of its own. NULL: no memory. */
static struct level_look *look_new(struct exchange *x, unsigned level)
{
    size_t fields = sizeof(struct field) * x->req.field_count;
    size_t size = sizeof(struct level_look) + fields + x->req.len;
    struct level_look *look = calloc(1, size);
    if (!look)
        return NULL;
    look->size = size;
    look->letter.deliver = delivered;
    look->to = &x->w->box;
    look->x = x;
    look->key = x->look.key;
    look->name = fill_names(x->fill)[level];
    look->asked = worker_now(x->w);
    look->head = x->req;
    memcpy(look->copy, x->req.fields, fields);
    memcpy(look->copy + fields, x->req.base, x->req.len);
    look->head.fields = (struct field *)(void *)look->copy;
    look->head.base = look->copy + fields;
    return look;
}

/* Asks the next level that is there for it. False: there is none. */
static bool ask_next(struct exchange *x)
{
    for (; x->second_level < store_level_count(store_of(x)); x->second_level++) {
        const struct level *level = store_level(store_of(x), x->second_level);
        if (!wants(x, x->second_verdict, level))
            continue;
        struct level_look *look = look_new(x, x->second_level);
        if (!look)
            return false;
        x->second = look;
        if (level->look(level->self, look)) {
            exchange_arm(x, worker_now(x->w) + level->patience);
            return true;
        }
        x->second = NULL;
        look_free(look);
    }
    return false;
}

/* No level has it. */
static void go_on(struct exchange *x)
{
    x->second_done = true;
    if (!x->second_leads)
        exchange_abandon_fill(x, REASON_FILL_FAILED, true);
    exchange_act(x, (enum store_verdict)x->second_verdict);
}

static void ask_next_or_go_on(struct exchange *x)
{
    x->second_level++;
    if (!ask_next(x))
        go_on(x);
}

static void take_up(struct exchange *x, struct entry *found)
{
    const struct level *level = store_level(store_of(x), x->second_level);
    struct slice tags[STORE_MAX_TAGS];
    char room[TAG_ROOM];
    struct store_request ask;
    struct store_result result = x->look;
    enum store_verdict verdict;
    exchange_store_request(x, &ask, tags, room, sizeof(room));
    if (!store_take_up(store_of(x), &ask, x->fill, x->second_leads, found, x->second_level, &verdict,
                       &result)) {
        ask_next_or_go_on(x);
        return;
    }
    if (verdict == STORE_REVALIDATE && x->second_leads) { /* another level may have a newer one */
        entry_release(x->entry);
        x->look = result;
        x->entry = result.entry;
        x->fill = result.fill;
        x->second_verdict = (uint8_t)verdict;
        ask_next_or_go_on(x);
        return;
    }
    x->second_done = true;
    x->found_in = (struct slice){level->name, strlen(level->name)};
    entry_release(x->entry);
    x->entry = NULL;
    x->fill = NULL; /* it is gone, or in the result */
    x->look = result;
    exchange_act(x, verdict);
}

static void answered(struct level_look *look)
{
    struct exchange *x = look->x;
    struct entry *found = look->found;
    look_free(look);
    if (!x) {
        entry_release(found);
        return;
    }
    x->second = NULL;
    if (found) {
        take_up(x, found);
        return;
    }
    ask_next_or_go_on(x);
}

bool exchange_second(struct exchange *x, enum store_verdict verdict)
{
    unsigned levels = store_level_count(store_of(x));
    bool wanted = false;
    for (unsigned i = 0; i < levels && !x->second_done; i++)
        wanted = wanted || wants(x, verdict, store_level(store_of(x), i));
    if (!wanted || !exchange_keep_head(x))
        return false;
    struct store_request ask;
    x->second_leads = x->look.fill != NULL;
    x->fill = x->look.fill;
    x->entry = x->look.entry;
    if (!x->fill) {
        exchange_store_request(x, &ask, NULL, NULL, 0);
        x->fill = store_begin_look(store_of(x), &ask, &x->look.key);
        if (!x->fill)
            return false;
    }
    x->second_verdict = (uint8_t)verdict;
    x->second_level = 0;
    if (ask_next(x)) {
        exchange_set_phase(x, PHASE_SECOND);
        return true;
    }
    if (!x->second_leads)
        exchange_abandon_fill(x, REASON_FILL_FAILED, true);
    x->fill = NULL; /* exchange_act takes them from the result */
    x->entry = NULL;
    return false;
}

void exchange_second_leave(struct exchange *x)
{
    if (x->second)
        x->second->x = NULL;
    x->second = NULL;
}

void exchange_second_late(struct exchange *x)
{
    exchange_second_leave(x);
    metric_add(x->w->metrics, METRIC_LEVEL_LATE, 1);
    ask_next_or_go_on(x);
}
