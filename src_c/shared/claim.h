/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claim - what one session holds of its backend, so that it is given back exactly once.
 *
 * A claim holds a connection, and a turn while a request is in flight (the session is busy). A new claim holds a turn
 * at once, reserved for the first request, so that many new sessions do not all go to the same backend. A followed
 * session (followed.h) reserves one for each later request as well. Dropping the capacity gives back the connection and
 * the turn; the session's socket may still wait for its client. The slot is kept until the claim is dropped. Capacity
 * that is given back is granted to the first session in the queue of the pool.
 *
 * Owner:   the worker of its session; the counts are shared atomics, see shared.h.
 * Memory:  8 bytes, in the session.
 * Holds:   busy and a reserved turn only with capacity; capacity only while the slot is kept.
 */
#ifndef LB_CLAIM_H
#define LB_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/shared.h"

struct lb_claim {
    uint32_t backend; /* slot; stays after the claim is dropped. UINT32_MAX = no backend yet */
    uint16_t pool;    /* slot */
    bool has_backend : 1;
    bool has_capacity : 1;
    bool turn_reserved : 1;
    bool busy : 1;
};

_Static_assert(LB_POOL_SLOTS <= UINT16_MAX + 1, "the slot of a pool fits a claim");

static inline void lb_claim_init(struct lb_claim *claim) { *claim = (struct lb_claim){.backend = UINT32_MAX}; }

/* Take over the connection and the turn that were reserved on this backend. */
void lb_claim_take(struct lb_claim *claim, struct lb_shared *shared, uint32_t pool, uint32_t backend);

/* Note whether a request is in flight. */
void lb_claim_set_busy(struct lb_claim *claim, struct lb_shared *shared, bool busy);

/* A turn was reserved on the backend for the next request: take it over. */
void lb_claim_reserve_turn(struct lb_claim *claim);

/* The reserved turn began, or did not begin in time. */
void lb_claim_end_reservation(struct lb_claim *claim, struct lb_shared *shared);

/* The session no longer needs the backend, but may still send what it received from there. */
void lb_claim_drop_capacity(struct lb_claim *claim, struct lb_shared *shared);

/* Give up the backend, with all that is held of it. */
void lb_claim_drop(struct lb_claim *claim, struct lb_shared *shared);

#endif
