/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe - a bounded pool of kernel pipes for splice(2).
 * Owner:   one worker.
 * Memory:  at most `max` pipes; idle ones are kept for the next bulk transfer. An unprivileged user gets about 1,024
 *          full-size pipes for all processes (fs.pipe-user-pages-soft), hence the bound and the caller's fallback.
 * Holds:   a pooled pipe is empty: one that still holds bytes is closed, never handed to another session.
 * Errors:  NULL when the pool is exhausted or the system refuses; the caller copies instead.
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
/* Close the idle pipes. Every pipe must have been given back. */
void lb_pipe_pool_fini(struct lb_pipe_pool *pool);

struct lb_pipe *lb_pipe_take(struct lb_pipe_pool *pool);
/* Give back and null the caller's pointer. */
void lb_pipe_give(struct lb_pipe_pool *pool, struct lb_pipe **pipe);

#endif
