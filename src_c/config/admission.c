/* SPDX-License-Identifier: Apache-2.0 */
#include "config/admission.h"

bool lb_admission_reserve(struct lb_runtime *runtime, const struct lb_listener *listener) {
    if (!lb_capacity_reserve(&runtime->sessions, runtime->sessions_max))
        return false;
    if (lb_capacity_reserve(&listener->shared->connections, listener->connections_max))
        return true;
    lb_capacity_release(&runtime->sessions);
    return false;
}

/* A worker that finds no place sets its bit and then looks once more; here the place is given back and then the bits
 * are read. Both in sequentially consistent order: one of the two sees the other, so no worker sleeps on a free one. */
void lb_admission_release(struct lb_runtime *runtime, uint32_t listener_slot) {
    uint64_t paused;

    lb_capacity_release(&runtime->shared.listeners[listener_slot].connections);
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

bool lb_admission_permits(const struct lb_listener *listener, const struct l4lb_endpoint *client) {
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
