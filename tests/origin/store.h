/*
 * The prompts, in memory, with the bodies of the answers rendered when a prompt changes and not when it is
 * read.
 */
#ifndef ORIGIN_STORE_H
#define ORIGIN_STORE_H

#include <jansson.h>

#include "tests/origin/bytes.h"

struct store;

enum { MAX_PROMPTS = 100000, MAX_VERSIONS = 1000, MAX_ID = 200 };

/* A store of `count` prompts named prompt-1 ... whose content has `size` bytes. NULL when out of memory. */
struct store *store_new(unsigned count, unsigned size);
void store_free(struct store *store);
/* Back to how it was made. */
bool store_reset(struct store *store);

enum store_result {
    STORE_OK,
    STORE_NO_PROMPT,
    STORE_NO_VERSION,
    STORE_NO_ACCESS,
    STORE_CONFLICT,
    STORE_FULL,
    STORE_INVALID
};

/* The forms in which a prompt is answered. */
enum form {
    FORM_FULL,     /* get_prompt: all members */
    FORM_VERSION,  /* get_prompt_version: without the mas_ ones */
    FORM_VERSIONS, /* the list of all versions, each in FORM_VERSION with its provider_id */
};

/* What is asked for. version {NULL, 0}: the latest. project {NULL, 0}: any. */
struct prompt_ref {
    struct slice id, version, project;
};

/* The rendered body, with a reference of the caller's. */
enum store_result store_get(struct store *store, const struct prompt_ref *ref, enum form form,
                            struct blob **body);

/* A copy of the stored object, every member of it. */
enum store_result store_copy(struct store *store, const struct prompt_ref *ref, json_t **object);

struct search {
    const char *query, *project_id, *module_id; /* NULL: not asked */
    uint64_t limit, offset;
    const char *sort_by; /* created_at | updated_at | name */
    bool descending;
};
/* Adds `[...]` of what was found (full: whole prompts, else summaries) to `list`; how many there are in all
 * to *total. */
void store_search(struct store *store, const struct search *search, bool full, struct text *list,
                  uint64_t *total);

struct batch {
    struct slice project_id;
    bool include_versions, include_metadata;
    bool whole; /* with the metadata come the members that the API leaves out */
};
/* Adds one prompt as batch_get nests it. */
enum store_result store_batch_item(struct store *store, struct slice id, const struct batch *batch,
                                   struct text *out);

/*
 * Creates a prompt, or a new version when `id` is there already. `id` {NULL, 0}: from the object, else a new
 * one. must_exist: an update. Members that are not given come from the version before. The rendered answer is
 * in *body. STORE_INVALID: *why (static) says what is wrong.
 */
struct store_write {
    struct slice id;
    json_t *object; /* borrowed */
    bool must_exist;
    int64_t now; /* ns since 1970 */
    const char *why;
};
enum store_result store_put(struct store *store, struct store_write *write, struct blob **body);
/* version {NULL, 0}: the prompt with all its versions. A prompt without versions is gone. */
enum store_result store_delete(struct store *store, struct slice id, struct slice version);

#endif
