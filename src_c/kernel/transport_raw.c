/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/transport_raw.h"

/* The error that came first says why. */
static void latch(struct lb_side *side, int error) {
    if (!side->reset)
        side->lost = lb_sock_is_lost(error);
    side->reset = true;
}

enum lb_io lb_raw_read_failed(struct lb_side *side, int error) {
    if (error == EINTR)
        return LB_IO_WAIT;
    side->can_read = false;
    if (error == EAGAIN)
        return LB_IO_WAIT;
    latch(side, error);
    return LB_IO_BROKEN;
}

/* What the peer sent before the connection failed may still be in the socket, so it is read to its end. */
enum lb_io lb_raw_write_failed(struct lb_side *side, int error) {
    if (error == EINTR)
        return LB_IO_WAIT;
    side->can_write = false;
    if (error == EAGAIN)
        return LB_IO_WAIT;
    latch(side, error);
    side->can_read = side->hup = true;
    return LB_IO_BROKEN;
}

void lb_raw_rare_event(struct lb_side *side, uint32_t events) {
    if ((events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        side->can_read = true;
    if ((events & EPOLLPRI) != 0)
        side->urgent = true;
    if ((events & EPOLLERR) != 0)
        side->error = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        side->hup = true;
    if ((events & (EPOLLHUP | EPOLLERR)) != 0)
        side->can_write = true;
}

struct lb_io_result lb_raw_peek(struct lb_side *side, void *data, uint32_t len) {
    ssize_t n = recv(side->fd, data, len, MSG_PEEK);

    if (n > 0)
        return (struct lb_io_result){LB_IO_MOVED, (uint32_t)n};
    if (n == 0)
        return (struct lb_io_result){LB_IO_END, 0};
    return (struct lb_io_result){errno == EAGAIN ? LB_IO_WAIT : LB_IO_BROKEN, 0};
}
