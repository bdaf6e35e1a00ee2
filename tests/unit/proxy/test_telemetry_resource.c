/* proxy/telemetry_resource.c: pairs, precedence, Kubernetes, header fields. */
#include "proxy/telemetry_resource.h"

#include <stdio.h>
#include <string.h>

#include "metrics/protobuf.h"
#include "tests/unit/metrics/main.h"

static const char *const *environment; /* name, value, ... NULL */

static const char *env(const char *name)
{
    for (size_t i = 0; environment[i]; i += 2)
        if (strcmp(environment[i], name) == 0)
            return environment[i + 1];
    return NULL;
}

static char pairs_seen[512];

static void note(void *ctx, const char *key, const char *value)
{
    size_t n = strlen(pairs_seen);
    (void)ctx;
    snprintf(pairs_seen + n, sizeof pairs_seen - n, "[%s|%s]", key, value);
}

static void pairs(const char *text, const char *want, int bad)
{
    pairs_seen[0] = '\0';
    ck_assert_int_eq(telemetry_pairs(text, note, NULL), bad);
    ck_assert_str_eq(pairs_seen, want);
}

START_TEST(pairs_are_taken_apart)
{
    pairs("", "", 0);
    pairs("a=b", "[a|b]", 0);
    pairs(" a = b ,c=,,d=x=y", "[a|b][c|][d|x=y]", 0);
    pairs("a=%41%2c%3D", "[a|A,=]", 0);
    pairs("a,=b,c=%4,d=%zz,e=%00,f=g", "[f|g]", 5);
}
END_TEST

/* The value of an attribute; "" when there is none, "twice" when there are several. */
static const char *attribute(const struct text *t, const char *wanted)
{
    static char found[256];
    struct pb_reader r = {(const uint8_t *)t->p, (const uint8_t *)t->p + t->n};
    struct pb_field f, key, value, inner;
    bool bad = false, seen = false;
    found[0] = '\0';
    while (pb_next(&r, &f, &bad)) {
        ck_assert(pb_next(&f.content, &key, &bad) && pb_next(&f.content, &value, &bad) &&
                  pb_next(&value.content, &inner, &bad));
        size_t n = (size_t)(key.content.end - key.content.p);
        if (n != strlen(wanted) || memcmp(key.content.p, wanted, n) != 0)
            continue;
        if (seen)
            return "twice";
        seen = true;
        if (inner.number == 3)
            snprintf(found, sizeof found, "%llu", (unsigned long long)inner.value);
        else
            snprintf(found, sizeof found, "%.*s", (int)(inner.content.end - inner.content.p),
                     (const char *)inner.content.p);
    }
    ck_assert(!bad);
    return found;
}

static struct text resource(const char *const *with, bool set)
{
    struct telemetry_identity id = {"configured", set, "1.2", "me"};
    struct text t = {0};
    environment = with;
    ck_assert(telemetry_resource(&id, env, &t));
    return t;
}

START_TEST(who_goes_before_whom)
{
    static const char *const with[] = {"OTEL_RESOURCE_ATTRIBUTES",
                                       "service.name=said,service.version=9,host.name=h,x=%20y",
                                       "OTEL_SERVICE_NAME", "named", NULL};
    static const char *const less[] = {with[0], with[1], NULL}, *const none[] = {NULL};
    struct text t = resource(with, false);
    ck_assert_str_eq(attribute(&t, "service.name"), "named");
    ck_assert_str_eq(attribute(&t, "service.version"), "9");
    ck_assert_str_eq(attribute(&t, "host.name"), "h");
    ck_assert_str_eq(attribute(&t, "x"), " y");
    ck_assert_str_eq(attribute(&t, "service.instance.id"), "me");
    text_dispose(&t);
    t = resource(with, true);
    ck_assert_str_eq(attribute(&t, "service.name"), "configured");
    text_dispose(&t);
    t = resource(less, false);
    ck_assert_str_eq(attribute(&t, "service.name"), "said");
    text_dispose(&t);
    t = resource(none, false);
    ck_assert_str_eq(attribute(&t, "service.name"), "configured");
    ck_assert_str_eq(attribute(&t, "service.version"), "1.2");
    ck_assert_str_ne(attribute(&t, "process.pid"), "");
    ck_assert_str_eq(attribute(&t, "k8s.pod.name"), "");
    text_dispose(&t);
}
END_TEST

START_TEST(kubernetes)
{
    static const char *const outside[] = {"POD_NAME", "p", "HOSTNAME", "h", NULL};
    static const char *const inside[] = {
        "KUBERNETES_SERVICE_HOST", "10.0.0.1", "HOSTNAME", "h", "POD_NAMESPACE", "n",
        "K8S_NODE_NAME",           "x",        NULL};
    struct text t = resource(outside, false);
    ck_assert_str_eq(attribute(&t, "k8s.pod.name"), "");
    text_dispose(&t);
    t = resource(inside, false);
    ck_assert_str_eq(attribute(&t, "k8s.pod.name"), "h");
    ck_assert_str_eq(attribute(&t, "k8s.namespace.name"), "n");
    ck_assert_str_eq(attribute(&t, "k8s.node.name"), "x");
    text_dispose(&t);
}
END_TEST

START_TEST(header_fields)
{
    static const char *const with[] = {
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Authorization=Bearer%20a=b,x-y=1,bad%0aname=1,a b=1,v=%0d%0ax,empty=", NULL};
    char *fields[8] = {0};
    unsigned bad;
    environment = with;
    ck_assert_uint_eq(telemetry_fields(env, fields, 8, &bad), 3);
    ck_assert_uint_eq(bad, 3);
    ck_assert_str_eq(fields[0], "Authorization: Bearer a=b");
    ck_assert_str_eq(fields[1], "x-y: 1");
    ck_assert_str_eq(fields[2], "empty;");
    for (size_t i = 0; i < 3; i++)
        free(fields[i]);
}
END_TEST

SUITE("proxy/telemetry_resource", pairs_are_taken_apart, who_goes_before_whom, kubernetes, header_fields)
