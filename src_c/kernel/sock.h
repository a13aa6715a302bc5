/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sock - the socket calls of the data path, as thin as they can be.
 *
 * What a session does with its sockets goes through transport.h.
 *
 * Owner:   any thread.
 * Memory:  none; a descriptor belongs to the caller.
 * Errors:  -errno. A call without a result may fail silently: it only makes the socket slower.
 */
#ifndef LB_SOCK_H
#define LB_SOCK_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/base.h"
#include "l4lb.h"

/* An address of this host from which connections start. */
struct lb_source {
    socklen_t address_len;
    struct sockaddr_storage address;
};

/* Accept one client and write its address to `peer`, an IPv4 address mapped into IPv6 as IPv4. */
LB_MUST_CHECK int lb_sock_accept(int listener, struct l4lb_endpoint *peer);

/* Start a connection from `source`; NULL lets the kernel choose. Returns the socket, connecting or connected; the
 * options apply to the attempt too. -EAGAIN when the backlog of a unix socket is full, -ECONNREFUSED for a socket that
 * would be connected to itself, -EADDRNOTAVAIL when this host does not have the source or no port is left for it. */
LB_MUST_CHECK int lb_sock_connect(const struct sockaddr *address, socklen_t len, const struct lb_source *source,
                                  const struct l4lb_tcp *tcp);

/* True if the kernel gave up on the peer; any other error means that the peer ended the connection. */
bool lb_sock_is_lost(int error);

/* Take the error that waits on the socket; 0 = none. */
int lb_sock_error(int fd);

/* epoll reported an error or a hangup for a socket that was connecting. Did the attempt fail? 0, or the error. Bytes
 * that came before a reset stay. */
LB_MUST_CHECK int lb_sock_attempt_error(int fd);

/* Send a FIN after the last byte. */
void lb_sock_finish(int fd);

/* The address that a client connected to; family 0 when the kernel can't say. */
void lb_sock_local(int fd, struct l4lb_endpoint *out);

/* Bytes that were written and that the peer has not acknowledged; a FIN counts as one. */
uint32_t lb_sock_unacknowledged(int fd);

/* How long ago the kernel last sent new bytes to this peer. False if it can't say: it repeats lost bytes, or the socket
 * is not TCP. */
LB_MUST_CHECK bool lb_sock_since_sent(int fd, uint64_t *ago_ns);

void lb_sock_nodelay(int fd);

/* Report the socket as readable only when this many bytes wait, or at a FIN or an error. */
void lb_sock_lowat(int fd, int bytes);

/* Close *fd and set it to -1. With `reset` the peer gets a RST, and what was not yet sent is dropped. */
void lb_sock_close(int *fd, bool reset);

#endif
