/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/path_copy.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "relay/relay.h"

/* One direction between two unix sockets, and the peers on both ends. */
struct line {
    struct lb_relay_env env;
    struct l4lb_worker_stats stats;
    struct lb_side source, sink;
    struct lb_relay relay;
    int from, to;
};

static struct line line;
static uint8_t data[2 * LB_COPY_BYTES];

static void pair(int *inner, int *peer) {
    int fds[2], on = 1;

    (void)CHECK_SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    for (int i = 0; i < 2; i++)
        (void)CHECK_SYS(ioctl(fds[i], FIONBIO, &on));
    *inner = fds[0];
    *peer = fds[1];
}

static void line_init(bool from_client) {
    memset(&line, 0, sizeof line);
    line.env.scratch = malloc(LB_COPY_BYTES);
    CHECK(line.env.scratch != NULL);
    line.env.stats = &line.stats;
    lb_relay_init(&line.relay, from_client);
    pair(&line.source.fd, &line.from);
    pair(&line.sink.fd, &line.to);
    line.source.can_read = line.sink.can_write = true;
}

static void line_fini(void) {
    lb_path_copy_leave(&line.relay, &line.env);
    lb_buffer_pool_fini(&line.env.buffers);
    free(line.env.scratch);
    for (int i = 0; i < 4; i++)
        (void)close((int[]){line.source.fd, line.sink.fd, line.from, line.to}[i]);
}

static int move(void) { return lb_path_copy_move(&line.relay, &line.source, &line.sink, &line.env); }

/* Send to the sink until it takes no more. */
static void fill_sink(void) {
    while (send(line.sink.fd, data, sizeof data, MSG_NOSIGNAL) > 0)
        ;
    CHECK_EQ(errno, EAGAIN);
}

static void empty_sink(void) {
    while (recv(line.to, data, sizeof data, 0) > 0)
        ;
}

TEST(one_read_is_sent_and_counted) {
    line_init(false);
    CHECK_EQ(send(line.from, "abc", 3, 0), 3);
    CHECK_OK(move());
    CHECK_EQ(recv(line.to, data, sizeof data, 0), 3);
    CHECK_EQ(line.relay.bytes, 3);
    CHECK_EQ(line.stats.copied_bytes_total, 3);
    CHECK(line.relay.held == NULL && !line.relay.eof);
    line_fini();
}

TEST(full_reads_in_a_row_are_counted_and_a_short_one_begins_anew) {
    size_t left = 2 * LB_COPY_BYTES + 10;
    int size = 1 << 20;

    line_init(false);
    (void)CHECK_SYS(setsockopt(line.from, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
    (void)CHECK_SYS(setsockopt(line.sink.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
    while (left > 0)
        left -= (size_t)CHECK_SYS(send(line.from, data, LB_MIN(left, sizeof data), 0));
    for (uint8_t i = 1; i <= 2; i++) {
        CHECK_OK(move());
        CHECK_EQ(line.relay.full_reads, i);
    }
    CHECK_OK(move());
    CHECK_EQ(line.relay.full_reads, 0);
    line_fini();
}

TEST(what_the_sink_does_not_take_is_held_until_it_does) {
    line_init(false);
    fill_sink();
    CHECK_EQ(send(line.from, "abc", 3, 0), 3);
    CHECK_OK(move());
    CHECK(line.relay.held != NULL && !line.sink.can_write);
    lb_path_copy_flush(&line.relay, &line.sink, &line.env);
    CHECK(line.relay.held != NULL);
    empty_sink();
    line.sink.can_write = true;
    lb_path_copy_flush(&line.relay, &line.sink, &line.env);
    CHECK(line.relay.held == NULL);
    CHECK_EQ(recv(line.to, data, sizeof data, 0), 3);
    CHECK_EQ(memcmp(data, "abc", 3), 0);
    line_fini();
}

TEST(what_is_held_is_given_back_with_the_path) {
    line_init(false);
    fill_sink();
    CHECK_EQ(send(line.from, "abc", 3, 0), 3);
    CHECK_OK(move());
    lb_path_copy_leave(&line.relay, &line.env);
    CHECK(line.relay.held == NULL);
    CHECK_EQ(line.env.buffers.n_free, 1);
    line_fini();
}

TEST(a_dry_source_is_no_end_and_a_fin_is) {
    line_init(false);
    CHECK_OK(move());
    CHECK(!line.relay.eof);
    (void)CHECK_SYS(shutdown(line.from, SHUT_WR));
    line.source.can_read = true;
    CHECK_OK(move());
    CHECK(line.relay.eof);
    line_fini();
}

TEST(bytes_for_a_sink_that_broke_are_dropped) {
    line_init(false);
    CHECK_EQ(send(line.from, "abc", 3, 0), 3);
    (void)close(line.to);
    CHECK_OK(move());
    CHECK(line.relay.sink_gone && line.relay.held == NULL);
    CHECK(line.sink.reset);
    line.to = CHECK_SYS(dup(line.from));
    line_fini();
}

/* A frame of SETTINGS asks for nothing. */
TEST(bytes_of_a_protocol_that_is_followed_are_seen) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const uint8_t settings[9] = {[3] = 4};

    line_init(true);
    CHECK_EQ(send(line.from, preface, sizeof preface - 1, 0), sizeof preface - 1);
    CHECK_OK(move());
    CHECK(line.relay.may_request && lb_relay_unseen(&line.relay) == 0);
    line.relay.may_request = false;
    CHECK_EQ(send(line.from, settings, sizeof settings, 0), sizeof settings);
    CHECK_OK(move());
    CHECK(!line.relay.may_request);
    CHECK_EQ(line.relay.bytes, sizeof preface - 1 + sizeof settings);
    line_fini();
}

TEST_MAIN()
