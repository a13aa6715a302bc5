/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend - one backend of a pool, as the data plane sees it.
 *
 * Owner:   the control thread while it is built; frozen after.
 * Memory:  by value in its pool and in the groups of that pool; the shared numbers are the engine's.
 */
#ifndef LB_BACKEND_H
#define LB_BACKEND_H

#include <stdint.h>
#include <sys/socket.h>

#include "shared/shared.h"

struct lb_backend {
    uint32_t slot;
    uint32_t weight; /* 0 if it takes no new sessions */
    uint32_t connections_max;
    uint32_t busy_max;
    uint32_t cold_busy_max; /* the limit of turns while it is cold, if that is less; 0 = no other limit */
    uint32_t index;         /* in its pool */
    socklen_t address_len;
    struct sockaddr_storage address;
    struct lb_backend_shared *shared; /* borrowed from the engine */
};

#endif
