/*
 * Certificates for tests, made on the spot: authorities and leaves with EC P-256 keys, as
 * PEM files in a directory that is removed at the end. Nothing of this is ever stored in the repository.
 */
#ifndef TESTS_UNIT_PROXY_CERTIFICATES_H
#define TESTS_UNIT_PROXY_CERTIFICATES_H

#include <check.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/proxy/scratch.h"

#define DAY (24L * 60 * 60)

struct identity {
    X509 *certificate;
    EVP_PKEY *key;
    char certificate_file[256];
    char key_file[256];
};

struct identity_wish {
    const char *name;  /* common name, and the files' */
    const char *san;   /* "DNS:localhost,IP:127.0.0.1", or NULL */
    long begins, ends; /* seconds from now; both 0: yesterday and in ten days */
};

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ck_assert_ptr_nonnull(extension);
    ck_assert_int_eq(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void write_files(struct identity *who, const char *dir, const char *name)
{
    snprintf(who->certificate_file, sizeof(who->certificate_file), "%s/%s.crt", dir, name);
    snprintf(who->key_file, sizeof(who->key_file), "%s/%s.key", dir, name);
    FILE *f = fopen(who->certificate_file, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(PEM_write_X509(f, who->certificate), 1);
    ck_assert_int_eq(fclose(f), 0);
    f = fopen(who->key_file, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(PEM_write_PrivateKey(f, who->key, NULL, NULL, 0, NULL, NULL), 1);
    ck_assert_int_eq(fclose(f), 0);
}

/* A certificate signed by `issuer`, or an authority that signed itself when that is NULL. */
static void identity_make(struct identity *who, const struct identity *issuer, const char *dir,
                          const struct identity_wish *wish)
{
    static long serial; /* different ones, also within a second */
    bool now = wish->begins == 0 && wish->ends == 0;
    who->key = EVP_EC_gen("P-256");
    who->certificate = X509_new();
    ck_assert_ptr_nonnull(who->key);
    ck_assert_ptr_nonnull(who->certificate);
    X509 *c = who->certificate, *by = issuer ? issuer->certificate : c;
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), ++serial + (long)getpid() * 1000);
    X509_gmtime_adj(X509_getm_notBefore(c), now ? -DAY : wish->begins);
    X509_gmtime_adj(X509_getm_notAfter(c), now ? 10 * DAY : wish->ends);
    X509_set_pubkey(c, who->key);
    X509_NAME *name = X509_get_subject_name(c);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)wish->name, -1, -1, 0);
    X509_set_issuer_name(c, X509_get_subject_name(by));
    add_extension(c, by, NID_basic_constraints, issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
    add_extension(c, by, NID_subject_key_identifier, "hash");
    if (wish->san)
        add_extension(c, by, NID_subject_alt_name, wish->san);
    ck_assert_int_gt(X509_sign(c, issuer ? issuer->key : who->key, EVP_sha256()), 0);
    write_files(who, dir, wish->name);
}

static void identity_free(struct identity *who)
{
    X509_free(who->certificate);
    EVP_PKEY_free(who->key);
    who->certificate = NULL;
    who->key = NULL;
}

#endif
