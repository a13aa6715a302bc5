/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <sched.h>

#include "shared/events.h"

/* The id is spread over several fields, so that a record read while it is written does not add up. */
static struct l4lb_session_record record_of(uint64_t id) {
    return (struct l4lb_session_record){.id = id, .backend = (uint32_t)id, .bytes_in = ~id, .idle_us = id * 3};
}

static bool is_whole(const struct l4lb_session_record *record) {
    return record->backend == (uint32_t)record->id && record->bytes_in == ~record->id &&
           record->idle_us == record->id * 3;
}

static bool push(struct lb_events *events, uint64_t id) {
    struct l4lb_session_record record = record_of(id);
    return lb_events_push(events, &record);
}

TEST(records_come_out_in_order_and_a_full_ring_takes_no_more) {
    struct check_random random = {51};
    struct lb_events events;
    uint64_t pushed = 0, popped = 0;

    CHECK_OK(lb_events_init(&events, 8));
    for (int step = 0; step < 20000; step++) {
        struct l4lb_session_record record;
        if (check_random_below(&random, 2)) {
            CHECK_EQ(push(&events, pushed), pushed - popped < 8);
            pushed += pushed - popped < 8;
        } else {
            CHECK_EQ(lb_events_pop(&events, &record), popped < pushed);
            if (popped < pushed) {
                CHECK_EQ(record.id, popped++);
                CHECK(is_whole(&record));
            }
        }
    }
    CHECK(pushed > 1000);
    lb_events_fini(&events);
}

TEST(the_indices_may_wrap) {
    struct lb_events events;
    struct l4lb_session_record record;

    CHECK_OK(lb_events_init(&events, 4));
    atomic_store(&events.head, UINT32_MAX - 1);
    atomic_store(&events.tail, UINT32_MAX - 1);
    for (uint64_t i = 0; i < 4; i++)
        CHECK(push(&events, i));
    CHECK(!push(&events, 4));
    for (uint64_t i = 0; i < 4; i++) {
        CHECK(lb_events_pop(&events, &record));
        CHECK_EQ(record.id, i);
    }
    CHECK(!lb_events_pop(&events, &record));
    lb_events_fini(&events);
}

TEST(a_ring_of_one_holds_one) {
    struct lb_events events;
    struct l4lb_session_record record;

    CHECK_OK(lb_events_init(&events, 1));
    CHECK(push(&events, 7));
    CHECK(!push(&events, 8));
    CHECK(lb_events_pop(&events, &record));
    CHECK_EQ(record.id, 7);
    CHECK(push(&events, 9));
    lb_events_fini(&events);
}

TEST(a_capacity_that_is_no_power_of_two_is_refused) {
    struct lb_events events;

    CHECK_EQ(lb_events_init(&events, 0), -EINVAL);
    CHECK_EQ(lb_events_init(&events, 3), -EINVAL);
    CHECK_EQ(lb_events_init(&events, 1000), -EINVAL);
}

enum { PASSED = 200000 };

static void *produce(void *arg) {
    struct lb_events *events = arg;

    for (uint64_t id = 0; id < PASSED;) {
        if (push(events, id))
            id++;
        else
            (void)sched_yield();
    }
    return NULL;
}

TEST(two_threads_pass_every_record_whole_and_in_order) {
    struct lb_events events;
    pthread_t producer;

    CHECK_OK(lb_events_init(&events, 64));
    CHECK_EQ(pthread_create(&producer, NULL, produce, &events), 0);
    for (uint64_t id = 0; id < PASSED;) {
        struct l4lb_session_record record;
        if (!lb_events_pop(&events, &record)) {
            (void)sched_yield();
            continue;
        }
        CHECK_EQ(record.id, id++);
        CHECK(is_whole(&record));
    }
    CHECK_EQ(pthread_join(producer, NULL), 0);
    lb_events_fini(&events);
}

TEST_MAIN()
