/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/shared.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/bounds.h"
#include "base/pages.h"

int lb_shared_init(struct lb_shared *shared) {
    memset(shared, 0, sizeof *shared);
    if (getrandom(shared->seed, sizeof shared->seed, 0) != sizeof shared->seed)
        return -EIO;
    if (LB_PAGES_RESERVE(shared->listeners, LB_LISTENER_SLOTS) != NULL &&
        LB_PAGES_RESERVE(shared->pools, LB_POOL_SLOTS) != NULL &&
        LB_PAGES_RESERVE(shared->cursors, LB_POOL_SLOTS * LB_RR_CURSORS) != NULL &&
        LB_PAGES_RESERVE(shared->backends, LB_BACKEND_SLOTS) != NULL)
        return 0;
    lb_shared_fini(shared);
    return -ENOMEM;
}

void lb_shared_fini(struct lb_shared *shared) {
    LB_PAGES_RELEASE(shared->listeners, LB_LISTENER_SLOTS);
    LB_PAGES_RELEASE(shared->pools, LB_POOL_SLOTS);
    LB_PAGES_RELEASE(shared->cursors, LB_POOL_SLOTS * LB_RR_CURSORS);
    LB_PAGES_RELEASE(shared->backends, LB_BACKEND_SLOTS);
    memset(shared, 0, sizeof *shared);
}
