/*
 * A snapshot as YAML for people: nested, every key with where its value came from. Invariant: what is
 * printed gives the same values when read again (masked secrets in URLs aside).
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/command_line.h"

#define COMMENT_COLUMN 44

void config_print_errors(const struct config_errors *errors, FILE *err)
{
    for (size_t i = 0; i < errors->count; i++)
        fprintf(err, "%s\n", errors->items[i]);
    if (errors->left_out)
        fprintf(err, "%zu more errors are not shown\n", errors->left_out);
    if (errors->out_of_memory)
        fputs("out of memory\n", err);
}

/* Words that YAML readers take for something else than text. */
static bool is_reserved(const char *word, size_t n)
{
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strlen(words[i]) == n && strncasecmp(words[i], word, n) == 0)
            return true;
    return false;
}

/* Text in double quotes that YAML also understands without them: cut out of them, in place. */
static void unquote(char *text, enum config_type type)
{
    size_t n = strlen(text);
    bool measure = type == CONFIG_TYPE_DURATION || type == CONFIG_TYPE_SIZE;
    if (n < 3 || text[0] != '"' || (type >= CONFIG_TYPE_LIST && type <= CONFIG_TYPE_WEBHOOKS))
        return;
    const char *inner = text + 1;
    size_t length = n - 2;
    size_t plain = strspn(inner, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:-");
    bool begins = isalpha((unsigned char)*inner) || *inner == '/' || measure;
    if (!begins || plain != length || inner[length - 1] == ':' || is_reserved(inner, length))
        return;
    /* In flow context and before a space a colon would end a key; there are no spaces in plain text. */
    memmove(text, inner, length);
    text[length] = '\0';
}

struct printer {
    FILE *out;
    const struct config *cfg;
    char *text; /* room bytes, grown as needed */
    size_t room;
};

static bool make_room(struct printer *p, size_t n)
{
    if (n < p->room)
        return true;
    char *text = realloc(p->text, n + 1);
    if (!text)
        return false;
    p->text = text;
    p->room = n + 1;
    return true;
}

/* Opens the sections of `key` that the key before it was not in. Returns the depth and the last word. */
static const char *open_sections(FILE *out, const char *key, const char *before, int *depth)
{
    const char *word = key;
    bool same = true;
    *depth = 0;
    for (const char *dot = strchr(word, '.'); dot; dot = strchr(word, '.')) {
        size_t n = (size_t)(dot - key) + 1;
        same = same && strncmp(key, before, n) == 0;
        if (!same)
            fprintf(out, "%*s%.*s:\n", *depth * 2, "", (int)(dot - word), word);
        ++*depth;
        word = dot + 1;
    }
    return word;
}

static void print_comment(struct printer *p, int option, int column)
{
    char origin[512];
    config_origin(p->cfg, option, origin, sizeof origin);
    /* A name may hold anything; a comment ends with its line. */
    for (char *c = origin; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    fprintf(p->out, "%*s# %s\n", column < COMMENT_COLUMN ? COMMENT_COLUMN - column : 1, "", origin);
}

/* The items of a list of mappings, one a line. */
static void print_items(struct printer *p, int option, int indent)
{
    for (size_t i = 0;; i++) {
        size_t n = config_print_item(p->cfg, option, i, NULL, 0);
        if (n == 0)
            return;
        if (!make_room(p, n))
            continue;
        config_print_item(p->cfg, option, i, p->text, p->room);
        fprintf(p->out, "%*s- %s\n", indent + 2, "", p->text);
    }
}

static void print_option(struct printer *p, int option, const char *before)
{
    const struct config_option_row *row = config_option_row(option);
    int depth;
    const char *word = open_sections(p->out, row->key, before, &depth);
    int column = fprintf(p->out, "%*s%s:", depth * 2, "", word);
    size_t n = config_print_value(p->cfg, option, NULL, 0);
    if (config_print_item(p->cfg, option, 0, NULL, 0) > 0) {
        print_comment(p, option, column);
        print_items(p, option, depth * 2);
        return;
    }
    if (make_room(p, n)) {
        config_print_value(p->cfg, option, p->text, p->room);
        unquote(p->text, row->type);
        column += fprintf(p->out, " %s", p->text);
    }
    print_comment(p, option, column);
}

void config_print_yaml(const struct config *cfg, FILE *out)
{
    struct printer p = {.out = out, .cfg = cfg};
    const char *before = "";
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        print_option(&p, i, before);
        before = config_option_row(i)->key;
    }
    free(p.text);
}
