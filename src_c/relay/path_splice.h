/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path_splice - bytes of a relay from socket to socket through a pipe, without a copy.
 *
 *                LB_BULK_READS full reads or a long known body, a pipe is free
 *      COPY  ────────────────────────────────────────────►  SPLICE
 *            ◄────────────────────────────────────────────
 *                LB_SMALL_SPLICES short reads, or idle for LB_PIPE_IDLE_MS
 *
 * The pipe is empty whenever it is filled, so EAGAIN from splice(2) means that the socket is dry, never that the pipe
 * is full, whatever the sizes of segments.
 *
 * A run is what moves without a pause and without a response. A long, fast run gets a low-water mark on its source, so
 * that the kernel wakes the worker less often. Whatever is below the mark waits until the relay is trimmed. In a
 * message whose length is known no byte beyond it is spliced, and the mark is given up before the tail. Its body is
 * bulk if LB_BULK_KNOWN_BYTES are left.
 *
 * Owner:   one worker.
 * Memory:  a pipe and a `struct lb_splice` for each relay on this path.
 * Holds:   both sides are raw. A splice whose pipe is empty is on one of the two lists of the environment, so that the
 *          pipe is given back when nothing fills it. One whose sink is stuck may be on neither: it returns to the list
 *          when the sink has taken everything.
 * Errors:  without a pipe the relay stays on COPY. The first splice(2) that a kernel refuses returns it there.
 */
#ifndef LB_PATH_SPLICE_H
#define LB_PATH_SPLICE_H

#include "base/bounds.h"
#include "kernel/transport.h"
#include "relay/path.h"

struct lb_splice {
    struct lb_pipe *pipe;
    struct lb_relay *relay;
    struct lb_side *source;
    struct lb_list link; /* on with_pipe or with_lowat of the environment */
    uint64_t filled_ms;  /* when the pipe was last filled */
    uint64_t run_ms;     /* when the current run began */
    uint64_t run_bytes;  /* moved since then */
    uint8_t short_reads; /* in a row */
    bool lowat;          /* the source has LB_BULK_LOWAT */
};

/* True if the relay, on COPY, should change to SPLICE. */
static inline bool lb_path_splice_pays(const struct lb_relay *relay, const struct lb_side *source,
                                       const struct lb_side *sink) {
    return relay->full_reads >= LB_BULK_READS && !source->urgent && lb_relay_unseen(relay) >= LB_COPY_BYTES &&
           lb_side_is_raw(source) && lb_side_is_raw(sink);
}

/* True if the relay, on SPLICE, should go back to COPY. The next bytes have to be seen, or they are few; and splice(2)
 * never gets past the mark of urgent data. */
static inline bool lb_path_splice_is_spent(const struct lb_splice *splice) {
    return splice->short_reads >= LB_SMALL_SPLICES || splice->source->urgent || lb_relay_unseen(splice->relay) == 0;
}

/* Without a free pipe the relay stays on COPY, and is not asked again until it is bulk once more. */
void lb_path_splice_enter(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env);

void lb_path_splice_move(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env);

void lb_path_splice_flush(struct lb_relay *relay, struct lb_side *sink, struct lb_relay_env *env);

void lb_path_splice_leave(struct lb_relay *relay, struct lb_relay_env *env);

/* The splice that is due first, one of at least one. */
struct lb_splice *lb_path_splice_earliest(const struct lb_relay_env *env);

/* The other direction moved bytes: what comes next is a new run, and may be the response, whose tail must not wait. */
static inline void lb_path_splice_end_run(struct lb_relay *relay) {
    if (relay->splice != NULL)
        relay->splice->run_bytes = 0;
}

/* When a splice is due for lb_path_splice_trim(). */
static inline uint64_t lb_path_splice_due_ms(const struct lb_splice *splice) {
    return splice->filled_ms + (splice->lowat ? LB_BULK_IDLE_MS : LB_PIPE_IDLE_MS);
}

/* The splice that is due first; NULL when no relay is on this path. */
static inline struct lb_splice *lb_path_splice_first(const struct lb_relay_env *env) {
    if (lb_list_empty(&env->with_pipe) && lb_list_empty(&env->with_lowat))
        return NULL;
    return lb_path_splice_earliest(env);
}

/* The relay has been idle for too long: take the low-water mark back; if it has none, go back to COPY. */
void lb_path_splice_trim(struct lb_splice *splice, struct lb_relay_env *env);

#endif
