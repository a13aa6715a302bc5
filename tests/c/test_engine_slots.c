/* SPDX-License-Identifier: Apache-2.0 */
/* Slots under a running engine, which uses them in snapshots and sessions, and the numbers that belong to them. */
#include "balancer.h"

#include "base/bounds.h"
#include "base/count.h"
#include "session/worker.h"
#include "worker/engine.h"

TEST(a_slot_is_given_back_only_when_nothing_uses_it) {
    static struct balancer balancer;
    struct l4lb_backend_stats stats;
    uint32_t used, again;
    int fd;

    balancer_echo(&balancer, &usual);
    used = balancer.backends[0].slot;
    fd = balancer_established(&balancer);
    CHECK_EQ(balancer_backend(&balancer, 0).connections, 1);
    CHECK_EQ(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, used), -EBUSY);
    CHECK_EQ(l4lb_slot_give(balancer.engine, L4LB_SLOT_POOL, balancer.pool.slot), -EBUSY);
    CHECK_EQ(l4lb_slot_give(balancer.engine, L4LB_SLOT_LISTENER, balancer.listener.slot), -EBUSY);
    /* Out of the configuration, but a session is still on it. */
    balancer.pool.backends = &balancer.backends[1];
    balancer.pool.n_backends = 1;
    balancer_publish(&balancer);
    CHECK_EQ(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, used), -EBUSY);
    check_echo(fd);
    (void)close(fd);
    UNTIL(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, used) == 0);
    CHECK_EQ(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, used), -EINVAL);
    CHECK_EQ(l4lb_read_backend(balancer.engine, used, &stats), -EINVAL);
    /* The search goes round: a slot that was just given rests. Taken again, it starts from zero. */
    again = take_slot(balancer.engine, L4LB_SLOT_BACKEND);
    CHECK(again != used);
    while (again != used)
        again = take_slot(balancer.engine, L4LB_SLOT_BACKEND);
    CHECK_OK(l4lb_read_backend(balancer.engine, used, &stats));
    CHECK_EQ(stats.connections_total, 0);
    CHECK_EQ(stats.sent_bytes_total, 0);
    balancer_fini(&balancer);
}

TEST(a_pool_in_a_slot_that_was_used_before_begins_with_its_first_backend) {
    static struct balancer balancer;
    static const struct l4lb_config nothing;
    uint32_t used;
    int fd;

    balancer_echo(&balancer, &usual);
    used = balancer.pool.slot;
    fd = balancer_established(&balancer);
    (void)close(fd);
    UNTIL(sessions_now(balancer.engine) == 0);
    CHECK_EQ(balancer_backend(&balancer, 0).connections_total, 1);
    CHECK_OK(l4lb_publish(balancer.engine, &nothing));
    UNTIL(l4lb_reclaim(balancer.engine) == 0 && l4lb_slot_give(balancer.engine, L4LB_SLOT_POOL, used) == 0);
    while ((balancer.pool.slot = take_slot(balancer.engine, L4LB_SLOT_POOL)) != used)
        CHECK_OK(l4lb_slot_give(balancer.engine, L4LB_SLOT_POOL, balancer.pool.slot));
    CHECK_OK(l4lb_publish(balancer.engine, &balancer.config));
    fd = balancer_established(&balancer);
    CHECK_EQ(balancer_backend(&balancer, 0).connections_total, 2);
    (void)close(fd);
    balancer_fini(&balancer);
}

TEST(slots_end_when_all_are_taken_and_not_before) {
    static struct balancer balancer;
    int taken, n = BACKENDS;

    balancer_echo(&balancer, &usual);
    while ((taken = l4lb_slot_take(balancer.engine, L4LB_SLOT_BACKEND)) >= 0)
        n++;
    CHECK_EQ(taken, -ENOSPC);
    CHECK_EQ(n, LB_BACKEND_SLOTS);
    CHECK_OK(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, 77));
    CHECK_EQ(l4lb_slot_take(balancer.engine, L4LB_SLOT_BACKEND), 77);
    balancer_fini(&balancer);
}

