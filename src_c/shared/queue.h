/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue - sessions of all workers that wait for capacity in a pool, first come, first served.
 *
 * A session that finds no capacity enters the queue and then tries again: capacity that was released before it entered
 * has woken no session. When capacity is released, the first entry is granted: it goes to the mailbox of its worker,
 * which tries to reserve a backend. If that fails, the entry returns to the head of the queue; if it succeeds, the next
 * one is granted, as there may be more capacity. Only one entry is granted at a time, and it still counts as queued, so
 * that sessions never overtake each other.
 *
 * Owner:   the pool has the queue, locked for a few instructions; each session has its entry.
 * Memory:  none of its own. A zeroed queue is empty: a zeroed pthread_mutex_t is an unlocked one in glibc and musl.
 * Holds:   an entry is out, queued or granted. A granted one is in the mailbox of its worker or on the list that the
 *          worker took from there. The lock guards every change of state.
 */
#ifndef LB_QUEUE_H
#define LB_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

enum lb_waiting_state { LB_WAITING_OUT, LB_WAITING_QUEUED, LB_WAITING_GRANTED };

struct lb_waiting {
    uint8_t state; /* enum lb_waiting_state; changes under the lock */
    struct lb_mailbox *mailbox;
    struct lb_waiting *next; /* queued, or granted after this one */
    struct lb_waiting *prev; /* queued */
};

/* Entries granted to sessions of one worker. Any thread adds, the worker takes. */
struct lb_mailbox {
    _Atomic(struct lb_waiting *) last;
    int wake_fd; /* eventfd, written after adding */
};

struct lb_queue {
    pthread_mutex_t lock;
    struct lb_waiting *first;
    struct lb_waiting *last;
    bool granting; /* an entry is granted and not back yet */
    bool again;    /* capacity was released since */
    atomic_uint n; /* queued and granted */
};

/* Join the queue; false if `max` sessions are in it. Then try again to reserve. */
LB_MUST_CHECK bool lb_queue_enter(struct lb_queue *queue, struct lb_waiting *entry, struct lb_mailbox *mailbox,
                                  uint32_t max);

/* Leave the queue for good. True if the entry was granted: the caller must then take it off the list of the worker. */
LB_MUST_CHECK bool lb_queue_leave(struct lb_queue *queue, struct lb_waiting *entry);

/* The granted session found no capacity: back to the head of the queue. */
void lb_queue_return(struct lb_queue *queue, struct lb_waiting *entry);

/* There may be capacity: grant the first entry, if there is one. */
void lb_queue_grant(struct lb_queue *queue);

/* Take the entries granted since, the earliest first, linked by `next`. */
struct lb_waiting *lb_mailbox_take(struct lb_mailbox *mailbox);

static inline uint32_t lb_queue_length(const struct lb_queue *queue) {
    return atomic_load_explicit(&queue->n, memory_order_relaxed);
}

#endif
