/*
 * Requests to the admin port by libcurl: one request to the admin port.
 * Invariants: answers are bounded; the token goes to the admin port only (no redirect is followed) and is
 * never shown.
 */
#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/cli/cli.h"
#include "metrics/text.h"

enum { MAX_ANSWER = 256 * 1024 * 1024, TOKEN_MAX = 1024, TIMEOUT_SECONDS = 30 };
_Static_assert(TOKEN_MAX + 32 <= TOKEN_FIELD_MAX, "room for the field's name");

static size_t on_data(char *p, size_t size, size_t n, void *arg)
{
    struct text *t = arg;
    if (t->n + size * n > MAX_ANSWER)
        return 0;
    text_bytes(t, p, size * n);
    return t->failed ? 0 : size * n;
}

bool read_token(const char *path, char out[TOKEN_FIELD_MAX])
{
    char line[TOKEN_MAX + 2] = "";
    FILE *f = fopen(path, "re");
    if (!f) {
        complain("--token-file %s: %s", path, strerror(errno));
        return false;
    }
    bool got = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    line[strcspn(line, "\r\n")] = '\0';
    if (!got || !*line) {
        complain("--token-file %s: it is empty", path);
        return false;
    }
    snprintf(out, TOKEN_FIELD_MAX, "Authorization: Bearer %s", line);
    return true;
}

/* Appends a field; complains and gives NULL when out of memory (what there was is freed). */
static struct curl_slist *with_field(struct curl_slist *fields, const char *field)
{
    struct curl_slist *longer = curl_slist_append(fields, field);
    if (!longer) {
        curl_slist_free_all(fields);
        complain("out of memory");
    }
    return longer;
}

static struct curl_slist *fields_of(const struct args *a, bool change)
{
    char token[TOKEN_FIELD_MAX] = "";
    if (a->token_file && !read_token(a->token_file, token))
        return NULL;
    struct curl_slist *fields = with_field(NULL, "Accept: application/json");
    if (fields && change)
        fields = with_field(fields, "X-Requested-With: promptops-perf");
    if (fields && change)
        fields = with_field(fields, "Content-Type: application/json");
    if (fields && *token)
        fields = with_field(fields, token);
    explicit_bzero(token, sizeof token);
    return fields;
}

/* "unix:/x" becomes a host that no name server is asked for. */
void ask_set_url(void *curl, const char *admin, const char *path)
{
    char url[4096];
    bool local = strncmp(admin, "unix:", 5) == 0;
    const char *scheme = local || strstr(admin, "://") ? "" : "http://";
    const char *base = local ? "http://localhost" : admin;
    size_t n = strlen(base);
    while (n && base[n - 1] == '/')
        n--;
    snprintf(url, sizeof url, "%s%.*s%s", scheme, (int)n, base, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    if (local)
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, admin + 5);
}

/* What the sidecar said was wrong. */
static void tell_error(const json_t *tree, long status)
{
    const char *what = json_string_value(json_object_get(tree, "error"));
    const char *how = json_string_value(json_object_get(tree, "remedy"));
    complain("the sidecar answered %ld: %s", status, what ? what : "no reason was given");
    if (how)
        complain("%s", how);
}

static json_t *read_answer(const struct text *t, long status)
{
    json_error_t error;
    json_t *tree = t->n ? json_loadb(t->p, t->n, 0, &error) : NULL;
    if (status >= 200 && status < 300 && tree)
        return tree;
    if (tree && status >= 400)
        tell_error(tree, status);
    else
        complain("the answer (status %ld) is not one of a sidecar's admin port; is --admin right?", status);
    json_decref(tree);
    return NULL;
}

static json_t *perform(CURL *curl, const struct args *a)
{
    char reason[CURL_ERROR_SIZE] = "";
    struct text t = {0};
    long status = 0;
    json_t *tree = NULL;
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &t);
    CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK)
        complain("%s: %s; is the sidecar running, and --admin its admin port?", a->admin,
                 *reason ? reason : curl_easy_strerror(code));
    else if (curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK)
        tree = read_answer(&t, status);
    text_dispose(&t);
    return tree;
}

static void set_common(CURL *curl, const struct args *a, const char *path, struct curl_slist *fields)
{
    ask_set_url(curl, a->admin, path);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
}

/* What a raw answer goes into: errors are kept to be told. */
struct sink {
    CURL *curl;
    FILE *out;
    struct text error;
};

static size_t on_raw(char *p, size_t size, size_t n, void *arg)
{
    struct sink *s = arg;
    long status = 0;
    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status < 300)
        return fwrite(p, 1, size * n, s->out);
    if (s->error.n + size * n < 65536)
        text_bytes(&s->error, p, size * n);
    return size * n;
}

bool ask_raw(const struct args *a, const char *path, FILE *out)
{
    struct curl_slist *fields = fields_of(a, false);
    struct sink sink = {.curl = curl_easy_init(), .out = out};
    long status = 0;
    bool good = false;
    if (fields && sink.curl) {
        set_common(sink.curl, a, path, fields);
        curl_easy_setopt(sink.curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(sink.curl, CURLOPT_LOW_SPEED_TIME, (long)TIMEOUT_SECONDS);
        curl_easy_setopt(sink.curl, CURLOPT_WRITEFUNCTION, on_raw);
        curl_easy_setopt(sink.curl, CURLOPT_WRITEDATA, &sink);
        CURLcode code = curl_easy_perform(sink.curl);
        curl_easy_getinfo(sink.curl, CURLINFO_RESPONSE_CODE, &status);
        good = code == CURLE_OK && status >= 200 && status < 300;
        if (code != CURLE_OK)
            complain("%s: %s", a->admin, curl_easy_strerror(code));
        else if (!good)
            json_decref(read_answer(&sink.error, status));
    }
    text_dispose(&sink.error);
    curl_easy_cleanup(sink.curl);
    curl_slist_free_all(fields);
    return good;
}

struct json_t *ask(const struct args *a, const char *method, const char *path, const struct json_t *body)
{
    struct curl_slist *fields = fields_of(a, strcmp(method, "GET") != 0);
    if (!fields)
        return NULL;
    CURL *curl = curl_easy_init();
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_t *tree = NULL;
    if (curl && (text || !body)) {
        set_common(curl, a, path, fields);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_SECONDS);
        if (text)
            curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
        tree = perform(curl, a);
    } else {
        complain("out of memory");
    }
    free(text);
    curl_easy_cleanup(curl);
    curl_slist_free_all(fields);
    return tree;
}
