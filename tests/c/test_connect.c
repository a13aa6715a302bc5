/* SPDX-License-Identifier: Apache-2.0 */
/* The way to a backend, step by step. */
#include "lone.h"

#include <sys/un.h>

#include "session/account.h"

/* ---- a unix socket whose backlog is full ------------------------------------------------------------------------- */

struct narrow {
    struct sockaddr_un address;
    socklen_t len;
    int fd;
    int first; /* fills the backlog */
};

static int connect_narrow(const struct narrow *narrow) {
    int fd = CHECK_SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

    (void)CHECK_SYS(connect(fd, (const struct sockaddr *)&narrow->address, narrow->len));
    return fd;
}

/* The one backend of the pool is a unix socket whose backlog is full. */
static void make_narrow(struct lone *lone, struct narrow *narrow) {
    *narrow = (struct narrow){.address.sun_family = AF_UNIX, .len = sizeof narrow->address};
    narrow->fd = CHECK_SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    (void)CHECK_SYS(bind(narrow->fd, (struct sockaddr *)&narrow->address, sizeof(sa_family_t)));
    (void)CHECK_SYS(getsockname(narrow->fd, (struct sockaddr *)&narrow->address, &narrow->len));
    (void)CHECK_SYS(listen(narrow->fd, 0));
    narrow->first = connect_narrow(narrow);
    lone->backends[0].address = (const struct sockaddr *)&narrow->address;
    lone->backends[0].address_len = narrow->len;
}

static void end_narrow(struct narrow *narrow) {
    (void)close(narrow->first);
    (void)close(narrow->fd);
}

static const struct l4lb_backend_stats *counters(const struct lone *lone, uint32_t slot) {
    return &lone->worker.counters.backends[slot];
}

TEST(a_full_backlog_is_waited_for_and_is_no_failure) {
    static struct lone lone;
    struct narrow narrow;
    int client;

    lone_init(&lone);
    make_narrow(&lone, &narrow);
    lone_publish(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_CONNECT) == 1);
    for (int i = 0; i < 100; i++)
        lone_iterate(&lone);
    CHECK_EQ(lone_session(&lone)->state, LB_SESSION_CONNECT);
    CHECK_EQ(atomic_load(&lone.runtime.shared.backends[0].connections), 1);
    (void)close(CHECK_SYS(accept(narrow.fd, NULL, NULL)));
    LONE_UNTIL(&lone, lone_session(&lone)->state == LB_SESSION_RELAY);
    CHECK_EQ(counters(&lone, 0)->connect_failures_total, 0);
    CHECK_EQ(counters(&lone, 0)->connections_total, 1);
    CHECK_EQ(lone_session(&lone)->retries, 0);
    (void)close(client);
    end_narrow(&narrow);
    lone_fini(&lone);
}

TEST(a_backlog_that_stays_full_is_a_timeout) {
    static struct lone lone;
    struct narrow narrow;
    int client;

    lone_init(&lone);
    make_narrow(&lone, &narrow);
    lone.pool.connect_ms = 20;
    lone_publish(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_closed(&lone, L4LB_CLOSE_CONNECT_TIMEOUT) == 1);
    CHECK_EQ(counters(&lone, 0)->connect_failures_total, 0);
    CHECK_EQ(counters(&lone, 0)->connect_timeouts_total, 1);
    CHECK_EQ(atomic_load(&lone.runtime.shared.backends[0].connections), 0);
    (void)close(client);
    end_narrow(&narrow);
    lone_fini(&lone);
}

TEST(a_backlog_that_is_full_is_not_waited_for_once_its_backend_takes_no_more_sessions) {
    static struct lone lone;
    struct narrow narrow;
    int client;

    lone_init(&lone);
    make_narrow(&lone, &narrow);
    lone_publish(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_CONNECT) == 1);
    lone.backends[0].usable = 0;
    lone.pool.n_backends = 2;
    lone_publish(&lone);
    LONE_UNTIL(&lone, lone_session(&lone)->state == LB_SESSION_RELAY);
    CHECK_EQ(lone_session(&lone)->claim.backend, 1);
    CHECK_EQ(atomic_load(&lone.runtime.shared.backends[0].connections), 0);
    (void)close(client);
    end_narrow(&narrow);
    lone_fini(&lone);
}

/* ---- clients that give up ---------------------------------------------------------------------------------------- */

