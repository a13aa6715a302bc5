/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/events.h"

#include <errno.h>
#include <stdlib.h>

int lb_events_init(struct lb_events *events, uint32_t cap) {
    if (cap == 0 || (cap & (cap - 1)) != 0)
        return -EINVAL;
    events->records = calloc(cap, sizeof *events->records);
    if (events->records == NULL)
        return -ENOMEM;
    events->cap = cap;
    atomic_init(&events->head, 0);
    atomic_init(&events->tail, 0);
    return 0;
}

void lb_events_fini(struct lb_events *events) {
    free(events->records);
    events->records = NULL;
}

/* A release store of the own index publishes the record (or the free entry); an acquire load of the other index sees
 * it. The head is sequentially consistent, too: the producer moves it and then checks whether the consumer wants to be
 * woken; the consumer asks to be woken and then reads the head. One of the two must see the other. */

bool lb_events_push(struct lb_events *events, const struct l4lb_session_record *record) {
    uint32_t head = atomic_load_explicit(&events->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&events->tail, memory_order_acquire);

    if (head - tail == events->cap)
        return false;
    events->records[head & (events->cap - 1)] = *record;
    atomic_store(&events->head, head + 1);
    return true;
}

bool lb_events_pop(struct lb_events *events, struct l4lb_session_record *out) {
    uint32_t tail = atomic_load_explicit(&events->tail, memory_order_relaxed);
    uint32_t head = atomic_load(&events->head);

    if (head == tail)
        return false;
    *out = events->records[tail & (events->cap - 1)];
    atomic_store_explicit(&events->tail, tail + 1, memory_order_release);
    return true;
}
