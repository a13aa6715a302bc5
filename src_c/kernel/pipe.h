/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe - a bounded pool of kernel pipes for splice(2).
 *
 * Owner:   one worker.
 * Memory:  at most `max` pipes. Free ones are kept for the next bulk transfer. An unprivileged user gets about 1,024
 *          pipes of full size for all its processes (fs.pipe-user-pages-soft), so the pool has a bound and its caller
 *          a fallback.
 * Holds:   a free pipe is empty. A pipe that is given back with bytes inside is closed, so no other session can get
 *          them.
 * Errors:  NULL when the pool is exhausted or the system refuses.
 */
#ifndef LB_PIPE_H
#define LB_PIPE_H

#include <stdint.h>

#include "l4lb.h"

struct lb_pipe {
    struct lb_pipe *next_free;
    int read_fd;
    int write_fd;
    uint32_t held; /* bytes inside */
};

struct lb_pipe_pool {
    struct lb_pipe *free;
    uint32_t max;
    uint32_t bytes; /* wanted capacity of each */
    uint32_t open;
    struct l4lb_worker_stats *stats;
};

void lb_pipe_pool_init(struct lb_pipe_pool *pool, uint32_t max, uint32_t bytes, struct l4lb_worker_stats *stats);

/* Close the free pipes. All others must have been given back. */
void lb_pipe_pool_fini(struct lb_pipe_pool *pool);

struct lb_pipe *lb_pipe_take(struct lb_pipe_pool *pool);

/* Give the pipe back and set *pipe to NULL. */
void lb_pipe_give(struct lb_pipe_pool *pool, struct lb_pipe **pipe);

#endif
