/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path - one direction of a session, as the ways that its bytes can take see it.
 *
 * A path moves bytes from the source to the sink of a relay. A relay is on one path at a time:
 *
 *      COPY     path_copy.h: recv into the worker's scratch memory, send. Every relay begins here.
 *      SPLICE   path_splice.h: socket, pipe, socket, without a copy. For bulk.
 *
 * A path has `move` (one read, and what of it the sink takes), `flush` (what is held, as far as the sink takes it) and
 * `leave` (give back what the path owns, held bytes included). A path that is not the first has `enter` and says when
 * it pays and when it stops to; relay.c goes by that. Another path in the kernel would be one more of these files.
 *
 * Reading happens only when nothing is held and the sink takes bytes, so at most one read is ever held: in a buffer
 * when a send was short, in the pipe when a splice was.
 *
 * Owner:   one worker.
 * Memory:  an idle relay owns nothing. A relay whose sink is full owns a buffer or a pipe.
 * Holds:   bytes leave in the order they came. `held` is set only on COPY, `splice` exactly on SPLICE.
 */
#ifndef LB_PATH_H
#define LB_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "kernel/buffer.h"
#include "kernel/pipe.h"
#include "l4lb.h"
#include "protocol/exchange.h"
#include "protocol/h2.h"

struct lb_splice;

struct lb_relay {
    uint64_t bytes;           /* taken from the source */
    struct lb_buffer *held;   /* read, but not sent yet */
    struct lb_splice *splice; /* what the SPLICE path owns */
    uint8_t path;             /* enum l4lb_path: how bytes move now */
    uint8_t best_path;        /* the same, the best one that ever moved a byte */
    uint8_t full_reads;       /* in a row, on COPY */
    bool from_client;
    bool eof;           /* the source ended: by FIN, or by reset if the side says so */
    bool finished;      /* the end was passed on */
    bool sink_gone;     /* the sink broke: bytes for it are dropped */
    bool may_request;   /* bytes of the client that may ask for something came, and no turn has taken note yet */
    uint32_t read_most; /* bytes of one read, on COPY */
    struct lb_h2 h2;
    struct lb_exchange *exchange; /* follows the messages of both directions; NULL = not followed. Borrowed */
};

/* What the relays of one worker share. */
struct lb_relay_env {
    uint8_t *scratch; /* LB_COPY_BYTES */
    struct lb_buffer_pool buffers;
    struct lb_pipe_pool pipes;
    struct lb_list with_pipe;  /* relays on SPLICE, the longest idle first ... */
    struct lb_list with_lowat; /* ... and those whose source has a low-water mark: they are due much sooner */
    uint64_t now_ms;
    struct l4lb_worker_stats *stats;
};

/* How many of the next bytes need not be seen, so that SPLICE may move them. */
static inline uint64_t lb_relay_unseen(const struct lb_relay *relay) {
    if (relay->exchange != NULL)
        return lb_exchange_unseen(relay->exchange, relay->from_client);
    return lb_h2_follows(&relay->h2) ? 0 : UINT64_MAX;
}

#endif
