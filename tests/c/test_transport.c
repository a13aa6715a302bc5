/* SPDX-License-Identifier: Apache-2.0 */
/* Relays and sessions over a transport that is not raw: the loop goes by can_read and can_write, and asks again. */
#include "kernel/transport.h"

#include "lone.h"

#include "relay/path_splice.h"
#include "relay/relay.h"

/* A transport as an encrypting one behaves: it holds bytes that the socket does not have any more, and a call may need
 * the other direction of the socket before it can go on. */
struct fake {
    uint32_t received; /* decrypted, and not read yet */
    uint32_t record;   /* most bytes that one read returns */
    uint32_t room;     /* bytes that it takes before it has to wait */
    uint32_t sent;
    uint32_t finishes;
    bool read_needs_write; /* such as an answer to a handshake message */
    bool finish_needs_write;
    bool closed;
};

static struct fake *fake_of(const struct lb_side *side) { return side->state; }

static struct lb_io_result fake_recv(struct lb_side *side, void *data, uint32_t len) {
    struct fake *fake = fake_of(side);
    uint32_t n = LB_MIN(len, fake->record);

    n = LB_MIN(n, fake->received);
    if (fake->read_needs_write || n == 0) {
        side->can_read = false;
        return (struct lb_io_result){LB_IO_WAIT, 0};
    }
    memset(data, 'x', n);
    fake->received -= n;
    side->can_read = fake->received > 0;
    return (struct lb_io_result){LB_IO_MOVED, n};
}

static struct lb_io_result fake_send(struct lb_side *side, const void *data, uint32_t len) {
    struct fake *fake = fake_of(side);
    uint32_t n = LB_MIN(len, fake->room);

    (void)data;
    fake->room -= n;
    fake->sent += n;
    if (n < len)
        side->can_write = false;
    return (struct lb_io_result){n > 0 ? LB_IO_MOVED : LB_IO_WAIT, n};
}

static struct lb_io_result fake_peek(struct lb_side *side, void *data, uint32_t len) {
    uint32_t n = LB_MIN(fake_of(side)->received, len);

    memset(data, 'x', n);
    return (struct lb_io_result){n > 0 ? LB_IO_MOVED : LB_IO_WAIT, n};
}

static enum lb_io fake_finish(struct lb_side *side) {
    fake_of(side)->finishes++;
    return fake_of(side)->finish_needs_write ? LB_IO_WAIT : LB_IO_MOVED;
}

static uint32_t fake_unacknowledged(const struct lb_side *side) { return fake_of(side)->sent; }

static void fake_event(struct lb_side *side, uint32_t events) {
    struct fake *fake = fake_of(side);

    if ((events & EPOLLIN) != 0)
        side->can_read = true;
    if ((events & EPOLLOUT) != 0) {
        side->can_write = true;
        side->can_read |= fake->read_needs_write;
        fake->read_needs_write = fake->finish_needs_write = false;
    }
}

static void fake_close(struct lb_side *side, bool reset) {
    if (side->fd >= 0)
        fake_of(side)->closed = true;
    lb_sock_close(&side->fd, reset);
}

static const struct lb_transport transport = {.recv = fake_recv,
                                              .send = fake_send,
                                              .peek = fake_peek,
                                              .finish = fake_finish,
                                              .unacknowledged = fake_unacknowledged,
                                              .event = fake_event,
                                              .close = fake_close};

/* One direction between two fakes. */
struct line {
    struct fake from, to;
    struct lb_side source, sink;
    struct lb_relay relay;
    struct lb_relay_env env;
    struct l4lb_worker_stats stats;
};

static struct line line;

static void line_init(uint32_t received, uint32_t room) {
    memset(&line, 0, sizeof line);
    line.env.scratch = malloc(LB_COPY_BYTES);
    CHECK(line.env.scratch != NULL);
    line.env.stats = &line.stats;
    lb_list_init(&line.env.with_pipe);
    lb_list_init(&line.env.with_lowat);
    lb_pipe_pool_init(&line.env.pipes, 2, 65536, &line.stats);
    lb_relay_init(&line.relay, true);
    line.from = (struct fake){.received = received, .record = 16384};
    line.to = (struct fake){.room = room};
    line.source = (struct lb_side){.fd = -1, .can_read = true, .transport = &transport, .state = &line.from};
    line.sink = (struct lb_side){.fd = -1, .can_write = true, .transport = &transport, .state = &line.to};
}

