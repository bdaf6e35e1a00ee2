/*
 * About how small would deflate make these bytes? An estimate without a compressor: greedy matches of four bytes
 * or more, each at the price that deflate's codes have on text, and the entropy (Shannon) of what is left.
 */
#ifndef POLICY_COMPRESSIBLE_H
#define POLICY_COMPRESSIBLE_H

#include "policy/base.h"

enum { COMPRESSIBLE_MOST = 4096 }; /* bytes looked at */

/* Bytes that the first COMPRESSIBLE_MOST of them would take; never more than there are. 0 for none. */
size_t compressible_size(struct slice bytes);

#endif
