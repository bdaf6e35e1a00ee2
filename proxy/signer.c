/*
 * Signing with HMAC and OpenSSL's SHA-256. Invariants: a key is read into secret memory and handed to OpenSSL
 * from there for the time of one signature; OpenSSL wipes its contexts when they are freed, and none is kept;
 * what is fetched from OpenSSL is fetched once, at its first use, since waking OpenSSL takes 2 MiB, and only
 * read afterwards.
 */
#include "proxy/signer.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/file_watch.h"
#include "proxy/secret.h"

struct digest_method {
    _Atomic(EVP_MD *) sha256; /* NULL: not fetched yet */
};

struct signer {
    enum signer_scheme scheme;
    enum timestamp_form form;
    bool replace;
    struct secret *api_key, *secret_key; /* NULL: none */
    struct secret *credential;           /* the line that shows the key */
    struct digest_method *method;        /* workers share it */
};

/* OpenSSL's SHA-256; NULL without memory. */
static EVP_MD *sha256_of(const struct signer *s)
{
    EVP_MD *none = NULL, *there = atomic_load_explicit(&s->method->sha256, memory_order_acquire);
    if (there)
        return there;
    EVP_MD *fetched = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!fetched || atomic_compare_exchange_strong(&s->method->sha256, &none, fetched))
        return fetched;
    EVP_MD_free(fetched); /* another worker was first */
    return none;
}

static bool begin(const struct signer *s, EVP_MD_CTX *ctx)
{
    const EVP_MD *sha256 = sha256_of(s);
    return sha256 && EVP_DigestInit_ex2(ctx, sha256, NULL);
}

/* ---- keys ---- */

static struct secret *read_key(const char *option, const char *path, enum secret_use use, char *err,
                               size_t err_size)
{
    char why[256];
    struct secret *key = secret_read(path, use, why, sizeof(why));
    if (!key)
        snprintf(err, err_size, "%s: %s: %s", option, path, why);
    return key;
}

static void drop_keys(struct signer *s)
{
    secret_free(s->api_key);
    secret_free(s->secret_key);
    s->api_key = s->secret_key = NULL;
}

static bool read_keys(struct signer *s, const struct signer_options *o, char *err, size_t err_size)
{
    s->api_key = read_key("auth.api_key_file", o->api_key_file, SECRET_FOR_FIELD, err, err_size);
    if (s->api_key && o->scheme == SIGNER_SIGNED)
        s->secret_key = read_key("auth.secret_key_file", o->secret_key_file, SECRET_FOR_MAC, err, err_size);
    return s->api_key && (s->secret_key || o->scheme != SIGNER_SIGNED);
}

/* Both keys of one moment: a mounted secret that is swapped between the two reads gives a pair that never
 * was. */
static bool read_pair(struct signer *s, const struct signer_options *o, char *err, size_t err_size)
{
    enum { TRIES = 4 };
    bool good = false, changed = true;
    for (int i = 0; i < TRIES && changed; i++) {
        struct file_watch watch;
        drop_keys(s);
        file_watch_init(&watch);
        changed = file_watch_add(&watch, o->api_key_file) && file_watch_add(&watch, o->secret_key_file);
        good = read_keys(s, o, err, err_size);
        changed = changed && file_watch_changed(&watch);
        file_watch_dispose(&watch);
    }
    return good;
}

static bool take_keys(struct signer *s, const struct signer_options *o, char *err, size_t err_size)
{
    if (o->scheme == SIGNER_PASSTHROUGH)
        return true;
    if (!read_pair(s, o, err, err_size))
        return false;
    s->credential =
        secret_join(o->scheme == SIGNER_PROMPTOPS ? "Authorization: PromptOps " : "Authorization: Bearer ",
                    s->api_key, "\r\n");
    return s->credential != NULL;
}

struct signer *signer_new(const struct signer_options *options, char *err, size_t err_size)
{
    struct signer *s = calloc(1, sizeof(*s));
    snprintf(err, err_size, "out of memory");
    if (!s)
        return NULL;
    s->scheme = options->scheme;
    s->form = options->form;
    s->replace = options->replace;
    s->method = calloc(1, sizeof(*s->method));
    if (s->method && signer_holds_key(s) && !sha256_of(s))
        snprintf(err, err_size, "OpenSSL offers no SHA-256, or is out of memory");
    else if (s->method && take_keys(s, options, err, err_size))
        return s;
    ERR_clear_error();
    signer_free(s);
    return NULL;
}

