/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots - which slots of one kind are taken.
 *
 * The search is circular, so that a slot rests before it is used again. It covers only the first slots, twice as many
 * as are taken: the memory of the others stays untouched.
 *
 * Owner:   the control thread takes and gives back; any thread may check whether a slot is taken.
 * Memory:  one byte a slot.
 * Errors:  -ENOMEM, -ENOSPC.
 */
#ifndef LB_SLOTS_H
#define LB_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

struct lb_slots {
    uint8_t *taken;
    uint32_t n;
    uint32_t n_taken;
    uint32_t reach; /* the search stays below this slot */
    uint32_t next;  /* the search begins at this slot */
};

LB_MUST_CHECK int lb_slots_init(struct lb_slots *slots, uint32_t n);
void lb_slots_fini(struct lb_slots *slots);

/* The free slot to take next, or -ENOSPC. */
LB_MUST_CHECK int lb_slots_next(struct lb_slots *slots);

/* Take the slot that lb_slots_next() returned. Other threads see it from now on. */
void lb_slots_take(struct lb_slots *slots, uint32_t slot);

void lb_slots_give(struct lb_slots *slots, uint32_t slot);

bool lb_slots_is_taken(const struct lb_slots *slots, uint32_t slot);

#endif
