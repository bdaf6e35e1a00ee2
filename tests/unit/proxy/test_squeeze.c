/* What is compressed comes out again as it went in, and what was damaged does not come out. */
#include "proxy/squeeze.h"
#include "tests/unit/message.h"

#define PROMPT                                                                                               \
    "{\"id\":\"prompt-42\",\"version\":\"2.1.0\",\"name\":\"Summary\",\"description\":\"Sums up a letter\"," \
    "\"content\":\"Read {letter} and say in three sentences what its writer wants.\","                       \
    "\"target_models\":[\"openai\"],\"model_specific_prompts\":[],\"module_id\":\"module-7\","               \
    "\"created_by\":\"user-9\",\"created_at\":\"2025-03-04T05:06:07Z\",\"updated_at\":\"2025-03-04T05:06:"   \
    "07Z\","                                                                                                 \
    "\"mas_intent\":\"general\",\"mas_fairness_notes\":null,\"mas_testing_notes\":null,"                     \
    "\"mas_risk_level\":\"low\"}"

static const struct slice prompt = SLICE(PROMPT);

START_TEST(there_and_back)
{
    char packed[1024], plain[1024];
    struct squeezer *s = squeezer_new();
    must(s);
    size_t n = squeeze(s, prompt, packed, sizeof(packed));
    must(n > 0 && n * 2 < prompt.n); /* the dictionary knows its shape */
    must(unsqueeze(s, (struct slice){packed, n}, plain, prompt.n));
    must(memcmp(plain, prompt.p, prompt.n) == 0);
    must(unsqueeze(squeezer_here(), (struct slice){packed, n}, plain, prompt.n));
    squeezer_free(s);
}
END_TEST

START_TEST(no_gain_is_no_result)
{
    char packed[1024], noise[900];
    struct squeezer *s = squeezer_new();
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
    ck_assert_uint_eq(squeeze(s, (struct slice){noise, sizeof(noise)}, packed, sizeof(noise)), 0);
    ck_assert_uint_eq(squeeze(s, prompt, packed, 8), 0);
    ck_assert_uint_eq(squeeze(s, prompt, packed, 0), 0);
    squeezer_free(s);
}
END_TEST

START_TEST(damage_is_found)
{
    char packed[1024], plain[1024];
    struct squeezer *s = squeezer_new();
    size_t n = squeeze(s, prompt, packed, sizeof(packed));
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            packed[i] ^= (char)(1 << bit);
            if (unsqueeze(s, (struct slice){packed, n}, plain, prompt.n)) /* a bit that says nothing */
                must(memcmp(plain, prompt.p, prompt.n) == 0);
            packed[i] ^= (char)(1 << bit);
        }
    for (size_t cut = 0; cut < n; cut++)
        must(!unsqueeze(s, (struct slice){packed, cut}, plain, prompt.n));
    must(!unsqueeze(s, (struct slice){packed, n}, plain, prompt.n - 1));
    must(!unsqueeze(s, (struct slice){packed, n}, plain, prompt.n + 1));
    squeezer_free(s);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("squeeze");
    tcase_add_test(t, there_and_back);
    tcase_add_test(t, no_gain_is_no_result);
    tcase_add_test(t, damage_is_found);
    return run_case("squeeze", t);
}
