/*
 * The resource and the header fields. Invariant: a key stands in the resource once; nothing read here is
 * logged, because header fields hold tokens.
 */
#include "proxy/telemetry_resource.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "metrics/otlp.h"

enum { ATTRIBUTES_MOST = 64 };

struct attribute {
    char *key, *value;
    bool number;
};

struct resource {
    struct attribute attributes[ATTRIBUTES_MOST];
    size_t n;
    bool failed;
};

/* ---- pairs ---- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Decodes %XX in place. False: malformed, or a NUL in it. */
static bool decode(char *text)
{
    char *to = text;
    for (const char *p = text; *p; p++) {
        if (*p != '%') {
            *to++ = *p;
            continue;
        }
        if (hex(p[1]) < 0 || hex(p[2]) < 0 || (hex(p[1]) == 0 && hex(p[2]) == 0))
            return false;
        *to++ = (char)(hex(p[1]) << 4 | hex(p[2]));
        p += 2;
    }
    *to = '\0';
    return true;
}

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t n = strlen(text);
    while (n && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        text[--n] = '\0';
    return text;
}

int telemetry_pairs(const char *text, void (*each)(void *ctx, const char *key, const char *value), void *ctx)
{
    char *copy = strdup(text), *rest = copy;
    int bad = 0;
    if (!copy)
        return -1;
    for (char *pair; (pair = strsep(&rest, ","));) {
        char *value = strchr(pair, '=');
        if (value)
            *value++ = '\0';
        char *key = trim(pair);
        if (!*key && !value)
            continue; /* a comma too many */
        value = value ? trim(value) : NULL;
        if (*key && value && decode(key) && decode(value))
            each(ctx, key, value);
        else
            bad++;
    }
    explicit_bzero(copy, strlen(text));
    free(copy);
    return bad;
}

/* ---- the resource ---- */

/* The first word on a key stays. */
static void add(struct resource *r, const char *key, const char *value, bool number)
{
    if (!value || !*value || r->n == ATTRIBUTES_MOST)
        return;
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->attributes[i].key, key) == 0)
            return;
    struct attribute a = {strdup(key), strdup(value), number};
    if (a.key && a.value) {
        r->attributes[r->n++] = a;
        return;
    }
    free(a.key);
    free(a.value);
    r->failed = true;
}

static void add_said(void *ctx, const char *key, const char *value)
{
    add(ctx, key, value, false);
}

static void add_system(struct resource *r)
{
    static const char *const machines[][2] = {
        {"x86_64", "amd64"}, {"aarch64", "arm64"}, {"armv7l", "arm32"}, {"ppc64le", "ppc64"}};
    struct utsname u;
    char host[128] = "", pid[16];
    if (gethostname(host, sizeof host) == 0) {
        host[sizeof host - 1] = '\0';
        add(r, "host.name", host, false);
    }
    if (uname(&u) == 0) {
        const char *arch = u.machine;
        for (size_t i = 0; i < ARRAY_LEN(machines); i++)
            if (strcmp(u.machine, machines[i][0]) == 0)
                arch = machines[i][1];
        add(r, "host.arch", arch, false);
    }
    add(r, "os.type", "linux", false);
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    add(r, "process.pid", pid, true);
    add(r, "process.executable.name", "promptops-sidecar", false);
}

static void add_kubernetes(struct resource *r, telemetry_env *env)
{
    static const struct {
        const char *key, *names[4];
    } rows[] = {
        {"k8s.pod.name", {"POD_NAME", "K8S_POD_NAME", "OTEL_RESOURCE_ATTRIBUTES_POD_NAME"}},
        {"k8s.namespace.name", {"POD_NAMESPACE", "K8S_NAMESPACE_NAME", "OTEL_RESOURCE_ATTRIBUTES_NAMESPACE"}},
        {"k8s.pod.uid", {"POD_UID", "K8S_POD_UID", "OTEL_RESOURCE_ATTRIBUTES_POD_UID"}},
        {"k8s.node.name", {"NODE_NAME", "K8S_NODE_NAME", "OTEL_RESOURCE_ATTRIBUTES_NODE_NAME"}},
        {"k8s.container.name", {"CONTAINER_NAME", "K8S_CONTAINER_NAME"}},
        {"k8s.deployment.name", {"DEPLOYMENT_NAME", "K8S_DEPLOYMENT_NAME"}},
        {"k8s.cluster.name", {"CLUSTER_NAME", "K8S_CLUSTER_NAME"}},
    };
    if (!env("KUBERNETES_SERVICE_HOST"))
        return;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (size_t k = 0; k < ARRAY_LEN(rows[i].names) && rows[i].names[k]; k++)
            add(r, rows[i].key, env(rows[i].names[k]), false);
    add(r, "k8s.pod.name", env("HOSTNAME"), false); /* what a pod's name is, unless told otherwise */
}

bool telemetry_resource(const struct telemetry_identity *id, telemetry_env *env, struct text *out)
{
    struct resource r = {.n = 0};
    const char *said = env("OTEL_RESOURCE_ATTRIBUTES");
    if (id->service_name_set)
        add(&r, "service.name", id->service_name, false);
    add(&r, "service.name", env("OTEL_SERVICE_NAME"), false);
    if (said && telemetry_pairs(said, add_said, &r) < 0)
        r.failed = true;
    add(&r, "service.name", id->service_name, false);
    add(&r, "service.version", id->version, false);
    add(&r, "service.instance.id", id->instance, false);
    add_system(&r);
    add_kubernetes(&r, env);
    for (size_t i = 0; i < r.n; i++) {
        if (r.attributes[i].number)
            otlp_int(out, OTLP_RESOURCE_ATTRIBUTE, r.attributes[i].key,
                     strtoll(r.attributes[i].value, NULL, 10));
        else
            otlp_text(out, OTLP_RESOURCE_ATTRIBUTE, r.attributes[i].key, r.attributes[i].value);
        free(r.attributes[i].key);
        free(r.attributes[i].value);
    }
    return !r.failed && !out->failed;
}

/* ---- header fields ---- */

struct fields {
    char **out;
    size_t n, most;
    unsigned bad;
};

static bool is_token(const char *name)
{
    for (const char *p = name; *p; p++)
        if (!((*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'z') ||
              strchr("!#$%&'*+-.^_`|~", *p)))
            return false;
    return *name != '\0';
}

static void add_field(void *ctx, const char *key, const char *value)
{
    struct fields *f = ctx;
    bool good = is_token(key) && f->n < f->most;
    for (const char *p = value; *p && good; p++)
        good = (unsigned char)*p >= 0x20 && *p != 0x7f;
    size_t size = strlen(key) + strlen(value) + 3;
    char *field = good ? malloc(size) : NULL;
    if (!field) {
        f->bad++;
        return;
    }
    snprintf(field, size, *value ? "%s: %s" : "%s;", key, value); /* so libcurl sends an empty one */
    f->out[f->n++] = field;
}

size_t telemetry_fields(telemetry_env *env, char **out, size_t most, unsigned *bad)
{
    struct fields f = {.out = out, .most = most};
    const char *said = env("OTEL_EXPORTER_OTLP_HEADERS");
    int malformed = said ? telemetry_pairs(said, add_field, &f) : 0;
    *bad = f.bad + (malformed > 0 ? (unsigned)malformed : 0);
    return f.n;
}
