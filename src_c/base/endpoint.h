/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoint - the one form in which the address of a peer is kept, and the one in which addresses are looked up.
 *
 * IPv4 addresses reach us in two spellings: as such, and mapped into IPv6 (::ffff:a.b.c.d), from sockets for both
 * families and from proxies that have such sockets. Lists, hashes, sticky tables and logs must not tell them apart, so
 * whatever reads an address from outside calls lb_endpoint_unmap().
 *
 * Owner:   any thread; pure.
 * Source:  RFC 4291 2.5.5.2.
 */
#ifndef LB_ENDPOINT_H
#define LB_ENDPOINT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "l4lb.h"

/* An IPv4 address that is mapped into IPv6 becomes an IPv4 address. */
static inline void lb_endpoint_unmap(struct l4lb_endpoint *endpoint) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t address[16] = {0};

    if (endpoint->family != AF_INET6 || memcmp(endpoint->address, mapped, sizeof mapped) != 0)
        return;
    memcpy(address, endpoint->address + sizeof mapped, 4);
    memcpy(endpoint->address, address, sizeof address);
    endpoint->family = AF_INET;
}

/* The address in 16 bytes, IPv4 mapped into IPv6. `out` may be the endpoint's own. False for a peer that has none. */
static inline bool lb_endpoint_widen(const struct l4lb_endpoint *endpoint, uint8_t out[16]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (endpoint->family == AF_INET6) {
        memmove(out, endpoint->address, 16);
        return true;
    }
    memmove(out + sizeof mapped, endpoint->address, 4);
    memcpy(out, mapped, sizeof mapped);
    return endpoint->family == AF_INET;
}

#endif
