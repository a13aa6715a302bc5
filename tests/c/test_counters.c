/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/bounds.h"
#include "shared/counters.h"

TEST(every_slot_has_counters_of_its_own) {
    struct lb_counters counters;

    CHECK_OK(lb_counters_init(&counters));
    counters.backends[LB_BACKEND_SLOTS - 1].connections_total = 1;
    counters.pools[LB_POOL_SLOTS - 1].queued = 1;
    counters.listeners[LB_LISTENER_SLOTS - 1].connections_total = 1;
    CHECK_EQ(counters.backends[LB_BACKEND_SLOTS - 2].connections_total, 0);
    lb_counters_fini(&counters);
    CHECK(counters.backends == NULL);
}

TEST_MAIN()
