/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count - counters that one thread writes and any thread may read.
 *
 * Owner:   a single writer. Readers see whole values, perhaps a moment late.
 * Memory:  plain uint64_t, since most of them are fields of the structs in l4lb.h.
 */
#ifndef LB_COUNT_H
#define LB_COUNT_H

#include <stdint.h>

/* There is one writer, so a plain read of its own value is exact; the store is atomic for the readers. */
static inline void lb_count_add(uint64_t *counter, uint64_t n) {
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void lb_count_sub(uint64_t *counter, uint64_t n) {
    __atomic_store_n(counter, *counter - n, __ATOMIC_RELAXED);
}

static inline uint64_t lb_count_read(const uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }

#endif
