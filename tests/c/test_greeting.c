/* SPDX-License-Identifier: Apache-2.0 */
#include "session/greeting.h"

#include <poll.h>

#include "lone.h"

static struct lone lone;

static void expect_names(void) {
    lone.pool.hello_ms = LONE_LONG_MS;
    lone.pool.balance = L4LB_MAGLEV;
    lone.pool.table_size = 251;
    lone.pool.hash_key = L4LB_HASH_SNI;
    lone_publish(&lone);
}

/* A session of which nothing has been read; the test reads for it, the loop does not. */
static struct lb_session *newcomer(int *client, enum lb_session_state state) {
    *client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, state) == 1);
    return lone_session(&lone);
}

static void say(const struct lb_session *session, int client, const char *text) {
    struct pollfd near = {.fd = session->client.fd, .events = POLLIN};

    CHECK_EQ(send(client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    CHECK_EQ(poll(&near, 1, 30000), 1);
}

static size_t unread(const struct lb_session *session) {
    int n;

    (void)CHECK_SYS(ioctl(session->client.fd, FIONREAD, &n));
    return (size_t)n;
}

static void end(int client) {
    (void)close(client);
    lone_fini(&lone);
}

static struct lb_greeted read_header(struct lb_session *session) {
    return lb_greeting_read_header(&lone.worker, session);
}

static struct lb_greeted read_hello(struct lb_session *session) {
    return lb_greeting_read_hello(&lone.worker, session);
}

TEST(a_header_is_waited_for_and_taken_whole_and_nothing_behind_it) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    lone_expect_headers(&lone);
    session = newcomer(&client, LB_SESSION_HEADER);
    CHECK_EQ(read_header(session).how, LB_GREETING_WAIT);
    say(session, client, "PROXY TCP4 192.0.2.7 ");
    CHECK_EQ(read_header(session).how, LB_GREETING_WAIT);
    CHECK_EQ(unread(session), 21);
    say(session, client, "192.0.2.8 4000 80\r\nhello");
    CHECK_EQ(read_header(session).how, LB_GREETING_POOL);
    CHECK_EQ(unread(session), 5);
    CHECK_EQ(session->peer.port, 4000);
    CHECK_EQ(session->peer.address[0], 192);
    CHECK_EQ(session->destination.port, 80);
    end(client);
}

TEST(what_is_no_header_is_rejected) {
    struct lb_session *session;
    struct lb_greeted greeted;
    int client;

    lone_init(&lone);
    lone_expect_headers(&lone);
    session = newcomer(&client, LB_SESSION_HEADER);
    say(session, client, "GET / HTTP/1.1\r\n");
    greeted = read_header(session);
    CHECK_EQ(greeted.how, LB_GREETING_REJECT);
    CHECK_EQ(greeted.reason, L4LB_REJECT_PROXY_INVALID);
    end(client);
}

TEST(the_networks_of_a_listener_are_about_the_client_of_the_header) {
    const struct l4lb_prefix documentation = {.address = {[10] = 0xff, 0xff, 192, 0, 2}, .length = 120};
    struct lb_session *session;
    struct lb_greeted greeted;
    int client;

    lone_init(&lone);
    CHECK_OK(lb_lpm_new(&documentation, NULL, 1, &lone.listener.deny));
    lone_expect_headers(&lone);
    session = newcomer(&client, LB_SESSION_HEADER);
    say(session, client, "PROXY TCP4 192.0.2.7 192.0.2.8 4000 80\r\n");
    greeted = read_header(session);
    CHECK_EQ(greeted.how, LB_GREETING_REJECT);
    CHECK_EQ(greeted.reason, L4LB_REJECT_DENIED);
    lb_lpm_free(lone.listener.deny);
    end(client);
}

TEST(a_name_is_wanted_behind_the_header_only_where_it_decides_something) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    expect_names();
    lone_expect_headers(&lone);
    session = newcomer(&client, LB_SESSION_HEADER);
    say(session, client, "PROXY UNKNOWN\r\n");
    CHECK_EQ(read_header(session).how, LB_GREETING_HELLO);
    end(client);
}

TEST(what_is_no_hello_has_no_name_and_stays_where_it_is) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    expect_names();
    session = newcomer(&client, LB_SESSION_HELLO);
    CHECK_EQ(read_hello(session).how, LB_GREETING_WAIT);
    say(session, client, "no TLS");
    CHECK_EQ(read_hello(session).how, LB_GREETING_POOL);
    CHECK_EQ(session->server_name, 0);
    CHECK_EQ(unread(session), 6);
    end(client);
}

TEST(a_hello_that_broke_off_is_waited_for_until_the_client_has_ended_it) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    expect_names();
    session = newcomer(&client, LB_SESSION_HELLO);
    say(session, client, "\x16\x03\x01");
    CHECK_EQ(read_hello(session).how, LB_GREETING_WAIT);
    session->client.hup = true;
    CHECK_EQ(read_hello(session).how, LB_GREETING_POOL);
    session->client.error = true;
    CHECK_EQ(read_hello(session).how, LB_GREETING_ABANDONED);
    end(client);
}

TEST(silence_lets_in_without_a_name_but_not_without_a_header) {
    struct lb_session *session;
    struct lb_greeted greeted;
    int client;

    lone_init(&lone);
    expect_names();
    session = newcomer(&client, LB_SESSION_HELLO);
    CHECK_EQ(lb_greeting_expire(&lone.worker, session).how, LB_GREETING_POOL);
    session->state = LB_SESSION_HEADER;
    greeted = lb_greeting_expire(&lone.worker, session);
    CHECK_EQ(greeted.how, LB_GREETING_REJECT);
    CHECK_EQ(greeted.reason, L4LB_REJECT_PROXY_TIMEOUT);
    session->state = LB_SESSION_HELLO;
    end(client);
}

TEST_MAIN()