/* Each slot has memory of its own once it was taken. */
TEST(slots_that_come_and_go_are_always_the_same_few) {
    static struct balancer balancer;

    balancer_echo(&balancer, &usual);
    for (uint32_t i = 0; i < LB_BACKEND_SLOTS; i++) {
        uint32_t one = take_slot(balancer.engine, L4LB_SLOT_BACKEND);
        CHECK(one < LB_SLOTS_REACH_MIN);
        CHECK_OK(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, one));
    }
    balancer_fini(&balancer);
}

TEST(pulses_of_many_backends_say_what_each_ones_numbers_say) {
    static struct balancer balancer;
    uint32_t slots[BACKENDS + 1];
    struct l4lb_backend_summary summaries[BACKENDS + 1];
    uint64_t answered = 0;

    balancer_echo(&balancer, &usual);
    for (int i = 0; i < 2 * BACKENDS; i++) {
        int fd = balancer_established(&balancer);
        check_echo(fd);
        (void)close(fd);
    }
    UNTIL(sessions_now(balancer.engine) == 0);
    for (int i = 0; i < BACKENDS; i++)
        slots[i] = balancer.backends[i].slot;
    CHECK_OK(l4lb_read_summaries(balancer.engine, slots, BACKENDS, summaries));
    for (int i = 0; i < BACKENDS; i++) {
        struct l4lb_backend_stats stats = balancer_backend(&balancer, i);
        CHECK_EQ(summaries[i].received_bytes_total, stats.received_bytes_total);
        CHECK_EQ(summaries[i].turns_total, stats.turns_total);
        CHECK_EQ(summaries[i].responded_total, stats.connections_total);
        CHECK_EQ(summaries[i].failures_total, 0);
        CHECK_EQ(summaries[i].busy, 0);
        answered += summaries[i].responded_total;
    }
    CHECK_EQ(answered, 2 * BACKENDS);
    slots[BACKENDS] = UINT32_MAX;
    CHECK_EQ(l4lb_read_summaries(balancer.engine, slots, BACKENDS + 1, summaries), -EINVAL);
    CHECK_OK(l4lb_read_summaries(balancer.engine, NULL, 0, NULL));
    balancer_fini(&balancer);
}

TEST(a_backend_is_cold_until_its_slot_is_given_back) {
    static struct balancer balancer;
    struct l4lb_backend_summary summaries[2];
    uint32_t slots[3], slot;

    balancer_echo(&balancer, &usual);
    slots[0] = take_slot(balancer.engine, L4LB_SLOT_BACKEND);
    slots[1] = balancer.backends[0].slot;
    CHECK_OK(l4lb_set_cold(balancer.engine, slots, 2, 3));
    CHECK_OK(l4lb_read_summaries(balancer.engine, slots, 2, summaries));
    CHECK_EQ(summaries[0].cold_left, 3);
    CHECK_EQ(summaries[1].cold_left, 3);
    slots[2] = UINT32_MAX;
    CHECK_EQ(l4lb_set_cold(balancer.engine, slots, 3, 7), -EINVAL);
    CHECK_OK(l4lb_set_cold(balancer.engine, NULL, 0, 7));
    CHECK_OK(l4lb_read_summaries(balancer.engine, slots, 2, summaries));
    CHECK_EQ(summaries[0].cold_left, 3);
    CHECK_OK(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, slots[0]));
    while ((slot = take_slot(balancer.engine, L4LB_SLOT_BACKEND)) != slots[0])
        CHECK_OK(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, slot));
    CHECK_OK(l4lb_read_summaries(balancer.engine, slots, 1, summaries));
    CHECK_EQ(summaries[0].cold_left, 0);
    balancer_fini(&balancer);
}

TEST(a_summary_adds_up_responses_and_counts_those_of_5xx) {
    static struct balancer balancer;
    struct l4lb_backend_summary summary;

    balancer_echo(&balancer, &usual);
    for (uint64_t class = 0; class < L4LB_N_STATUS_CLASS; class ++) {
        uint64_t *count = &balancer.engine->runtime.workers[class % WORKERS]
                               .counters.backends[balancer.backends[0].slot]
                               .responses[class];
        lb_count_add(count, 1 + 10 * class);
    }
    CHECK_OK(l4lb_read_summaries(balancer.engine, &balancer.backends[0].slot, 1, &summary));
    CHECK_EQ(summary.responses_total, 6 + 10 * 15);
    CHECK_EQ(summary.server_errors_total, 41);
    balancer_fini(&balancer);
}

TEST_MAIN()
