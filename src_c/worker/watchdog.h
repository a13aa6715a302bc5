/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watchdog - keeps telling the service manager that the data plane works, see sd_notify(3).
 *
 * It runs in a thread of its own, so that it depends neither on a worker nor on the control plane. It sends its message
 * while every worker has had an iteration lately. The control plane may stall for much longer: sessions go on without
 * it, and the restart that follows a missing message would end all of them.
 *
 * Owner:   the control thread starts and stops it; any thread may report that the control plane works.
 * Memory:  part of the engine; it holds two descriptors while it runs.
 * Errors:  -errno. A message that the manager does not take is sent again soon.
 */
#ifndef LB_WATCHDOG_H
#define LB_WATCHDOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "session/worker.h"

struct lb_watchdog {
    const struct lb_worker *workers;
    uint32_t n_workers;
    uint64_t interval_ms;        /* between two messages */
    uint64_t control_ms;         /* the control plane may stall for this long */
    _Atomic uint64_t control_ns; /* when the control plane last reported, CLOCK_MONOTONIC */
    struct sockaddr_un address;
    socklen_t address_len;
    int socket_fd;
    int stop_fd; /* eventfd, written to stop the thread */
    pthread_t thread;
    bool running;
};

/* Send to this unix datagram socket; an abstract name begins with a NUL. */
LB_MUST_CHECK int lb_watchdog_start(struct lb_watchdog *watchdog, const struct lb_runtime *runtime, const char *name,
                                    size_t length, uint64_t interval_ms, uint64_t control_ms);
/* Stop sending. Idempotent. */
void lb_watchdog_stop(struct lb_watchdog *watchdog);

void lb_watchdog_control_works(struct lb_watchdog *watchdog);

/* True while every worker and the control plane work. */
bool lb_watchdog_is_content(const struct lb_watchdog *watchdog, uint64_t now_ns);

#endif
