/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/pipe.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "base/count.h"

static void pipe_close(struct lb_pipe_pool *pool, struct lb_pipe *pipe) {
    (void)close(pipe->read_fd);
    (void)close(pipe->write_fd);
    free(pipe);
    pool->open--;
    lb_count_sub(&pool->stats->pipes, 1);
}

void lb_pipe_pool_init(struct lb_pipe_pool *pool, uint32_t max, uint32_t bytes, struct l4lb_worker_stats *stats) {
    *pool = (struct lb_pipe_pool){.max = max, .bytes = bytes, .stats = stats};
}

void lb_pipe_pool_fini(struct lb_pipe_pool *pool) {
    while (pool->free != NULL) {
        struct lb_pipe *pipe = pool->free;
        pool->free = pipe->next_free;
        pipe_close(pool, pipe);
    }
    LB_BUG_ON(pool->open != 0);
}

static struct lb_pipe *pipe_open(struct lb_pipe_pool *pool) {
    struct lb_pipe *pipe;
    int fds[2];

    if (pool->open >= pool->max)
        return NULL;
    pipe = calloc(1, sizeof *pipe);
    if (pipe == NULL)
        return NULL;
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) == -1) {
        free(pipe);
        return NULL;
    }
    /* Best effort: beyond the quota of pages of the user, the pipe stays smaller, which costs only speed. */
    (void)fcntl(fds[1], F_SETPIPE_SZ, (int)pool->bytes);
    pipe->read_fd = fds[0];
    pipe->write_fd = fds[1];
    pool->open++;
    lb_count_add(&pool->stats->pipes, 1);
    return pipe;
}

struct lb_pipe *lb_pipe_take(struct lb_pipe_pool *pool) {
    struct lb_pipe *pipe = pool->free;

    if (pipe != NULL)
        pool->free = pipe->next_free;
    else
        pipe = pipe_open(pool);
    if (pipe != NULL)
        lb_count_add(&pool->stats->pipes_in_use, 1);
    return pipe;
}

void lb_pipe_give(struct lb_pipe_pool *pool, struct lb_pipe **taken) {
    struct lb_pipe *pipe = *taken;

    *taken = NULL;
    lb_count_sub(&pool->stats->pipes_in_use, 1);
    if (pipe->held != 0) {
        pipe_close(pool, pipe);
        return;
    }
    pipe->next_free = pool->free;
    pool->free = pipe;
}
