/* SPDX-License-Identifier: Apache-2.0 */
#include "lone.h"

#include <poll.h>
#include <sys/eventfd.h>

enum { EVENTS = 64 };

static const struct l4lb_options options = {
    .n_workers = 1, .sessions_max = 10, .pipes_max = 1, .pipe_bytes = 65536, .events_cap = EVENTS};

static struct lone lone;

static int highest_fd(void) {
    int fd = CHECK_SYS(dup(STDERR_FILENO));

    (void)close(fd);
    return fd;
}

TEST(a_worker_that_is_not_begun_gives_everything_back) {
    int before = highest_fd();

    lone_init(&lone);
    lone_fini(&lone);
    CHECK_EQ(highest_fd(), before);
}

TEST(init_without_descriptors_fails_and_leaves_nothing) {
    struct lb_runtime runtime = {.sessions_max = 10};
    struct lb_worker worker;
    struct rlimit before, few;
    int result, fd = highest_fd();

    CHECK_SYS(getrlimit(RLIMIT_NOFILE, &before));
    few = before;
    few.rlim_cur = (rlim_t)fd + 1; /* for the epoll, and not for the eventfd */
    CHECK_SYS(setrlimit(RLIMIT_NOFILE, &few));
    result = lb_worker_init(&worker, 0, &runtime, &options);
    CHECK_SYS(setrlimit(RLIMIT_NOFILE, &before));
    CHECK_EQ(result, -EMFILE);
    CHECK_EQ(highest_fd(), fd);
}

TEST(a_record_too_many_is_dropped_and_counted) {
    struct l4lb_session_record record = {.id = 1};

    lone_init(&lone);
    for (int i = 0; i < EVENTS + 5; i++)
        lb_worker_record(&lone.worker, &record);
    CHECK_EQ(lone.worker.stats.events_dropped_total, 5);
    lone_fini(&lone);
}

TEST(a_record_wakes_the_control_thread_once_when_it_asked_for_it) {
    struct l4lb_session_record record = {.id = 1};
    struct pollfd control = {.events = POLLIN};

    lone_init(&lone);
    control.fd = lone.runtime.event_fd = CHECK_SYS(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    lb_worker_record(&lone.worker, &record);
    CHECK_EQ(CHECK_SYS(poll(&control, 1, 0)), 0);
    atomic_store(&lone.runtime.event_armed, true);
    for (int i = 0; i < 3; i++)
        lb_worker_record(&lone.worker, &record);
    CHECK_EQ(CHECK_SYS(poll(&control, 1, 0)), 1);
    CHECK(!atomic_load(&lone.runtime.event_armed));
    CHECK_EQ(CHECK_SYS(read(control.fd, &(uint64_t){0}, sizeof(uint64_t))), sizeof(uint64_t));
    CHECK_EQ(CHECK_SYS(poll(&control, 1, 0)), 0);
    (void)close(control.fd);
    lone_fini(&lone);
}

TEST(each_iteration_of_the_loop_is_a_heartbeat) {
    uint64_t before;

    lone_init(&lone);
    before = lone.worker.stats.heartbeat_ns;
    lone_iterate(&lone);
    CHECK(lone.worker.stats.heartbeat_ns > before);
    CHECK_EQ(lone.worker.now_ms, lone.worker.now_ns / 1000000);
    lone_fini(&lone);
}

TEST_MAIN()