void signer_free(struct signer *s)
{
    if (!s)
        return;
    drop_keys(s);
    secret_free(s->credential);
    if (s->method)
        EVP_MD_free(atomic_load(&s->method->sha256));
    free(s->method);
    free(s);
}

bool signer_holds_key(const struct signer *s)
{
    return s->scheme != SIGNER_PASSTHROUGH;
}

bool signer_replaces(const struct signer *s)
{
    return s->replace;
}

bool signer_covers_body(const struct signer *s)
{
    return s->scheme == SIGNER_PROMPTOPS;
}

bool signer_protected(const struct signer *s)
{
    return (!s->api_key || secret_protected(s->api_key)) &&
           (!s->secret_key || secret_protected(s->secret_key)) &&
           (!s->credential || secret_protected(s->credential));
}

static bool same_secret(const struct secret *a, const struct secret *b)
{
    if (!a || !b)
        return a == b;
    struct slice x = secret_bytes(a), y = secret_bytes(b);
    return x.n == y.n && CRYPTO_memcmp(x.p, y.p, x.n) == 0;
}

bool signer_same_key(const struct signer *a, const struct signer *b)
{
    return a->scheme == b->scheme && same_secret(a->api_key, b->api_key) &&
           same_secret(a->secret_key, b->secret_key);
}

bool signer_same_use(const struct signer *a, const struct signer *b)
{
    return a->scheme == b->scheme && a->replace == b->replace;
}

struct slice signer_credential(const struct signer *s)
{
    return secret_bytes(s->credential);
}

/* ---- HMAC ---- */

enum { DIGEST_BYTES = 32, BLOCK_BYTES = 64 };

static void to_hex(const unsigned char *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
}

/* The key as HMAC takes it: a block, filled up with zeros; a longer key by its digest (RFC 2104 2). */
static bool key_block(const struct signer *s, EVP_MD_CTX *ctx, struct slice key,
                      unsigned char block[BLOCK_BYTES])
{
    memset(block, 0, BLOCK_BYTES);
    if (key.n <= BLOCK_BYTES) {
        memcpy(block, key.p, key.n);
        return true;
    }
    return begin(s, ctx) && EVP_DigestUpdate(ctx, key.p, key.n) && EVP_DigestFinal_ex(ctx, block, NULL);
}

/* One of HMAC's two digests begins: with the block, each byte flipped by `pad`. */
static bool begin_pad(const struct signer *s, EVP_MD_CTX *ctx, unsigned char block[BLOCK_BYTES],
                      unsigned char pad)
{
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        block[i] ^= pad;
    return begin(s, ctx) && EVP_DigestUpdate(ctx, block, BLOCK_BYTES);
}

/*
 * HMAC-SHA256 (RFC 2104) over all parts one behind the other, in hexadecimal. Put together here from
 * OpenSSL's SHA-256: its own HMAC takes 7,500 instructions more, most of them to look the digest up by name
 * again.
 */
static bool hmac_hex(const struct signer *s, struct slice key, const struct slice *parts, size_t count,
                     char hex[SHA256_HEX_LEN])
{
    enum { INNER = 0x36, OUTER = 0x5c };
    unsigned char block[BLOCK_BYTES], digest[DIGEST_BYTES];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && key_block(s, ctx, key, block) && begin_pad(s, ctx, block, INNER);
    for (size_t i = 0; ok && i < count; i++)
        ok = EVP_DigestUpdate(ctx, parts[i].p, parts[i].n);
    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL) && begin_pad(s, ctx, block, INNER ^ OUTER) &&
         EVP_DigestUpdate(ctx, digest, sizeof(digest)) && EVP_DigestFinal_ex(ctx, digest, NULL);
    EVP_MD_CTX_free(ctx);
    explicit_bzero(block, sizeof(block));
    if (ok)
        to_hex(digest, sizeof(digest), hex);
    else
        ERR_clear_error();
    return ok;
}

static struct slice without_query(struct slice path)
{
    const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;
    return query ? (struct slice){path.p, (size_t)(query - path.p)} : path;
}

#define COLON SLICE(":")

