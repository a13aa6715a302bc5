/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path_copy - bytes of a relay by way of the worker's scratch memory.
 *
 * Every byte passes here in clear, so this is where what follows a protocol sees them (h2.h).
 *
 * Owner:   one worker.
 * Memory:  none while the sink keeps up; else one buffer, with the rest of one read.
 * Errors:  -ENOMEM when there is no memory for such a buffer: bytes are lost, and the session has to be closed.
 */
#ifndef LB_PATH_COPY_H
#define LB_PATH_COPY_H

#include "base/base.h"
#include "kernel/side.h"
#include "relay/path.h"

LB_MUST_CHECK int lb_path_copy_move(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink,
                                    struct lb_relay_env *env);

void lb_path_copy_flush(struct lb_relay *relay, struct lb_side *sink, struct lb_relay_env *env);

void lb_path_copy_leave(struct lb_relay *relay, struct lb_relay_env *env);

#endif
