/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/claim.h"

static struct lb_backend_shared *backend_of(const struct lb_claim *claim, struct lb_shared *shared) {
    return &shared->backends[claim->backend];
}

static void grant(const struct lb_claim *claim, struct lb_shared *shared) {
    lb_queue_grant(&shared->pools[claim->pool].queue);
}

static void release_turn(const struct lb_claim *claim, struct lb_shared *shared) {
    lb_capacity_release(&backend_of(claim, shared)->turns);
    grant(claim, shared);
}

void lb_claim_take(struct lb_claim *claim, struct lb_shared *shared, uint32_t pool, uint32_t backend) {
    LB_BUG_ON(claim->has_backend);
    *claim = (struct lb_claim){
        .backend = backend, .pool = (uint16_t)pool, .has_backend = true, .has_capacity = true, .turn_reserved = true};
    atomic_fetch_add(&backend_of(claim, shared)->sessions, 1);
}

void lb_claim_set_busy(struct lb_claim *claim, struct lb_shared *shared, bool busy) {
    struct lb_backend_shared *backend = backend_of(claim, shared);

    busy = busy && claim->has_capacity;
    if (claim->busy == busy)
        return;
    claim->busy = busy;
    if (busy)
        atomic_fetch_add(&backend->busy, 1);
    else
        lb_capacity_release(&backend->busy);
    if (claim->turn_reserved) /* the reserved turn is counted already */
        return;
    if (busy)
        atomic_fetch_add(&backend->turns, 1);
    else
        release_turn(claim, shared);
}

void lb_claim_reserve_turn(struct lb_claim *claim) {
    LB_BUG_ON(!claim->has_capacity || claim->turn_reserved || claim->busy);
    claim->turn_reserved = true;
}

void lb_claim_end_reservation(struct lb_claim *claim, struct lb_shared *shared) {
    if (!claim->turn_reserved)
        return;
    claim->turn_reserved = false;
    if (!claim->busy)
        release_turn(claim, shared);
}

void lb_claim_drop_capacity(struct lb_claim *claim, struct lb_shared *shared) {
    if (!claim->has_capacity)
        return;
    lb_claim_set_busy(claim, shared, false);
    lb_claim_end_reservation(claim, shared);
    claim->has_capacity = false;
    lb_capacity_release(&backend_of(claim, shared)->connections);
    grant(claim, shared);
}

void lb_claim_drop(struct lb_claim *claim, struct lb_shared *shared) {
    lb_claim_drop_capacity(claim, shared);
    if (!claim->has_backend)
        return;
    claim->has_backend = false;
    lb_capacity_release(&backend_of(claim, shared)->sessions);
}
