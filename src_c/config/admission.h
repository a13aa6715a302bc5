/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admission - who may come in, and how many.
 * Owner:   any worker.
 * Holds:   places are taken before a client is accepted, so that a client that was accepted has what it needs.
 */
#ifndef LB_ADMISSION_H
#define LB_ADMISSION_H

#include <stdbool.h>

#include "config/snapshot.h"
#include "l4lb.h"
#include "shared/runtime.h"

/* One place on the process and one on the listener, or neither. */
bool lb_admission_reserve(struct lb_runtime *runtime, const struct lb_listener *listener);

/* Give both back, and tell workers that wait for a place. */
void lb_admission_release(struct lb_runtime *runtime, uint32_t listener_slot);

/* First deny, then allow; an empty allow list means everyone. A unix client has no address and is let in. */
bool lb_admission_permits(const struct lb_listener *listener, const struct l4lb_endpoint *client);

/* Is this peer one whose PROXY header is believed? */
bool lb_admission_trusts(const struct lb_listener *listener, const struct l4lb_endpoint *peer);

#endif
