/* SPDX-License-Identifier: Apache-2.0 */
/* Clients beyond a limit wait in the backlog until there is capacity for them. */
#include "balancer.h"
#include "churn.h"

static void check_that_the_last_waits(struct balancer *balancer, int limit) {
    int fds[8];

    for (int i = 0; i < limit; i++)
        fds[i] = balancer_established(balancer);
    fds[limit] = balancer_client(balancer);
    CHECK_EQ(send(fds[limit], "x", 1, MSG_NOSIGNAL), 1);
    UNTIL(worker_stats(balancer->engine).accept_pauses_total > 0);
    CHECK(!readable(fds[limit], 0));
    CHECK_EQ(balancer_clients_total(balancer), limit);
    (void)close(fds[0]);
    CHECK(readable(fds[limit], WAIT_MS));
    for (int i = 1; i <= limit; i++)
        (void)close(fds[i]);
}

TEST(beyond_the_limit_of_a_listener_clients_wait_for_a_place) {
    static struct balancer balancer;

    balancer_echo(&balancer, &usual);
    balancer.listener.connections_max = 3;
    balancer_publish(&balancer);
    check_that_the_last_waits(&balancer, 3);
    balancer_fini(&balancer);
}

TEST(beyond_the_limit_of_the_process_clients_wait_for_a_place) {
    static struct balancer balancer;
    struct l4lb_options options = usual;

    options.sessions_max = 5;
    balancer_echo(&balancer, &options);
    check_that_the_last_waits(&balancer, 5);
    balancer_fini(&balancer);
}

TEST(clients_that_wait_for_a_place_all_get_one_in_time) {
    static struct balancer balancer;
    struct churn churns[6];
    pthread_t threads[6];

    balancer_echo(&balancer, &usual);
    balancer.listener.connections_max = 1;
    CHECK_OK(l4lb_publish(balancer.engine, &balancer.config));
    for (int i = 0; i < 6; i++) {
        churns[i] = (struct churn){.balancer = &balancer, .seed = (uint64_t)i, .rounds = 15};
        CHECK_EQ(pthread_create(&threads[i], NULL, churn, &churns[i]), 0);
    }
    for (int i = 0; i < 6; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(balancer_closed(&balancer, L4LB_CLOSE_NORMAL), 6 * 15);
    balancer_fini(&balancer);
}

TEST_MAIN()
