/* SPDX-License-Identifier: Apache-2.0 */
/* The events of sessions, from the loop that records them to the thread that takes them. */
#include "balancer.h"

TEST(every_session_is_announced_when_it_opens_and_when_it_closes) {
    enum { SESSIONS = 20 };
    static struct balancer balancer;
    struct l4lb_session_record records[2 * SESSIONS];
    int fd, taken = 0;
    uint32_t opens = 0, closes = 0;

    balancer_echo(&balancer, &usual);
    for (int i = 0; i < SESSIONS; i++) {
        fd = balancer_established(&balancer);
        (void)close(fd);
    }
    while (taken < 2 * SESSIONS) {
        CHECK(readable(l4lb_event_fd(balancer.engine), WAIT_MS));
        taken += l4lb_take_events(balancer.engine, records + taken, (size_t)(2 * SESSIONS - taken));
    }
    for (int i = 0; i < taken; i++) {
        opens += records[i].event == L4LB_EVENT_OPEN;
        closes += records[i].event == L4LB_EVENT_CLOSE;
        if (records[i].event != L4LB_EVENT_CLOSE)
            continue;
        CHECK_EQ(records[i].close, L4LB_CLOSE_NORMAL);
        CHECK_EQ(records[i].bytes_in, 1);
        CHECK_EQ(records[i].bytes_out, 1);
        CHECK(records[i].connect_us <= records[i].first_byte_us);
        CHECK(records[i].first_byte_us <= records[i].duration_us);
        /* Its opening came before. */
        for (int j = 0;; j++) {
            CHECK(j < i);
            if (records[j].id == records[i].id && records[j].event == L4LB_EVENT_OPEN)
                break;
        }
    }
    CHECK_EQ(opens, SESSIONS);
    CHECK_EQ(closes, SESSIONS);
    balancer_fini(&balancer);
}

TEST(events_that_nobody_takes_are_dropped_and_counted) {
    enum { SESSIONS = 20 };
    static struct balancer balancer;
    struct l4lb_options options = usual;
    struct l4lb_session_record records[100];
    uint64_t dropped = 0;

    options.events_cap = 2;
    balancer_echo(&balancer, &options);
    for (int i = 0; i < SESSIONS; i++)
        (void)close(balancer_established(&balancer));
    UNTIL(balancer_closed(&balancer, L4LB_CLOSE_NORMAL) == SESSIONS && sessions_now(balancer.engine) == 0);
    l4lb_engine_stop(balancer.engine);
    dropped = worker_stats(balancer.engine).events_dropped_total;
    CHECK_EQ((uint64_t)l4lb_take_events(balancer.engine, records, 100) + dropped, 2 * SESSIONS);
    CHECK(dropped >= 2 * SESSIONS - 2 * WORKERS);
    balancer_fini(&balancer);
}

TEST_MAIN()
