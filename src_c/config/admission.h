/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admission - which clients are let in, and how many.
 *
 * Every client needs a ticket. It is reserved before the client is accepted, so that an accepted client has what it
 * needs. The ticket is identified as soon as the client's address is known, and again if a PROXY header shows another
 * address. It is released when the connection ends. Only this module knows what a ticket holds: one of the sessions of
 * the process and one of the connections of the listener.
 *
 * Owner:   any worker; a ticket belongs to its session.
 * Memory:  4 bytes, in the session.
 */
#ifndef LB_ADMISSION_H
#define LB_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "config/snapshot.h"
#include "l4lb.h"
#include "shared/runtime.h"

struct lb_ticket {
    uint16_t listener; /* slot; stays after the ticket is released */
    bool is_held;
};

_Static_assert(LB_LISTENER_SLOTS <= UINT16_MAX + 1, "the slot of a listener fits a ticket");

/* False if there is no capacity; then the ticket holds nothing. */
LB_MUST_CHECK bool lb_admission_reserve(struct lb_ticket *ticket, struct lb_runtime *runtime,
                                        const struct lb_listener *listener);

/* True if the client may come in: the listener's deny list wins over its allow list; without an allow list every other
 * client is let in. A client on a unix socket has no address and is let in. */
LB_MUST_CHECK bool lb_admission_identify(const struct lb_ticket *ticket, const struct lb_listener *listener,
                                         const struct l4lb_endpoint *client);

/* Give everything back, and wake the workers that wait for capacity. */
void lb_admission_release(struct lb_ticket *ticket, struct lb_runtime *runtime);

/* True if PROXY headers of this peer are trusted. */
bool lb_admission_trusts(const struct lb_listener *listener, const struct l4lb_endpoint *peer);

#endif
