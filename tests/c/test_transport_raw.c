/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/transport.h"

#include <netinet/tcp.h>
#include <unistd.h>

#include "sockets.h"

enum { WAIT_MS = 30000 };

static uint8_t data[1 << 20];

/* A side of a TCP connection, and its peer. */
static struct lb_side side_of_tcp(int *peer) {
    struct sockaddr_in address = loopback();
    int listening = listen_at(&address, 0), fd;

    *peer = connect_to(&address);
    fd = CHECK_SYS(accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    (void)close(listening);
    return (struct lb_side){.fd = fd, .can_read = true, .can_write = true};
}

static void end(struct lb_side *side, int peer) {
    lb_side_close(side, false);
    (void)close(peer);
}

static void await(const struct lb_side *side, short events) {
    struct pollfd wanted = {.fd = side->fd, .events = events};
    CHECK_EQ(CHECK_SYS(poll(&wanted, 1, WAIT_MS)), 1);
}

static void reset_by(int *peer) {
    hang_up(*peer, true);
    *peer = -1;
}

static bool is_nodelay(const struct lb_side *side) {
    int on = 0;
    socklen_t len = sizeof on;

    (void)CHECK_SYS(getsockopt(side->fd, IPPROTO_TCP, TCP_NODELAY, &on, &len));
    return on != 0;
}

/* ---- recv -------------------------------------------------------------------------------------------------------- */

TEST(a_short_read_has_emptied_the_socket) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);
    struct lb_io_result got;

    CHECK_EQ(send(peer, data, 100, 0), 100);
    await(&side, POLLIN);
    got = lb_side_recv(&side, data, 60);
    CHECK(got.io == LB_IO_MOVED && got.bytes == 60);
    CHECK(side.can_read);
    got = lb_side_recv(&side, data, 60);
    CHECK(got.io == LB_IO_MOVED && got.bytes == 40);
    CHECK(!side.can_read);
    end(&side, peer);
}

TEST(a_short_read_proves_nothing_once_an_end_is_announced_or_urgent_data_came) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);

    CHECK_EQ(send(peer, data, 100, 0), 100);
    await(&side, POLLIN);
    side.urgent = true;
    CHECK_EQ(lb_side_recv(&side, data, 60).bytes, 60);
    CHECK_EQ(lb_side_recv(&side, data, 60).bytes, 40);
    CHECK(side.can_read);
    side.urgent = false;
    side.hup = true;
    CHECK_EQ(send(peer, data, 10, 0), 10);
    await(&side, POLLIN);
    CHECK_EQ(lb_side_recv(&side, data, 60).bytes, 10);
    CHECK(side.can_read);
    end(&side, peer);
}

TEST(a_dry_socket_makes_the_reader_wait) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);
    struct lb_io_result got = lb_side_recv(&side, data, 60);

    CHECK(got.io == LB_IO_WAIT && got.bytes == 0);
    CHECK(!side.can_read && !side.reset);
    end(&side, peer);
}

TEST(a_fin_is_the_end) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);

    (void)CHECK_SYS(shutdown(peer, SHUT_WR));
    await(&side, POLLIN);
    CHECK_EQ(lb_side_recv(&side, data, 60).io, LB_IO_END);
    CHECK(!side.can_read && !side.reset);
    end(&side, peer);
}

TEST(a_reset_breaks_the_side_and_is_not_lost) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);

    reset_by(&peer);
    await(&side, POLLIN);
    CHECK_EQ(lb_side_recv(&side, data, 60).io, LB_IO_BROKEN);
    CHECK(!side.can_read && side.reset && !side.lost);
    end(&side, peer);
}

TEST(the_first_error_says_why_the_side_broke) {
    struct lb_side side = {.fd = -1, .can_read = true, .can_write = true};

    CHECK_EQ(lb_raw_read_failed(&side, ETIMEDOUT), LB_IO_BROKEN);
    CHECK(side.reset && side.lost);
    CHECK_EQ(lb_raw_write_failed(&side, EPIPE), LB_IO_BROKEN);
    CHECK(side.reset && side.lost);
    side = (struct lb_side){.fd = -1};
    CHECK_EQ(lb_raw_write_failed(&side, EPIPE), LB_IO_BROKEN);
    CHECK_EQ(lb_raw_read_failed(&side, ETIMEDOUT), LB_IO_BROKEN);
    CHECK(side.reset && !side.lost);
}

TEST(a_signal_changes_nothing) {
    struct lb_side side = {.fd = -1, .can_read = true, .can_write = true};

    CHECK_EQ(lb_raw_read_failed(&side, EINTR), LB_IO_WAIT);
    CHECK_EQ(lb_raw_write_failed(&side, EINTR), LB_IO_WAIT);
    CHECK(side.can_read && side.can_write && !side.reset);
}

