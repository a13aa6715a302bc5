/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balance - which backend takes a new session.
 *
 * Pure over a snapshot and the shared numbers. A pick reserves a connection and a turn of the backend, exactly. A limit
 * of turns decides only where new sessions go: a session that has a backend may begin turns at any time. Backends that
 * were tried already are passed over while another one has capacity. In a pool with tiers or zones the algorithm
 * (algorithm.h) picks within one group after the other, in the order of failover.h.
 *
 * Owner:   any worker; the caller's snapshot must be current for the call.
 * Errors:  -EAGAIN when no backend can take it.
 */
#ifndef LB_BALANCE_H
#define LB_BALANCE_H

#include <stdint.h>

#include "base/base.h"
#include "base/rng.h"
#include "config/algorithm.h"

/* The index of the backend in the pool. Its live counts of connections and turns include the new session. */
LB_MUST_CHECK int lb_balance_pick(const struct lb_pool *pool, const struct lb_balance_request *request,
                                  struct lb_rng *rng);

/* Does any backend have capacity for a new session now? */
bool lb_balance_has_capacity(const struct lb_pool *pool);

/* Does the algorithm bind a client to a backend? Then a retry tries that backend again before another one. */
static inline bool lb_balance_is_hashed(const struct lb_pool *pool) { return pool->algorithm->is_hashed; }

/* This backend of the pool if it still takes new sessions, reserved likewise; else -EAGAIN. */
LB_MUST_CHECK int lb_balance_reserve_at(const struct lb_pool *pool, uint32_t at);

#endif
