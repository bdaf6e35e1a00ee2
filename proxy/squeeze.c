/*
 * zstd, with contexts that are made when they are first needed. Invariant: what comes out again has the size
 * that the caller expects, or is not used.
 */
#include "proxy/squeeze.h"

#include <pthread.h>
#include <stdlib.h>
#include <zstd.h>

enum { LEVEL = 3 };

struct squeezer {
    ZSTD_CCtx *in;
    ZSTD_DCtx *out;
};

struct squeezer *squeezer_new(void)
{
    return calloc(1, sizeof(struct squeezer));
}

void squeezer_free(struct squeezer *s)
{
    if (!s)
        return;
    ZSTD_freeCCtx(s->in);
    ZSTD_freeDCtx(s->out);
    free(s);
}

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_own(void *own)
{
    squeezer_free(own);
}

static void make_key(void)
{
    if (pthread_key_create(&key, free_own) != 0)
        abort(); /* at the first use: a process has a thousand keys */
}

struct squeezer *squeezer_here(void)
{
    pthread_once(&once, make_key);
    struct squeezer *own = pthread_getspecific(key);
    if (own)
        return own;
    own = squeezer_new();
    if (own && pthread_setspecific(key, own) != 0) {
        squeezer_free(own);
        own = NULL;
    }
    return own;
}

size_t squeeze(struct squeezer *s, struct slice in, char *out, size_t cap)
{
    if (!s->in)
        s->in = ZSTD_createCCtx();
    size_t n = s->in && cap > 0 ? ZSTD_compressCCtx(s->in, out, cap - 1, in.p, in.n, LEVEL) : 0;
    return ZSTD_isError(n) ? 0 : n;
}

bool unsqueeze(struct squeezer *s, struct slice in, char *out, size_t size)
{
    if (!s->out)
        s->out = ZSTD_createDCtx();
    return s->out && ZSTD_decompressDCtx(s->out, out, size, in.p, in.n) == size;
}
