/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay - one direction of a session: bytes from a source to a sink, until either ends.
 *
 * The loop reads only when nothing is held and the sink takes bytes, picks the path (path.h), and stops when the source
 * has nothing, the sink takes nothing, or enough moved for one iteration of the worker. What a transport makes of a
 * short read, or of a call that has to wait for the other direction of the socket, is in can_read and can_write of the
 * sides (side.h), and the loop asks nothing else.
 *
 * Owner:   one worker.
 * Memory:  see path.h.
 * Holds:   `eof` is acted on only when nothing is held. A source that failed is read to its end first.
 * Errors:  LB_RELAY_NOMEM; what happened to a side is in its flags.
 */
#ifndef LB_RELAY_H
#define LB_RELAY_H

#include <stdbool.h>

#include "kernel/side.h"
#include "relay/path.h"

enum lb_relay_result {
    LB_RELAY_WAIT,  /* nothing more to do until an event */
    LB_RELAY_AGAIN, /* its budget is used up; there may be more at once */
    LB_RELAY_NOMEM, /* bytes were read that could not be kept */
};

void lb_relay_init(struct lb_relay *relay, bool from_client);

/* False if nothing is held, and nothing can be read. */
static inline bool lb_relay_has_work(const struct lb_relay *relay, const struct lb_side *source,
                                     const struct lb_side *sink) {
    return (source->can_read && sink->can_write && !relay->eof && !relay->sink_gone) || relay->held != NULL ||
           relay->splice != NULL;
}

/* See lb_relay_run(), for a relay that has work. */
enum lb_relay_result lb_relay_work(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink,
                                   struct lb_relay_env *env, bool *moved);

/* Move what can be moved. `moved` is set when a byte came in or went out, or the source ended. */
static inline enum lb_relay_result lb_relay_run(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink,
                                                struct lb_relay_env *env, bool *moved) {
    return lb_relay_has_work(relay, source, sink) ? lb_relay_work(relay, source, sink, env, moved) : LB_RELAY_WAIT;
}

/* True if bytes were read that the sink does not have yet. */
bool lb_relay_holds(const struct lb_relay *relay);

/* True if everything that the source sent is with the sink, or can't go there any more. */
static inline bool lb_relay_is_done(const struct lb_relay *relay) {
    return relay->sink_gone || (relay->eof && !lb_relay_holds(relay));
}

/* One side is another connection from now on: what the relay owns is given back, and no end was seen. Its bytes still
 * count. */
void lb_relay_restart(struct lb_relay *relay, struct lb_relay_env *env);

/* The messages are not followed any more. */
void lb_relay_unfollow(struct lb_relay *relay);

/* Give back what the relay owns. */
void lb_relay_fini(struct lb_relay *relay, struct lb_relay_env *env);

#endif
