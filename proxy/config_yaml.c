/*
 * The only file that knows libyaml: turns a YAML text into entries (key, text, place). A first pass
 * over the events looks at form and bounds before anything is composed; a second one walks the
 * composed document. Invariants: work and memory are bounded whatever the text is (bytes, nodes,
 * depth, anchors, and visits, so that aliases cannot multiply); every error has a place; a text with
 * any error of form gives no entries at all.
 */
#include "proxy/config_file.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define MAX_BYTES   (1024u * 1024u)
#define MAX_DEPTH   16u
#define MAX_NODES   50000u
#define MAX_ANCHORS 100u
#define MAX_PAIRS   1024
#define MAX_KEY     256u

struct reader {
    const struct config_text *text;
    struct config_draft *draft;
    struct config_errors *errors;
    yaml_document_t *document;
    unsigned nodes;
    unsigned anchors;
    unsigned depth;
    unsigned documents;
    bool bad;
    char key[MAX_KEY];
};

static struct config_place place_at(const struct reader *r, const yaml_mark_t *mark)
{
    struct config_place place = r->text->place;
    if (place.line == 0) {
        place.line = mark->line < 1000000 ? (int)mark->line + 1 : 1000000;
        place.column = mark->column < 1000000 ? (int)mark->column + 1 : 1000000;
    }
    return place;
}

static void complain(struct reader *r, const yaml_mark_t *mark, const char *what)
{
    struct config_place place = place_at(r, mark);
    config_errors_add(r->errors, &place, *r->key ? r->key : r->text->key, "%s", what);
    r->bad = true;
}

static bool open_parser(struct reader *r, yaml_parser_t *parser)
{
    if (!yaml_parser_initialize(parser)) {
        r->errors->out_of_memory = true;
        r->bad = true;
        return false;
    }
    yaml_parser_set_input_string(parser, r->text->bytes, r->text->n);
    /* Otherwise libyaml would also take UTF-16. */
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    return true;
}

/* Line and column of a byte, for errors that come before there are any marks. */
static yaml_mark_t mark_of_byte(const struct config_text *text, size_t at)
{
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < at && i < text->n; i++) {
        if (text->bytes[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if ((text->bytes[i] & 0xc0) != 0x80) {
            mark.column++;
        }
    }
    return mark;
}

static void complain_of_parser(struct reader *r, const yaml_parser_t *parser)
{
    char what[320];
    const char *problem = parser->problem ? parser->problem : "no YAML";
    yaml_mark_t mark = parser->problem_mark;
    if (parser->error == YAML_MEMORY_ERROR) {
        r->errors->out_of_memory = true;
        r->bad = true;
        return;
    }
    if (parser->error == YAML_READER_ERROR) {
        mark = mark_of_byte(r->text, parser->problem_offset);
        snprintf(what, sizeof what, "not UTF-8 text (%s), allowed: printable UTF-8", problem);
    } else {
        snprintf(what, sizeof what, "not well-formed YAML: %s%s%s", problem, parser->context ? " " : "",
                 parser->context ? parser->context : "");
    }
    complain(r, &mark, what);
}

/* ---- First pass: form and bounds --------------------------------------------------------------- */

static void count_node(struct reader *r, const yaml_event_t *event, const yaml_char_t *anchor,
                       const yaml_char_t *tag)
{
    if (++r->nodes > MAX_NODES)
        complain(r, &event->start_mark, "more than 50000 values, allowed: fewer");
    else if (anchor && ++r->anchors > MAX_ANCHORS)
        complain(r, &event->start_mark, "more than 100 anchors and aliases, allowed: fewer");
    else if (tag)
        complain(r, &event->start_mark, "tags such as !!str are not understood; leave it out");
}

static void deeper(struct reader *r, const yaml_event_t *event)
{
    if (++r->depth > MAX_DEPTH)
        complain(r, &event->start_mark, "nested more than 16 deep, allowed: less");
}

static void look_at_event(struct reader *r, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++r->documents > 1)
            complain(r, &event->start_mark, "a second document begins here, allowed: one");
        break;
    case YAML_ALIAS_EVENT:
        count_node(r, event, event->data.alias.anchor, NULL);
        break;
    case YAML_SCALAR_EVENT:
        count_node(r, event, event->data.scalar.anchor, event->data.scalar.tag);
        break;
    case YAML_SEQUENCE_START_EVENT:
        count_node(r, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
        deeper(r, event);
        break;
    case YAML_MAPPING_START_EVENT:
        count_node(r, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        deeper(r, event);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        r->depth--;
        break;
    default:
        break;
    }
}

static void look(struct reader *r)
{
    yaml_parser_t parser;
    yaml_event_t event;
    bool end = false;
    if (!open_parser(r, &parser))
        return;
    while (!end && !r->bad) {
        if (!yaml_parser_parse(&parser, &event)) {
            complain_of_parser(r, &parser);
            break;
        }
        look_at_event(r, &event);
        end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
}

/* ---- Second pass: entries ---------------------------------------------------------------------- */

static void put(struct reader *r, const struct config_entry *entry)
{
    if (config_draft_put(r->draft, entry))
        return;
    r->errors->out_of_memory = true;
    r->bad = true;
}

static bool is_null(const yaml_node_t *node)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp((const char *)node->data.scalar.value, words[i]) == 0)
            return true;
    return false;
}

