/*
 * options.def as a table, and finding one's way in it. Invariant: row i belongs to enum config_option
 * i, because both are made from the same list.
 */
#include "policy/config_private.h"
#include "policy/suggest.h"

#include <stdio.h>
#include <string.h>

enum { READY = 1, SOON = 2, LATER = 0, LIVE = 1, RESTART = 0 };

/* choices_log_level[] and so on. */
#define CHOICES(member)                   static const struct config_choice choices_##member[] = {
#define CHOICE(prefix, name, text, state) {text, state},
/* clang-format off */
#define CHOICES_END(member) {NULL, false}};
/* clang-format on */
#include "policy/options.def"

/* The choices of a row: only ENUM has a table of that name. */
#define CHOICES_OF_ENUM(member)       choices_##member
#define CHOICES_OF_DURATION(member)   NULL
#define CHOICES_OF_SIZE(member)       NULL
#define CHOICES_OF_INT(member)        NULL
#define CHOICES_OF_AUTO(member)       NULL
#define CHOICES_OF_REAL(member)       NULL
#define CHOICES_OF_BOOL(member)       NULL
#define CHOICES_OF_STRING(member)     NULL
#define CHOICES_OF_SECRET_URL(member) NULL
#define CHOICES_OF_READ_FILE(member)  NULL
#define CHOICES_OF_WRITE_FILE(member) NULL
#define CHOICES_OF_DIRECTORY(member)  NULL
#define CHOICES_OF_ADDRESS(member)    NULL
#define CHOICES_OF_URL(member)        NULL
#define CHOICES_OF_LIST(member)       NULL
#define CHOICES_OF_DISGUISES(member)  NULL
#define CHOICES_OF_RETRY_ON(member)   NULL
#define CHOICES_OF_ROUTES(member)     NULL
#define CHOICES_OF_ALERTS(member)     NULL
#define CHOICES_OF_WEBHOOKS(member)   NULL

static const struct config_option_row rows[] = {
#define OPTION(member, key, type, preset, least, most, when, state, unit, help)                              \
    {key,                                                                                                    \
     CONFIG_TYPE_##type,                                                                                     \
     preset,                                                                                                 \
     least,                                                                                                  \
     most,                                                                                                   \
     when,                                                                                                   \
     (state) != LATER,                                                                                       \
     (state) == READY,                                                                                       \
     unit,                                                                                                   \
     help,                                                                                                   \
     offsetof(struct config, member),                                                                        \
     CHOICES_OF_##type(member)},
#include "policy/options.def"
};

const struct config_option_row *config_option_row(int option)
{
    return &rows[option];
}

int config_option_find(const char *key)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        if (strcmp(rows[i].key, key) == 0)
            return i;
    return -1;
}

static bool in_section(int option, const char *section, size_t n)
{
    return strncmp(rows[option].key, section, n) == 0 && rows[option].key[n] == '.';
}

bool config_is_section(const char *key)
{
    size_t n = strlen(key);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        if (in_section(i, key, n))
            return true;
    return false;
}

static const char *last_word(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

int config_option_nearest(const char *key)
{
    struct suggestion s = {.typed = key};
    int best = -1, same_word = -1, same_count = 0;
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        if (suggest_offer(&s, rows[i].key))
            best = i;
        if (strcmp(last_word(key), last_word(rows[i].key)) == 0) {
            same_word = i;
            same_count++;
        }
    }
    /* The right word under the wrong section, when there is only one such word. */
    return same_count == 1 ? same_word : best;
}

/* The section names at the depth of `key`, offered too: a mistyped section is one error, not twenty. */
static void offer_sections(struct suggestion *s, char *kept, size_t n)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        for (const char *dot = strchr(rows[i].key, '.'); dot; dot = strchr(dot + 1, '.')) {
            char section[64];
            size_t length = (size_t)(dot - rows[i].key);
            if (length >= sizeof section)
                break;
            memcpy(section, rows[i].key, length);
            section[length] = '\0';
            if (suggest_offer(s, section)) {
                snprintf(kept, n, "%s", section);
                s->best = kept;
            }
        }
    }
}

/* Appends the next words that a section allows: "enabled, scope, ..." */
static void list_allowed(const char *section, size_t length, char *what, size_t n)
{
    const char *before = NULL;
    size_t before_length = 0, at = strlen(what);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        if (length && !in_section(i, section, length))
            continue;
        const char *word = rows[i].key + (length ? length + 1 : 0);
        size_t word_length = strcspn(word, ".");
        if (before && word_length == before_length && strncmp(word, before, word_length) == 0)
            continue;
        int wrote = snprintf(what + at, n - at, "%s%.*s", before ? ", " : "", (int)word_length, word);
        at += (size_t)wrote < n - at ? (size_t)wrote : n - at - 1;
        before = word;
        before_length = word_length;
    }
}

void config_unknown_key(const char *key, char *what, size_t n)
{
    struct suggestion s = {.typed = key};
    char section[64];
    int option = config_option_nearest(key);
    if (option >= 0 && suggest_distance(key, rows[option].key) <= 2) {
        s.best = rows[option].key;
        s.distance = suggest_distance(key, s.best);
    }
    offer_sections(&s, section, sizeof section);
    if (!s.best && option >= 0)
        s.best = rows[option].key;
    if (s.best) {
        snprintf(what, n, "unknown key, did you mean %s?", s.best);
        return;
    }
    const char *dot = strrchr(key, '.');
    size_t length = dot ? (size_t)(dot - key) : 0;
    char parent[128] = "";
    if (length < sizeof parent) {
        memcpy(parent, key, length);
        parent[length] = '\0';
    }
    if (!config_is_section(parent))
        length = 0;
    snprintf(what, n, "unknown key, allowed %s%s: ", length ? "in " : "here", length ? parent : "");
    list_allowed(key, length, what, n);
}
