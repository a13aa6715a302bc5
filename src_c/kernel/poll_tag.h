/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poll_tag - what epoll carries for each descriptor.
 *
 * The tag of a session has its index and generation. So an event that was collected before the session ended is
 * recognised and dropped, although its descriptor may belong to another session by then. The serial tells a backend
 * connection from those before it and from parked ones of the same session.
 *
 * Owner:   any thread.
 * Memory:  none.
 * Errors:  -errno of epoll_ctl(2).
 */
#ifndef LB_POLL_TAG_H
#define LB_POLL_TAG_H

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/base.h"

enum lb_poll_kind { LB_POLL_CLIENT, LB_POLL_SERVER, LB_POLL_LISTENER, LB_POLL_WAKE };

struct lb_poll_tag {
    enum lb_poll_kind kind;
    uint32_t number;     /* index of a session, or descriptor of a listening socket */
    uint32_t generation; /* of a session */
    uint8_t serial;      /* of a backend connection; 0 in any other tag */
};

static inline uint64_t lb_poll_pack(struct lb_poll_tag tag) {
    return (uint64_t)tag.generation << 32 | tag.number << 10 | (uint32_t)tag.serial << 2 | (uint32_t)tag.kind;
}

static inline struct lb_poll_tag lb_poll_unpack(uint64_t data) {
    return (struct lb_poll_tag){.kind = (enum lb_poll_kind)(data & 3),
                                .number = (uint32_t)data >> 10,
                                .generation = (uint32_t)(data >> 32),
                                .serial = (uint8_t)(data >> 2)};
}

LB_MUST_CHECK static inline int lb_poll_add(int epoll_fd, int fd, uint32_t events, struct lb_poll_tag tag) {
    struct epoll_event event = {.events = events, .data.u64 = lb_poll_pack(tag)};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == -1 ? -errno : 0;
}

static inline void lb_poll_remove(int epoll_fd, int fd) { (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL); }

#endif