/* A NUL in a value would cut it off. */
static bool has_nul(const yaml_node_t *node)
{
    return strlen((const char *)node->data.scalar.value) != node->data.scalar.length;
}

static void walk(struct reader *r, int id, const yaml_mark_t *key_mark, unsigned depth);

static void walk_sequence(struct reader *r, const yaml_node_t *node, unsigned depth)
{
    size_t length = strlen(r->key);
    int count = (int)(node->data.sequence.items.top - node->data.sequence.items.start);
    for (int i = 0; i < count && !r->errors->out_of_memory && r->nodes <= MAX_NODES; i++) {
        int id = node->data.sequence.items.start[i];
        if ((size_t)snprintf(r->key + length, MAX_KEY - length, "[%d]", i) >= MAX_KEY - length)
            complain(r, &node->start_mark, "the key is too long");
        else
            walk(r, id, NULL, depth + 1);
        r->key[length] = '\0';
    }
}

/* Puts a pair's key behind the reader's; false when it is none of ours, which was reported. */
static bool append_key(struct reader *r, const yaml_node_t *key)
{
    size_t length = strlen(r->key);
    if (key->type != YAML_SCALAR_NODE || has_nul(key)) {
        complain(r, &key->start_mark, "a key must be one word");
        return false;
    }
    const char *word = (const char *)key->data.scalar.value;
    if ((size_t)snprintf(r->key + length, MAX_KEY - length, "%s%s", length ? "." : "", word) >=
        MAX_KEY - length) {
        r->key[length] = '\0';
        complain(r, &key->start_mark, "the key is too long");
        return false;
    }
    if (strcmp(word, "<<") == 0) {
        complain(r, &key->start_mark, "merge keys are not understood; write the keys out");
        return false;
    }
    if (*word == '\0' || strpbrk(word, ".[]")) {
        complain(r, &key->start_mark, "a key must be one word; write a: {b: value} in place of a.b: value");
        return false;
    }
    return true;
}

/* The place of an earlier pair with the same key, or NULL. */
static const yaml_node_t *earlier_key(struct reader *r, const yaml_node_t *node, const yaml_node_pair_t *pair)
{
    const yaml_node_t *key = yaml_document_get_node(r->document, pair->key);
    for (const yaml_node_pair_t *p = node->data.mapping.pairs.start; p < pair; p++) {
        const yaml_node_t *other = yaml_document_get_node(r->document, p->key);
        if (other->type == YAML_SCALAR_NODE && other->data.scalar.length == key->data.scalar.length &&
            memcmp(other->data.scalar.value, key->data.scalar.value, key->data.scalar.length) == 0)
            return other;
    }
    return NULL;
}

static void walk_pair(struct reader *r, const yaml_node_t *node, const yaml_node_pair_t *pair, unsigned depth)
{
    const yaml_node_t *key = yaml_document_get_node(r->document, pair->key);
    if (!append_key(r, key))
        return;
    const yaml_node_t *earlier = earlier_key(r, node, pair);
    if (earlier) {
        char what[96];
        snprintf(what, sizeof what, "the key is there twice, first in line %zu; leave one out",
                 earlier->start_mark.line + 1);
        complain(r, &key->start_mark, what);
        return;
    }
    walk(r, pair->value, &key->start_mark, depth + 1);
}

