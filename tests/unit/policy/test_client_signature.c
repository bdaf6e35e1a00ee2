/*
 * What counts as signed by the client, what can be checked here, and how long it is good.
 */
#include "policy/client_signature.h"
#include "tests/unit/message.h"

static struct message m;

static struct client_signature read_from(const char *text)
{
    struct client_signature s;
    request_text(&m, text);
    client_signature_read(&m.head, &s);
    return s;
}

#define FIELDS "X-PromptOps-Timestamp: 1700000000 | X-PromptOps-Nonce: n1 | X-PromptOps-Signature: aa"

START_TEST(none)
{
    static const char *const texts[] = {
        "GET /",
        "GET / | Authorization: Bearer po_1",
        "GET / | X-API-Key: po_1 | Cookie: a=b",
        "GET / | Authorization: Prompt x",
        "GET / | X-PromptOps-Other: 1",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        ck_assert_msg(!read_from(texts[i]).there, "%s", texts[i]);
}
END_TEST

START_TEST(python_client)
{
    struct client_signature s = read_from("GET / | authorization: promptops po_1 | " FIELDS);
    ck_assert(s.there && s.whole && s.nonce_there && s.dated);
    ck_assert(slice_equal(s.key, SLICE("po_1")) && slice_equal(s.timestamp, SLICE("1700000000")));
    ck_assert(slice_equal(s.nonce, SLICE("n1")) && slice_equal(s.signature, SLICE("aa")));
    ck_assert_int_eq(s.signed_at, 1700000000);
}
END_TEST

START_TEST(there_but_not_to_be_checked)
{
    static const char *const texts[] = {
        "GET / | Authorization: Bearer po_1 | X-PromptOps-Timestamp: 2026-01-01T00:00:00 | "
        "X-PromptOps-Signature: aa",
        "GET / | Authorization: Bearer po_1 | " FIELDS,
        "GET / | " FIELDS,
        "GET / | X-PromptOps-Signature: aa",
        "GET / | X-PromptOps-Timestamp: 1",
        "GET / | X-PromptOps-Nonce: 1",
        "GET / | Authorization: PromptOps po_1",
        "GET / | Authorization: PromptOps",
        "GET / | Authorization: PromptOps po 1 | " FIELDS,
        "GET / | Authorization: PromptOps\tpo_1 | " FIELDS,
        "GET / | Authorization: PromptOps po_1 | Authorization: PromptOps po_1 | " FIELDS,
        "GET / | Authorization: PromptOps po_1 | Authorization: Bearer po_2 | " FIELDS,
        "GET / | Authorization: Bearer po_2 | Authorization: PromptOps po_1",
        "GET / | Authorization: PromptOps po_1 | X-PromptOps-Nonce: n2 | " FIELDS,
        "GET / | Authorization: PromptOps po_1 | X-PromptOps-Signature: bb | " FIELDS,
        "GET / | Authorization: PromptOps po_1 | X-PromptOps-Timestamp: 1 | " FIELDS,
        "GET / | Authorization: PromptOps po_1 | X-PromptOps-Timestamp: 1 | X-PromptOps-Nonce: 2",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct client_signature s = read_from(texts[i]);
        ck_assert_msg(s.there && !s.whole, "%s", texts[i]);
    }
    ck_assert(read_from("GET / | X-PromptOps-Nonce: 1 | X-PromptOps-Nonce: 2").nonce_there);
}
END_TEST

START_TEST(validity)
{
    static const struct {
        const char *timestamp;
        int64_t wall, left;
    } table[] = {
        {"1700000000", 1700000000, 300},
        {"1700000000", 1700000300, 0},
        {"1700000000", 1700000301, -1},
        {"1700000000", 1699999700, 600},
        {"1700000000", 1699999699, 0},
        {"2023-11-14T22:13:20", 1700000100, 200},
        {"2023-11-14T22:13:20Z", 1700000100, 200},
        {"never", 1700000000, 0},
        {"253402300799", 1700000000, 0},
        {"0", 1700000000, 300 - 1700000000},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[200];
        snprintf(text, sizeof text, "GET / | Authorization: PromptOps k | X-PromptOps-Timestamp: %s",
                 table[i].timestamp);
        struct client_signature s = read_from(text);
        ck_assert_int_eq(client_signature_left(&s, table[i].wall), table[i].left);
    }
    struct client_signature s = read_from("GET / | X-PromptOps-Timestamp: 5 | X-PromptOps-Timestamp: 6");
    ck_assert_int_eq(client_signature_left(&s, 5), 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("client_signature");
    tcase_add_test(t, none);
    tcase_add_test(t, python_client);
    tcase_add_test(t, there_but_not_to_be_checked);
    tcase_add_test(t, validity);
    return run_case("client_signature", t);
}