/* ---- peek -------------------------------------------------------------------------------------------------------- */

TEST(a_peek_leaves_bytes_and_flags_as_they_are) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);

    CHECK_EQ(lb_side_peek(&side, data, 60).io, LB_IO_WAIT);
    CHECK_EQ(send(peer, data, 50, 0), 50);
    await(&side, POLLIN);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(lb_side_peek(&side, data, 60).bytes, 50);
    CHECK(side.can_read);
    CHECK_EQ(lb_side_recv(&side, data, 60).bytes, 50);
    (void)CHECK_SYS(shutdown(peer, SHUT_WR));
    await(&side, POLLIN);
    CHECK_EQ(lb_side_peek(&side, data, 60).io, LB_IO_END);
    end(&side, peer);
}

/* ---- send -------------------------------------------------------------------------------------------------------- */

TEST(a_short_write_has_filled_the_socket) {
    int peer, size = 4608;
    struct lb_side side = side_of_tcp(&peer);
    struct lb_io_result sent;

    (void)CHECK_SYS(setsockopt(side.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
    while (side.can_write) {
        sent = lb_side_send(&side, data, sizeof data);
        CHECK(sent.io == LB_IO_MOVED || !side.can_write);
    }
    side.can_write = true;
    for (sent.io = LB_IO_MOVED; sent.io == LB_IO_MOVED;)
        sent = lb_side_send(&side, data, sizeof data);
    CHECK(sent.io == LB_IO_WAIT && sent.bytes == 0);
    CHECK(!side.can_write && !side.reset);
    CHECK(lb_side_unacknowledged(&side) > 0);
    end(&side, peer);
}

/* Its last bytes may say why it reset the connection. */
TEST(a_side_that_breaks_when_it_is_written_to_is_read_to_its_end) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);

    (void)CHECK_SYS(shutdown(side.fd, SHUT_WR));
    side.can_read = false;
    CHECK_EQ(lb_side_send(&side, data, 10).io, LB_IO_BROKEN);
    CHECK(side.reset && side.can_read && side.hup && !side.can_write);
    end(&side, peer);
}

TEST(the_first_send_may_be_delayed_and_the_second_is_not) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);

    CHECK_EQ(lb_side_send(&side, data, 10).bytes, 10);
    CHECK(!is_nodelay(&side));
    CHECK_EQ(lb_side_send(&side, data, 10).bytes, 10);
    CHECK(is_nodelay(&side) && side.nodelay);
    end(&side, peer);
}

/* ---- ends and events --------------------------------------------------------------------------------------------- */

TEST(finish_sends_a_fin_after_the_last_byte) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);

    CHECK_EQ(lb_side_send(&side, data, 10).bytes, 10);
    CHECK_EQ(lb_side_finish(&side), LB_IO_MOVED);
    CHECK_EQ(recv(peer, data, 100, MSG_WAITALL), 10);
    CHECK_EQ(recv(peer, data, 100, 0), 0);
    end(&side, peer);
}

TEST(close_with_reset_resets_the_peer_and_closes_once) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);

    lb_side_close(&side, true);
    CHECK_EQ(side.fd, -1);
    lb_side_close(&side, true);
    CHECK_EQ(recv(peer, data, 100, 0), -1);
    CHECK_EQ(errno, ECONNRESET);
    (void)close(peer);
}

TEST(an_error_that_no_read_will_show_is_kept) {
    int peer;
    struct lb_side side = side_of_tcp(&peer);

    reset_by(&peer);
    await(&side, POLLIN);
    lb_side_latch_error(&side);
    CHECK(side.reset && !side.lost);
    end(&side, peer);
}

TEST(events_of_the_kernel_count_as_they_are) {
    static const struct {
        uint32_t events;
        struct lb_side wanted;
    } cases[] = {
        {EPOLLIN, {.can_read = true}},
        {EPOLLOUT, {.can_write = true}},
        {EPOLLIN | EPOLLOUT, {.can_read = true, .can_write = true}},
        {EPOLLPRI, {.can_read = true, .urgent = true}},
        {EPOLLRDHUP, {.can_read = true, .hup = true}},
        {EPOLLHUP, {.can_read = true, .can_write = true, .hup = true}},
        {EPOLLERR, {.can_read = true, .can_write = true, .hup = true, .error = true}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lb_side side = {.fd = 0};
        lb_side_event(&side, cases[i].events);
        CHECK_EQ(side.can_read, cases[i].wanted.can_read);
        CHECK_EQ(side.can_write, cases[i].wanted.can_write);
        CHECK_EQ(side.hup, cases[i].wanted.hup);
        CHECK_EQ(side.urgent, cases[i].wanted.urgent);
        CHECK_EQ(side.error, cases[i].wanted.error);
        CHECK(!side.reset);
    }
}

TEST_MAIN()
