/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balance - which backend takes a new session.
 *
 * Pure over a snapshot and the live numbers. A pick reserves a connection and a turn on the backend, exactly: no limit
 * is exceeded, however many workers pick at once. A limit of turns only says who gets new sessions: those that are
 * there already may begin turns as they like. Backends that were tried already are passed over while another will
 * do. In a pool with tiers or zones the algorithm picks within one group after the other along the client's way, and
 * finds a place anywhere on it (failover.h). What each algorithm means:
 *
 *   round_robin        the group's smooth weighted sequence, one shared position
 *   least_connections  fewest connections per weight; ties take turns in proportion to weight
 *   least_busy         fewest turns in flight per weight, then fewest connections. A new session counts as a turn until
 *                      it is late with its first one, so that many at once do not all go to the same backend
 *   least_latency      shortest recent time to a first byte, times turns in flight, per weight. One that is not known
 *                      yet gets one turn to be known by
 *   random             weighted
 *   power_of_two       the less busy of two weighted random draws (Mitzenmacher 2001)
 *   maglev             the table decides by the hash of the client's key. Where that backend can't take it, or has
 *                      max_load of its share of the group already, the hash is stepped on, so that the keys that
 *                      move go everywhere (Mirrokni, Thorup, Zadimoghaddam 2018; arXiv 1908.08762). Where all are
 *                      over their bound, the least loaded takes it
 *   first              the first in the list with a free place
 *
 * Owner:   any worker; the caller's snapshot must be current for the call.
 * Errors:  -EAGAIN when no backend can take it.
 */
#ifndef LB_BALANCE_H
#define LB_BALANCE_H

#include <stdint.h>

#include "base/base.h"
#include "base/bounds.h"
#include "base/rng.h"
#include "config/snapshot.h"

struct lb_balance_request {
    uint64_t hash; /* of what the pool binds clients by, see enum l4lb_hash_key */
    uint32_t zone; /* of the client; 0 = none */
    uint64_t now_ms;
    uint32_t tried[LB_TRIED_MAX]; /* backend slots */
    uint32_t n_tried;
    uint32_t last_tried; /* meaningful when n_tried > 0 */
};

/* The index of the backend in the pool. Its live counts of connections and turns include the new session. */
LB_MUST_CHECK int lb_balance_pick(const struct lb_pool *pool, const struct lb_balance_request *request,
                                  struct lb_rng *rng);

/* Would somebody take a new session now? */
bool lb_balance_has_capacity(const struct lb_pool *pool);

/* Does the algorithm bind a client to a backend? Then a retry insists on it before it goes elsewhere. */
static inline bool lb_balance_is_hashed(const struct lb_pool *pool) { return pool->balance == L4LB_MAGLEV; }

/* This backend of the pool if it still takes new sessions, reserved likewise; else -EAGAIN. */
LB_MUST_CHECK int lb_balance_reserve_at(const struct lb_pool *pool, uint32_t at);

#endif
