/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/queue.h"

#include <stddef.h>
#include <unistd.h>

static void append(struct lb_queue *queue, struct lb_waiting *entry) {
    entry->next = NULL;
    entry->prev = queue->last;
    *(queue->last != NULL ? &queue->last->next : &queue->first) = entry;
    queue->last = entry;
}

static void prepend(struct lb_queue *queue, struct lb_waiting *entry) {
    entry->prev = NULL;
    entry->next = queue->first;
    *(queue->first != NULL ? &queue->first->prev : &queue->last) = entry;
    queue->first = entry;
}

static void unlink_entry(struct lb_queue *queue, struct lb_waiting *entry) {
    *(entry->prev != NULL ? &entry->prev->next : &queue->first) = entry->next;
    *(entry->next != NULL ? &entry->next->prev : &queue->last) = entry->prev;
}

static void deliver(struct lb_waiting *entry) {
    struct lb_mailbox *mailbox = entry->mailbox;
    uint64_t one = 1;

    entry->next = atomic_load_explicit(&mailbox->last, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&mailbox->last, &entry->next, entry, memory_order_release,
                                                  memory_order_relaxed))
        ;
    (void)!write(mailbox->wake_fd, &one, sizeof one);
}

/* With the lock held. */
static void grant_first(struct lb_queue *queue) {
    struct lb_waiting *entry = queue->first;

    queue->granting = entry != NULL;
    queue->again = false;
    if (entry == NULL)
        return;
    unlink_entry(queue, entry);
    entry->state = LB_WAITING_GRANTED;
    deliver(entry);
}

bool lb_queue_enter(struct lb_queue *queue, struct lb_waiting *entry, struct lb_mailbox *mailbox, uint32_t max) {
    bool entered;

    LB_BUG_ON(entry->state != LB_WAITING_OUT);
    (void)pthread_mutex_lock(&queue->lock);
    entered = atomic_load(&queue->n) < max;
    if (entered) {
        atomic_fetch_add(&queue->n, 1);
        entry->mailbox = mailbox;
        entry->state = LB_WAITING_QUEUED;
        append(queue, entry);
    }
    (void)pthread_mutex_unlock(&queue->lock);
    /* Pairs with the fence in lb_queue_grant(): what the caller reads next is read after entering. */
    atomic_thread_fence(memory_order_seq_cst);
    return entered;
}

bool lb_queue_leave(struct lb_queue *queue, struct lb_waiting *entry) {
    bool granted;

    (void)pthread_mutex_lock(&queue->lock);
    LB_BUG_ON(entry->state == LB_WAITING_OUT);
    granted = entry->state == LB_WAITING_GRANTED;
    if (granted)
        queue->granting = false;
    else
        unlink_entry(queue, entry);
    entry->state = LB_WAITING_OUT;
    atomic_fetch_sub(&queue->n, 1);
    (void)pthread_mutex_unlock(&queue->lock);
    return granted;
}

void lb_queue_return(struct lb_queue *queue, struct lb_waiting *entry) {
    (void)pthread_mutex_lock(&queue->lock);
    LB_BUG_ON(entry->state != LB_WAITING_GRANTED);
    entry->state = LB_WAITING_QUEUED;
    prepend(queue, entry);
    queue->granting = false;
    if (queue->again)
        grant_first(queue);
    (void)pthread_mutex_unlock(&queue->lock);
}

void lb_queue_grant(struct lb_queue *queue) {
    /* Pairs with the fence in lb_queue_enter(): either we see the entry, or its session sees the capacity. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&queue->n) == 0)
        return;
    (void)pthread_mutex_lock(&queue->lock);
    if (queue->granting)
        queue->again = true;
    else
        grant_first(queue);
    (void)pthread_mutex_unlock(&queue->lock);
}

struct lb_waiting *lb_mailbox_take(struct lb_mailbox *mailbox) {
    struct lb_waiting *last, *first = NULL;

    if (atomic_load_explicit(&mailbox->last, memory_order_relaxed) == NULL)
        return NULL;
    last = atomic_exchange_explicit(&mailbox->last, NULL, memory_order_acquire);
    while (last != NULL) {
        struct lb_waiting *before = last->next;
        last->next = first;
        first = last;
        last = before;
    }
    return first;
}
