/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages - reserves address space for large arrays that may stay mostly unused.
 *
 * Owner:   the caller.
 * Memory:  zeroed; the kernel provides each page on its first use.
 * Errors:  NULL if there is no address space left.
 */
#ifndef LB_PAGES_H
#define LB_PAGES_H

#include <stddef.h>
#include <sys/mman.h>

static inline void *lb_pages_reserve(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static inline void lb_pages_release(void *at, size_t bytes) {
    if (at != NULL)
        (void)munmap(at, bytes);
}

/* Set the pointer `array` to an array of n zeroed entries. */
#define LB_PAGES_RESERVE(array, n) ((array) = lb_pages_reserve((n) * sizeof *(array)))
#define LB_PAGES_RELEASE(array, n) lb_pages_release((array), (n) * sizeof *(array))

#endif
