/*
 * Feeds anything to the splitter of batch answers, to the reader of single prompts and to that of requests:
 * what is taken apart lies within the text, and the same bytes come out when it is put together again.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "policy/head.h"
#include "proxy/batch_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool within(struct slice s, struct slice text)
{
    return s.p >= text.p && s.p + s.n <= text.p + text.n;
}

static bool same(const struct text *t, struct slice s)
{
    return t->n == s.n && (s.n == 0 || memcmp(t->p, s.p, s.n) == 0);
}

static void check_object(struct slice text)
{
    struct batch_object o;
    struct text out = {0};
    if (!batch_object_read(text, &o))
        return;
    struct slice all = {text.p, 0};
    for (unsigned i = 0; i < o.count; i++) {
        const struct batch_member *m = &o.members[i];
        assert(m->lead.p == all.p + all.n && within(m->name, m->lead) && m->value.p == m->lead.p + m->lead.n);
        assert(m->name.n >= 2 && m->value.n > 0);
        all.n += m->lead.n + m->value.n;
    }
    assert(all.n + o.tail.n == text.n);
    struct batch_shape *s = batch_shape_new(&o);
    assert(s && batch_shape_fits(s, &o) && batch_shape_write(s, &o, &out) && same(&out, text));
    batch_shape_unref(s);
    text_dispose(&out);
}

static void check_answer(struct slice text)
{
    struct batch_wanted wanted[] = {{.id = {"a", 1}}, {.id = {"bb", 2}}, {.id = {"c", 1}}};
    struct batch_answer answer;
    struct batch_envelope envelope;
    struct text out = {0};
    if (!batch_answer_read(text, wanted, 3, &answer))
        return;
    assert(within(answer.errors, text));
    for (int i = 0; i < 3; i++) {
        if (!wanted[i].item.p)
            continue;
        assert(within(wanted[i].item, text));
        check_object(wanted[i].item);
    }
    if (batch_envelope_learn(text, wanted, 3, &answer, &envelope))
        assert(batch_envelope_write(&envelope, wanted, 3, answer.errors, &out) && same(&out, text));
    text_dispose(&out);
}

static void check_request(struct slice text)
{
    struct batch_request r;
    if (!batch_request_read(text, &r))
        return;
    assert(r.count > 0 && r.count <= BATCH_IDS_MAX && batch_form(r.versions, r.metadata) < BATCH_FORMS);
    batch_request_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};
    check_object(text);
    check_answer(text);
    check_request(text);
    return 0;
}
