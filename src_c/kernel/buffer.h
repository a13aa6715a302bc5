/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer - bytes that were read and that the sink has not taken yet.
 *
 * Owner:   one worker.
 * Memory:  one buffer of LB_COPY_BYTES for each direction whose sink is full. A pool keeps up to LB_BUFFERS_KEPT free
 *          ones.
 * Errors:  NULL when the system has no memory.
 */
#ifndef LB_BUFFER_H
#define LB_BUFFER_H

#include <stdint.h>

#include "base/bounds.h"

struct lb_buffer {
    struct lb_buffer *next_free;
    uint32_t start;
    uint32_t end;
    uint8_t data[LB_COPY_BYTES];
};

/* A zeroed pool is empty. */
struct lb_buffer_pool {
    struct lb_buffer *free;
    uint32_t n_free;
};

/* A buffer with a copy of `len` bytes, len <= LB_COPY_BYTES. */
struct lb_buffer *lb_buffer_take(struct lb_buffer_pool *pool, const uint8_t *data, uint32_t len);

/* Give the buffer back and set *buffer to NULL. */
void lb_buffer_give(struct lb_buffer_pool *pool, struct lb_buffer **buffer);

void lb_buffer_pool_fini(struct lb_buffer_pool *pool);

#endif
