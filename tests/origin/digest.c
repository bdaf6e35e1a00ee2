/*
 * The hashes of the signing schemes, by OpenSSL.
 */
#include "tests/origin/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

struct digest {
    EVP_MD_CTX *ctx;
};

struct digest *digest_new(void)
{
    struct digest *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->ctx = EVP_MD_CTX_new();
    if (!d->ctx || EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1) {
        digest_free(d);
        return NULL;
    }
    return d;
}

void digest_add(struct digest *d, const void *p, size_t n)
{
    EVP_DigestUpdate(d->ctx, p, n);
}

static void to_hex(const unsigned char *p, char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[p[i] >> 4];
        hex[2 * i + 1] = digits[p[i] & 15];
    }
    hex[64] = 0;
}

void digest_end(struct digest *d, char hex[65])
{
    unsigned char sum[EVP_MAX_MD_SIZE] = {0};
    EVP_DigestFinal_ex(d->ctx, sum, NULL);
    to_hex(sum, hex);
    digest_free(d);
}

void digest_free(struct digest *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->ctx);
    free(d);
}

void hmac_sha256(struct slice key, struct slice message, char hex[65])
{
    unsigned char sum[EVP_MAX_MD_SIZE] = {0};
    HMAC(EVP_sha256(), key.p, (int)key.n, (const unsigned char *)message.p, message.n, sum, NULL);
    to_hex(sum, hex);
}

bool digest_equal(const char hex[65], struct slice given)
{
    return given.n == 64 && CRYPTO_memcmp(hex, given.p, 64) == 0;
}

bool random_name(char *out, size_t n)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char raw[64];
    if (n > sizeof(raw) || RAND_bytes(raw, (int)n) != 1)
        return false;
    for (size_t i = 0; i < n; i++)
        out[i] = letters[raw[i] % (sizeof(letters) - 1)];
    return true;
}
