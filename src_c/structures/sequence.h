/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequence - smooth weighted round robin, written out in advance.
 *
 * One round in which each member appears in proportion to its weight, spread as evenly as possible. Workers share one
 * atomic cursor, so the shares are exact across workers and a pick is O(1).
 *
 * Owner:   pure; frozen after it is built.
 * Memory:  one array of at most LB_SEQUENCE_MAX entries.
 * Holds:   every member with a positive weight appears at least once.
 * Errors:  -ENOMEM.
 * Source:  earliest deadline first: the k-th entry of the g members of weight w is due at (k + 1/2) / (g * w). The even
 *          spacing is the aim of "smooth" weighted round robin as NGINX introduced it in 2012.
 */
#ifndef LB_SEQUENCE_H
#define LB_SEQUENCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

struct lb_sequence {
    uint32_t n_entries; /* 0 when no member has weight */
    uint32_t entries[]; /* member indices */
};

LB_MUST_CHECK int lb_sequence_new(const uint32_t *weights, size_t n, struct lb_sequence **out);

#endif
