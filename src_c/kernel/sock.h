/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sock - the socket calls of the data path.
 * Owner:   any thread.
 * Errors:  -errno.
 */
#ifndef LB_SOCK_H
#define LB_SOCK_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/base.h"
#include "l4lb.h"

/* An address of this host that a connection comes from. */
struct lb_source {
    socklen_t address_len;
    struct sockaddr_storage address;
};

/* Accept one client. `peer` gets its address; an IPv4 address mapped into IPv6 is shown as IPv4. */
LB_MUST_CHECK int lb_sock_accept(int listener, struct l4lb_endpoint *peer);

/* Start a connection, from `source` or, where that is NULL, from where the kernel chooses. Returns the socket,
 * connecting or connected. The options count for connecting too. -EAGAIN when the backlog of a unix socket is full;
 * -ECONNREFUSED for a socket that would be connected to itself; -EADDRNOTAVAIL when this host does not have the source,
 * or no port is left for it. */
LB_MUST_CHECK int lb_sock_connect(const struct sockaddr *address, socklen_t len, const struct lb_source *source,
                                  const struct l4lb_tcp *tcp);

/* Does this error say that the kernel gave the peer up? All others of a connection say that the peer ended it. */
bool lb_sock_is_lost(int error);

/* The error that waits on the socket, which is taken from it; 0 = none. */
int lb_sock_error(int fd);

/* The address a client connected to; family 0 when the kernel can't say. */
void lb_sock_local(int fd, struct l4lb_endpoint *out);

/* Bytes that were written and that the peer has not acknowledged; its FIN counts as one. */
uint32_t lb_sock_unacknowledged(int fd);

/* How long ago the kernel last sent this TCP peer something new. False if it cannot say: it is repeating what was lost,
 * or the socket is none of TCP. */
LB_MUST_CHECK bool lb_sock_since_sent(int fd, uint64_t *ago_ns);

void lb_sock_nodelay(int fd);

/* Wake the reader of fd only when this many bytes wait (or at FIN or an error). */
void lb_sock_lowat(int fd, int bytes);

/* Close *fd and set it to -1. With `reset` the peer gets a RST, and what was not yet sent is dropped. */
void lb_sock_close(int *fd, bool reset);

#endif
