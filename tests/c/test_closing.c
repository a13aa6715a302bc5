/* SPDX-License-Identifier: Apache-2.0 */
#include "balancer.h"

#include "base/base.h"
#include "base/bounds.h"

/* ---- sessions of which the test is both ends --------------------------------------------------------------------- */

static const struct l4lb_options one_worker = {
    .n_workers = 1, .sessions_max = 100, .pipes_max = 4, .pipe_bytes = 65536, .events_cap = 64};

/* A client, and the socket that the backend has of its session. `rcvbuf` is what the client may have unread; 0 = as
 * much as the kernel likes. */
static int open_session_with(const struct balancer *balancer, int *server, int rcvbuf) {
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    if (rcvbuf > 0)
        (void)CHECK_SYS(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf));
    (void)CHECK_SYS(connect(fd, (const struct sockaddr *)&balancer->address, sizeof balancer->address));
    *server = CHECK_SYS(accept4(balancer->backend_fds[0], NULL, NULL, SOCK_CLOEXEC));
    return fd;
}

static int open_session(const struct balancer *balancer, int *server) { return open_session_with(balancer, server, 0); }

/* Send n bytes on one socket and take them from the other. */
static void push(int from, int to, size_t n) {
    uint8_t data[4096] = {0};

    CHECK(n <= sizeof data);
    CHECK_EQ(send(from, data, n, MSG_NOSIGNAL), n);
    CHECK_EQ(recv(to, data, n, MSG_WAITALL), n);
}

/* A question and its answer, as often as it takes to learn that 200 bytes end one here. */
static void teach_end(int client, int server) {
    for (int i = 0; i < 12; i++) {
        push(client, server, 100);
        push(server, client, 200);
    }
}

static void drain(const struct balancer *balancer) {
    CHECK(l4lb_set_draining(balancer->engine, &balancer->backends[0].slot, 1, true, 0, WAIT_MS) >= 0);
}

/* ---- at a known end ---------------------------------------------------------------------------------------------- */

/* Nothing happens to the session after its answer, so only its timer can close it. */
TEST(a_turn_with_a_known_end_leaves_a_backend_that_was_drained_meanwhile) {
    static struct balancer balancer;
    int server, client;
    uint8_t byte;

    balancer_init(&balancer, &one_worker, 1);
    client = open_session(&balancer, &server);
    teach_end(client, server);
    /* Let every timer of earlier turns fire: what is left is the idle timeout, far away. */
    rest_ms(2 * LB_SILENCE_FIRST_MS);
    push(client, server, 100);
    UNTIL(balancer_backend(&balancer, 0).busy == 1);
    rest_ms(2 * LB_SILENCE_FIRST_MS);
    drain(&balancer);
    push(server, client, 200);
    CHECK(readable(client, WAIT_MS));
    CHECK_EQ(recv(client, &byte, 1, 0), 0);
    UNTIL(balancer_closed(&balancer, L4LB_CLOSE_DRAINED) == 1);
    (void)close(client);
    (void)close(server);
    balancer_fini(&balancer);
}

/* The turn runs into overtime. Its end is the end of the session, so no other turn can begin and be cut. */
TEST(a_turn_with_a_known_end_in_overtime_is_the_last_one) {
    enum { LIFETIME_MS = 3000 };
    static struct balancer balancer;
    int server, client;
    uint8_t byte;

    balancer_init(&balancer, &one_worker, 1);
    balancer.pool.lifetime_ms = LIFETIME_MS;
    balancer_publish(&balancer);
    client = open_session(&balancer, &server);
    teach_end(client, server);
    push(client, server, 100);
    rest_ms(LIFETIME_MS + 100);
    CHECK(!readable(client, 0));
    push(server, client, 200);
    CHECK(readable(client, LIFETIME_MS - 500));
    CHECK_EQ(recv(client, &byte, 1, 0), 0);
    UNTIL(balancer_closed(&balancer, L4LB_CLOSE_LIFETIME) == 1);
    (void)close(client);
    (void)close(server);
    balancer_fini(&balancer);
}

/* It is never quiet for a millisecond, so it can be closed only behind a response: with all of it, and before the next
 * request, or the backend would have that. */
TEST(a_client_that_asks_again_at_once_is_drained_between_two_turns) {
    static struct balancer balancer;
    int server, client;
    uint8_t data[200];
    ssize_t got;

    balancer_init(&balancer, &one_worker, 1);
    client = open_session(&balancer, &server);
    teach_end(client, server);
    drain(&balancer);
    while ((got = send(client, data, 100, MSG_NOSIGNAL)) == 100 &&
           (got = recv(server, data, 100, MSG_WAITALL)) == 100) {
        CHECK_EQ(send(server, data, 200, MSG_NOSIGNAL), 200);
        CHECK_EQ(recv(client, data, 200, MSG_WAITALL), 200);
    }
    CHECK(got <= 0);
    CHECK_EQ(recv(client, data, 1, 0), 0);
    CHECK_EQ(balancer_closed(&balancer, L4LB_CLOSE_DRAINED), 1);
    (void)close(client);
    (void)close(server);
    balancer_fini(&balancer);
}

