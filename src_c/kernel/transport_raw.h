/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_raw - the bytes of a session as they are, straight to and from the socket.
 *
 * A read that returns less than it asked for has emptied the socket, which saves the read that would say EAGAIN: epoll
 * is edge-triggered, and reports what comes after that read. Two cases are different. Once a FIN or an error is
 * announced (`hup`), its event is consumed and will not come again, so reads go on until it shows. And the kernel ends
 * a read at the mark of urgent data, whatever follows it. Urgent bytes themselves are not passed on.
 *
 * Nagle's algorithm is on for the first send: a session with one request saves the system call that turns it off. It
 * would hold a second small send back until the first is acknowledged, so it is turned off before that.
 *
 * Owner:   the worker of the session.
 * Memory:  none; `state` is unused.
 * Errors:  LB_IO_BROKEN; `reset` and `lost` of the side say more.
 */
#ifndef LB_TRANSPORT_RAW_H
#define LB_TRANSPORT_RAW_H

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "kernel/side.h"
#include "kernel/sock.h"

/* A read or write of the socket failed with this errno: WAIT, or BROKEN. */
enum lb_io lb_raw_read_failed(struct lb_side *side, int error);
enum lb_io lb_raw_write_failed(struct lb_side *side, int error);

/* Events other than EPOLLIN and EPOLLOUT. */
void lb_raw_rare_event(struct lb_side *side, uint32_t events);

struct lb_io_result lb_raw_peek(struct lb_side *side, void *data, uint32_t len);

/* Call before each write to the socket. */
static inline void lb_raw_before_write(struct lb_side *side) {
    if (side->sent && !side->nodelay) {
        lb_sock_nodelay(side->fd);
        side->nodelay = true;
    }
    side->sent = true;
}

static inline struct lb_io_result lb_raw_recv(struct lb_side *side, void *data, uint32_t len) {
    ssize_t n = recv(side->fd, data, len, 0);

    if (n > 0) {
        if ((uint32_t)n < len && !side->hup && !side->urgent)
            side->can_read = false;
        return (struct lb_io_result){LB_IO_MOVED, (uint32_t)n};
    }
    if (n == -1)
        return (struct lb_io_result){lb_raw_read_failed(side, errno), 0};
    side->can_read = false;
    return (struct lb_io_result){LB_IO_END, 0};
}

/* A short write has filled the socket. */
static inline struct lb_io_result lb_raw_send(struct lb_side *side, const void *data, uint32_t len) {
    ssize_t n;

    lb_raw_before_write(side);
    n = send(side->fd, data, len, MSG_NOSIGNAL);
    if (n == -1)
        return (struct lb_io_result){lb_raw_write_failed(side, errno), 0};
    if ((uint32_t)n < len)
        side->can_write = false;
    return (struct lb_io_result){LB_IO_MOVED, (uint32_t)n};
}

/* What epoll says counts as it is. */
static inline void lb_raw_event(struct lb_side *side, uint32_t events) {
    if ((events & EPOLLIN) != 0)
        side->can_read = true;
    if ((events & EPOLLOUT) != 0)
        side->can_write = true;
    if ((events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) != 0)
        lb_raw_rare_event(side, events);
}

#endif
