/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay - one direction of a session: bytes from a source socket to a sink socket.
 *
 *               short reads                              LB_BULK_READS full reads, a pipe is free
 *      copy: recv into the worker's scratch, send   ──────────────────────────────────────────►   splice: socket,
 *                                                   ◄──────────────────────────────────────────   pipe, socket
 *                                                      LB_SMALL_SPLICES short ones, or quiet
 *
 * What a client of clear HTTP/2 sends is always copied: its frames have to be seen (h2.h).
 *
 * Reading happens only when nothing is held and the sink takes bytes, so at most one read is ever held: in a buffer
 * when a send was short, in the pipe when a splice was. It also settles what EAGAIN from splice(2) means: the pipe is
 * always empty when it is filled, so EAGAIN is a dry socket and never a full pipe, whatever the segment sizes.
 *
 * Sockets are watched edge-triggered. `can_read` stays set until a read proved the socket dry; a short recv proves it
 * too, unless a FIN or an error is already announced (`hup`), because its event has been consumed, or urgent data came:
 * a read stops short at its mark, whatever follows, and splice(2) never gets over it. Urgent bytes themselves are not
 * passed on.
 *
 * Owner:   one worker.
 * Memory:  an idle relay owns nothing; a stuck one a buffer or a pipe. An empty pipe is on a list, so that it is given
 *          back when nothing fills it.
 * Holds:   bytes leave in the order they came. `eof` is acted on only when nothing is held. Errors are latched once,
 *          after everything readable was read.
 */
#ifndef LB_RELAY_H
#define LB_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "kernel/buffer.h"
#include "kernel/pipe.h"
#include "l4lb.h"
#include "protocol/h2.h"

/* One end of a session. */
struct lb_side {
    int fd;         /* -1 when there is none */
    bool can_read;  /* not yet known to be dry */
    bool can_write; /* not yet known to be full */
    bool hup;       /* a FIN or an error is announced: read until it shows */
    bool urgent;    /* urgent data came: a short read proves nothing */
    bool error;     /* an error is announced; read until it shows, if there still is something to read */
    bool reset;     /* the connection broke: a RST, or any error but a FIN */
    bool lost;      /* it broke because the peer gave no sign of life any more */
    bool nodelay;   /* TCP_NODELAY is set */
};

struct lb_relay {
    uint64_t bytes; /* taken from the source */
    struct lb_buffer *held;
    struct lb_pipe *pipe;
    struct lb_list idle_link; /* on a list of lb_relay_env while it has a pipe that is empty or not full for long */
    uint64_t filled_ms;       /* when the pipe was last filled */
    uint64_t run_ms;          /* when the current run began */
    uint64_t run_bytes;       /* spliced since then */
    uint8_t full_reads;
    uint8_t small_splices;
    bool from_client;
    bool eof;         /* the source ended: by FIN, or by reset if the side says so */
    bool finished;    /* the FIN was passed on */
    bool sink_gone;   /* the sink broke: bytes for it are dropped */
    bool lowat;       /* the source has LB_BULK_LOWAT */
    bool spliced;     /* at least once */
    bool has_sent;    /* at least once */
    bool may_request; /* bytes of the client that may ask for something came, since the owner last looked */
    struct lb_h2 h2;
};

/* What the relays of one worker share. */
struct lb_relay_env {
    uint8_t *scratch; /* LB_COPY_BYTES */
    struct lb_buffer_pool buffers;
    struct lb_pipe_pool pipes;
    struct lb_list with_pipe;  /* relays with a pipe, the one filled longest ago first */
    struct lb_list with_lowat; /* relays whose source has a low-water mark: due much sooner */
    uint64_t now_ms;
    struct l4lb_worker_stats *stats;
};

enum lb_relay_result {
    LB_RELAY_WAIT,  /* nothing more to do until an event */
    LB_RELAY_AGAIN, /* had its turn; there may be more at once */
    LB_RELAY_NOMEM, /* bytes were read that could not be kept */
};

void lb_relay_init(struct lb_relay *relay, bool from_client);

/* Move what can be moved. `moved` is set when a byte came in or went out, or the source ended. */
enum lb_relay_result lb_relay_run(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink,
                                  struct lb_relay_env *env, bool *moved);

/* The relay has been quiet too long: fall back to small wake-ups, then to copying. */
void lb_relay_trim(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env);

/* The relay that is due first for lb_relay_trim(); NULL when none has a pipe. */
struct lb_relay *lb_relay_env_next_idle(const struct lb_relay_env *env);

/* When the relay is due for lb_relay_trim(). */
uint64_t lb_relay_trim_ms(const struct lb_relay *relay);

/* The other direction spoke: what comes next is an answer, whose tail must not wait, and no longer the same run. */
static inline void lb_relay_end_run(struct lb_relay *relay) { relay->run_bytes = 0; }

/* Bytes were read from the source that the sink does not have. */
bool lb_relay_holds(const struct lb_relay *relay);

/* Everything the source sent has gone, or nowhere to go. */
static inline bool lb_relay_is_done(const struct lb_relay *relay) {
    return relay->sink_gone || (relay->eof && !lb_relay_holds(relay));
}

/* Give back what the relay owns. */
void lb_relay_fini(struct lb_relay *relay, struct lb_relay_env *env);

#endif
