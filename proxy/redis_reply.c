/*
 * Replies, by hiredis' reader with makers of our own. Invariants: all lists of a reply together have at most
 * REDIS_REPLY_ITEMS_MAX places, however they are nested, so that a few bytes cannot ask for much memory; the
 * items are all there when it is handed out; a reply and all that waits to be read take at most
 * REDIS_REPLY_MAX and one read.
 */
#include "proxy/redis_reply.h"

#include <hiredis/read.h>
#include <stdlib.h>
#include <string.h>

struct redis_parser {
    redisReader *reader;
    size_t waiting; /* bytes since the last whole reply */
    size_t places;  /* in the lists of the reply being read */
    const char *error;
};

static struct redis_reply *reply_new(const redisReadTask *task, enum redis_kind kind, size_t more)
{
    struct redis_reply *reply = calloc(1, sizeof(*reply) + more);
    if (!reply)
        return NULL;
    reply->kind = kind;
    if (task->parent)
        ((struct redis_reply *)task->parent->obj)->items[task->idx] = reply;
    return reply;
}

static void *make_string(const redisReadTask *task, char *text, size_t n)
{
    struct redis_reply *reply =
        reply_new(task, task->type == REDIS_REPLY_ERROR ? REDIS_ERROR : REDIS_TEXT, n + 1);
    if (!reply)
        return NULL;
    char *copy = (char *)(reply + 1);
    memcpy(copy, text, n);
    reply->text = (struct slice){copy, n};
    return reply;
}

static void *make_list(const redisReadTask *task, int count)
{
    struct redis_parser *parser = task->privdata;
    if (count < 0 || (size_t)count > REDIS_REPLY_ITEMS_MAX - parser->places)
        return NULL;
    parser->places += (size_t)count;
    struct redis_reply *reply = reply_new(task, REDIS_LIST, 0);
    if (!reply || count == 0)
        return reply;
    reply->items = calloc((size_t)count, sizeof(*reply->items));
    if (!reply->items) {
        if (task->parent)
            ((struct redis_reply *)task->parent->obj)->items[task->idx] = NULL;
        free(reply);
        return NULL;
    }
    reply->count = (size_t)count;
    return reply;
}

static void *make_integer(const redisReadTask *task, long long value)
{
    struct redis_reply *reply = reply_new(task, REDIS_INTEGER, 0);
    if (reply)
        reply->number = value;
    return reply;
}

static void *make_nil(const redisReadTask *task)
{
    return reply_new(task, REDIS_NIL, 0);
}

void redis_reply_free(struct redis_reply *reply)
{
    if (!reply)
        return;
    for (size_t i = 0; i < reply->count; i++)
        redis_reply_free(reply->items[i]); /* hiredis nests at most 7 deep */
    free(reply->items);
    free(reply);
}

static void free_object(void *object)
{
    redis_reply_free(object);
}

struct redis_parser *redis_parser_new(void)
{
    static redisReplyObjectFunctions makers = {make_string, make_list, make_integer, make_nil, free_object};
    struct redis_parser *parser = calloc(1, sizeof(*parser));
    if (!parser)
        return NULL;
    parser->error = "";
    parser->reader = redisReaderCreateWithFunctions(&makers);
    if (!parser->reader) {
        free(parser);
        return NULL;
    }
    parser->reader->privdata = parser;
    return parser;
}

void redis_parser_free(struct redis_parser *parser)
{
    if (!parser)
        return;
    redisReaderFree(parser->reader);
    free(parser);
}

bool redis_parser_feed(struct redis_parser *parser, const char *bytes, size_t n)
{
    if (parser->error[0])
        return false;
    parser->waiting += n;
    if (parser->waiting > REDIS_REPLY_MAX)
        parser->error = "an answer is larger than allowed";
    else if (redisReaderFeed(parser->reader, bytes, n) != REDIS_OK)
        parser->error = "out of memory for an answer";
    return !parser->error[0];
}

struct redis_reply *redis_parser_next(struct redis_parser *parser)
{
    void *reply = NULL;
    if (parser->error[0])
        return NULL;
    if (redisReaderGetReply(parser->reader, &reply) != REDIS_OK) {
        parser->error = "what it says is not the protocol of Redis, or larger than allowed";
        return NULL;
    }
    if (!reply)
        return NULL;
    parser->places = 0;
    parser->waiting = parser->reader->len - parser->reader->pos;
    return reply;
}

const char *redis_parser_error(const struct redis_parser *parser)
{
    return parser->error;
}

bool redis_says(const struct redis_reply *reply, const char *word)
{
    size_t n = strlen(word);
    return reply && (reply->kind == REDIS_ERROR || reply->kind == REDIS_TEXT) && reply->text.n >= n &&
           memcmp(reply->text.p, word, n) == 0;
}
