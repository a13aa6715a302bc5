/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balance - which backend takes a request: the first one of a new session or, in a pool that follows HTTP/1, one more.
 *
 * Pure over a snapshot and the shared numbers. A pick reserves a turn of the backend, and a connection unless the
 * session has one there, exactly. In a pool that does not follow HTTP/1, the limit of turns decides only where new
 * sessions go: a session that has a backend may begin turns at any time. A backend that is cold (shared.h) has a limit
 * of turns of its own. It is exact too, except in a pool without a queue, where a cold backend is better than none.
 *
 * Backends that were already tried are skipped while another one has capacity. In a pool with tiers or zones the
 * algorithm (algorithm.h) tries one group after another, in the order of failover.h. Each request draws the group that
 * it tries first, so that the shares are exact however long sessions last.
 *
 * Owner:   any worker; the caller's snapshot must be current for the call.
 * Errors:  -EAGAIN if no backend can take the request.
 */
#ifndef LB_BALANCE_H
#define LB_BALANCE_H

#include <stdint.h>

#include "base/base.h"
#include "base/rng.h"
#include "config/algorithm.h"

/* Reserve a backend for the request and return its index in the pool. */
LB_MUST_CHECK int lb_balance_pick(const struct lb_pool *pool, const struct lb_balance_request *request,
                                  struct lb_rng *rng);

/* True if any backend has capacity for the request now. */
bool lb_balance_has_capacity(const struct lb_pool *pool, const struct lb_balance_request *request);

/* True if the algorithm binds a client to a backend. Then a retry tries that backend again before another one. */
static inline bool lb_balance_is_hashed(const struct lb_pool *pool) { return pool->algorithm->is_hashed; }

/* Reserve this backend of the pool, if it takes sessions and was not tried; else -EAGAIN. */
LB_MUST_CHECK int lb_balance_reserve_at(const struct lb_pool *pool, const struct lb_balance_request *request,
                                        uint32_t at);

#endif
