/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maglev - consistent hashing by a lookup table.
 *
 * Every member has its own permutation of the table's entries. In rounds, in proportion to weight, each member claims
 * the next free entry of its permutation. If a member is removed, the others claim its entries and little else moves:
 * slightly more than its share of the keys.
 *
 * Owner:   pure.
 * Memory:  the caller's table; scratch is freed before return.
 * Holds:   the same members give the same table whatever order they come in: they are sorted by name first. Every
 *          member with a weight gets at least one entry, if there are enough. tests/helpers/maglev_reference.py is the
 *          same algorithm in plain Python.
 * Errors:  -EINVAL for a size that is not prime, or if no member has a weight; -ENOMEM.
 * Source:  Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016, section 3.4.
 */
#ifndef LB_MAGLEV_H
#define LB_MAGLEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

struct lb_maglev_member {
    const char *name;
    uint32_t weight; /* 0 = no entry */
};

/* A lookup table, and a digest of what it was built from. Shared by count. */
struct lb_maglev_table {
    uint32_t n_users; /* control thread only */
    uint32_t size;
    uint64_t digest;
    uint32_t entries[]; /* indices of members */
};

bool lb_is_prime(uint32_t n);

/* Fill table[0 .. table_size) with indices into `members`. */
LB_MUST_CHECK int lb_maglev_build(uint32_t *table, uint32_t table_size, const struct lb_maglev_member *members,
                                  size_t n_members);

#endif
