/*
 * SHA-1 in base64. Invariant: nothing secret comes here.
 */
#include "proxy/digest.h"

#include <openssl/evp.h>

bool digest_sha1_base64(struct slice text, char *out, size_t room)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    if (EVP_Digest(text.p, text.n, hash, &n, EVP_sha1(), NULL) != 1 || n != 20 || room < 29)
        return false;
    return EVP_EncodeBlock((unsigned char *)out, hash, (int)n) == 28;
}
