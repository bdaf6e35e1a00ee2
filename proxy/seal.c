/*
 * Keys and boxes. Invariants: what is derived for one purpose tells nothing of what is derived for another;
 * an opened box is whole, or is not given out; keys on the stack are wiped.
 */
#include "proxy/seal.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, INNER = 0x36, OUTER = 0x5c };

struct sealer {
    EVP_MD *sha256;
    EVP_CIPHER *gcm;
};

struct sealer *sealer_new(void)
{
    struct sealer *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    s->gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (s->sha256 && s->gcm)
        return s;
    ERR_clear_error();
    sealer_free(s);
    return NULL;
}

void sealer_free(struct sealer *s)
{
    if (!s)
        return;
    EVP_MD_free(s->sha256);
    EVP_CIPHER_free(s->gcm);
    free(s);
}

/* HMAC's first or second digest begins. */
static bool begin(const struct sealer *s, EVP_MD_CTX *ctx, const struct seal_key *key, unsigned char pad)
{
    unsigned char block[BLOCK];
    memset(block, pad, sizeof(block));
    for (size_t i = 0; key && i < SEAL_KEY_BYTES; i++)
        block[i] ^= key->bytes[i];
    bool ok = EVP_DigestInit_ex2(ctx, s->sha256, NULL) && EVP_DigestUpdate(ctx, block, sizeof(block));
    explicit_bzero(block, sizeof(block));
    return ok;
}

static bool feed(EVP_MD_CTX *ctx, struct slice part)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)part.n >> 8 * i);
    return EVP_DigestUpdate(ctx, length, sizeof(length)) && EVP_DigestUpdate(ctx, part.p, part.n);
}

bool seal_derive(const struct sealer *s, const struct seal_key *key, const char *label,
                 const struct slice *parts, size_t count, struct seal_key *out)
{
    unsigned char digest[SEAL_KEY_BYTES];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && begin(s, ctx, key, INNER) && feed(ctx, (struct slice){label, strlen(label)});
    for (size_t i = 0; i < count && ok; i++)
        ok = feed(ctx, parts[i]);
    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL) && begin(s, ctx, key, OUTER) &&
         EVP_DigestUpdate(ctx, digest, sizeof(digest)) && EVP_DigestFinal_ex(ctx, out->bytes, NULL);
    EVP_MD_CTX_free(ctx);
    explicit_bzero(digest, sizeof(digest));
    if (!ok)
        ERR_clear_error();
    return ok;
}

bool seal_close(const struct sealer *s, const struct seal_key *key, struct slice place, struct slice plain,
                char *out)
{
    unsigned char *o = (unsigned char *)out;
    int n = 0, last = 0;
    if (plain.n > INT_MAX / 2 || place.n > INT_MAX / 2 || RAND_bytes(o, SEAL_NONCE) != 1)
        return false;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool ok = ctx && EVP_EncryptInit_ex2(ctx, s->gcm, key->bytes, o, NULL) &&
              EVP_EncryptUpdate(ctx, NULL, &n, (const unsigned char *)place.p, (int)place.n) &&
              (plain.n == 0 ||
               EVP_EncryptUpdate(ctx, o + SEAL_NONCE, &n, (const unsigned char *)plain.p, (int)plain.n)) &&
              EVP_EncryptFinal_ex(ctx, o + SEAL_NONCE + plain.n, &last) &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, SEAL_TAG, o + SEAL_NONCE + plain.n);
    EVP_CIPHER_CTX_free(ctx);
    if (!ok)
        ERR_clear_error();
    return ok;
}

bool seal_open(const struct sealer *s, const struct seal_key *key, struct slice place, struct slice box,
               char *out)
{
    const unsigned char *b = (const unsigned char *)box.p;
    unsigned char tag[SEAL_TAG];
    int n = 0, last = 0;
    if (box.n < SEAL_MORE || box.n > INT_MAX / 2 || place.n > INT_MAX / 2)
        return false;
    size_t inside = box.n - SEAL_MORE;
    memcpy(tag, b + SEAL_NONCE + inside, SEAL_TAG);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool ok =
        ctx && EVP_DecryptInit_ex2(ctx, s->gcm, key->bytes, b, NULL) &&
        EVP_DecryptUpdate(ctx, NULL, &n, (const unsigned char *)place.p, (int)place.n) &&
        (inside == 0 || EVP_DecryptUpdate(ctx, (unsigned char *)out, &n, b + SEAL_NONCE, (int)inside)) &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, SEAL_TAG, tag) &&
        EVP_DecryptFinal_ex(ctx, (unsigned char *)out + inside, &last) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!ok)
        ERR_clear_error();
    return ok;
}
