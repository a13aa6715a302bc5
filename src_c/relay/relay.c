/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base.h"
#include "base/count.h"
#include "kernel/sock.h"

void lb_relay_init(struct lb_relay *relay, bool from_client) {
    memset(relay, 0, sizeof *relay);
    relay->from_client = from_client;
    if (!from_client)
        relay->h2.state = LB_H2_NONE;
    lb_list_init(&relay->idle_link);
}

bool lb_relay_holds(const struct lb_relay *relay) {
    return relay->held != NULL || (relay->pipe != NULL && relay->pipe->held > 0);
}

/* ---- ends -------------------------------------------------------------------------------------------------------- */

/* The first error says why: the kernel reports it only once. */
static void mark_broken(struct lb_side *side, int error) {
    side->lost = side->reset ? side->lost : lb_sock_is_lost(error);
    side->reset = true;
}

static void source_error(struct lb_relay *relay, struct lb_side *source, int error) {
    if (error == EINTR)
        return;
    source->can_read = false;
    if (error == EAGAIN)
        return;
    mark_broken(source, error);
    relay->eof = true;
}

static void source_eof(struct lb_relay *relay, struct lb_side *source) {
    source->can_read = false;
    relay->eof = true;
}

static void pipe_drop(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env) {
    if (relay->lowat) {
        lb_sock_lowat(source->fd, 1);
        relay->lowat = false;
    }
    relay->run_bytes = 0;
    relay->full_reads = 0;
    relay->small_splices = 0;
    lb_list_remove(&relay->idle_link);
    lb_pipe_give(&env->pipes, &relay->pipe);
}

static void sink_error(struct lb_relay *relay, struct lb_side *sink, int error) {
    if (error == EINTR)
        return;
    sink->can_write = false;
    if (error == EAGAIN)
        return;
    /* What the sink's peer sent before it broke is still ours to deliver the other way: read on to the end. The error
     * is latched here because the kernel reports it only once. */
    mark_broken(sink, error);
    sink->can_read = true;
    sink->hup = true;
    relay->sink_gone = true;
}

/* Nagle's algorithm is left on for the first send: a session with one request saves a system call. It would hold back
 * a second small send until the first is acknowledged, so it goes before that. */
static void before_send(struct lb_relay *relay, struct lb_side *sink) {
    if (relay->has_sent && !sink->nodelay) {
        lb_sock_nodelay(sink->fd);
        sink->nodelay = true;
    }
    relay->has_sent = true;
}

/* ---- copy -------------------------------------------------------------------------------------------------------- */

static uint32_t sink_send(struct lb_relay *relay, struct lb_side *sink, const uint8_t *data, uint32_t len) {
    ssize_t n;

    before_send(relay, sink);
    n = send(sink->fd, data, len, MSG_NOSIGNAL);
    if (n == -1) {
        sink_error(relay, sink, errno);
        return 0;
    }
    if ((uint32_t)n < len)
        sink->can_write = false;
    return (uint32_t)n;
}

static int copy_once(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink, struct lb_relay_env *env) {
    ssize_t got = recv(source->fd, env->scratch, LB_COPY_BYTES, 0);
    uint32_t len, has_sent;

    if (got == -1) {
        source_error(relay, source, errno);
        return 0;
    }
    if (got == 0) {
        source_eof(relay, source);
        return 0;
    }
    len = (uint32_t)got;
    relay->bytes += len;
    if (!lb_h2_follows(&relay->h2) || lb_h2_take(&relay->h2, env->scratch, len))
        relay->may_request = true;
    lb_count_add(&env->stats->copied_bytes_total, len);
    if (len == LB_COPY_BYTES) {
        relay->full_reads++;
    } else {
        relay->full_reads = 0;
        if (!source->hup && !source->urgent)
            source->can_read = false;
    }
    has_sent = sink_send(relay, sink, env->scratch, len);
    if (has_sent < len && !relay->sink_gone) {
        relay->held = lb_buffer_take(&env->buffers, env->scratch + has_sent, len - has_sent);
        if (relay->held == NULL)
            return -ENOMEM;
    }
    return 0;
}

