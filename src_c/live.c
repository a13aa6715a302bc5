/* SPDX-License-Identifier: Apache-2.0 */
#include "live.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "bounds.h"

/* Zeroed memory whose pages the kernel provides on first use. */
static void *reserve(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void release(void *at, size_t bytes) {
    if (at != NULL)
        (void)munmap(at, bytes);
}

#define RESERVE_SLOTS(field, slots) ((field) = reserve((slots) * sizeof *(field)))
#define RELEASE_SLOTS(field, slots) release((field), (slots) * sizeof *(field))

int lb_live_init(struct lb_live *live) {
    memset(live, 0, sizeof *live);
    if (getrandom(live->seed, sizeof live->seed, 0) != sizeof live->seed)
        return -EIO;
    if (RESERVE_SLOTS(live->listeners, LB_LISTENER_SLOTS) != NULL &&
        RESERVE_SLOTS(live->pools, LB_POOL_SLOTS) != NULL &&
        RESERVE_SLOTS(live->turns, LB_POOL_SLOTS * LB_TURNS) != NULL &&
        RESERVE_SLOTS(live->backends, LB_BACKEND_SLOTS) != NULL)
        return 0;
    lb_live_fini(live);
    return -ENOMEM;
}

void lb_live_fini(struct lb_live *live) {
    RELEASE_SLOTS(live->listeners, LB_LISTENER_SLOTS);
    RELEASE_SLOTS(live->pools, LB_POOL_SLOTS);
    RELEASE_SLOTS(live->turns, LB_POOL_SLOTS * LB_TURNS);
    RELEASE_SLOTS(live->backends, LB_BACKEND_SLOTS);
    memset(live, 0, sizeof *live);
}

int lb_counters_init(struct lb_counters *counters) {
    memset(counters, 0, sizeof *counters);
    if (RESERVE_SLOTS(counters->listeners, LB_LISTENER_SLOTS) != NULL &&
        RESERVE_SLOTS(counters->pools, LB_POOL_SLOTS) != NULL &&
        RESERVE_SLOTS(counters->backends, LB_BACKEND_SLOTS) != NULL &&
        RESERVE_SLOTS(counters->endings, LB_POOL_SLOTS) != NULL)
        return 0;
    lb_counters_fini(counters);
    return -ENOMEM;
}

void lb_counters_fini(struct lb_counters *counters) {
    RELEASE_SLOTS(counters->listeners, LB_LISTENER_SLOTS);
    RELEASE_SLOTS(counters->pools, LB_POOL_SLOTS);
    RELEASE_SLOTS(counters->backends, LB_BACKEND_SLOTS);
    RELEASE_SLOTS(counters->endings, LB_POOL_SLOTS);
    memset(counters, 0, sizeof *counters);
}
