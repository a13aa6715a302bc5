/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpm - longest-prefix match over address ranges.
 *
 * The prefixes are flattened into disjoint intervals, each with the value of its longest prefix, so that a lookup is
 * one binary search: about 17 steps for 100,000 prefixes. IPv4 has its mapped range (::ffff:0:0/96) in the one 128-bit
 * space. Wider prefixes do not cover that range: ::/0 is all of IPv6, and nothing of IPv4.
 *
 * Owner:   the thread that builds it; frozen after, then any thread may look up. Shared by count.
 * Memory:  two arrays, at most 2n + 3 entries.
 * Holds:   of equal prefixes the last one wins; bits beyond a prefix's length are ignored.
 * Errors:  -EINVAL for a length above 128 or a value of 0, -ENOMEM.
 */
#ifndef LB_LPM_H
#define LB_LPM_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "l4lb.h"

struct lb_lpm;

/* values[i] belongs to prefixes[i]; NULL means 1 for all. Without prefixes the table finds nothing. */
LB_MUST_CHECK int lb_lpm_new(const struct l4lb_prefix *prefixes, const uint32_t *values, size_t n, struct lb_lpm **out);
/* Add a user, or drop one: the last one frees the table. NULL is allowed. */
struct lb_lpm *lb_lpm_share(struct lb_lpm *lpm);
void lb_lpm_free(struct lb_lpm *lpm);

/* The value of the longest prefix that covers the address, or 0. */
uint32_t lb_lpm_find(const struct lb_lpm *lpm, const uint8_t address[16]);
/* The same for the address of a peer; 0 if it has none. */
uint32_t lb_lpm_find_peer(const struct lb_lpm *lpm, const struct l4lb_endpoint *peer);

#endif
