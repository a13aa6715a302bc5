/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport - what a session may do with one of its sides, whatever transport its bytes take.
 *
 * Sessions and relays touch their sockets only through these calls. The one exception is a path that moves bytes inside
 * the kernel: it knows that a side is raw, because it asked lb_side_is_raw() first.
 *
 * The raw transport is the rule, so it costs one branch that is predicted well and no indirect call.
 *
 * Owner:   the worker of the session.
 * Memory:  none.
 * Errors:  enum lb_io.
 */
#ifndef LB_TRANSPORT_H
#define LB_TRANSPORT_H

#include "base/base.h"
#include "kernel/side.h"
#include "kernel/sock.h"
#include "kernel/transport_raw.h"

/* True if the bytes of the session are the bytes on the socket. */
static inline bool lb_side_is_raw(const struct lb_side *side) { return side->transport == NULL; }

/* Read up to `len` bytes. MOVED leaves can_read set if there may be more. */
LB_MUST_CHECK static inline struct lb_io_result lb_side_recv(struct lb_side *side, void *data, uint32_t len) {
    return lb_side_is_raw(side) ? lb_raw_recv(side, data, len) : side->transport->recv(side, data, len);
}

/* Send up to `len` bytes. MOVED tells how many were taken: fewer than `len` clear can_write. After WAIT, the same bytes
 * come again, perhaps from another address. */
LB_MUST_CHECK static inline struct lb_io_result lb_side_send(struct lb_side *side, const void *data, uint32_t len) {
    return lb_side_is_raw(side) ? lb_raw_send(side, data, len) : side->transport->send(side, data, len);
}

/* Look at up to `len` of the next bytes, which stay. Changes no flag and keeps no error. */
LB_MUST_CHECK static inline struct lb_io_result lb_side_peek(struct lb_side *side, void *data, uint32_t len) {
    return lb_side_is_raw(side) ? lb_raw_peek(side, data, len) : side->transport->peek(side, data, len);
}

/* Tell the peer that nothing more is sent. After WAIT, call it again when can_write is set. */
static inline enum lb_io lb_side_finish(struct lb_side *side) {
    if (!lb_side_is_raw(side))
        return side->transport->finish(side);
    lb_sock_finish(side->fd);
    return LB_IO_MOVED;
}

/* Bytes that were sent and that the peer has not acknowledged; its FIN counts as one. */
static inline uint32_t lb_side_unacknowledged(const struct lb_side *side) {
    return lb_side_is_raw(side) ? lb_sock_unacknowledged(side->fd) : side->transport->unacknowledged(side);
}

/* epoll reported `events` for the socket. */
static inline void lb_side_event(struct lb_side *side, uint32_t events) {
    if (lb_side_is_raw(side))
        lb_raw_event(side, events);
    else
        side->transport->event(side, events);
}

/* The session reads no more, so an announced error would not show: keep it. */
static inline void lb_side_latch_error(struct lb_side *side) {
    side->reset = true;
    side->lost = lb_sock_is_lost(lb_sock_error(side->fd));
}

/* Close the socket, and give back what the transport holds. With `reset` the peer gets a RST, and what was not yet sent
 * is dropped. Does nothing without a socket. */
static inline void lb_side_close(struct lb_side *side, bool reset) {
    if (lb_side_is_raw(side))
        lb_sock_close(&side->fd, reset);
    else
        side->transport->close(side, reset);
}

#endif
