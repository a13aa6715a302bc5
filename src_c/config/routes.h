/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routes - maps server names to pools.
 *
 * A route is a full name, or *.suffix for every name below the suffix, at any depth, but not the suffix itself. A full
 * name wins, then the longest suffix.
 *
 * Owner:   the control thread; frozen after it is built, then any thread may look up.
 * Memory:  one block: a hash table that is at most half full, and the names.
 * Errors:  -EINVAL for an invalid name, for a name given twice, in whatever case, and for more than L4LB_ROUTES_MAX;
 *          -ENOMEM.
 */
#ifndef LB_ROUTES_H
#define LB_ROUTES_H

#include <stddef.h>

#include "base/base.h"
#include "l4lb.h"
#include "protocol/server_name.h"

struct lb_routes;

LB_MUST_CHECK int lb_routes_new(const struct l4lb_route *routes, size_t n, struct lb_routes **out);
void lb_routes_free(struct lb_routes *routes);

/* The pool of the route for this name, or -ENOENT. */
LB_MUST_CHECK int lb_routes_find(const struct lb_routes *routes, const struct lb_server_name *name);

#endif
