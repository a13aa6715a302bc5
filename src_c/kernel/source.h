/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source - the addresses of this host that connections to backends come from.
 *
 * They take turns. One that has no port left, or that this host does not have now, is passed over. Only those of the
 * backend's family count; where there is none, the kernel chooses.
 *
 * Owner:   control thread while it is built; frozen after, then any thread may read.
 * Memory:  one block.
 * Errors:  -EINVAL for too many or what is no IP address, -ENOMEM.
 */
#ifndef LB_SOURCE_H
#define LB_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "kernel/sock.h"
#include "l4lb.h"

struct lb_sources {
    uint32_t n;
    struct lb_source all[];
};

/* *out is NULL where there are none. */
LB_MUST_CHECK int lb_sources_new(const struct l4lb_source *sources, size_t n, struct lb_sources **out);
void lb_sources_free(struct lb_sources *sources);

/* lb_sock_connect from one of them, the first try from the one whose turn it is. `sources` may be NULL. -EADDRNOTAVAIL
 * when none of them can be used. */
LB_MUST_CHECK int lb_sources_connect(const struct lb_sources *sources, uint32_t cursor, const struct sockaddr *address,
                                     socklen_t address_len, const struct l4lb_tcp *tcp);

#endif
