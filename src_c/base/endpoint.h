/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoint - converts addresses of peers to the one form in which they are kept, and the one in which they are looked
 * up.
 *
 * IPv4 addresses arrive in two forms: plain, and mapped into IPv6 (::ffff:a.b.c.d) by dual-stack sockets and by proxies
 * that have them. Lists, hashes, stick tables and logs must not tell the two apart, so all code that reads an address
 * from outside calls lb_endpoint_unmap().
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

/* Turn an IPv4 address that is mapped into IPv6 into a plain one. */
static inline void lb_endpoint_unmap(struct l4lb_endpoint *endpoint) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t address[16] = {0};

    if (endpoint->family != AF_INET6 || memcmp(endpoint->address, mapped, sizeof mapped) != 0)
        return;
    memcpy(address, endpoint->address + sizeof mapped, 4);
    memcpy(endpoint->address, address, sizeof address);
    endpoint->family = AF_INET;
}

/* Write the address in 16 bytes, IPv4 mapped into IPv6. `out` may be the endpoint's own. False if the peer has no
 * address. */
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
