/* SPDX-License-Identifier: Apache-2.0 */
#include "session/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bounds.h"
#include "base/clock.h"
#include "base/count.h"
#include "kernel/poll_tag.h"

int lb_worker_init(struct lb_worker *worker, uint32_t index, struct lb_runtime *runtime,
                   const struct l4lb_options *options) {
    struct lb_poll_tag tag = {.kind = LB_POLL_WAKE};
    int result;

    memset(worker, 0, sizeof *worker);
    worker->index = index;
    worker->runtime = runtime;
    worker->cross.wake_fd = -1;
    lb_list_init(&worker->ready);
    lb_list_init(&worker->newcomers);
    lb_list_init(&worker->relay_env.with_pipe);
    lb_list_init(&worker->relay_env.with_lowat);
    worker->relay_env.stats = &worker->stats;
    lb_pipe_pool_init(&worker->relay_env.pipes, options->pipes_max, options->pipe_bytes, &worker->stats);
    lb_rng_init(&worker->rng, lb_clock_wall_ns() * (2ull * index + 1));
    lb_worker_read_clock(worker);
    lb_wheel_init(&worker->wheel, worker->now_ms);

    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->cross.wake_fd = worker->cross.mailbox.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    runtime->wake_fds[index] = worker->cross.wake_fd;
    if (worker->epoll_fd == -1 || worker->cross.wake_fd == -1) {
        result = -errno;
        goto fail;
    }
    /* Edge-triggered: every write wakes the worker, and the eventfd is never read. */
    result = lb_poll_add(worker->epoll_fd, worker->cross.wake_fd, EPOLLIN | EPOLLET, tag);
    if (result == 0)
        result = lb_session_table_init(&worker->sessions, options->sessions_max);
    if (result == 0)
        result = lb_events_init(&worker->cross.events, options->events_cap);
    if (result == 0)
        result = lb_counters_init(&worker->counters);
    if (result < 0)
        goto fail;
    result = -ENOMEM;
    worker->relay_env.scratch = malloc(LB_COPY_BYTES);
    if (worker->relay_env.scratch == NULL)
        goto fail;
    return 0;
fail:
    lb_worker_fini(worker);
    return result;
}

void lb_worker_fini(struct lb_worker *worker) {
    lb_session_table_fini(&worker->sessions);
    lb_pipe_pool_fini(&worker->relay_env.pipes);
    lb_buffer_pool_fini(&worker->relay_env.buffers);
    lb_events_fini(&worker->cross.events);
    lb_counters_fini(&worker->counters);
    free(worker->relay_env.scratch);
    worker->relay_env.scratch = NULL;
    if (worker->epoll_fd != -1)
        (void)close(worker->epoll_fd);
    if (worker->cross.wake_fd != -1)
        (void)close(worker->cross.wake_fd);
    worker->epoll_fd = worker->cross.wake_fd = -1;
}

void lb_worker_read_clock(struct lb_worker *worker) {
    worker->now_ns = lb_clock_ns();
    worker->now_ms = worker->now_ns / LB_NS_PER_MS;
    worker->relay_env.now_ms = worker->now_ms;
    __atomic_store_n(&worker->stats.heartbeat_ns, worker->now_ns, __ATOMIC_RELAXED);
}

void lb_worker_record(struct lb_worker *worker, const struct l4lb_session_record *record) {
    uint64_t one = 1;

    LB_OWNER(worker);
    if (!lb_events_push(&worker->cross.events, record)) {
        lb_count_add(&worker->stats.events_dropped_total, 1);
        return;
    }
    if (atomic_load(&worker->runtime->event_armed) && atomic_exchange(&worker->runtime->event_armed, false))
        (void)!write(worker->runtime->event_fd, &one, sizeof one);
}

void lb_worker_wake(struct lb_worker *worker) { lb_runtime_wake(worker->runtime, worker->index); }
