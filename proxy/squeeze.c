/*
 * zstd, with contexts that are made when they are first needed and one dictionary. Invariants: what comes out
 * again has the size that the caller expects and the checksum that it went in with, or is not used; the
 * dictionary is the same in every process, and holds nothing of anybody's: what is compressed with it may
 * lie on disk, and beside what belongs to others.
 */
#include "proxy/squeeze.h"

#include <pthread.h>
#include <stdlib.h>
#include <zstd.h>

enum { LEVEL = 3 };

/*
 * What answers of the API have in common, the commonest last, where it costs least to refer to. Prompts of 1
 * to 2 KiB come out at 0.37 of their size with it, at 0.59 without. A dictionary trained on the traffic would
 * do better, and would put pieces of everybody's prompts beside everybody's entries.
 */
static const char dictionary[] =
    "{\"success\":false,\"error\":\"Validation "
    "failed\",\"status_code\":422,\"timestamp\":\"2026-01-01T00:00:00Z\","
    "\"details\":{}}{\"detail\":[{\"loc\":[\"body\",\"prompt_id\"],\"msg\":\"field "
    "required\",\"type\":\"value_error\"}]}"
    "{\"detail\":\"Prompt not found\"}{\"status\":\"healthy\"}"
    "{\"prompts\":{\"errors\":[{\"prompt_id\":\"\",\"error\":\"\"}],\"total_requested\":1,\"total_found\":1,"
    "\"total\":100,"
    "\"limit\":50,\"offset\":0,\"has_more\":true,\"project_id\":\"project-1\",\"versions\":[{\"version\":\"1."
    "0.1\","
    "\"is_published\":true,\"changelog\":null,\"variables\":[],\"tags\":[],\"metadata\":{}}]}"
    "HTTP/1.1 200 OK\r\nServer: uvicorn\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: public, "
    "max-age=3600"
    "\r\nVary: Accept-Encoding\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"\r\nX-Request-Id: "
    "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\ncontent-type: "
    "application/json\r\n"
    "Content-Length: 1"
    "{\"prompts\":[{\"id\":\"prompt-1\",\"version\":\"1.0.0\",\"name\":\"\",\"description\":\"\",\"content\":"
    "\"You are a "
    "helpful assistant. Answer the question briefly.\\n\",\"target_models\":[\"openai\",\"anthropic\"],"
    "\"model_specific_prompts\":[{\"model_provider\":\"openai\",\"model_name\":\"gpt-4\",\"content\":\"\","
    "\"instructions\":\"\"}],"
    "\"provider_id\":null,\"module_id\":\"module-1\",\"created_by\":\"user-1\",\"created_at\":\"2026-01-"
    "01T00:00:00Z\","
    "\"updated_at\":\"2026-01-01T00:00:00Z\",\"mas_intent\":\"general\",\"mas_fairness_notes\":\"Not "
    "assessed\","
    "\"mas_testing_notes\":null,\"mas_risk_level\":\"low\"}";

struct squeezer {
    ZSTD_CCtx *in;
    ZSTD_DCtx *out;
};

/* Made once, read by all threads. NULL: no memory, then nothing is compressed. */
static ZSTD_CDict *dictionary_in;
static ZSTD_DDict *dictionary_out;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_own(void *own)
{
    squeezer_free(own);
}

static void make_common(void)
{
    dictionary_in = ZSTD_createCDict(dictionary, sizeof(dictionary) - 1, LEVEL);
    dictionary_out = ZSTD_createDDict(dictionary, sizeof(dictionary) - 1);
    if (pthread_key_create(&key, free_own) != 0)
        abort(); /* at the start: a process has a thousand keys */
}

struct squeezer *squeezer_new(void)
{
    pthread_once(&once, make_common);
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

struct squeezer *squeezer_here(void)
{
    pthread_once(&once, make_common);
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

static ZSTD_CCtx *new_compressor(void)
{
    ZSTD_CCtx *in = ZSTD_createCCtx();
    if (in && (ZSTD_isError(ZSTD_CCtx_setParameter(in, ZSTD_c_checksumFlag, 1)) ||
               ZSTD_isError(ZSTD_CCtx_refCDict(in, dictionary_in)))) {
        ZSTD_freeCCtx(in);
        return NULL;
    }
    return in;
}

size_t squeeze(struct squeezer *s, struct slice in, char *out, size_t cap)
{
    if (cap == 0 || !dictionary_in)
        return 0;
    if (!s->in)
        s->in = new_compressor();
    size_t n = s->in ? ZSTD_compress2(s->in, out, cap - 1, in.p, in.n) : 0;
    return ZSTD_isError(n) ? 0 : n;
}

bool unsqueeze(struct squeezer *s, struct slice in, char *out, size_t size)
{
    if (!s->out)
        s->out = ZSTD_createDCtx();
    return s->out && dictionary_out &&
           ZSTD_decompress_usingDDict(s->out, out, size, in.p, in.n, dictionary_out) == size;
}
