/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/path_copy.h"

#include <errno.h>

#include "base/count.h"
#include "kernel/transport.h"

/* What follows is bulk if the messages say so, whatever the size of the reads. */
static void follow(struct lb_relay *relay, const uint8_t *data, uint32_t len) {
    uint64_t unseen;

    lb_exchange_take(relay->exchange, relay->from_client, data, len);
    unseen = lb_relay_unseen(relay);
    if (unseen >= LB_BULK_KNOWN_BYTES && unseen < UINT64_MAX)
        relay->full_reads = LB_BULK_READS;
    else
        relay->read_most = LB_COPY_BYTES;
}

static void note_bytes(struct lb_relay *relay, const uint8_t *data, uint32_t len, struct lb_relay_env *env) {
    relay->bytes += len;
    if (!lb_h2_follows(&relay->h2) || lb_h2_take(&relay->h2, data, len))
        relay->may_request = true;
    lb_count_add(&env->stats->copied_bytes_total, len);
    relay->full_reads = len == LB_COPY_BYTES ? (uint8_t)(relay->full_reads + 1) : 0;
    if (relay->exchange != NULL)
        follow(relay, data, len);
}

static uint32_t send_some(struct lb_relay *relay, struct lb_side *sink, const uint8_t *data, uint32_t len) {
    struct lb_io_result sent = lb_side_send(sink, data, len);

    if (sent.io == LB_IO_BROKEN)
        relay->sink_gone = true;
    return sent.bytes;
}

int lb_path_copy_move(struct lb_relay *relay, struct lb_side *source, struct lb_side *sink, struct lb_relay_env *env) {
    struct lb_io_result got = lb_side_recv(source, env->scratch, relay->read_most);
    uint32_t sent;

    if (got.io != LB_IO_MOVED) {
        relay->eof = got.io != LB_IO_WAIT;
        return 0;
    }
    note_bytes(relay, env->scratch, got.bytes, env);
    sent = send_some(relay, sink, env->scratch, got.bytes);
    if (sent == got.bytes || relay->sink_gone)
        return 0;
    relay->held = lb_buffer_take(&env->buffers, env->scratch + sent, got.bytes - sent);
    return relay->held == NULL ? -ENOMEM : 0;
}

void lb_path_copy_flush(struct lb_relay *relay, struct lb_side *sink, struct lb_relay_env *env) {
    struct lb_buffer *buffer = relay->held;

    while (sink->can_write && buffer->start < buffer->end)
        buffer->start += send_some(relay, sink, buffer->data + buffer->start, buffer->end - buffer->start);
    if (buffer->start == buffer->end)
        lb_buffer_give(&env->buffers, &relay->held);
}

void lb_path_copy_leave(struct lb_relay *relay, struct lb_relay_env *env) {
    if (relay->held != NULL)
        lb_buffer_give(&env->buffers, &relay->held);
}