static bool sign_documented(const struct signer *s, const struct signed_request *r, struct slice timestamp,
                            char hex[SHA256_HEX_LEN])
{
    const struct slice parts[] = {
        secret_bytes(s->api_key), COLON, timestamp, COLON, r->method, COLON, r->base_path,
        without_query(r->path)};
    return hmac_hex(s, secret_bytes(s->secret_key), parts, ARRAY_LEN(parts), hex);
}

static bool sign_promptops(const struct signer *s, const struct signed_request *r, struct slice timestamp,
                           struct slice nonce, char hex[SHA256_HEX_LEN])
{
    const struct slice parts[] = {r->method, COLON, r->base_path, r->path, COLON,
                                  timestamp, COLON, nonce,        COLON,   r->body_sha256};
    size_t count = ARRAY_LEN(parts) - (r->body_sha256.n ? 0 : 2);
    return hmac_hex(s, secret_bytes(s->api_key), parts, count, hex);
}

/* ---- the field lines ---- */

static char *put_line(char *p, struct slice name, struct slice value)
{
    memcpy(p, name.p, name.n);
    p += name.n;
    memcpy(p, value.p, value.n);
    p += value.n;
    memcpy(p, "\r\n", 2);
    return p + 2;
}

enum { NONCE_BYTES = 16 };

bool signer_lines(const struct signer *s, const struct signed_request *request, struct rng *rng, char *out,
                  size_t *n)
{
    char when[TIMESTAMP_MAX], nonce[2 * NONCE_BYTES], hex[SHA256_HEX_LEN];
    uint64_t dice[2];
    char *p = out;
    *n = 0;
    if (s->scheme != SIGNER_SIGNED && s->scheme != SIGNER_PROMPTOPS)
        return true;
    struct slice timestamp = {when, timestamp_write(when, request->wall, s->form)};
    p = put_line(p, SLICE("X-PromptOps-Timestamp: "), timestamp);
    if (s->scheme == SIGNER_PROMPTOPS) {
        dice[0] = rng_next(rng);
        dice[1] = rng_next(rng);
        to_hex((const unsigned char *)dice, sizeof(dice), nonce);
        if (!sign_promptops(s, request, timestamp, (struct slice){nonce, sizeof(nonce)}, hex))
            return false;
        p = put_line(p, SLICE("X-PromptOps-Nonce: "), (struct slice){nonce, sizeof(nonce)});
    } else if (!sign_documented(s, request, timestamp, hex)) {
        return false;
    }
    p = put_line(p, SLICE("X-PromptOps-Signature: "), (struct slice){hex, sizeof(hex)});
    *n = (size_t)(p - out);
    return true;
}

/* ---- a client's own signature ---- */

static bool client_fits(const struct signer *s, const struct client_signature *client, struct slice method,
                        struct slice path)
{
    const struct slice parts[] = {method, COLON, path, COLON, client->timestamp, COLON, client->nonce};
    char hex[SHA256_HEX_LEN];
    return hmac_hex(s, client->key, parts, ARRAY_LEN(parts), hex) &&
           CRYPTO_memcmp(hex, client->signature.p, sizeof(hex)) == 0;
}

bool signer_client_good(const struct signer *s, const struct client_signature *client, struct slice method,
                        struct slice path, int64_t wall)
{
    if (!client->whole || client->signature.n != SHA256_HEX_LEN || client_signature_left(client, wall) <= 0)
        return false;
    struct slice bare = without_query(path);
    return client_fits(s, client, method, path) || (bare.n != path.n && client_fits(s, client, method, bare));
}

/* ---- bodies ---- */

struct body_digest {
    EVP_MD_CTX *ctx;
};

struct body_digest *body_digest_new(const struct signer *s)
{
    struct body_digest *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->ctx = EVP_MD_CTX_new();
    if (d->ctx && begin(s, d->ctx))
        return d;
    ERR_clear_error();
    body_digest_free(d);
    return NULL;
}

bool body_digest_add(struct body_digest *d, struct slice data)
{
    return EVP_DigestUpdate(d->ctx, data.p, data.n) == 1;
}

bool body_digest_end(struct body_digest *d, char hex[SHA256_HEX_LEN])
{
    unsigned char digest[DIGEST_BYTES];
    if (EVP_DigestFinal_ex(d->ctx, digest, NULL) != 1)
        return false;
    to_hex(digest, sizeof(digest), hex);
    return true;
}

void body_digest_free(struct body_digest *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->ctx);
    free(d);
}