static void flush_buffer(struct lb_relay *relay, struct lb_side *sink, struct lb_relay_env *env) {
    struct lb_buffer *buffer = relay->held;

    while (sink->can_write && buffer->start < buffer->end)
        buffer->start += sink_send(relay, sink, buffer->data + buffer->start, buffer->end - buffer->start);
    if (buffer->start == buffer->end)
        lb_buffer_give(&env->buffers, &relay->held);
}

/* ---- splice ------------------------------------------------------------------------------------------------------ */

/* The pipe is empty from now on. If nothing fills it for LB_PIPE_IDLE_MS, it is given back. */
static void await_fill(struct lb_relay *relay, struct lb_relay_env *env) {
    relay->run_bytes = 0;
    relay->filled_ms = env->now_ms;
    lb_list_append(&env->with_pipe, &relay->idle_link);
}

static void try_splicing(struct lb_relay *relay, struct lb_relay_env *env) {
    relay->full_reads = 0;
    if (env->pipes.max == 0)
        return;
    relay->pipe = lb_pipe_take(&env->pipes);
    if (relay->pipe == NULL)
        lb_count_add(&env->stats->pipe_fallbacks_total, 1);
    else
        await_fill(relay, env);
}

/* splice(2) returned 0. That is EOF, unless a kernel's splice is mistaken: the plain call has the last word. */
static void confirm_eof(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env) {
    uint8_t byte;
    ssize_t n = recv(source->fd, &byte, 1, MSG_PEEK);

    if (n == 0)
        source_eof(relay, source);
    else if (n == -1)
        source_error(relay, source, errno);
    else
        pipe_drop(relay, source, env);
}

/* A run is what is spliced without a pause and without an answer. */
static void continue_run(struct lb_relay *relay, uint32_t len, uint64_t now_ms) {
    if (relay->run_bytes == 0 || now_ms - relay->filled_ms > LB_BULK_IDLE_MS) {
        relay->run_bytes = 0;
        relay->run_ms = now_ms;
    }
    relay->run_bytes += len;
    relay->filled_ms = now_ms;
}

/* Worth a low-water mark: at this pace it is reached before the quiet time is over. */
static bool runs_fast(const struct lb_relay *relay, uint64_t now_ms) {
    uint64_t ms = now_ms - relay->run_ms;
    return ms >= LB_BULK_RUN_MS && relay->run_bytes >= ms * (LB_BULK_LOWAT / LB_BULK_IDLE_MS);
}

