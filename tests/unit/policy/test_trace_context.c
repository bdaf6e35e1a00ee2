/* Tests of policy/trace_context.c, by the W3C text's own rules, and of policy/via.c. */
#include "policy/trace_context.h"
#include "policy/via.h"
#include "tests/unit/policy/harness.h"

#include <stdio.h>
#include <string.h>

#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"

static struct trace_context t;
static struct rng rng;

static void setup(void)
{
    rng_seed(&rng, 4);
    memset(&t, 0xAA, sizeof t);
}

static bool parse(const char *s)
{
    return traceparent_parse((struct slice){s, strlen(s)}, &t);
}

static const char *format(void)
{
    static char out[TRACEPARENT_LEN + 1];
    traceparent_format(&t, out);
    return out;
}

START_TEST(valid_ones)
{
    static const struct {
        const char *in, *out;
    } ok[] = {
        {"00-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-01"},
        {"00-" TRACE "-" PARENT "-00", "00-" TRACE "-" PARENT "-00"},
        {"00-" TRACE "-" PARENT "-03", "00-" TRACE "-" PARENT "-03"},
        {"00-" TRACE "-" PARENT "-ff", "00-" TRACE "-" PARENT "-03"}, /* unknown flags are not passed on */
        {"01-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-01"},
        {"cc-" TRACE "-" PARENT "-01-what-the-future-holds", "00-" TRACE "-" PARENT "-01"},
        {"cc-" TRACE "-" PARENT "-01-", "00-" TRACE "-" PARENT "-01"},
        {"00-00000000000000000000000000000001-0000000000000001-01",
         "00-00000000000000000000000000000001-0000000000000001-01"},
    };
    for (size_t i = 0; i < ARRAY_LEN(ok); i++) {
        ck_assert_msg(parse(ok[i].in), "%s", ok[i].in);
        ck_assert_str_eq(format(), ok[i].out);
    }
}
END_TEST

START_TEST(bad_ones_leave_it_alone)
{
    static const char *const bad[] = {
        "",
        "00",
        "00-" TRACE "-" PARENT "-0",
        "00-" TRACE "-" PARENT "-011",
        "00-" TRACE "-" PARENT "-01-",
        "00-" TRACE "-" PARENT "-01-what",
        "01-" TRACE "-" PARENT "-01.what",
        "ff-" TRACE "-" PARENT "-01",
        "0-" TRACE "-" PARENT "-01",
        "00_" TRACE "-" PARENT "-01",
        "00-" TRACE "_" PARENT "-01",
        "00-" TRACE "-" PARENT "_01",
        "00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01",
        "00-" TRACE "-B7AD6B7169203331-01",
        "0A-" TRACE "-" PARENT "-01",
        "00-" TRACE "-" PARENT "-0A",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-" TRACE "-" PARENT "-0.",
        "00-.af7651916cd43dd8448eb211c80319c-" PARENT "-01",
        " 00-" TRACE "-" PARENT "-01",
        "00-" TRACE "-" PARENT ",00-" TRACE "-" PARENT "-01",
    };
    struct trace_context before = t;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!parse(bad[i]), "%s", bad[i]);
    ck_assert_mem_eq(&before, &t, sizeof t);
}
END_TEST

START_TEST(every_byte_matters)
{
    char s[] = "00-" TRACE "-" PARENT "-01";
    ck_assert_uint_eq(strlen(s), TRACEPARENT_LEN);
    for (size_t i = 0; i < TRACEPARENT_LEN; i++)
        for (int c = 0; c < 256; c++) {
            char was = s[i];
            s[i] = (char)c;
            bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
            bool want = i == 2 || i == 35 || i == 52 ? c == '-' : digit;
            must(traceparent_parse((struct slice){s, TRACEPARENT_LEN}, &t) == want);
            s[i] = was;
        }
    for (size_t n = 0; n < TRACEPARENT_LEN; n++)
        must(!traceparent_parse((struct slice){s, n}, &t));
}
END_TEST

START_TEST(start_and_child)
{
    struct trace_context a;
    trace_start(&a, true, &rng);
    t = a;
    ck_assert(parse(format()));
    ck_assert_mem_eq(&a, &t, sizeof t);
    ck_assert_int_eq(a.flags, TRACE_SAMPLED | TRACE_RANDOM);
    trace_child(&t, &rng);
    ck_assert_mem_eq(a.trace_id, t.trace_id, 16);
    ck_assert_mem_ne(a.parent_id, t.parent_id, 8);
    ck_assert_int_eq(a.flags, t.flags);
    trace_start(&t, false, &rng);
    ck_assert_int_eq(t.flags, TRACE_RANDOM);
    ck_assert_mem_ne(a.trace_id, t.trace_id, 16);
    struct rng zero = {{0}}; /* a generator that gives nothing but zeros: ids are valid all the same */
    trace_start(&t, true, &zero);
    ck_assert(parse(format()));
}
END_TEST