static void line_fini(void) {
    lb_relay_fini(&line.relay, &line.env);
    lb_pipe_pool_fini(&line.env.pipes);
    lb_buffer_pool_fini(&line.env.buffers);
    free(line.env.scratch);
}

static enum lb_relay_result run(bool *moved) {
    *moved = false;
    return lb_relay_run(&line.relay, &line.source, &line.sink, &line.env, moved);
}

/* ---- relays ------------------------------------------------------------------------------------------------------ */

TEST(what_a_transport_holds_is_asked_for_until_nothing_is_left) {
    bool moved;

    line_init(100000, UINT32_MAX);
    line.from.record = 700; /* never a full read, and no event between two */
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK(moved);
    CHECK_EQ(line.to.sent, 100000);
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK(!moved);
    line_fini();
}

TEST(what_a_transport_holds_is_not_forgotten_behind_a_full_sink) {
    bool moved;

    line_init(100000, 20000);
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK_EQ(line.to.sent, 20000);
    CHECK(lb_relay_holds(&line.relay) && line.source.can_read);
    line.to.room = UINT32_MAX;
    lb_side_event(&line.sink, EPOLLOUT);
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK(moved);
    CHECK_EQ(line.to.sent, 100000);
    line_fini();
}

TEST(what_a_transport_holds_beyond_the_budget_of_one_iteration_comes_in_the_next) {
    bool moved;

    line_init(LB_RELAY_BUDGET_BYTES + 1000, UINT32_MAX);
    CHECK_EQ(run(&moved), LB_RELAY_AGAIN);
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK_EQ(line.to.sent, LB_RELAY_BUDGET_BYTES + 1000);
    line_fini();
}

TEST(a_read_that_has_to_write_first_goes_on_when_the_socket_is_writable) {
    bool moved;

    line_init(5000, UINT32_MAX);
    line.from.read_needs_write = true;
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK(!moved && !line.source.can_read);
    /* Nothing came for the sink: it is the source that waits. */
    lb_side_event(&line.sink, EPOLLOUT);
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK(!moved);
    lb_side_event(&line.source, EPOLLOUT);
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK(moved);
    CHECK_EQ(line.to.sent, 5000);
    line_fini();
}

TEST(bytes_that_a_transport_does_not_take_are_held_and_come_again) {
    bool moved;

    line_init(5000, 0);
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK(moved && lb_relay_holds(&line.relay));
    CHECK_EQ(line.relay.bytes, 5000);
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK(!moved);
    line.to.room = 5000;
    lb_side_event(&line.sink, EPOLLOUT);
    CHECK_EQ(run(&moved), LB_RELAY_WAIT);
    CHECK(moved && !lb_relay_holds(&line.relay));
    CHECK_EQ(line.to.sent, 5000);
    line_fini();
}

TEST(only_raw_sides_are_spliced) {
    struct lb_side raw = {.fd = -1};

    line_init(0, 0);
    lb_relay_init(&line.relay, false);
    line.relay.full_reads = LB_BULK_READS;
    CHECK(lb_path_splice_pays(&line.relay, &raw, &raw));
    CHECK(!lb_path_splice_pays(&line.relay, &raw, &line.sink));
    CHECK(!lb_path_splice_pays(&line.relay, &line.source, &raw));
    line_fini();
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

static struct lone lone;

TEST(an_end_that_has_to_wait_is_passed_on_when_the_socket_is_writable) {
    struct fake fake = {.finish_needs_write = true, .room = UINT32_MAX};
    struct lb_session *session;
    int client, server;

    lone_init(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 1);
    session = lone_session(&lone);
    session->client.transport = &transport;
    session->client.state = &fake;
    server = CHECK_SYS(accept4(lone.back_fds[0], NULL, NULL, SOCK_CLOEXEC));
    CHECK_EQ(send(server, "bye", 3, MSG_NOSIGNAL), 3);
    (void)CHECK_SYS(shutdown(server, SHUT_WR));
    LONE_UNTIL(&lone, fake.finishes > 0);
    CHECK_EQ(fake.sent, 3);
    CHECK(session->down.eof && !session->down.finished);
    lb_session_event(&lone.worker, session, LB_CLIENT, EPOLLOUT);
    CHECK(session->down.finished);
    (void)close(server);
    (void)close(client);
    lone_fini(&lone);
    CHECK(fake.closed);
}

TEST_MAIN()
