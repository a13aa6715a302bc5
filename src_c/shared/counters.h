/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters - numbers of one worker that are only reported, by slot.
 *
 * Every worker has its own copy, which it alone writes; readers add up the copies of all workers.
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

/* The gauges inside (connections, busy) stay 0 here. */
struct lb_counters {
    struct l4lb_listener_stats *listeners;
    struct l4lb_pool_stats *pools;
    struct l4lb_backend_stats *backends;
    struct lb_end_model *end_models; /* of pools; not reported */
};

LB_MUST_CHECK int lb_counters_init(struct lb_counters *counters);
void lb_counters_fini(struct lb_counters *counters);

#endif
