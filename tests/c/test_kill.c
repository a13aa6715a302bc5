/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions that are listed, killed and drained from outside, while they go on. */
#include "balancer.h"
#include "churn.h"

#include <sys/resource.h>

#include "base/base.h"
#include "base/bounds.h"

/* All sessions of all workers, listed a few at a time. */
static size_t list(const struct balancer *balancer, struct l4lb_session_record *out, size_t room) {
    size_t n = 0;

    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        uint64_t after = 0;
        int got;
        while ((got = l4lb_list_sessions(balancer->engine, worker, after, out + n, LB_MIN(room - n, (size_t)3),
                                         WAIT_MS)) > 0) {
            n += (size_t)got;
            CHECK(n < room);
            after = out[n - 1].id;
        }
        CHECK_EQ(got, 0);
    }
    return n;
}

TEST(a_listing_shows_every_session_once) {
    static struct balancer balancer;
    struct l4lb_session_record records[60];
    int fds[40];
    size_t n;

    balancer_echo(&balancer, &usual);
    for (int i = 0; i < 40; i++)
        fds[i] = balancer_established(&balancer);
    n = list(&balancer, records, 60);
    CHECK_EQ(n, 40);
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        CHECK_EQ(records[i].state, L4LB_SESSION_RELAY);
        CHECK_EQ(records[i].listener, balancer.listener.slot);
        CHECK_EQ(records[i].pool, balancer.pool.slot);
        CHECK(records[i].backend == balancer.backends[0].slot || records[i].backend == balancer.backends[1].slot);
        CHECK_EQ(records[i].client.family, AF_INET);
        CHECK_EQ(records[i].bytes_in, 1);
        CHECK_EQ(records[i].bytes_out, 1);
        for (size_t j = 0; j < i; j++)
            CHECK(records[j].id != records[i].id);
        for (int j = 0; j < 40; j++) {
            struct sockaddr_in address;
            socklen_t len = sizeof address;
            (void)CHECK_SYS(getsockname(fds[j], (struct sockaddr *)&address, &len));
            found |= ntohs(address.sin_port) == records[i].client.port;
        }
        CHECK(found);
    }
    for (int i = 0; i < 40; i++)
        (void)close(fds[i]);
    balancer_fini(&balancer);
}

