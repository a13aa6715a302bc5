/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include "base/base.h"
#include "base/bounds.h"

/* ---- at a known end ---------------------------------------------------------------------------------------------- */

/* Nothing happens to the session after its answer, so only its timer can close it. */
TEST(a_turn_with_a_known_end_leaves_a_backend_that_was_drained_meanwhile) {
    static struct pair pair;
    int server, client;
    uint8_t byte;

    pair_init(&pair);
    client = pair_open(&pair, &server);
    pair_teach_end(client, server);
    /* Let every timer of earlier turns fire: what is left is the idle timeout, far away. */
    pair_rest_ms(2 * LB_SILENCE_FIRST_MS);
    pair_push(client, server, 100);
    PAIR_UNTIL(pair_stats(&pair).busy == 1);
    pair_rest_ms(2 * LB_SILENCE_FIRST_MS);
    pair_drain(&pair);
    pair_push(server, client, 200);
    CHECK(pair_readable(client, PAIR_WAIT_MS));
    CHECK_EQ(recv(client, &byte, 1, 0), 0);
    PAIR_UNTIL(pair_closed(&pair, L4LB_CLOSE_DRAINED) == 1);
    (void)close(client);
    (void)close(server);
    pair_fini(&pair);
}

/* The turn runs into overtime. Its end is the end of the session, so no other turn can begin and be cut. */
TEST(a_turn_with_a_known_end_in_overtime_is_the_last_one) {
    enum { LIFETIME_MS = 3000 };
    static struct pair pair;
    int server, client;
    uint8_t byte;

    pair_init(&pair);
    pair.pool.lifetime_ms = LIFETIME_MS;
    pair_publish(&pair);
    client = pair_open(&pair, &server);
    pair_teach_end(client, server);
    pair_push(client, server, 100);
    pair_rest_ms(LIFETIME_MS + 100);
    CHECK(!pair_readable(client, 0));
    pair_push(server, client, 200);
    CHECK(pair_readable(client, LIFETIME_MS - 500));
    CHECK_EQ(recv(client, &byte, 1, 0), 0);
    PAIR_UNTIL(pair_closed(&pair, L4LB_CLOSE_LIFETIME) == 1);
    (void)close(client);
    (void)close(server);
    pair_fini(&pair);
}

/* It is never quiet for a millisecond, so it can be closed only behind a response: with all of it, and before the next
 * request, or the backend would have that. */
TEST(a_client_that_asks_again_at_once_is_drained_between_two_turns) {
    static struct pair pair;
    int server, client;
    uint8_t data[200];
    ssize_t got;

    pair_init(&pair);
    client = pair_open(&pair, &server);
    pair_teach_end(client, server);
    pair_drain(&pair);
    while ((got = send(client, data, 100, MSG_NOSIGNAL)) == 100 &&
           (got = recv(server, data, 100, MSG_WAITALL)) == 100) {
        CHECK_EQ(send(server, data, 200, MSG_NOSIGNAL), 200);
        CHECK_EQ(recv(client, data, 200, MSG_WAITALL), 200);
    }
    CHECK(got <= 0);
    CHECK_EQ(recv(client, data, 1, 0), 0);
    CHECK_EQ(pair_closed(&pair, L4LB_CLOSE_DRAINED), 1);
    (void)close(client);
    (void)close(server);
    pair_fini(&pair);
}

/* ---- what the client has not got yet ------------------------------------------------------------------------------
 */

/* More than fits the client's receive buffer, but not more than the kernel takes from l4lb for it. */
enum { ANSWER = 1 << 20, UNREAD = 32768 };

static struct l4lb_session_record only_session(const struct pair *pair) {
    struct l4lb_session_record record[2];

