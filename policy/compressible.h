/*
 * About how small would deflate make these bytes? An estimate without a compressor: matches of three bytes or
 * more, as zlib finds them (hash, four places, one byte of patience), each at the price that deflate's codes
 * have on text, and the entropy (Shannon) of what is left. Within three points of zlib's level 6 on JSON,
 * prose, source and base64 of 2 to 16 KiB.
 */
#ifndef POLICY_COMPRESSIBLE_H
#define POLICY_COMPRESSIBLE_H

#include "policy/base.h"

enum { COMPRESSIBLE_MOST = 16384 }; /* bytes looked at */

/* Bytes that the first COMPRESSIBLE_MOST of them would take; never more than there are. 0 for none. */
size_t compressible_size(struct slice bytes);

#endif