TEST(without_a_descriptor_left_sessions_are_listed_and_killed) {
    static struct balancer balancer;
    struct l4lb_session_record record[4];
    struct rlimit limit, none;
    int fd;

    balancer_echo(&balancer, &usual);
    fd = balancer_established(&balancer);
    CHECK_SYS(getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 1; /* poll(2) itself wants that many */
    CHECK_SYS(setrlimit(RLIMIT_NOFILE, &none));
    CHECK_EQ(list(&balancer, record, 4), 1);
    CHECK_OK(l4lb_kill_session(balancer.engine, record[0].id, WAIT_MS));
    CHECK_SYS(setrlimit(RLIMIT_NOFILE, &limit));
    (void)end_of(fd);
    (void)close(fd);
    balancer_fini(&balancer);
}

TEST(a_killed_session_ends_and_its_id_is_never_anyone_elses) {
    static struct balancer balancer;
    struct l4lb_session_record record[4];
    int victim, bystander;
    uint64_t id;

    balancer_echo(&balancer, &usual);
    victim = balancer_established(&balancer);
    CHECK_EQ(list(&balancer, record, 4), 1);
    id = record[0].id;
    bystander = balancer_established(&balancer);
    CHECK_OK(l4lb_kill_session(balancer.engine, id, WAIT_MS));
    (void)end_of(victim);
    (void)close(victim);
    check_echo(bystander);
    CHECK_EQ(balancer_closed(&balancer, L4LB_CLOSE_KILLED), 1);
    for (int i = 0; i < 20; i++) {
        int again = balancer_established(&balancer);
        CHECK_EQ(l4lb_kill_session(balancer.engine, id, WAIT_MS), -ENOENT);
        check_echo(again);
        (void)close(again);
    }
    CHECK_EQ(l4lb_kill_session(balancer.engine, UINT64_MAX, WAIT_MS), -ENOENT);
    CHECK_EQ(l4lb_kill_session(balancer.engine, 0, WAIT_MS), -ENOENT);
    (void)close(bystander);
    balancer_fini(&balancer);
}

/* Many that are quiet are closed bit by bit; those of a backend that stays are not. */
TEST(quiet_sessions_of_all_backends_that_are_left_go_and_no_other) {
    enum { SESSIONS = 10 * LB_DRAIN_BURST };
    static struct balancer balancer;
    static int fds[SESSIONS];
    uint32_t left[] = {0, 0};

    balancer_echo(&balancer, &usual);
    for (int i = 0; i < SESSIONS; i++)
        fds[i] = balancer_client(&balancer);
    left[0] = left[1] = balancer.backends[0].slot;
    UNTIL(balancer_backend(&balancer, 0).connections + balancer_backend(&balancer, 1).connections == SESSIONS);
    for (int i = 0; i < LB_DRAIN_IDLE_MS + 500; i++)
        rest_ms(1);
    CHECK_EQ(l4lb_set_draining(balancer.engine, left, 2, true, 0, WAIT_MS), SESSIONS / 2);
    UNTIL(balancer_backend(&balancer, 0).connections == 0);
    CHECK_EQ(balancer_backend(&balancer, 1).connections, SESSIONS / 2);
    CHECK_EQ(balancer_closed(&balancer, L4LB_CLOSE_DRAINED), SESSIONS / 2);
    CHECK_EQ(l4lb_set_draining(balancer.engine, left, 2, false, 0, WAIT_MS), 0);
    left[1] = UINT32_MAX;
    CHECK_EQ(l4lb_set_draining(balancer.engine, left, 2, true, 0, WAIT_MS), -EINVAL);
    for (int i = 0; i < SESSIONS; i++)
        (void)close(fds[i]);
    balancer_fini(&balancer);
}

TEST(killing_a_backend_ends_its_sessions_and_no_other) {
    static struct balancer balancer;
    int fds[20];

    balancer_echo(&balancer, &usual);
    for (int i = 0; i < 20; i++)
        fds[i] = balancer_established(&balancer);
    CHECK_EQ(balancer_backend(&balancer, 0).connections, 10);
    CHECK_EQ(l4lb_kill_backend(balancer.engine, balancer.backends[0].slot, L4LB_CLOSE_DRAINED, WAIT_MS), 10);
    CHECK_EQ(balancer_backend(&balancer, 0).connections, 0);
    CHECK_EQ(balancer_backend(&balancer, 1).connections, 10);
    CHECK_EQ(balancer_closed(&balancer, L4LB_CLOSE_DRAINED), 10);
    CHECK_EQ(l4lb_kill_backend(balancer.engine, balancer.backends[0].slot, L4LB_CLOSE_DRAINED, WAIT_MS), 0);
    /* Round robin: every second one. */
    for (int i = 0; i < 20; i++) {
        if (i % 2 == 0)
            (void)end_of(fds[i]);
        else
            check_echo(fds[i]);
        (void)close(fds[i]);
    }
    balancer_fini(&balancer);
}

struct killer {
    const struct balancer *balancer;
    const bool *stop;
    uint64_t killed;
};

static void *kill_all(void *arg) {
    struct killer *killer = arg;

    while (!__atomic_load_n(killer->stop, __ATOMIC_SEQ_CST)) {
        struct l4lb_session_record records[200];
        size_t n = list(killer->balancer, records, 200);
        for (size_t i = 0; i < n; i++) {
            int result = l4lb_kill_session(killer->balancer->engine, records[i].id, WAIT_MS);
            CHECK(result == 0 || result == -ENOENT);
            killer->killed += result == 0;
        }
    }
    return NULL;
}

/* A client that sends and reads until its session is ended under it. */
static void *suffer(void *arg) {
    const struct churn *churn = arg;
    static const uint8_t data[5000];

    for (int round = 0; round < churn->rounds; round++) {
        int fd = balancer_client(churn->balancer);
        uint8_t got[5000];
        while (send(fd, data, sizeof data, MSG_NOSIGNAL) > 0 && recv(fd, got, sizeof got, 0) > 0)
            ;
        (void)close(fd);
    }
    return NULL;
}

TEST(sessions_are_killed_from_two_threads_while_they_come_and_go) {
    static struct balancer balancer;
    static bool stop;
    struct killer killers[2] = {{.balancer = &balancer, .stop = &stop}, {.balancer = &balancer, .stop = &stop}};
    struct churn churns[3];
    pthread_t threads[3], killer_threads[2];

    __atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
    balancer_echo(&balancer, &usual);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&killer_threads[i], NULL, kill_all, &killers[i]), 0);
    for (int i = 0; i < 3; i++) {
        churns[i] = (struct churn){.balancer = &balancer, .rounds = 40};
        CHECK_EQ(pthread_create(&threads[i], NULL, suffer, &churns[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(killer_threads[i], NULL), 0);
    UNTIL(sessions_now(balancer.engine) == 0);
    CHECK(killers[0].killed + killers[1].killed >= 100);
    CHECK_EQ(balancer_closed(&balancer, L4LB_CLOSE_KILLED) + balancer_closed(&balancer, L4LB_CLOSE_KILLED_CONNECT),
             killers[0].killed + killers[1].killed);
    balancer_fini(&balancer);
}

TEST_MAIN()
