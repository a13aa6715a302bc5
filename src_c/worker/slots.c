/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/slots.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bounds.h"

int lb_slots_init(struct lb_slots *slots, uint32_t n) {
    *slots = (struct lb_slots){.taken = calloc(n, 1), .n = n};
    return slots->taken != NULL ? 0 : -ENOMEM;
}

void lb_slots_fini(struct lb_slots *slots) {
    free(slots->taken);
    *slots = (struct lb_slots){.taken = NULL};
}

int lb_slots_next(struct lb_slots *slots) {
    if (slots->n_taken >= slots->reach / 2)
        slots->reach = LB_MIN(LB_MAX(2 * slots->reach, (uint32_t)LB_SLOTS_REACH_MIN), slots->n);
    for (uint32_t i = 0; i < slots->reach; i++) {
        uint32_t slot = (slots->next + i) % slots->reach;
        if (!lb_slots_is_taken(slots, slot))
            return (int)slot;
    }
    return -ENOSPC;
}

void lb_slots_take(struct lb_slots *slots, uint32_t slot) {
    slots->next = slot + 1;
    slots->n_taken++;
    __atomic_store_n(&slots->taken[slot], 1, __ATOMIC_RELAXED);
}

void lb_slots_give(struct lb_slots *slots, uint32_t slot) {
    __atomic_store_n(&slots->taken[slot], 0, __ATOMIC_RELAXED);
    slots->n_taken--;
}

bool lb_slots_is_taken(const struct lb_slots *slots, uint32_t slot) {
    return slot < slots->n && __atomic_load_n(&slots->taken[slot], __ATOMIC_RELAXED) != 0;
}
