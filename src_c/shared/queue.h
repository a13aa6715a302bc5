/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue - the waiting room of a pool: sessions of all workers in one line, first come first served.
 *
 * Who finds no place enters, and then looks again: a place that came free in between has woken nobody. Whoever frees a
 * place calls the first in line: the entry goes to the mailbox of its worker, which tries for the place. If that
 * fails, the entry goes back to the head of the line; if it works, the next one is called, for there may be more
 * places. Only one is out on a call at a time, and it still counts, so that nobody overtakes anybody.
 *
 * Owner:   the queue belongs to the pool and is locked for a few instructions; an entry belongs to its session.
 * Memory:  none of its own. A zeroed queue is an empty one.
 * Holds:   an entry is out, in line, or called; a called one is in the mailbox of its worker or on the list that the
 *          worker took from there. Calling moves it from one to the other under the lock.
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
    struct lb_waiting *next; /* in line, or called after this one */
    struct lb_waiting *prev; /* in line */
};

/* Where a worker finds who was called. Any thread adds, the worker takes. */
struct lb_mailbox {
    _Atomic(struct lb_waiting *) last;
    int wake_fd; /* written to after adding */
};

struct lb_queue {
    pthread_mutex_t lock;
    struct lb_waiting *first;
    struct lb_waiting *last;
    bool granting; /* somebody is out on a call */
    bool again;    /* and another place came free since */
    atomic_uint n; /* in line and called */
};

/* Join the line, or false when `max` are there. Then look again for a place. */
LB_MUST_CHECK bool lb_queue_enter(struct lb_queue *queue, struct lb_waiting *entry, struct lb_mailbox *mailbox,
                                  uint32_t max);

/* Leave for good. True if the entry had been called: it must then be taken off the worker's list. */
LB_MUST_CHECK bool lb_queue_leave(struct lb_queue *queue, struct lb_waiting *entry);

/* Called in vain: back to the head of the line. */
void lb_queue_return(struct lb_queue *queue, struct lb_waiting *entry);

/* A place may be free: call the first in line, if there is one. */
void lb_queue_grant(struct lb_queue *queue);

/* Those that were called since, the first one first, linked by `next`. */
struct lb_waiting *lb_mailbox_take(struct lb_mailbox *mailbox);

static inline uint32_t lb_queue_length(const struct lb_queue *queue) {
    return atomic_load_explicit(&queue->n, memory_order_relaxed);
}

#endif
