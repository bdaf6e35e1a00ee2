/*
 * Signatures against vectors that Python's hmac and hashlib made (written out here, so that no code of ours
 * takes part), files of keys, and what of a client's own signature is taken for good.
 *
 *   hmac.new(key, message, hashlib.sha256).hexdigest()
 */
#include "proxy/signer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/message.h"

static char folder[] = "/tmp/signer-XXXXXX";
static char key_file[64], secret_file[64];

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    must(f && fputs(text, f) >= 0);
    must(fclose(f) == 0);
}

static void setup(void)
{
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    must(mkdtemp(folder));
    snprintf(key_file, sizeof key_file, "%s/key", folder);
    snprintf(secret_file, sizeof secret_file, "%s/secret", folder);
    put(key_file, "po_demoDemo0000000000000001\n");
    put(secret_file, "demo-secret-key-of-the-stand-in\n");
}

static void teardown(void)
{
    (void)unlink(key_file);
    (void)unlink(secret_file);
    (void)rmdir(folder);
}

static struct signer *signer(enum signer_scheme scheme, enum timestamp_form form)
{
    char err[512];
    struct signer_options o = {scheme, form, true, key_file, secret_file};
    struct signer *s = signer_new(&o, err, sizeof err);
    ck_assert_msg(s != NULL, "%s", err);
    return s;
}

static void lines_are(enum signer_scheme scheme, enum timestamp_form form, const struct signed_request *r,
                      const char *wanted)
{
    struct signer *s = signer(scheme, form);
    struct rng rng;
    char out[SIGNED_LINES_MAX + 1];
    size_t n;
    rng_seed(&rng, 1);
    must(signer_lines(s, r, &rng, out, &n));
    ck_assert_uint_le(n, SIGNED_LINES_MAX);
    out[n] = '\0';
    ck_assert_str_eq(out, wanted);
    signer_free(s);
}

#define WALL_2026 1767225600

static const struct signed_request get = {
    .method = SLICE("GET"),
    .path = SLICE("/v1/client/prompts/prompt-1?project_id=p%201"),
    .wall = WALL_2026,
};

START_TEST(documented_scheme)
{
    /* key demo-secret-key-of-the-stand-in,
     * message po_demoDemo0000000000000001:2026-01-01T00:00:00:GET:/v1/client/prompts/prompt-1 */
    lines_are(SIGNER_SIGNED, TIMESTAMP_NAIVE_UTC, &get,
              "X-PromptOps-Timestamp: 2026-01-01T00:00:00\r\n"
              "X-PromptOps-Signature: e9d4dfde921e724b4f4b44ca024859475b707acaac8753dfda9640dd87016296\r\n");
    lines_are(SIGNER_SIGNED, TIMESTAMP_ZULU, &get,
              "X-PromptOps-Timestamp: 2026-01-01T00:00:00Z\r\n"
              "X-PromptOps-Signature: 8d2ab347b2a4e1e2d1ebc23389def0d266fd1798a0beeef010b29d967f1abfe3\r\n");
    lines_are(SIGNER_SIGNED, TIMESTAMP_UNIX, &get,
              "X-PromptOps-Timestamp: 1767225600\r\n"
              "X-PromptOps-Signature: ea9251f10523b9fc9bf8633372241527cfd111c9b36b5db12355eb7aa494c29c\r\n");
    struct signed_request post = get; /* the body takes no part; the path of the upstream's URL does */
    post.method = SLICE("POST");
    post.base_path = SLICE("/base");
    post.body_sha256 = SLICE("00");
    lines_are(SIGNER_SIGNED, TIMESTAMP_NAIVE_UTC, &post,
              "X-PromptOps-Timestamp: 2026-01-01T00:00:00\r\n"
              "X-PromptOps-Signature: 456fe92728836b5f043700b14bd608ff6af899f758cf497279db2fb30c68a6d2\r\n");
}
END_TEST

START_TEST(python_clients_scheme)
{
    /* key po_demoDemo0000000000000001; the nonce is what the generator gives for seed 1 */
    lines_are(SIGNER_PROMPTOPS, TIMESTAMP_UNIX, &get,
              "X-PromptOps-Timestamp: 1767225600\r\n"
              "X-PromptOps-Nonce: c510c70f6daff2b3ea4c364796553b85\r\n"
              "X-PromptOps-Signature: 8526bb9e1e735054e4872ccd62dcc48a9fe82352d7c8c4fdfa54094124a9426a\r\n");
    struct signed_request post = {
        .method = SLICE("POST"),
        .base_path = SLICE("/base"),
        .path = SLICE("/v1/client/prompts/batch"),
        .wall = WALL_2026,
        /* of {"prompt_ids":["prompt-1"]} */
        .body_sha256 = SLICE("645efb393bc96f4978576b71ea8175300bfea729b82350554072a615bf2c72e6"),
    };
    lines_are(SIGNER_PROMPTOPS, TIMESTAMP_UNIX, &post,
              "X-PromptOps-Timestamp: 1767225600\r\n"
              "X-PromptOps-Nonce: c510c70f6daff2b3ea4c364796553b85\r\n"
              "X-PromptOps-Signature: 132a8a6497960d314eebf1ef78b9f74cb32eb04fe6e655c555388d542df9b51a\r\n");
}
END_TEST