/* A head of lines with one field id each. */
static struct head head_of(enum field_id id, const char *const *values, int n)
{
    static char bytes[1000];
    static struct field fields[8];
    struct head h = {.base = bytes, .fields = fields, .field_count = (uint16_t)n};
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        fields[i] = (struct field){
            .value = (uint32_t)at, .value_len = (uint32_t)strlen(values[i]), .id = (uint8_t)id};
        memcpy(bytes + at, values[i], strlen(values[i]));
        at += strlen(values[i]);
        h.present |= UINT64_C(1) << id;
    }
    return h;
}

START_TEST(from_a_head)
{
    static const char *const two[] = {"00-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-01"};
    struct head h = head_of(FIELD_TRACEPARENT, two, 0);
    ck_assert(!trace_from_head(&h, &t));
    h = head_of(FIELD_TRACEPARENT, two, 1);
    ck_assert(trace_from_head(&h, &t));
    h = head_of(FIELD_TRACEPARENT, two, 2);
    ck_assert(!trace_from_head(&h, &t)); /* two lines, even if equal */
    h = head_of(FIELD_TRACESTATE, two, 1);
    ck_assert(!trace_from_head(&h, &t));
}
END_TEST

START_TEST(request_ids)
{
    char long_one[REQUEST_ID_MAX + 1];
    memset(long_one, 'a', sizeof long_one);
    ck_assert(request_id_ok((struct slice){long_one, REQUEST_ID_MAX}));
    ck_assert(!request_id_ok((struct slice){long_one, REQUEST_ID_MAX + 1}));
    ck_assert(request_id_ok(SLICE("Root=1-67891233-abcdef012345678912345678")));
    ck_assert(request_id_ok(SLICE("a_b-c.d~e:f/g+h=i@j,k")));
    ck_assert(!request_id_ok(SLICE("")));
    for (int c = 0; c < 256; c++) {
        char one = (char)c;
        bool want = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                    (c && strchr("-._~:/+=@,", c));
        must(request_id_ok((struct slice){&one, 1}) == want);
    }
    char a[REQUEST_ID_LEN + 1] = "", b[REQUEST_ID_LEN + 1] = "";
    request_id_make(a, &rng);
    request_id_make(b, &rng);
    ck_assert_uint_eq(strlen(a), REQUEST_ID_LEN);
    ck_assert_str_ne(a, b);
    ck_assert(request_id_ok((struct slice){a, REQUEST_ID_LEN}));
    ck_assert(a[8] == '-' && a[13] == '-' && a[14] == '4' && a[18] == '-' && strchr("89ab", a[19]) &&
              a[23] == '-');
}
END_TEST

/* --- Via. --- */

static bool loops(const char *const *values, int n)
{
    struct head h = head_of(FIELD_VIA, values, n);
    return via_is_loop(&h, "0123456789abcdef");
}

START_TEST(via_written_and_found)
{
    char out[VIA_MAX];
    size_t n = via_format(out, 1, NULL);
    ck_assert_uint_eq(n, strlen("1.1 promptops-sidecar"));
    ck_assert_mem_eq(out, "1.1 promptops-sidecar", n);
    n = via_format(out, 0, "0123456789abcdef");
    ck_assert_uint_le(n, VIA_MAX);
    ck_assert_mem_eq(out, "1.0 promptops-sidecar (0123456789abcdef)", n);
    static const char *const loop[] = {"1.1 a, 1.0 promptops-sidecar (0123456789abcdef), 1.1 b"};
    static const char *const second[] = {"1.1 a", "1.1 promptops-sidecar (0123456789abcdef)"};
    static const char *const others[] = {"1.1 promptops-sidecar (fedcba9876543210), 1.1 promptops-sidecar",
                                         "1.1 x", "1.1 promptops-sidecar (0123456789abcde)"};
    ck_assert(loops(loop, 1));
    ck_assert(loops(second, 2));
    ck_assert(!loops(second, 1));
    ck_assert(!loops(others, 3));
    ck_assert(!loops(NULL, 0));
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("trace_context");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, valid_ones);
    tcase_add_test(c, bad_ones_leave_it_alone);
    tcase_add_test(c, every_byte_matters);
    tcase_add_test(c, start_and_child);
    tcase_add_test(c, from_a_head);
    tcase_add_test(c, request_ids);
    tcase_add_test(c, via_written_and_found);
    return run_case("policy/trace_context", c);
}
