/* SPDX-License-Identifier: Apache-2.0 */
/* What the service manager hears: as long as workers work, whatever the control plane does. */
#include "check.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/bounds.h"
#include "base/clock.h"
#include "worker/watchdog.h"

enum { WORKERS = 2, CONTROL_MS = 300 * 1000 };

static struct lb_worker workers[WORKERS];
static struct lb_runtime runtime = {.workers = workers, .n_workers = WORKERS};

/* The socket of a manager, with a name that the kernel chose; `name` begins with a NUL. */
static int manager(char *name, size_t *length) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t address_len = sizeof address;
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &address_len), 0);
    *length = address_len - offsetof(struct sockaddr_un, sun_path);
    memcpy(name, address.sun_path, *length);
    return fd;
}

static void work(uint64_t now_ns) {
    for (int i = 0; i < WORKERS; i++)
        __atomic_store_n(&workers[i].stats.heartbeat_ns, now_ns, __ATOMIC_RELAXED);
}

static void hear(int fd) {
    char message[64];
    struct pollfd heard = {.fd = fd, .events = POLLIN};

    CHECK_EQ(poll(&heard, 1, 10000), 1);
    CHECK_EQ(recv(fd, message, sizeof message, 0), 10);
    CHECK_EQ(memcmp(message, "WATCHDOG=1", 10), 0);
}

TEST(messages_come_while_workers_work_and_end_with_a_stop) {
    struct lb_watchdog watchdog = {0};
    char name[108];
    size_t length;
    int fd = manager(name, &length);

    work(lb_clock_ns());
    CHECK_EQ(lb_watchdog_start(&watchdog, &runtime, name, length, 1, CONTROL_MS), 0);
    CHECK_EQ(lb_watchdog_start(&watchdog, &runtime, name, length, 1, CONTROL_MS), -EALREADY);
    for (int i = 0; i < 20; i++)
        hear(fd);
    lb_watchdog_stop(&watchdog);
    lb_watchdog_stop(&watchdog);
    close(fd);
}

TEST(a_worker_that_is_stuck_is_not_covered_up_and_one_that_comes_back_is_told_of) {
    struct lb_watchdog watchdog = {0};
    uint64_t now = lb_clock_ns();
    char name[108];
    size_t length;
    int fd = manager(name, &length);

    work(now - (LB_HEARTBEAT_MAX_MS + 1) * LB_NS_PER_MS);
    CHECK_EQ(lb_watchdog_start(&watchdog, &runtime, name, length, 8, CONTROL_MS), 0);
    usleep(50 * 1000);
    CHECK_EQ(recv(fd, name, sizeof name, MSG_DONTWAIT), -1);
    work(lb_clock_ns());
    hear(fd);
    lb_watchdog_stop(&watchdog);
    close(fd);
}

TEST(a_manager_that_takes_nothing_for_a_while_hears_of_it_later) {
    struct lb_watchdog watchdog = {0};
    char name[108];
    size_t length;
    int fd = manager(name, &length), blocked;
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, name, length);
    blocked = socket(AF_UNIX, SOCK_DGRAM, 0);
    while (sendto(blocked, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&address,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 1) {
    }
    work(lb_clock_ns());
    CHECK_EQ(lb_watchdog_start(&watchdog, &runtime, name, length, 8, CONTROL_MS), 0);
    while (recv(fd, address.sun_path, 1, MSG_DONTWAIT) == 1 && address.sun_path[0] == 'x') {
    }
    hear(fd);
    lb_watchdog_stop(&watchdog);
    close(blocked);
    close(fd);
}

TEST(each_worker_counts_and_the_control_plane_for_longer) {
    struct lb_watchdog watchdog = {.workers = workers, .n_workers = WORKERS, .control_ms = CONTROL_MS};
    const uint64_t start = 1000 * LB_NS_PER_S, worker = LB_HEARTBEAT_MAX_MS * LB_NS_PER_MS,
                   control = CONTROL_MS * LB_NS_PER_MS;

    work(start);
    watchdog.control_ns = start;
    CHECK(lb_watchdog_is_content(&watchdog, start));
    CHECK(lb_watchdog_is_content(&watchdog, start + worker - 1));
    CHECK(!lb_watchdog_is_content(&watchdog, start + worker));
    workers[0].stats.heartbeat_ns = start + worker;
    CHECK(!lb_watchdog_is_content(&watchdog, start + worker));
    work(start + control);
    CHECK(lb_watchdog_is_content(&watchdog, start + control - 1));
    CHECK(!lb_watchdog_is_content(&watchdog, start + control));
    lb_watchdog_control_works(&watchdog);
    watchdog.control_ns = start + 1;
    CHECK(lb_watchdog_is_content(&watchdog, start + control));
    /* A sign that is newer than the look is no reason to wrap around. */
    work(start + control + 1);
    CHECK(lb_watchdog_is_content(&watchdog, start + control));
}

TEST(a_name_that_is_none_is_refused) {
    struct lb_watchdog watchdog = {0};
    char name[109] = "/run";

    CHECK_EQ(lb_watchdog_start(&watchdog, &runtime, name, 0, 1, CONTROL_MS), -EINVAL);
    CHECK_EQ(lb_watchdog_start(&watchdog, &runtime, name, sizeof name, 1, CONTROL_MS), -EINVAL);
    CHECK_EQ(lb_watchdog_start(&watchdog, &runtime, name, 4, 0, CONTROL_MS), -EINVAL);
    lb_watchdog_stop(&watchdog);
}

TEST_MAIN()