static void ask(int client) { CHECK_EQ(send(client, "question", 8, MSG_NOSIGNAL), 8); }

static void ask_and_finish(int client) {
    ask(client);
    (void)CHECK_SYS(shutdown(client, SHUT_WR));
}

/* What happens to a client that asks and closes while the attempt waits for a full backlog. */
TEST(a_client_that_gives_up_while_its_attempt_waits_has_left) {
    static struct lone lone;
    struct narrow narrow;
    int client;

    lone_init(&lone);
    make_narrow(&lone, &narrow);
    lone.pool.abort_on_close = 1;
    lone_publish(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_CONNECT) == 1);
    ask_and_finish(client);
    LONE_UNTIL(&lone, lone_closed(&lone, L4LB_CLOSE_CLIENT_ABORT_CONNECT) == 1);
    CHECK_EQ(atomic_load(&lone.runtime.shared.backends[0].connections), 0);
    (void)close(client);
    end_narrow(&narrow);
    lone_fini(&lone);
}

TEST(a_client_that_ends_its_question_with_a_fin_is_served_where_closing_is_not_leaving) {
    static struct lone lone;
    struct narrow narrow;
    int client;

    lone_init(&lone);
    make_narrow(&lone, &narrow);
    lone_publish(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_CONNECT) == 1);
    ask_and_finish(client);
    LONE_UNTIL(&lone, lone_session(&lone)->client.hup);
    (void)close(CHECK_SYS(accept(narrow.fd, NULL, NULL)));
    LONE_UNTIL(&lone, lone_session(&lone)->state == LB_SESSION_RELAY);
    CHECK_EQ(lone_session(&lone)->up.bytes, 8);
    (void)close(client);
    end_narrow(&narrow);
    lone_fini(&lone);
}

TEST(a_client_that_gives_up_before_a_retry_has_left) {
    static struct lone lone;
    int client;

    lone_init(&lone);
    (void)close(lone.back_fds[0]); /* refuses */
    lone.back_fds[0] = -1;
    lone.pool.abort_on_close = 1;
    lone.pool.retries = 3;
    lone_publish(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_CONNECT) == 1 && lone_session(&lone)->retries == 1);
    ask_and_finish(client);
    LONE_UNTIL(&lone, lone_closed(&lone, L4LB_CLOSE_CLIENT_ABORT_CONNECT) == 1);
    (void)close(client);
    lone_fini(&lone);
}

TEST(a_client_that_gives_up_in_the_queue_has_left_and_others_stay) {
    static struct lone lone;
    int first, second, third;

    lone_init(&lone);
    lone.pool.queue_size = 10;
    lone.pool.queue_ms = LONE_LONG_MS;
    lone.pool.abort_on_close = 1;
    lone.backends[0].connections_max = 1;
    lone_publish(&lone);
    first = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 1);
    second = lone_client(&lone);
    third = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_QUEUE) == 2);
    ask(third);
    ask_and_finish(second);
    LONE_UNTIL(&lone, lone_closed(&lone, L4LB_CLOSE_CLIENT_ABORT_QUEUE) == 1);
    CHECK_EQ(lone_in_state(&lone, LB_SESSION_QUEUE), 1);
    (void)close(first);
    (void)close(CHECK_SYS(accept(lone.back_fds[0], NULL, NULL)));
    LONE_UNTIL(&lone, lone.worker.stats.sessions == 1 && lone_session(&lone)->up.bytes == 8);
    (void)close(second);
    (void)close(third);
    lone_fini(&lone);
}

TEST(a_client_that_has_left_before_it_joins_the_queue_does_not_join_it) {
    static struct lone lone;
    int client;

    lone_init(&lone);
    lone.pool.queue_size = 10;
    lone.pool.queue_ms = LONE_LONG_MS;
    lone.pool.abort_on_close = 1;
    lone.pool.hello_ms = LONE_LONG_MS;
    lone.pool.balance = L4LB_MAGLEV;
    lone.pool.table_size = 251;
    lone.pool.hash_key = L4LB_HASH_SNI;
    lone.backends[0].usable = 0;
    lone_publish(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_HELLO) == 1);
    ask_and_finish(client);
    LONE_UNTIL(&lone, lone_closed(&lone, L4LB_CLOSE_CLIENT_ABORT_CONNECT) == 1);
    (void)close(client);
    lone_fini(&lone);
}

TEST_MAIN()