    CHECK_EQ(l4lb_list_sessions(pair->engine, 0, 0, record, 2, PAIR_WAIT_MS), 1);
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
static size_t get_behind(const struct pair *pair, int client, int server) {
    size_t got = 0;
    int error;

    pair_push(client, server, 100);
    send_all(server, ANSWER);
    while (only_session(pair).bytes_out < ANSWER) {
        pair_rest_ms(20);
        if (only_session(pair).bytes_out < ANSWER)
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

static void by_idle(struct pair *pair) { (void)pair; }

static void by_kill(struct pair *pair) {
    CHECK_OK(l4lb_kill_session(pair->engine, only_session(pair).id, PAIR_WAIT_MS));
}

static void by_backend(struct pair *pair) {
    CHECK_EQ(l4lb_kill_backend(pair->engine, pair->backend.slot, L4LB_CLOSE_DRAINED, PAIR_WAIT_MS), 1);
}

TEST(however_a_session_is_ended_its_client_gets_everything_and_a_fin) {
    static const struct {
        void (*end)(struct pair *);
        enum l4lb_close reason;
        uint32_t idle_ms, keepalive_ms, lifetime_ms;
    } ways[] = {{by_idle, L4LB_CLOSE_CLIENT_IDLE, 500, 0, 0},
                {by_idle, L4LB_CLOSE_CLIENT_KEEPALIVE, PAIR_LONG_MS, 500, 0},
                {by_idle, L4LB_CLOSE_LIFETIME, PAIR_LONG_MS, 0, 1500},
                {by_kill, L4LB_CLOSE_KILLED, PAIR_LONG_MS, 0, 0},
                {by_backend, L4LB_CLOSE_DRAINED, PAIR_LONG_MS, 0, 0}};

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        static struct pair pair;
        int server, client;
        size_t got;

        pair_init(&pair);
        pair.pool.idle_ms = ways[i].idle_ms;
        pair.pool.keepalive_ms = ways[i].keepalive_ms;
        pair.pool.lifetime_ms = ways[i].lifetime_ms;
        pair_publish(&pair);
        client = pair_open_with(&pair, &server, UNREAD);
        got = get_behind(&pair, client, server);
        ways[i].end(&pair);
        PAIR_UNTIL(pair_closed(&pair, ways[i].reason) == 1);
        CHECK_EQ(pair_stats(&pair).connections, 0);
        CHECK_EQ(only_session(&pair).state, L4LB_SESSION_CLOSING);
        check_the_rest_comes(client, got);
        (void)close(client);
        PAIR_UNTIL(pair_sessions(&pair) == 0);
        (void)close(server);
        pair_fini(&pair);
    }
}

static void *stop(void *pair) {
    l4lb_engine_stop(((struct pair *)pair)->engine);
    return NULL;
}

/* The engine ends while a client still takes what was sent to it; what it has not taken by then is the kernel's. */
TEST(a_client_that_reads_gets_everything_from_an_engine_that_stops) {
    static struct pair pair;
    int server, client;
    pthread_t thread;
    size_t got;

    pair_init(&pair);
    client = pair_open_with(&pair, &server, UNREAD);
    got = get_behind(&pair, client, server);
    CHECK_EQ(pthread_create(&thread, NULL, stop, &pair), 0);
    check_the_rest_comes(client, got);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    (void)close(client);
    (void)close(server);
    pair_fini(&pair);
}

TEST(a_session_is_not_quiet_while_its_client_has_not_got_everything) {
    static struct pair pair;
    int server, client, error;
    size_t got;

    pair_init(&pair);
    client = pair_open_with(&pair, &server, UNREAD);
    got = get_behind(&pair, client, server);
    pair_drain(&pair);
    /* Long enough to be quiet, if it were. */
    CHECK(poll(&(struct pollfd){.fd = server, .events = POLLRDHUP}, 1, 2 * LB_DRAIN_IDLE_MS) == 0);
    CHECK_EQ(l4lb_close_idle(pair.engine, pair.backend.slot, 1, 1, PAIR_WAIT_MS), 0);
    CHECK_EQ(pair_stats(&pair).connections, 1);
    got += read_up_to(client, ANSWER - got, &error);
    CHECK_EQ(got, ANSWER);
    /* Now it is. */
    CHECK_EQ(read_up_to(client, 1, &error), 0);
    CHECK_EQ(error, 0);
    PAIR_UNTIL(pair_closed(&pair, L4LB_CLOSE_DRAINED) == 1);
    (void)close(client);
    (void)close(server);
    pair_fini(&pair);
}

/* In all of this no byte moves through l4lb: the kernel has all of them. */
TEST(a_client_that_reads_slowly_is_not_idle) {
    enum { IDLE_MS = 1000, STEPS = 30 };
    static struct pair pair;
    int server, client, error;
    size_t got;

    pair_init(&pair);
    pair.pool.idle_ms = IDLE_MS;
    pair_publish(&pair);
    client = pair_open_with(&pair, &server, UNREAD);
    got = get_behind(&pair, client, server);
    for (size_t left = STEPS; left > 0; left--) {
        pair_rest_ms(IDLE_MS / 10);
        got += read_up_to(client, (ANSWER - got) / left, &error);
        CHECK_EQ(pair_closed(&pair, L4LB_CLOSE_CLIENT_IDLE), 0);
    }
    CHECK_EQ(got, ANSWER);
    pair_push(client, server, 100);
    pair_push(server, client, 100);
    (void)close(client);
    (void)close(server);
    pair_fini(&pair);
}

/* The same the other way. */
TEST(a_backend_that_reads_slowly_is_neither_idle_nor_late) {
    enum { TIMEOUT_MS = 1000, STEPS = 30, REQUEST = ANSWER / 2 };
    static struct pair pair;
    int server, client, error, rcvbuf = UNREAD;
    size_t got = 0;

    pair_init(&pair);
    pair.pool.response_ms = pair.pool.first_byte_ms = TIMEOUT_MS;
    (void)CHECK_SYS(setsockopt(pair.back_fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf));
    pair_publish(&pair);
    client = pair_open(&pair, &server);
    send_all(client, REQUEST);
    for (size_t left = STEPS; left > 0; left--) {
        pair_rest_ms(TIMEOUT_MS / 10);
        got += read_up_to(server, (REQUEST - got) / left, &error);
    }
    CHECK_EQ(got, REQUEST);
    pair_push(server, client, 100);
    (void)close(client);
    (void)close(server);
    pair_fini(&pair);
}

/* ---- what a session that is over still holds -------------------------------------------------------------------- */

TEST(a_backend_whose_connection_is_closed_has_its_capacity_back) {
    static const bool by_reset[] = {true, false};

    for (size_t i = 0; i < 2; i++) {
        static struct pair pair;
        int server, client;

        pair_init(&pair);
        client = pair_open_with(&pair, &server, UNREAD);
        (void)get_behind(&pair, client, server);
        CHECK_EQ(pair_stats(&pair).connections, 1);
        if (by_reset[i])
            (void)CHECK_SYS(
                setsockopt(server, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger)));
        (void)close(server);
        PAIR_UNTIL(pair_stats(&pair).connections == 0);
        CHECK_EQ(pair_stats(&pair).busy, 0);
        CHECK_EQ(pair_sessions(&pair), 1);
        /* The slot stays the session's: its log names the backend. */
        CHECK_EQ(l4lb_slot_give(pair.engine, L4LB_SLOT_BACKEND, pair.backend.slot), -EBUSY);
        (void)close(client);
        PAIR_UNTIL(pair_sessions(&pair) == 0);
        pair_fini(&pair);
    }
}

TEST_MAIN()
