/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/live.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/bounds.h"
#include "base/pages.h"

int lb_live_init(struct lb_live *live) {
    memset(live, 0, sizeof *live);
    if (getrandom(live->seed, sizeof live->seed, 0) != sizeof live->seed)
        return -EIO;
    if (LB_PAGES_RESERVE(live->listeners, LB_LISTENER_SLOTS) != NULL &&
        LB_PAGES_RESERVE(live->pools, LB_POOL_SLOTS) != NULL &&
        LB_PAGES_RESERVE(live->turns, LB_POOL_SLOTS * LB_TURNS) != NULL &&
        LB_PAGES_RESERVE(live->backends, LB_BACKEND_SLOTS) != NULL)
        return 0;
    lb_live_fini(live);
    return -ENOMEM;
}

void lb_live_fini(struct lb_live *live) {
    LB_PAGES_RELEASE(live->listeners, LB_LISTENER_SLOTS);
    LB_PAGES_RELEASE(live->pools, LB_POOL_SLOTS);
    LB_PAGES_RELEASE(live->turns, LB_POOL_SLOTS * LB_TURNS);
    LB_PAGES_RELEASE(live->backends, LB_BACKEND_SLOTS);
    memset(live, 0, sizeof *live);
}
