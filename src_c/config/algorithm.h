/* SPDX-License-Identifier: Apache-2.0 */
/*
 * algorithm - one entry for each way to pick a backend within a group.
 *
 *   round_robin        the group's smooth weighted sequence, one shared cursor
 *   least_connections  fewest connections per weight; tied backends alternate in proportion to weight. In a pool that
 *                      follows HTTP/1, the same as least_busy
 *   least_busy         fewest turns in flight per weight, then fewest connections. In a pool that follows HTTP/1, then
 *                      the longest time per weight since its latest request. A new session counts as a turn until its
 *                      first request is overdue, so that a burst of sessions does not go to one backend
 *   least_latency      shortest recent time to a first byte, times turns in flight, per weight. A backend without a
 *                      measurement gets one turn to be measured by
 *   random             weighted
 *   power_of_two       the less busy of two weighted random draws (Mitzenmacher 2001)
 *   maglev             the hash of the client's key decides by the group's table. If that backend has no capacity, or
 *                      already has max_load of its share of the group, the hash is stepped on, so that the keys that
 *                      move spread over all others (Mirrokni, Thorup, Zadimoghaddam 2018; arXiv 1908.08762). If all are
 *                      over their bound, the least loaded backend gets the session. The bound counts connections or, in
 *                      a pool that follows HTTP/1, turns in flight
 *   first              the first in the list with capacity
 *
 * One more request of a session is picked for like a new session, and then the pick is compared with the current
 * backend. The request moves only if the pick, with this request, would have no more turns per weight than the current
 * backend has without it: if it is better by at least one turn. So ties stay, and an idle backend keeps its sessions
 * without a look at the others. least_latency compares turns times latency. least_connections, least_busy and
 * least_latency pick the backend with the least load after this request, so that no better one is missed. maglev and
 * first have no such rule: they pick for each request what they pick for a new session.
 *
 * Another backend to which the session has a connection stands in for the current one if it is better by a turn, or if
 * the current one cannot take the request or is not in the group that is being tried (failover.h). So a move costs a
 * new connection only if it is worth a turn, and with `held_only` no move does.
 *
 * Turns, and connections unless the session has one there, are reserved exactly: no limit is exceeded, however many
 * workers pick at once, and nothing is reserved of a backend that is only compared. A new algorithm is a number in enum
 * l4lb_balance and an entry in the table; no other code of the data plane depends on which one a pool has.
 *
 * Owner:   any worker; the caller's snapshot must be current for the call.
 * Errors:  -EAGAIN if no backend of the group can take the request.
 */
#ifndef LB_ALGORITHM_H
#define LB_ALGORITHM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/bounds.h"
#include "base/rng.h"
#include "config/pool.h"

struct lb_balance_request {
    uint64_t hash; /* of the client's key, see enum l4lb_hash_key */
    uint32_t zone; /* of the client; 0 = no zone */
    uint64_t now_ms;
    uint32_t tried[LB_TRIED_MAX]; /* backend slots */
    uint32_t n_tried;
    uint32_t last_tried; /* meaningful when n_tried > 0 */
    /* Backend slots to which the session has a connection: only a turn is reserved there, and their limit of
     * connections does not matter. */
    uint32_t held[LB_HELD_MAX];
    uint32_t n_held;
    /* Slot of the backend that had the session's last request; meaningful with has_current. Without it, the request is
     * the first of a new session. */
    uint32_t current;
    bool has_current;
    bool held_only;    /* a better backend is looked for only among those held */
    bool ignores_cold; /* set by lb_balance_pick() */
};

/* The load of a backend: compared by `first`, then by `second`, each per weight. */
struct lb_load {
    uint64_t first;
    uint64_t second;
};

struct lb_algorithm {
    /* The backend of this group for a new session, or NULL. Nothing is reserved. */
    const struct lb_backend *(*choose)(const struct lb_pool *pool, const struct lb_group *group,
                                       const struct lb_balance_request *request, struct lb_rng *rng);
    /* What backends are compared by, with `more` turns than now; NULL for algorithms that do not compare. */
    struct lb_load (*load)(const struct lb_pool *pool, const struct lb_backend *backend, uint64_t now_ms,
                           uint32_t more);
    /* One more request of a session stays with its backend unless the chosen one is better by a turn. */
    bool keeps_current;
    /* Clients are bound to backends by a hash: groups need a Maglev table, and a retry tries the same backend first. */
    bool is_hashed;
};

/* By enum l4lb_balance. */
extern const struct lb_algorithm lb_algorithms[L4LB_N_BALANCE];

/* Reserve a backend of this group, as the pool's algorithm wants. Returns its index in the pool, or -EAGAIN. */
LB_MUST_CHECK int lb_algorithm_pick(const struct lb_pool *pool, const struct lb_group *group,
                                    const struct lb_balance_request *request, struct lb_rng *rng);

/* True if the backend has capacity for this request now. */
bool lb_algorithm_has_capacity(const struct lb_balance_request *request, const struct lb_backend *backend);

/* Reserve a turn of this backend and, unless the session has one already, a connection; or neither. */
LB_MUST_CHECK bool lb_algorithm_reserve(const struct lb_pool *pool, const struct lb_balance_request *request,
                                        const struct lb_backend *backend);

#endif
