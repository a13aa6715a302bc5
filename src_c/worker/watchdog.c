/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/watchdog.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bounds.h"
#include "base/clock.h"
#include "worker/thread.h"

static bool is_fresh(uint64_t at_ns, uint64_t now_ns, uint64_t limit_ms) {
    return at_ns >= now_ns || now_ns - at_ns < limit_ms * LB_NS_PER_MS;
}

bool lb_watchdog_is_content(const struct lb_watchdog *watchdog, uint64_t now_ns) {
    for (uint32_t i = 0; i < watchdog->n_workers; i++) {
        uint64_t at_ns = __atomic_load_n(&watchdog->workers[i].stats.heartbeat_ns, __ATOMIC_RELAXED);
        if (!is_fresh(at_ns, now_ns, LB_HEARTBEAT_MAX_MS))
            return false;
    }
    return is_fresh(atomic_load(&watchdog->control_ns), now_ns, watchdog->control_ms);
}

static bool notify(const struct lb_watchdog *watchdog) {
    static const char message[] = "WATCHDOG=1";
    ssize_t sent = sendto(watchdog->socket_fd, message, sizeof message - 1, MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)&watchdog->address, watchdog->address_len);
    return sent >= 0;
}

static void *run(void *argument) {
    struct lb_watchdog *watchdog = argument;
    struct pollfd stop = {.fd = watchdog->stop_fd, .events = POLLIN};
    uint64_t wait_ms;

    do {
        /* A worker that has just recovered, or a socket with room again, must not cost a whole interval. */
        bool notified = lb_watchdog_is_content(watchdog, lb_clock_ns()) && notify(watchdog);
        wait_ms = notified ? watchdog->interval_ms : LB_MAX(watchdog->interval_ms / 8, 1u);
    } while (poll(&stop, 1, (int)LB_MIN(wait_ms, (uint64_t)INT_MAX)) <= 0);
    return NULL;
}

static int open_all(struct lb_watchdog *watchdog) {
    watchdog->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watchdog->socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (watchdog->stop_fd == -1 || watchdog->socket_fd == -1)
        return -errno;
    return lb_thread_start(&watchdog->thread, "l4lb-watchdog", run, watchdog);
}

static void close_all(struct lb_watchdog *watchdog) {
    if (watchdog->stop_fd != -1)
        (void)close(watchdog->stop_fd);
    if (watchdog->socket_fd != -1)
        (void)close(watchdog->socket_fd);
}

int lb_watchdog_start(struct lb_watchdog *watchdog, const struct lb_runtime *runtime, const char *name, size_t length,
                      uint64_t interval_ms, uint64_t control_ms) {
    int result;

    if (watchdog->running)
        return -EALREADY;
    if (length == 0 || length > sizeof watchdog->address.sun_path || interval_ms == 0)
        return -EINVAL;
    *watchdog = (struct lb_watchdog){
        .workers = runtime->workers,
        .n_workers = runtime->n_workers,
        .interval_ms = interval_ms,
        .control_ms = control_ms,
        .address = {.sun_family = AF_UNIX},
        .address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length),
    };
    memcpy(watchdog->address.sun_path, name, length);
    lb_watchdog_control_works(watchdog);
    result = open_all(watchdog);
    watchdog->running = result == 0;
    if (result < 0)
        close_all(watchdog);
    return result;
}

void lb_watchdog_stop(struct lb_watchdog *watchdog) {
    uint64_t one = 1;

    if (!watchdog->running)
        return;
    (void)!write(watchdog->stop_fd, &one, sizeof one);
    (void)pthread_join(watchdog->thread, NULL);
    close_all(watchdog);
    watchdog->running = false;
}

void lb_watchdog_control_works(struct lb_watchdog *watchdog) { atomic_store(&watchdog->control_ns, lb_clock_ns()); }