static void splice_once(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env) {
    ssize_t n =
        splice(source->fd, NULL, relay->pipe->write_fd, NULL, env->pipes.bytes, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    uint32_t len;

    if (n == 0) {
        confirm_eof(relay, source, env);
        return;
    }
    if (n == -1) {
        int error = errno;
        if (error == EINVAL || error == ENOMEM) {
            pipe_drop(relay, source, env);
            return;
        }
        if (error == EAGAIN && !relay->lowat && runs_fast(relay, env->now_ms)) {
            /* Fewer, larger wake-ups while it lasts. lb_relay_trim() takes it back for the tail. The kernel checks
             * at once whether that much is there already, so nothing is missed in between. */
            lb_sock_lowat(source->fd, LB_BULK_LOWAT);
            relay->lowat = true;
            relay->filled_ms = env->now_ms;
            lb_list_append(&env->with_lowat, &relay->idle_link);
        }
        source_error(relay, source, error);
        return;
    }
    len = (uint32_t)n;
    relay->bytes += len;
    relay->may_request = true;
    relay->pipe->held += len;
    continue_run(relay, len, env->now_ms);
    relay->small_splices = len < LB_SMALL_SPLICE_BYTES ? (uint8_t)(relay->small_splices + 1) : 0;
    relay->spliced = true;
    lb_list_append(relay->lowat ? &env->with_lowat : &env->with_pipe, &relay->idle_link);
    lb_count_add(&env->stats->spliced_bytes_total, len);
}

static void flush_pipe(struct lb_relay *relay, struct lb_side *sink, struct lb_relay_env *env) {
    while (sink->can_write && relay->pipe->held > 0) {
        ssize_t n;

        before_send(relay, sink);
        n = splice(relay->pipe->read_fd, NULL, sink->fd, NULL, relay->pipe->held, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (n > 0)
            relay->pipe->held -= (uint32_t)n;
        else
            sink_error(relay, sink, n == 0 ? EAGAIN : errno);
    }
    /* The sink was stuck for so long that lb_relay_trim() took the relay off the list. */
    if (relay->pipe->held == 0 && lb_list_empty(&relay->idle_link))
        await_fill(relay, env);
}

uint64_t lb_relay_trim_ms(const struct lb_relay *relay) {
    return relay->filled_ms + (relay->lowat ? LB_BULK_IDLE_MS : LB_PIPE_IDLE_MS);
}

struct lb_relay *lb_relay_env_next_idle(const struct lb_relay_env *env) {
    struct lb_relay *quiet = NULL, *bulk = NULL;

    if (!lb_list_empty(&env->with_pipe))
        quiet = container_of(env->with_pipe.next, struct lb_relay, idle_link);
    if (!lb_list_empty(&env->with_lowat))
        bulk = container_of(env->with_lowat.next, struct lb_relay, idle_link);
    if (quiet == NULL || bulk == NULL)
        return quiet != NULL ? quiet : bulk;
    return lb_relay_trim_ms(bulk) <= lb_relay_trim_ms(quiet) ? bulk : quiet;
}

void lb_relay_trim(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env) {
    if (relay->lowat) {
        lb_sock_lowat(source->fd, 1);
        relay->lowat = false;
        await_fill(relay, env);
    } else if (relay->pipe->held > 0) {
        /* The sink is stuck. Once it has taken what the pipe holds, the relay is back on the list. */
        lb_list_remove(&relay->idle_link);
    } else {
        pipe_drop(relay, source, env);
    }
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

static void drop_held(struct lb_relay *relay, struct lb_side *source, struct lb_relay_env *env) {
    if (relay->held != NULL)
        lb_buffer_give(&env->buffers, &relay->held);
    if (relay->pipe != NULL)
        pipe_drop(relay, source, env);
}

static void flush(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink, struct lb_relay_env *env) {
    if (relay->held != NULL)
        flush_buffer(relay, sink, env);
    if (relay->pipe != NULL)
        flush_pipe(relay, sink, env);
    if (relay->sink_gone)
        drop_held(relay, source, env);
}

static uint32_t held_bytes(const struct lb_relay *relay) {
    uint32_t held = relay->held != NULL ? relay->held->end - relay->held->start : 0;
    return held + (relay->pipe != NULL ? relay->pipe->held : 0);
}

enum lb_relay_result lb_relay_run(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink,
                                  struct lb_relay_env *env, bool *moved) {
    const uint64_t bytes_before = relay->bytes;
    const uint32_t held_before = held_bytes(relay);
    const bool eof_before = relay->eof;
    enum lb_relay_result result = LB_RELAY_WAIT;

    for (;;) {
        flush(relay, source, sink, env);
        if (lb_relay_holds(relay) || relay->sink_gone || relay->eof || !source->can_read || !sink->can_write)
            break;
        if (relay->bytes - bytes_before >= LB_RELAY_BUDGET_BYTES) {
            result = LB_RELAY_AGAIN;
            break;
        }
        if (relay->pipe != NULL && (relay->small_splices >= LB_SMALL_SPLICES || source->urgent))
            pipe_drop(relay, source, env);
        if (relay->pipe == NULL && relay->full_reads >= LB_BULK_READS && !source->urgent && !lb_h2_follows(&relay->h2))
            try_splicing(relay, env);
        if (relay->pipe != NULL) {
            splice_once(relay, source, env);
        } else if (copy_once(relay, source, sink, env) < 0) {
            result = LB_RELAY_NOMEM;
            break;
        }
    }
    if (relay->bytes != bytes_before || held_bytes(relay) != held_before || relay->eof != eof_before)
        *moved = true;
    return result;
}

void lb_relay_fini(struct lb_relay *relay, struct lb_relay_env *env) {
    if (relay->held != NULL)
        lb_buffer_give(&env->buffers, &relay->held);
    if (relay->pipe != NULL) {
        lb_list_remove(&relay->idle_link);
        lb_pipe_give(&env->pipes, &relay->pipe);
    }
}
