/* SPDX-License-Identifier: Apache-2.0 */
/* An event is announced whenever the control thread is about to sleep. A thread of the test plays the worker. */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include "session/worker.h"
#include "worker/engine.h"

enum { EVENTS = 100000, LOST_MS = 3000 };

struct played {
    struct lb_worker *worker;
    uint64_t taken; /* atomic: events the control thread has */
};

static void *record_one_after_the_other(void *arg) {
    struct played *played = arg;
    struct check_random random = {91};

    for (uint64_t id = 1; id <= EVENTS; id++) {
        struct l4lb_session_record record = {.id = id};
        while (__atomic_load_n(&played->taken, __ATOMIC_ACQUIRE) != id - 1)
            ;
        /* Some time later, from at once to longer than the control thread needs to go to sleep. */
        for (volatile uint32_t i = check_random_below(&random, 3000); i > 0; i--)
            ;
        lb_worker_record(played->worker, &record);
    }
    return NULL;
}

TEST(no_event_is_left_lying_while_the_control_thread_sleeps) {
    static const struct l4lb_options options = {.n_workers = 1, .sessions_max = 1, .events_cap = 4};
    struct played played = {.taken = 0};
    struct l4lb_engine *engine;
    struct pollfd announced = {.events = POLLIN};
    pthread_t thread;

    CHECK_OK(l4lb_engine_new(&options, &engine));
    played.worker = &engine->runtime.workers[0];
    announced.fd = l4lb_event_fd(engine);
    CHECK_EQ(pthread_create(&thread, NULL, record_one_after_the_other, &played), 0);
    while (played.taken < EVENTS) {
        struct l4lb_session_record records[4];
        int n = l4lb_take_events(engine, records, 4);
        if (n == 0)
            CHECK_EQ(poll(&announced, 1, LOST_MS), 1);
        else
            __atomic_store_n(&played.taken, played.taken + (uint64_t)n, __ATOMIC_RELEASE);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    l4lb_engine_free(engine);
}

TEST_MAIN()
