/*
 * A stored answer as bytes that another sidecar reads: MessagePack with a version. The bytes come back from a
 * third party, and are believed in nothing.
 */
#ifndef PROXY_PACK_ENTRY_H
#define PROXY_PACK_ENTRY_H

#include "metrics/text.h"
#include "policy/change_rate.h"
#include "policy/hash.h"
#include "policy/head.h"

struct entry;
struct store;

/* Version 1, which is still read, did not have what the fetch took nor what was learnt of changes. */
enum { PACK_VERSION = 2, PACK_VERSION_READ = 1, PACK_TAGS_MAX = 8 };

/* What goes with an entry, for the reader's decisions. */
struct pack_note {
    uint64_t stamps[2]; /* of the newest purges that the writer had carried out, of two kinds */
    struct hash128 who; /* the writer's name for whoever it belongs to */
};

/* Appends the entry, which is complete and whole. `wall` is the unix time in milliseconds at `now`. False: no
 * memory. */
bool pack_entry(const struct entry *entry, const struct pack_note *note, tick_t now, int64_t wall,
                struct text *out) MUSTCHECK;

/* Appends what stands in a place whose answers have Vary: their names (vary_names), and a number of our own
 * that is new whenever the place begins anew. */
bool pack_index(struct slice names, const struct pack_note *note, uint64_t generation,
                struct text *out) MUSTCHECK;

enum pack_kind { PACK_ENTRY, PACK_INDEX, PACK_FOREIGN, PACK_DAMAGED };

/* What was read. Points into the bytes. */
struct packed {
    enum pack_kind
        kind; /* FOREIGN: of a version that is not known here; DAMAGED: all else that is no entry */
    struct pack_note note;
    struct slice names;
    uint64_t generation; /* INDEX */
    /* ENTRY: */
    struct slice uri, head, body;
    struct slice tags[PACK_TAGS_MAX];
    unsigned tag_count;
    int64_t wall; /* at which its age was `age` */
    tick_t age, lifetime, swr, sie;
    int64_t date, last_modified;
    unsigned flags;
    uint32_t fetch_us;         /* 0: not known */
    struct change_rate learnt; /* all zero: nothing */
};

/* Reads bytes that fill p[0..n) exactly. */
void packed_read(struct slice bytes, struct packed *out);

/*
 * The entry of a packed ENTRY for this request, which selected it by its Vary; complete, one reference. NULL:
 * its head is not one that would have been stored, its times cannot be, or there is no memory.
 */
struct entry *packed_entry(struct store *store, const struct packed *packed, const struct head *request,
                           tick_t now, int64_t wall) MUSTCHECK;

#endif
