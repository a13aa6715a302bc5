/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters - statistics of one worker, by slot.
 *
 * Every worker writes its own copy; readers add up the copies of all workers.
 *
 * Owner:   one worker writes, see count.h.
 * Memory:  address space for every slot is reserved at start; pages are used as slots are.
 * Errors:  -ENOMEM.
 */
#ifndef LB_COUNTERS_H
#define LB_COUNTERS_H

#include "base/base.h"
#include "l4lb.h"
#include "protocol/response_end.h"

/* Gauges (connections, busy) stay 0 here: shared.h has them. */
struct lb_counters {
    struct l4lb_listener_stats *listeners;
    struct l4lb_pool_stats *pools;
    struct l4lb_backend_stats *backends;
    struct lb_end_model *end_models; /* by pool; not reported */
};

LB_MUST_CHECK int lb_counters_init(struct lb_counters *counters);
void lb_counters_fini(struct lb_counters *counters);

#endif
