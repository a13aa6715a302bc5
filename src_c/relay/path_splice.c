/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/path_splice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/count.h"

/* ---- enter, leave ------------------------------------------------------------------------------------------------ */

/* The pipe is empty. If nothing fills it for LB_PIPE_IDLE_MS, it is given back. */
static void await_fill(struct lb_splice *splice, struct lb_relay_env *env) {
    splice->run_bytes = 0;
    splice->filled_ms = env->now_ms;
    lb_list_append(&env->with_pipe, &splice->link);
}

static struct lb_splice *splice_new(struct lb_relay_env *env) {
    struct lb_splice *splice = calloc(1, sizeof *splice);

    if (splice == NULL)
        return NULL;
    splice->pipe = lb_pipe_take(&env->pipes);
    if (splice->pipe == NULL) {
        free(splice);
        return NULL;
    }
    lb_list_init(&splice->link);
    return splice;
}

void lb_path_splice_enter(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env) {
    relay->full_reads = 0;
    relay->read_most = LB_COPY_BYTES; /* without a pipe, the body is read on */
    if (env->pipes.max == 0)
        return;
    relay->splice = splice_new(env);
    if (relay->splice == NULL) {
        lb_count_add(&env->stats->pipe_fallbacks_total, 1);
        return;
    }
    relay->path = L4LB_PATH_SPLICE;
    relay->splice->relay = relay;
    relay->splice->source = source;
    await_fill(relay->splice, env);
}

static void drop_lowat(struct lb_splice *splice) {
    lb_sock_lowat(splice->source->fd, 1);
    splice->lowat = false;
}

void lb_path_splice_leave(struct lb_relay *relay, struct lb_relay_env *env) {
    struct lb_splice *splice = relay->splice;

    if (splice->lowat)
        drop_lowat(splice);
    lb_list_remove(&splice->link);
    lb_pipe_give(&env->pipes, &splice->pipe);
    free(splice);
    relay->splice = NULL;
    relay->path = L4LB_PATH_COPY;
    relay->full_reads = 0;
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

static void continue_run(struct lb_splice *splice, uint32_t len, uint64_t now_ms) {
    if (splice->run_bytes == 0 || now_ms - splice->filled_ms > LB_BULK_IDLE_MS) {
        splice->run_bytes = 0;
        splice->run_ms = now_ms;
    }
    splice->run_bytes += len;
    splice->filled_ms = now_ms;
}

/* A low-water mark pays: at this pace the source reaches it before the relay is trimmed. */
static bool runs_fast(const struct lb_splice *splice, uint64_t now_ms) {
    uint64_t ms = now_ms - splice->run_ms;
    return ms >= LB_BULK_RUN_MS && splice->run_bytes >= ms * (LB_BULK_LOWAT / LB_BULK_IDLE_MS);
}

/* The kernel checks at once whether that many bytes wait already, so no wake-up is missed. */
static void set_lowat(struct lb_splice *splice, struct lb_relay_env *env) {
    lb_sock_lowat(splice->source->fd, LB_BULK_LOWAT);
    splice->lowat = true;
    splice->filled_ms = env->now_ms;
    lb_list_append(&env->with_lowat, &splice->link);
}

/* ---- move, flush ------------------------------------------------------------------------------------------------- */

/* splice(2) returned 0. That is the end, unless the splice of this kernel is wrong: the plain call decides. */
static void confirm_end(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env) {
    uint8_t byte;
    ssize_t n = recv(source->fd, &byte, 1, MSG_PEEK);

    if (n > 0) {
        lb_path_splice_leave(relay, env);
    } else if (n == 0) {
        source->can_read = false;
        relay->eof = true;
    } else {
        relay->eof = lb_raw_read_failed(source, errno) == LB_IO_BROKEN;
    }
}

static void read_failed(struct lb_relay *relay, struct lb_side *source, int error, struct lb_relay_env *env) {
    struct lb_splice *splice = relay->splice;

    if (error == EINVAL || error == ENOMEM) {
        lb_path_splice_leave(relay, env);
        return;
    }
    if (error == EAGAIN && !splice->lowat && lb_relay_unseen(relay) >= LB_BULK_LOWAT && runs_fast(splice, env->now_ms))
        set_lowat(splice, env);
    relay->eof = lb_raw_read_failed(source, error) == LB_IO_BROKEN;
}

static void note_bytes(struct lb_relay *relay, uint32_t len, struct lb_relay_env *env) {
    struct lb_splice *splice = relay->splice;

    relay->bytes += len;
    relay->may_request = true;
    if (relay->exchange != NULL)
        lb_exchange_skip(relay->exchange, relay->from_client, len);
    relay->best_path = L4LB_PATH_SPLICE;
    splice->pipe->held += len;
    splice->short_reads = len < LB_SMALL_SPLICE_BYTES ? (uint8_t)(splice->short_reads + 1) : 0;
    continue_run(splice, len, env->now_ms);
    if (splice->lowat && lb_relay_unseen(relay) < LB_BULK_LOWAT)
        drop_lowat(splice);
    lb_list_append(splice->lowat ? &env->with_lowat : &env->with_pipe, &splice->link);
    lb_count_add(&env->stats->spliced_bytes_total, len);
}

void lb_path_splice_move(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env) {
    size_t most = (size_t)LB_MIN((uint64_t)env->pipes.bytes, lb_relay_unseen(relay));
    ssize_t n = splice(source->fd, NULL, relay->splice->pipe->write_fd, NULL, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

    if (n > 0)
        note_bytes(relay, (uint32_t)n, env);
    else if (n == 0)
        confirm_end(relay, source, env);
    else
        read_failed(relay, source, errno, env);
}

void lb_path_splice_flush(struct lb_relay *relay, struct lb_side *sink, struct lb_relay_env *env) {
    struct lb_pipe *pipe = relay->splice->pipe;

    while (sink->can_write && pipe->held > 0) {
        ssize_t n;

        lb_raw_before_write(sink);
        n = splice(pipe->read_fd, NULL, sink->fd, NULL, pipe->held, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (n > 0)
            pipe->held -= (uint32_t)n;
        else if (lb_raw_write_failed(sink, n == 0 ? EAGAIN : errno) == LB_IO_BROKEN)
            relay->sink_gone = true;
    }
    /* The sink was stuck for so long that the splice was trimmed off the lists. */
    if (pipe->held == 0 && lb_list_empty(&relay->splice->link))
        await_fill(relay->splice, env);
}

/* ---- idle -------------------------------------------------------------------------------------------------------- */

static struct lb_splice *first_of(const struct lb_list *list) {
    return lb_list_empty(list) ? NULL : container_of(list->next, struct lb_splice, link);
}

struct lb_splice *lb_path_splice_earliest(const struct lb_relay_env *env) {
    struct lb_splice *with_pipe = first_of(&env->with_pipe), *with_lowat = first_of(&env->with_lowat);

    if (with_pipe == NULL || with_lowat == NULL)
        return with_pipe != NULL ? with_pipe : with_lowat;
    return lb_path_splice_due_ms(with_lowat) <= lb_path_splice_due_ms(with_pipe) ? with_lowat : with_pipe;
}

void lb_path_splice_trim(struct lb_splice *splice, struct lb_relay_env *env) {
    if (splice->lowat) {
        drop_lowat(splice);
        await_fill(splice, env);
    } else if (splice->pipe->held > 0) {
        /* The sink is stuck. Once it has taken what the pipe holds, the splice is back on the list. */
        lb_list_remove(&splice->link);
    } else {
        lb_path_splice_leave(splice->relay, env);
    }
}
