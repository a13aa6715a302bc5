/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watchdog - tells the service manager again and again that the data plane works, see sd_notify(3).
 *
 * It is a thread of its own, so that it depends neither on a worker nor on the control plane. It sends its message as
 * long as every worker has had an iteration lately. The control plane may stand still for much longer: sessions go on
 * without it, and the restart that follows a missing message would end all of them.
 *
 * Owner:   the control thread starts and stops it; any thread may say that the control plane works.
 * Memory:  a part of the engine; it holds two descriptors while it runs.
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
    uint64_t control_ms;         /* for which the control plane may stand still */
    _Atomic uint64_t control_ns; /* when it last said that it works, CLOCK_MONOTONIC */
    struct sockaddr_un address;
    socklen_t address_len;
    int socket_fd;
    int stop_fd; /* eventfd, written to stop the thread */
    pthread_t thread;
    bool running;
};

/* Send to the unix datagram socket of this name, of which an abstract one begins with a NUL. */
LB_MUST_CHECK int lb_watchdog_start(struct lb_watchdog *watchdog, const struct lb_runtime *runtime, const char *name,
                                    size_t length, uint64_t interval_ms, uint64_t control_ms);
/* Send nothing any more. Idempotent. */
void lb_watchdog_stop(struct lb_watchdog *watchdog);

void lb_watchdog_control_works(struct lb_watchdog *watchdog);

/* Whether there is nothing to restart for. */
bool lb_watchdog_is_content(const struct lb_watchdog *watchdog, uint64_t now_ns);

#endif
