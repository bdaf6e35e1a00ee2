/*
 * Variants. Invariants: a field that is missing and one that is empty select different variants; white space
 * is only taken out around commas outside of quoted strings, so values that mean different things never meet;
 * the hash is keyed, so that nobody can make two requests meet.
 */
#include "policy/vary.h"

#include <string.h>

#include "policy/coding.h"
#include "policy/octet.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Takes the next of the names that vary_names joined. */
static bool next_name(struct slice *names, struct slice *name)
{
    if (names->n == 0)
        return false;
    const char *comma = memchr(names->p, ',', names->n);
    size_t n = comma ? (size_t)(comma - names->p) : names->n;
    *name = (struct slice){names->p, n};
    *names = comma ? (struct slice){comma + 1, names->n - n - 1} : (struct slice){NULL, 0};
    return true;
}

static bool has_name(struct slice names, struct slice wanted)
{
    struct slice name;
    while (next_name(&names, &name))
        if (slice_equal_nocase(name, wanted))
            return true;
    return false;
}

/* Appends one member in lower case. Returns the new length or -1. */
static int add_name(char *out, size_t length, size_t cap, struct slice member)
{
    size_t n = length;
    if (length + (length > 0) + member.n > cap)
        return -1;
    if (n > 0)
        out[n++] = ',';
    for (size_t i = 0; i < member.n; i++) {
        out[n] = lower(member.p[i]);
        if (!octet_is(out[n], OCTET_TOKEN) || out[n] == '*')
            return -1;
        n++;
    }
    return (int)n;
}

/* Accept-Encoding, where the origin did not name it: `*` is in no name of Vary. */
static const struct slice IMPLIED = {"*accept-encoding", 16};

static int add_implied(char *out, size_t length, size_t cap)
{
    if (length + (length > 0) + IMPLIED.n > cap)
        return -1;
    if (length > 0)
        out[length++] = ',';
    memcpy(out + length, IMPLIED.p, IMPLIED.n);
    return (int)(length + IMPLIED.n);
}

int vary_names(const struct head *response, char *out, size_t cap)
{
    struct list_cursor cursor = {0};
    struct slice member;
    int length = 0, count = 0;
    while (head_list_next(response, FIELD_VARY, &cursor, &member)) {
        if (has_name((struct slice){out, (size_t)length}, member))
            continue;
        if (++count > VARY_MAX_NAMES)
            return -1;
        length = add_name(out, (size_t)length, cap, member);
        if (length < 0)
            return -1;
    }
    if (coding_encoded(response) && !has_name((struct slice){out, (size_t)length}, SLICE("accept-encoding")))
        return add_implied(out, (size_t)length, cap);
    return length;
}

/* Bytes on their way into a hash, blanks around commas left out. */
struct sieve {
    struct hash_state *hash;
    size_t n;
    char bytes[64];
};

static void sieve_flush(struct sieve *s)
{
    hash_feed(s->hash, s->bytes, s->n);
    s->n = 0;
}

static void sieve_put(struct sieve *s, char c)
{
    if (s->n == sizeof s->bytes)
        sieve_flush(s);
    s->bytes[s->n++] = c;
}

/* One line's value, which is trimmed already. */
static void sieve_line(struct sieve *s, struct slice value)
{
    bool quoted = false, after_comma = false;
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        if (!quoted && octet_is_blank(c)) {
            size_t next = i;
            while (next < value.n && octet_is_blank(value.p[next]))
                next++;
            if (after_comma || (next < value.n && value.p[next] == ',')) {
                i = next - 1;
                continue;
            }
        }
        after_comma = !quoted && c == ',';
        sieve_put(s, c);
        if (quoted && c == '\\' && i + 1 < value.n)
            sieve_put(s, value.p[++i]);
        else if (c == '"')
            quoted = !quoted;
    }
}

/* Is this field of the request the one that is named (in lower case)? */
static bool is_named(const struct head *request, int index, struct slice name)
{
    const struct field *f = &request->fields[index];
    return f->name_len == name.n && slice_equal_nocase(head_name(request, index), name);
}

static void feed_field(struct hash_state *hash, const struct head *request, struct slice name)
{
    struct sieve s = {.hash = hash};
    bool there = false;
    hash_feed_text(hash, name);
    for (int i = 0; i < request->field_count; i++) {
        if (!is_named(request, i, name))
            continue;
        if (there)
            sieve_put(&s, ',');
        there = true;
        sieve_line(&s, head_value(request, i));
    }
    /* No field value holds these bytes: they end what was fed, and tell missing from empty. */
    sieve_put(&s, '\0');
    sieve_put(&s, there ? '\n' : '\r');
    sieve_flush(&s);
}

