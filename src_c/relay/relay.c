/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/relay.h"

#include "base/bounds.h"
#include "relay/path_copy.h"
#include "relay/path_splice.h"

void lb_relay_init(struct lb_relay *relay, bool from_client) {
    *relay = (struct lb_relay){
        .path = L4LB_PATH_COPY, .best_path = L4LB_PATH_COPY, .from_client = from_client, .read_most = LB_COPY_BYTES};
    if (!from_client)
        relay->h2.state = LB_H2_NONE;
}

static uint32_t held_bytes(const struct lb_relay *relay) {
    if (relay->held != NULL)
        return relay->held->end - relay->held->start;
    return relay->splice != NULL ? relay->splice->pipe->held : 0;
}

bool lb_relay_holds(const struct lb_relay *relay) { return held_bytes(relay) > 0; }

static void leave_path(struct lb_relay *relay, struct lb_relay_env *env) {
    if (relay->path == L4LB_PATH_SPLICE)
        lb_path_splice_leave(relay, env);
    else
        lb_path_copy_leave(relay, env);
}

static void flush(struct lb_relay *relay, struct lb_side *sink, struct lb_relay_env *env) {
    if (relay->path == L4LB_PATH_SPLICE)
        lb_path_splice_flush(relay, sink, env);
    else if (relay->held != NULL)
        lb_path_copy_flush(relay, sink, env);
    if (relay->sink_gone)
        leave_path(relay, env);
}

/* The next message is likely to be like the one that ended. */
static void leave_splice(struct lb_relay *relay, struct lb_relay_env *env) {
    if (relay->exchange != NULL && lb_relay_unseen(relay) == 0)
        relay->read_most = LB_BULK_HEAD_BYTES;
    lb_path_splice_leave(relay, env);
}

static void choose_path(struct lb_relay *relay, struct lb_side *source, const struct lb_side *sink,
                        struct lb_relay_env *env) {
    if (relay->path == L4LB_PATH_COPY && lb_path_splice_pays(relay, source, sink))
        lb_path_splice_enter(relay, source, env);
    else if (relay->path == L4LB_PATH_SPLICE && lb_path_splice_is_spent(relay->splice))
        leave_splice(relay, env);
}

static int move(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink, struct lb_relay_env *env) {
    choose_path(relay, source, sink, env);
    if (relay->path == L4LB_PATH_COPY)
        return lb_path_copy_move(relay, source, sink, env);
    lb_path_splice_move(relay, source, env);
    return 0;
}

enum lb_relay_result lb_relay_work(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink,
                                   struct lb_relay_env *env, bool *moved) {
    const uint64_t bytes_before = relay->bytes;
    const uint32_t held_before = held_bytes(relay);
    const bool eof_before = relay->eof;
    enum lb_relay_result result = LB_RELAY_WAIT;

    for (;;) {
        flush(relay, sink, env);
        if (lb_relay_holds(relay) || relay->sink_gone || relay->eof || !source->can_read || !sink->can_write)
            break;
        if (relay->bytes - bytes_before >= LB_RELAY_BUDGET_BYTES) {
            result = LB_RELAY_AGAIN;
            break;
        }
        if (move(relay, source, sink, env) < 0) {
            result = LB_RELAY_NOMEM;
            break;
        }
    }
    if (relay->bytes != bytes_before || held_bytes(relay) != held_before || relay->eof != eof_before)
        *moved = true;
    return result;
}

void lb_relay_restart(struct lb_relay *relay, struct lb_relay_env *env) {
    leave_path(relay, env);
    relay->eof = relay->finished = relay->sink_gone = false;
    relay->full_reads = 0;
}

void lb_relay_unfollow(struct lb_relay *relay) {
    relay->exchange = NULL;
    relay->read_most = LB_COPY_BYTES;
}

void lb_relay_fini(struct lb_relay *relay, struct lb_relay_env *env) { leave_path(relay, env); }