static void walk_mapping(struct reader *r, const yaml_node_t *node, unsigned depth)
{
    size_t length = strlen(r->key);
    const yaml_node_pair_t *start = node->data.mapping.pairs.start, *top = node->data.mapping.pairs.top;
    if (top - start > MAX_PAIRS) {
        complain(r, &node->start_mark, "more than 1024 keys in one mapping, allowed: fewer");
        return;
    }
    for (const yaml_node_pair_t *p = start; p < top && !r->errors->out_of_memory && r->nodes <= MAX_NODES;
         p++) {
        walk_pair(r, node, p, depth);
        r->key[length] = '\0';
    }
}

static void put_scalar(struct reader *r, const yaml_node_t *node, struct config_entry *entry)
{
    if (has_nul(node)) {
        complain(r, &node->start_mark, "has a NUL character, allowed: printable text");
        return;
    }
    entry->value = (const char *)node->data.scalar.value;
    entry->shape = is_null(node) ? CONFIG_NOTHING : CONFIG_SCALAR;
    put(r, entry);
}

/* Puts the node's entry and all beneath it. key_mark: where its key stands, NULL for a member of a list. */
static void walk(struct reader *r, int id, const yaml_mark_t *key_mark, unsigned depth)
{
    const yaml_node_t *node = yaml_document_get_node(r->document, id);
    const yaml_mark_t *mark = key_mark && node->type != YAML_SCALAR_NODE ? key_mark : &node->start_mark;
    struct config_entry entry = {.key = r->key, .value = "", .place = place_at(r, mark)};
    if (key_mark && r->text->place.line == 0) {
        struct config_place key = place_at(r, key_mark);
        entry.key_line = key.line;
        entry.key_column = key.column;
    }
    /* Aliases may lead here more often than there are nodes, or round in a circle. */
    if (++r->nodes > MAX_NODES || depth > MAX_DEPTH) {
        complain(r, &node->start_mark, "aliases make this too large or too deep; write fewer");
        r->nodes = MAX_NODES + 1;
        return;
    }
    if (node->type == YAML_SCALAR_NODE) {
        put_scalar(r, node, &entry);
        return;
    }
    entry.shape = node->type == YAML_SEQUENCE_NODE ? CONFIG_SEQUENCE : CONFIG_MAPPING;
    if (*r->key)
        put(r, &entry);
    if (entry.shape == CONFIG_SEQUENCE)
        walk_sequence(r, node, depth);
    else
        walk_mapping(r, node, depth);
}

static void walk_root(struct reader *r)
{
    const yaml_node_t *root = yaml_document_get_root_node(r->document);
    if (!root)
        return;
    if (!*r->key && root->type == YAML_SCALAR_NODE && is_null(root))
        return;
    if (!*r->key && root->type != YAML_MAPPING_NODE) {
        complain(r, &root->start_mark, "must be a mapping: keys such as listen: and what they hold");
        return;
    }
    r->nodes = 0;
    walk(r, 1, NULL, 0);
}

static void compose(struct reader *r)
{
    yaml_parser_t parser;
    yaml_document_t document;
    if (!open_parser(r, &parser))
        return;
    if (yaml_parser_load(&parser, &document)) {
        r->document = &document;
        walk_root(r);
        yaml_document_delete(&document);
        r->document = NULL;
    } else {
        complain_of_parser(r, &parser);
    }
    yaml_parser_delete(&parser);
}

bool config_read_yaml(const struct config_text *text, struct config_draft *draft,
                      struct config_errors *errors)
{
    struct reader r = {.text = text, .draft = draft, .errors = errors};
    yaml_mark_t start = {0};
    if (text->n > MAX_BYTES) {
        complain(&r, &start, "larger than 1 MiB, allowed: smaller");
        return false;
    }
    if (snprintf(r.key, sizeof r.key, "%s", text->key) >= (int)sizeof r.key)
        return false;
    look(&r);
    if (!r.bad)
        compose(&r);
    return !r.bad;
}
