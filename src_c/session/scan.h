/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan - a walk over all sessions of a worker, done in parts: one in each iteration of the loop.
 *
 * Looking at a session costs nanoseconds and closing one tens of microseconds, so a part is bounded by a sum of both.
 *
 * Owner:   one worker.
 * Memory:  none.
 * Holds:   sessions never move in the table, so one that is there all the time is seen exactly once.
 */
#ifndef LB_SCAN_H
#define LB_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/bounds.h"
#include "session/session.h"
#include "session/session_table.h"

struct lb_scan {
    uint32_t next; /* index of the first session not yet seen */
    uint32_t left; /* looks that this part may still take */
};

static inline void lb_scan_begin_part(struct lb_scan *scan) { scan->left = LB_SCAN_LOOKS; }

/* The next session. NULL when this part is over, or when all sessions have been seen: see lb_scan_is_done(). */
static inline struct lb_session *lb_scan_next(struct lb_scan *scan, const struct lb_session_table *table) {
    struct lb_session *session = scan->left > 0 ? lb_session_table_next(table, scan->next) : NULL;

    if (session == NULL)
        return NULL;
    scan->left--;
    scan->next = session->index + 1;
    return session;
}

/* The last session was closed, or cost as much as closing it. */
static inline void lb_scan_acted(struct lb_scan *scan) {
    scan->left -= LB_MIN(scan->left, (uint32_t)LB_SCAN_ACT_LOOKS);
}

/* After lb_scan_next() returned NULL: have all sessions been seen? */
static inline bool lb_scan_is_done(const struct lb_scan *scan) { return scan->left > 0; }

#endif
