/* SPDX-License-Identifier: Apache-2.0 */
#include "config/admission.h"

bool lb_admission_reserve(struct lb_ticket *ticket, struct lb_runtime *runtime, const struct lb_listener *listener) {
    *ticket = (struct lb_ticket){.listener = (uint16_t)listener->slot};
    if (!lb_capacity_reserve(&runtime->sessions, runtime->sessions_max))
        return false;
    ticket->is_held = lb_capacity_reserve(&listener->shared->connections, listener->connections_max);
    if (!ticket->is_held)
        lb_capacity_release(&runtime->sessions);
    return ticket->is_held;
}

/* A worker without capacity sets its bit in `paused` and then tries once more; here the capacity is given back and then
 * the bits are read. Both are sequentially consistent: one of the two sees the other, so no worker sleeps while there
 * is capacity. */
void lb_admission_release(struct lb_ticket *ticket, struct lb_runtime *runtime) {
    uint64_t paused;

    LB_BUG_ON(!ticket->is_held);
    ticket->is_held = false;
    lb_capacity_release(&runtime->shared.listeners[ticket->listener].connections);
    lb_capacity_release(&runtime->sessions);
    paused = atomic_load(&runtime->paused);
    while (paused != 0) {
        uint32_t worker = (uint32_t)__builtin_ctzll(paused);
        paused &= paused - 1;
        lb_runtime_wake(runtime, worker);
    }
}

static bool has_address(const struct l4lb_endpoint *endpoint) {
    return endpoint->family == AF_INET || endpoint->family == AF_INET6;
}

bool lb_admission_identify(const struct lb_ticket *ticket, const struct lb_listener *listener,
                           const struct l4lb_endpoint *client) {
    LB_BUG_ON(!ticket->is_held);
    if (!has_address(client))
        return true;
    if (listener->deny != NULL && lb_lpm_find_peer(listener->deny, client) != 0)
        return false;
    return listener->allow == NULL || lb_lpm_find_peer(listener->allow, client) != 0;
}

bool lb_admission_trusts(const struct lb_listener *listener, const struct l4lb_endpoint *peer) {
    if (!has_address(peer))
        return true;
    return listener->proxy_from != NULL && lb_lpm_find_peer(listener->proxy_from, peer) != 0;
}
