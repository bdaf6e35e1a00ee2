/*
 * Which stored variant fits a request (RFC 9111 4.1). The values of the request fields that Vary names are
 * normalised and hashed: two requests select the same variant when their hashes are equal.
 */
#ifndef POLICY_VARY_H
#define POLICY_VARY_H

#include "policy/hash.h"
#include "policy/head.h"

#define VARY_MAX_NAMES 16

/* The variant that a request selects, under the names of one Vary. All zero when there is no Vary. */
struct vary_key {
    struct hash128 fields; /* of all named fields but Accept-Language and Accept-Encoding */
    uint64_t language;     /* of Accept-Language, when named; else 0 */
    uint64_t coding;       /* of Accept-Encoding, when named; odd when an encoded answer implies it; else 0 */
};

/* What a stored answer says of itself; n = 0: nothing, or more than once. */
struct vary_content {
    struct slice language; /* Content-Language */
    struct slice coding;   /* Content-Encoding */
};

/*
 * Gathers the names in the Vary lines of a response, in lower case, sorted by nothing, without duplicates,
 * joined by commas, into out[0..cap). An encoded answer without Accept-Encoding in Vary is treated as if it
 * were there (the name is marked): an origin that forgets it must not make us give gzip to a client that
 * cannot read it. Returns their length (0 = no Vary), or -1 when the answer cannot be stored: `*`, something
 * that is no token, more than VARY_MAX_NAMES, or more than cap bytes.
 */
int vary_names(const struct head *response, char *out, size_t cap);

/* What `request` selects under `names` (as vary_names made them). */
void vary_select(struct slice names, const struct head *request, struct hash_key key, struct vary_key *out);

/*
 * Does the stored variant `stored` fit a request that selects `asked`? When only Accept-Language differs, the
 * stored Content-Language fits if it is the request's single most wanted language. When only an implied
 * Accept-Encoding differs, the stored coding fits if the request accepts it.
 */
bool vary_match(const struct vary_key *stored, const struct vary_key *asked,
                const struct vary_content *content, const struct head *request);

#endif
