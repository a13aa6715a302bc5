/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/counters.h"

#include <errno.h>
#include <string.h>

#include "base/bounds.h"
#include "base/pages.h"

int lb_counters_init(struct lb_counters *counters) {
    memset(counters, 0, sizeof *counters);
    if (LB_PAGES_RESERVE(counters->listeners, LB_LISTENER_SLOTS) != NULL &&
        LB_PAGES_RESERVE(counters->pools, LB_POOL_SLOTS) != NULL &&
        LB_PAGES_RESERVE(counters->backends, LB_BACKEND_SLOTS) != NULL &&
        LB_PAGES_RESERVE(counters->end_models, LB_POOL_SLOTS) != NULL)
        return 0;
    lb_counters_fini(counters);
    return -ENOMEM;
}

void lb_counters_fini(struct lb_counters *counters) {
    LB_PAGES_RELEASE(counters->listeners, LB_LISTENER_SLOTS);
    LB_PAGES_RELEASE(counters->pools, LB_POOL_SLOTS);
    LB_PAGES_RELEASE(counters->backends, LB_BACKEND_SLOTS);
    LB_PAGES_RELEASE(counters->end_models, LB_POOL_SLOTS);
    memset(counters, 0, sizeof *counters);
}
