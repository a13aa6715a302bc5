/* SPDX-License-Identifier: Apache-2.0 */
/*
 * side - one end of a session: a socket, what is known about it, and the transport that its bytes take.
 *
 * A transport turns bytes of the session into bytes on the socket and back. The raw transport (transport_raw.h) sends
 * them as they are; an encrypting transport is a `struct lb_transport` with state of its own. transport.h calls either.
 *
 * `can_read` and `can_write` are the transport's word, not the kernel's: a call may succeed now. Only the transport
 * sets them, when events come (lb_side_event) and when a call of its own says more. The two differ from what epoll
 * reported where a transport holds bytes itself: one that has decrypted more than it handed out leaves `can_read` set
 * although the socket is dry; one that must write before it can read on clears `can_read` until the socket is writable.
 *
 * A handshake is not a call of a transport: until it is done, a session waits in a state of its own.
 *
 * Owner:   the worker of the session.
 * Memory:  a field of a session. `state` belongs to the transport, from the start of the session to lb_side_close().
 * Holds:   LB_IO_WAIT clears the flag that the caller went by, so a loop that asks while the flag is set ends; only a
 *          signal may make it ask once more. The first error of a socket is kept in `reset` and `lost`, because the
 *          kernel reports it only once.
 */
#ifndef LB_SIDE_H
#define LB_SIDE_H

#include <stdbool.h>
#include <stdint.h>

struct lb_side;

enum lb_io {
    LB_IO_MOVED,  /* at least one byte moved */
    LB_IO_WAIT,   /* nothing moved; can_read or can_write says when to ask again */
    LB_IO_END,    /* the peer has finished, and everything it sent was read */
    LB_IO_BROKEN, /* the connection failed, see `reset` and `lost` */
};

struct lb_io_result {
    enum lb_io io;
    uint32_t bytes; /* 0 unless MOVED */
};

/* Each call is described in transport.h. */
struct lb_transport {
    struct lb_io_result (*recv)(struct lb_side *side, void *data, uint32_t len);
    struct lb_io_result (*send)(struct lb_side *side, const void *data, uint32_t len);
    struct lb_io_result (*peek)(struct lb_side *side, void *data, uint32_t len);
    enum lb_io (*finish)(struct lb_side *side);
    uint32_t (*unacknowledged)(const struct lb_side *side);
    void (*event)(struct lb_side *side, uint32_t events);
    void (*close)(struct lb_side *side, bool reset);
};

struct lb_side {
    int fd;                               /* -1 without a socket */
    bool can_read : 1;                    /* recv may find bytes, an end or an error */
    bool can_write : 1;                   /* send may take bytes */
    bool hup : 1;                         /* a FIN or an error is announced: read until it shows */
    bool urgent : 1;                      /* urgent data came: the kernel ends a read at its mark */
    bool error : 1;                       /* an error is announced */
    bool reset : 1;                       /* the connection failed: a RST, or any error but a FIN */
    bool lost : 1;                        /* it failed because the peer gave no sign of life */
    bool sent : 1;                        /* something was sent */
    bool nodelay : 1;                     /* TCP_NODELAY is set */
    const struct lb_transport *transport; /* NULL = raw */
    void *state;
};

#endif
