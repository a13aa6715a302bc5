/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events - a bounded ring of session records from one worker to the control thread.
 *
 * Owner:   one producer, the worker; one consumer, the control thread.
 * Memory:  one array of `cap` records, allocated at init.
 * Holds:   a full ring refuses the new record: the data plane never waits for a log.
 */
#ifndef LB_EVENTS_H
#define LB_EVENTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "l4lb.h"

struct lb_events {
    struct l4lb_session_record *records;
    uint32_t cap;                             /* a power of two */
    _Alignas(LB_CACHE_LINE) atomic_uint head; /* written by the producer */
    _Alignas(LB_CACHE_LINE) atomic_uint tail; /* written by the consumer */
};

LB_MUST_CHECK int lb_events_init(struct lb_events *events, uint32_t cap);
void lb_events_fini(struct lb_events *events);

/* False if the ring is full. */
bool lb_events_push(struct lb_events *events, const struct l4lb_session_record *record);
/* Take the oldest record; false if there is none. */
bool lb_events_pop(struct lb_events *events, struct l4lb_session_record *out);

#endif