/* ---- what the client has not got yet ----------------------------------------------------------------------------- */

/* More than fits the client's receive buffer, but not more than the kernel takes from l4lb for it. */
enum { ANSWER = 1 << 20, UNREAD = 32768 };

static struct l4lb_session_record only_session(const struct balancer *balancer) {
    struct l4lb_session_record record[2];

    CHECK_EQ(l4lb_list_sessions(balancer->engine, 0, 0, record, 2, WAIT_MS), 1);
    return record[0];
}

static void send_all(int fd, size_t n) {
    static const uint8_t data[ANSWER];

    CHECK_EQ(send(fd, data, n, MSG_NOSIGNAL), n);
}

/* Read up to n bytes; returns how many there were before the end. `error` gets what the end was, 0 = FIN. */
static size_t read_up_to(int fd, size_t n, int *error) {
    static uint8_t data[ANSWER];
    size_t got = 0;

    *error = 0;
    while (got < n) {
        ssize_t more = recv(fd, data, LB_MIN(n - got, (size_t)16384), 0);
        if (more == -1)
            *error = errno;
        if (more <= 0)
            break;
        got += (size_t)more;
    }
    return got;
}

/* A client that has asked, of whose answer everything is with the kernel, and most of it still unread. Returns how much
 * it has read. */
static size_t get_behind(const struct balancer *balancer, int client, int server) {
    size_t got = 0;
    int error;

    push(client, server, 100);
    send_all(server, ANSWER);
    while (only_session(balancer).bytes_out < ANSWER) {
        rest_ms(20);
        if (only_session(balancer).bytes_out < ANSWER)
            got += read_up_to(client, 4096, &error);
    }
    CHECK(got < ANSWER / 2);
    return got;
}

/* It reads on, writes a byte as it does, and gets everything and a FIN. */
static void check_the_rest_comes(int client, size_t got) {
    int error;

    got += read_up_to(client, ANSWER / 2 - got, &error);
    CHECK_EQ(send(client, "x", 1, MSG_NOSIGNAL), 1);
    got += read_up_to(client, ANSWER, &error);
    CHECK_EQ(error, 0);
    CHECK_EQ(got, ANSWER);
}

static void by_idle(struct balancer *balancer) { (void)balancer; }

static void by_kill(struct balancer *balancer) {
    CHECK_OK(l4lb_kill_session(balancer->engine, only_session(balancer).id, WAIT_MS));
}

static void by_backend(struct balancer *balancer) {
    CHECK_EQ(l4lb_kill_backend(balancer->engine, balancer->backends[0].slot, L4LB_CLOSE_DRAINED, WAIT_MS), 1);
}

TEST(however_a_session_is_ended_its_client_gets_everything_and_a_fin) {
    static const struct {
        void (*end)(struct balancer *);
        enum l4lb_close reason;
        uint32_t idle_ms, keepalive_ms, lifetime_ms;
    } ways[] = {{by_idle, L4LB_CLOSE_CLIENT_IDLE, 500, 0, 0},
                {by_idle, L4LB_CLOSE_CLIENT_KEEPALIVE, LONG_MS, 500, 0},
                {by_idle, L4LB_CLOSE_LIFETIME, LONG_MS, 0, 1500},
                {by_kill, L4LB_CLOSE_KILLED, LONG_MS, 0, 0},
                {by_backend, L4LB_CLOSE_DRAINED, LONG_MS, 0, 0}};

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        static struct balancer balancer;
        int server, client;
        size_t got;

        balancer_init(&balancer, &one_worker, 1);
        balancer.pool.timeouts.idle_ms = ways[i].idle_ms;
        balancer.pool.timeouts.keepalive_ms = ways[i].keepalive_ms;
        balancer.pool.lifetime_ms = ways[i].lifetime_ms;
        balancer_publish(&balancer);
        client = open_session_with(&balancer, &server, UNREAD);
        got = get_behind(&balancer, client, server);
        ways[i].end(&balancer);
        UNTIL(balancer_closed(&balancer, ways[i].reason) == 1);
        CHECK_EQ(balancer_backend(&balancer, 0).connections, 0);
        CHECK_EQ(only_session(&balancer).state, L4LB_SESSION_CLOSING);
        check_the_rest_comes(client, got);
        (void)close(client);
        UNTIL(sessions_now(balancer.engine) == 0);
        (void)close(server);
        balancer_fini(&balancer);
    }
}

static void *stop(void *balancer) {
    l4lb_engine_stop(((struct balancer *)balancer)->engine);
    return NULL;
}

