/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source - the addresses of this host from which connections to backends start.
 *
 * Each connection begins with the next address, and passes over those that have no port left or that this host does not
 * have now. Only addresses of the backend's family count; without any, the kernel chooses.
 *
 * Owner:   the control thread builds them; frozen after that, so any thread may read.
 * Memory:  one block.
 * Errors:  -EINVAL for too many addresses or one that is not IP, -ENOMEM.
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

/* *out is NULL for n = 0. */
LB_MUST_CHECK int lb_sources_new(const struct l4lb_source *sources, size_t n, struct lb_sources **out);
void lb_sources_free(struct lb_sources *sources);

/* lb_sock_connect() from one of the addresses, beginning with number `cursor` modulo n. `sources` may be NULL.
 * -EADDRNOTAVAIL when none can be used. */
LB_MUST_CHECK int lb_sources_connect(const struct lb_sources *sources, uint32_t cursor, const struct sockaddr *address,
                                     socklen_t address_len, const struct l4lb_tcp *tcp);

#endif