/* Around the block of HMAC, and far beyond. */
START_TEST(long_keys)
{
    static const struct {
        size_t n;
        const char *signature;
    } table[] = {
        {63, "71fa73aa3bc5eae4b1aa611dd94f40c0ab6fddd6834e80cae895d5ca90663830"},
        {64, "7364523070e086d505b6fde997f749583dcbbc885b21195532a5de575c260312"},
        {65, "e92c6329ede1673e312ab91e059c11e2bc8b8717301f5778932848593c75c8be"},
        {3000, "69c0df30c9777a8587a010bf7fee1b0721f01e83b7b2fcb00cefca426425a9f7"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char secret[3001], wanted[200];
        int n = snprintf(secret, sizeof secret, "k%zu-", table[i].n);
        memset(secret + n, 'x', sizeof secret - (size_t)n);
        secret[table[i].n] = '\0';
        put(secret_file, secret);
        snprintf(wanted, sizeof wanted, "X-PromptOps-Timestamp: 1767225600\r\nX-PromptOps-Signature: %s\r\n",
                 table[i].signature);
        lines_are(SIGNER_SIGNED, TIMESTAMP_UNIX, &get, wanted);
    }
}
END_TEST

START_TEST(bearer_and_none)
{
    lines_are(SIGNER_BEARER, TIMESTAMP_UNIX, &get, "");
    lines_are(SIGNER_PASSTHROUGH, TIMESTAMP_UNIX, &get, "");
}
END_TEST

START_TEST(what_is_shown)
{
    static const struct {
        enum signer_scheme scheme;
        const char *line;
        bool covers;
    } table[] = {
        {SIGNER_BEARER, "Authorization: Bearer po_demoDemo0000000000000001\r\n", false},
        {SIGNER_SIGNED, "Authorization: Bearer po_demoDemo0000000000000001\r\n", false},
        {SIGNER_PROMPTOPS, "Authorization: PromptOps po_demoDemo0000000000000001\r\n", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct signer *s = signer(table[i].scheme, TIMESTAMP_UNIX);
        ck_assert(slice_equal(signer_credential(s), (struct slice){table[i].line, strlen(table[i].line)}));
        ck_assert_int_eq(signer_covers_body(s), table[i].covers);
        ck_assert(signer_holds_key(s));
        signer_free(s);
    }
    struct signer *none = signer(SIGNER_PASSTHROUGH, TIMESTAMP_UNIX);
    ck_assert(!signer_holds_key(none) && !signer_covers_body(none) && signer_protected(none));
    signer_free(none);
    signer_free(NULL);
}
END_TEST

START_TEST(every_nonce_is_fresh)
{
    struct signer *s = signer(SIGNER_PROMPTOPS, TIMESTAMP_UNIX);
    struct rng rng;
    char out[2][SIGNED_LINES_MAX];
    size_t n[2];
    rng_seed(&rng, 7);
    must(signer_lines(s, &get, &rng, out[0], &n[0]));
    must(signer_lines(s, &get, &rng, out[1], &n[1]));
    ck_assert_uint_eq(n[0], n[1]);
    ck_assert_mem_ne(out[0], out[1], n[0]);
    signer_free(s);
}
END_TEST

START_TEST(keys_that_differ)
{
    struct signer *a = signer(SIGNER_SIGNED, TIMESTAMP_UNIX), *b = signer(SIGNER_SIGNED, TIMESTAMP_ZULU);
    struct signer *c = signer(SIGNER_BEARER, TIMESTAMP_UNIX);
    put(secret_file, "another");
    struct signer *d = signer(SIGNER_SIGNED, TIMESTAMP_UNIX);
    ck_assert(signer_same_key(a, b) && signer_same_use(a, b));
    ck_assert(!signer_same_key(a, c) && !signer_same_use(a, c));
    ck_assert(!signer_same_key(a, d) && signer_same_use(a, d));
    signer_free(a);
    signer_free(b);
    signer_free(c);
    signer_free(d);
}
END_TEST

static void refused(enum signer_scheme scheme, const char *wanted, const char *file)
{
    char err[512] = "", text[512];
    struct signer_options o = {scheme, TIMESTAMP_UNIX, true, key_file, secret_file};
    ck_assert_ptr_null(signer_new(&o, err, sizeof err));
    snprintf(text, sizeof text, wanted, file);
    ck_assert_str_eq(err, text);
}

START_TEST(files_that_are_no_use)
{
    put(key_file, "\n");
    refused(SIGNER_BEARER, "auth.api_key_file: %s: it is empty; write the key into it, on one line",
            key_file);
    put(key_file, "po_1");
    put(secret_file, "");
    refused(SIGNER_SIGNED, "auth.secret_key_file: %s: it is empty; write the key into it, on one line",
            secret_file);
    must(unlink(secret_file) == 0);
    refused(SIGNER_SIGNED,
            "auth.secret_key_file: %s: it cannot be read: No such file or directory; give a file that this "
            "user may read",
            secret_file);
    signer_free(signer(SIGNER_PROMPTOPS, TIMESTAMP_UNIX)); /* which needs no secret */
}
END_TEST

/* ---- what the client signed ---- */

static bool good(const char *request, int64_t wall)
{
    static struct message m;
    struct client_signature c;
    struct signer *s = signer(SIGNER_PASSTHROUGH, TIMESTAMP_UNIX);
    request_text(&m, request);
    client_signature_read(&m.head, &c);
    bool yes = signer_client_good(s, &c, head_method(&m.head), head_path(&m.head), wall);
    signer_free(s);
    return yes;
}

#define CLIENT(method, path, key, time, nonce, signature)                                                    \
    method " " path " | Authorization: PromptOps " key " | X-PromptOps-Timestamp: " time                     \
           " | X-PromptOps-Nonce: " nonce " | X-PromptOps-Signature: " signature

#define KEY "po_demoDemo0000000000000001"
/* GET:/v1/client/prompts/prompt-1?project_id=p:1767225600:n-1, and the same without the query */
#define WITH_QUERY "dd2150a3e36efdd083a8df090bc71f43b8c6ca324b892de30602acb31147e3f4"
#define BARE       "8824807621529d28352d3503e1e27c258d34563f0cc0f178eaa1ea8b7777901f"
/* with another key */
#define OTHERS "1599e157c772e775a21e7d3a3e5e10d3d0a82f8166bd0107c8f5272131cebcda"

START_TEST(client_signatures)
{
    ck_assert(
        good(CLIENT("GET", "/v1/client/prompts/prompt-1?project_id=p", KEY, "1767225600", "n-1", WITH_QUERY),
             WALL_2026));
    ck_assert(good(CLIENT("GET", "/v1/client/prompts/prompt-1?project_id=p", KEY, "1767225600", "n-1", BARE),
                   WALL_2026 + 299));
    ck_assert(
        good(CLIENT("GET", "/v1/client/prompts/prompt-1", KEY, "1767225600", "n-1", BARE), WALL_2026 - 300));
    static const char *const bad[] = {
        CLIENT("GET", "/v1/client/prompts/prompt-1", KEY, "1767225600", "n-1", WITH_QUERY),
        CLIENT("HEAD", "/v1/client/prompts/prompt-1", KEY, "1767225600", "n-1", BARE),
        CLIENT("GET", "/v1/client/prompts/prompt-2", KEY, "1767225600", "n-1", BARE),
        CLIENT("GET", "/v1/client/prompts/prompt-1", KEY, "1767225601", "n-1", BARE),
        CLIENT("GET", "/v1/client/prompts/prompt-1", KEY, "1767225600", "n-2", BARE),
        CLIENT("GET", "/v1/client/prompts/prompt-1", KEY, "1767225600", "n-1", OTHERS),
        CLIENT("GET", "/v1/client/prompts/prompt-1", "po_2", "1767225600", "n-1", BARE),
        CLIENT("GET", "/v1/client/prompts/prompt-1", KEY, "1767225600", "n-1", "00"),
        CLIENT("GET", "/v1/client/prompts/prompt-1", KEY, "1767225600", "n-1", BARE "0"),
        "GET /v1/client/prompts/prompt-1 | Authorization: PromptOps " KEY,
        "GET /v1/client/prompts/prompt-1 | Authorization: Bearer " KEY,
        "GET /v1/client/prompts/prompt-1",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!good(bad[i], WALL_2026), "%s", bad[i]);
    ck_assert(
        !good(CLIENT("GET", "/v1/client/prompts/prompt-1", KEY, "1767225600", "n-1", BARE), WALL_2026 + 300));
    ck_assert(
        !good(CLIENT("GET", "/v1/client/prompts/prompt-1", KEY, "1767225600", "n-1", BARE), WALL_2026 - 301));
}
END_TEST

START_TEST(bodies)
{
    struct signer *s = signer(SIGNER_PROMPTOPS, TIMESTAMP_UNIX);
    char hex[SHA256_HEX_LEN];
    struct body_digest *d = body_digest_new(s);
    must(d);
    must(body_digest_add(d, SLICE("{\"prompt_ids\":")));
    must(body_digest_add(d, SLICE("")));
    must(body_digest_add(d, SLICE("[\"prompt-1\"]}")));
    must(body_digest_end(d, hex));
    ck_assert(slice_equal((struct slice){hex, sizeof hex},
                          SLICE("645efb393bc96f4978576b71ea8175300bfea729b82350554072a615bf2c72e6")));
    body_digest_free(d);
    body_digest_free(NULL);
    signer_free(s);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("signer");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, documented_scheme);
    tcase_add_test(t, python_clients_scheme);
    tcase_add_test(t, long_keys);
    tcase_add_test(t, bearer_and_none);
    tcase_add_test(t, what_is_shown);
    tcase_add_test(t, every_nonce_is_fresh);
    tcase_add_test(t, keys_that_differ);
    tcase_add_test(t, files_that_are_no_use);
    tcase_add_test(t, client_signatures);
    tcase_add_test(t, bodies);
    return run_case("signer", t);
}