/* The engine ends while a client still takes what was sent to it; what it has not taken by then is the kernel's. */
TEST(a_client_that_reads_gets_everything_from_an_engine_that_stops) {
    static struct balancer balancer;
    int server, client;
    pthread_t thread;
    size_t got;

    balancer_init(&balancer, &one_worker, 1);
    client = open_session_with(&balancer, &server, UNREAD);
    got = get_behind(&balancer, client, server);
    CHECK_EQ(pthread_create(&thread, NULL, stop, &balancer), 0);
    check_the_rest_comes(client, got);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    (void)close(client);
    (void)close(server);
    balancer_fini(&balancer);
}

TEST(a_session_is_not_quiet_while_its_client_has_not_got_everything) {
    static struct balancer balancer;
    int server, client, error;
    size_t got;

    balancer_init(&balancer, &one_worker, 1);
    client = open_session_with(&balancer, &server, UNREAD);
    got = get_behind(&balancer, client, server);
    drain(&balancer);
    /* Long enough to be quiet, if it were. */
    CHECK(poll(&(struct pollfd){.fd = server, .events = POLLRDHUP}, 1, 2 * LB_DRAIN_IDLE_MS) == 0);
    CHECK_EQ(l4lb_close_idle(balancer.engine, balancer.backends[0].slot, 1, 1, WAIT_MS), 0);
    CHECK_EQ(balancer_backend(&balancer, 0).connections, 1);
    got += read_up_to(client, ANSWER - got, &error);
    CHECK_EQ(got, ANSWER);
    /* Now it is. */
    CHECK_EQ(read_up_to(client, 1, &error), 0);
    CHECK_EQ(error, 0);
    UNTIL(balancer_closed(&balancer, L4LB_CLOSE_DRAINED) == 1);
    (void)close(client);
    (void)close(server);
    balancer_fini(&balancer);
}

/* In all of this no byte moves through l4lb: the kernel has all of them. */
TEST(a_client_that_reads_slowly_is_not_idle) {
    enum { IDLE_MS = 1000, STEPS = 30 };
    static struct balancer balancer;
    int server, client, error;
    size_t got;

    balancer_init(&balancer, &one_worker, 1);
    balancer.pool.timeouts.idle_ms = IDLE_MS;
    balancer_publish(&balancer);
    client = open_session_with(&balancer, &server, UNREAD);
    got = get_behind(&balancer, client, server);
    for (size_t left = STEPS; left > 0; left--) {
        rest_ms(IDLE_MS / 10);
        got += read_up_to(client, (ANSWER - got) / left, &error);
        CHECK_EQ(balancer_closed(&balancer, L4LB_CLOSE_CLIENT_IDLE), 0);
    }
    CHECK_EQ(got, ANSWER);
    push(client, server, 100);
    push(server, client, 100);
    (void)close(client);
    (void)close(server);
    balancer_fini(&balancer);
}

/* The same the other way. */
TEST(a_backend_that_reads_slowly_is_neither_idle_nor_late) {
    enum { TIMEOUT_MS = 1000, STEPS = 30, REQUEST = ANSWER / 2 };
    static struct balancer balancer;
    int server, client, error, rcvbuf = UNREAD;
    size_t got = 0;

    balancer_init(&balancer, &one_worker, 1);
    balancer.pool.timeouts.response_ms = balancer.pool.timeouts.first_byte_ms = TIMEOUT_MS;
    (void)CHECK_SYS(setsockopt(balancer.backend_fds[0], SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf));
    balancer_publish(&balancer);
    client = open_session(&balancer, &server);
    send_all(client, REQUEST);
    for (size_t left = STEPS; left > 0; left--) {
        rest_ms(TIMEOUT_MS / 10);
        got += read_up_to(server, (REQUEST - got) / left, &error);
    }
    CHECK_EQ(got, REQUEST);
    push(server, client, 100);
    (void)close(client);
    (void)close(server);
    balancer_fini(&balancer);
}

/* ---- what a session that is over still holds --------------------------------------------------------------------- */

TEST(a_backend_whose_connection_is_closed_has_its_capacity_back) {
    static const bool by_reset[] = {true, false};

    for (size_t i = 0; i < 2; i++) {
        static struct balancer balancer;
        int server, client;

        balancer_init(&balancer, &one_worker, 1);
        client = open_session_with(&balancer, &server, UNREAD);
        (void)get_behind(&balancer, client, server);
        CHECK_EQ(balancer_backend(&balancer, 0).connections, 1);
        if (by_reset[i])
            (void)CHECK_SYS(
                setsockopt(server, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger)));
        (void)close(server);
        UNTIL(balancer_backend(&balancer, 0).connections == 0);
        CHECK_EQ(balancer_backend(&balancer, 0).busy, 0);
        CHECK_EQ(sessions_now(balancer.engine), 1);
        /* The slot stays the session's: its log names the backend. */
        CHECK_EQ(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, balancer.backends[0].slot), -EBUSY);
        (void)close(client);
        UNTIL(sessions_now(balancer.engine) == 0);
        balancer_fini(&balancer);
    }
}

TEST_MAIN()
