/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"

struct lb_buffer *lb_buffer_take(struct lb_buffer_pool *pool, const uint8_t *data, uint32_t len) {
    struct lb_buffer *buffer = pool->free;

    LB_BUG_ON(len > LB_COPY_BYTES);
    if (buffer != NULL) {
        pool->free = buffer->next_free;
        pool->n_free--;
    } else {
        buffer = malloc(sizeof *buffer);
        if (buffer == NULL)
            return NULL;
    }
    memcpy(buffer->data, data, len);
    buffer->start = 0;
    buffer->end = len;
    return buffer;
}

void lb_buffer_give(struct lb_buffer_pool *pool, struct lb_buffer **taken) {
    struct lb_buffer *buffer = *taken;

    *taken = NULL;
    if (pool->n_free >= LB_BUFFERS_KEPT) {
        free(buffer);
        return;
    }
    buffer->next_free = pool->free;
    pool->free = buffer;
    pool->n_free++;
}

void lb_buffer_pool_fini(struct lb_buffer_pool *pool) {
    while (pool->free != NULL) {
        struct lb_buffer *buffer = pool->free;
        pool->free = buffer->next_free;
        free(buffer);
    }
    pool->n_free = 0;
}
