/*
 * Which tier an entry is worth. Memory is one budget, in which an entry lies plain or compressed; below it is
 * a disk. All by measured benefit: what plain bytes save when they are used, against what the same bytes
 * would save if they held something else.
 */
#ifndef POLICY_TIER_H
#define POLICY_TIER_H

#include "policy/base.h"

/*
 * Room is wanted on disk, and the oldest record there was of use since it was last considered: does it get
 * another round? Not when so many were spared in this search that it would not end soon, nor when it is so
 * large that others gain more by its going.
 */
bool tier_spares(unsigned spared, uint64_t bytes, uint64_t limit);

#endif