/* A language range or a coding and its weight, blanks and case taken out of the hash. */
static uint64_t hash_member(struct slice member, struct hash_key key)
{
    struct hash_state hash;
    struct sieve s = {.hash = &hash};
    hash_init(&hash, key);
    for (size_t i = 0; i < member.n; i++)
        if (!octet_is_blank(member.p[i]))
            sieve_put(&s, lower(member.p[i]));
    sieve_flush(&s);
    return hash_end(&hash).lo;
}

/* The same whatever the order of the members: a sum of keyed hashes. Never 0. */
static uint64_t select_members(const struct head *request, enum field_id id, struct hash_key key)
{
    struct list_cursor cursor = {0};
    struct slice member;
    uint64_t sum = head_has(request, id) ? 2 : 1;
    while (head_list_next(request, id, &cursor, &member))
        sum += hash_member(member, key);
    return sum ? sum : 1;
}

static void select_coding(const struct head *request, struct slice name, struct hash_key key,
                          struct vary_key *out)
{
    out->coding = select_members(request, FIELD_ACCEPT_ENCODING, key) << 1 | (name.p[0] == '*');
}

void vary_select(struct slice names, const struct head *request, struct hash_key key, struct vary_key *out)
{
    struct hash_state hash;
    struct slice name;
    *out = (struct vary_key){{0, 0}, 0, 0};
    if (names.n == 0)
        return;
    hash_init(&hash, key);
    while (next_name(&names, &name)) {
        if (slice_equal(name, SLICE("accept-language")))
            out->language = select_members(request, FIELD_ACCEPT_LANGUAGE, key);
        else if (slice_equal(name, IMPLIED) || slice_equal(name, SLICE("accept-encoding")))
            select_coding(request, name, key, out);
        else
            feed_field(&hash, request, name);
    }
    out->fields = hash_end(&hash);
}

/* The weight of `tag;q=0.8` in thousandths; -1 when it is malformed. */
static int weight_of(struct slice member, struct slice *tag)
{
    size_t n = 0;
    while (n < member.n && member.p[n] != ';' && !octet_is_blank(member.p[n]))
        n++;
    *tag = (struct slice){member.p, n};
    while (n < member.n && (octet_is_blank(member.p[n]) || member.p[n] == ';'))
        n++;
    if (n == member.n)
        return 1000;
    if (member.n - n < 3 || lower(member.p[n]) != 'q' || member.p[n + 1] != '=')
        return -1;
    n += 2;
    if (member.p[n] != '0' && member.p[n] != '1')
        return -1;
    int weight = (member.p[n++] - '0') * 1000, unit = 100;
    if (n < member.n && member.p[n++] != '.')
        return -1;
    for (; n < member.n && unit > 0; n++, unit /= 10) {
        if (member.p[n] < '0' || member.p[n] > '9')
            return -1;
        weight += (member.p[n] - '0') * unit;
    }
    return n == member.n && weight <= 1000 ? weight : -1;
}

/* Is `language` the one that the request wants more than any other? */
static bool best_language(const struct head *request, struct slice language)
{
    struct list_cursor cursor = {0};
    struct slice member, tag, best = {NULL, 0};
    int best_weight = 0;
    bool single = false;
    while (head_list_next(request, FIELD_ACCEPT_LANGUAGE, &cursor, &member)) {
        int weight = weight_of(member, &tag);
        if (weight < 0)
            return false;
        if (weight > best_weight) {
            best_weight = weight;
            best = tag;
            single = true;
        } else if (weight == best_weight) {
            single = false;
        }
    }
    return single && slice_equal_nocase(best, language);
}

bool vary_match(const struct vary_key *stored, const struct vary_key *asked,
                const struct vary_content *content, const struct head *request)
{
    if (!hash_equal(stored->fields, asked->fields))
        return false;
    if (stored->coding != asked->coding &&
        !((stored->coding & 1) && coding_accepted(request, content->coding)))
        return false;
    if (stored->language == asked->language)
        return true;
    return stored->language != 0 && asked->language != 0 && content->language.n > 0 &&
           best_language(request, content->language);
}
