/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker - everything that one thread of the data plane owns: epoll, sessions, timers, counters.
 *
 * Owner:   the thread itself, but for the group marked shared.
 * Memory:  allocated at init, except for chunks of sessions, buffers of relays with a full sink, and pipes: all
 * bounded. Holds:   a snapshot pointer is used within one iteration only; `seen` tells the control thread which one.
 */
#ifndef LB_WORKER_H
#define LB_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/list.h"
#include "base/rng.h"
#include "config/snapshot.h"
#include "l4lb.h"
#include "relay/relay.h"
#include "session/scan.h"
#include "session/session_table.h"
#include "shared/counters.h"
#include "shared/events.h"
#include "shared/runtime.h"
#include "structures/timer.h"

struct lb_request;

struct lb_worker {
    uint32_t index;
    struct lb_runtime *runtime;
    int epoll_fd;
    struct lb_snapshot *snapshot; /* NULL before the first publication */
    struct lb_session_table sessions;
    struct lb_wheel wheel;
    struct lb_relay_env relay_env;
    struct lb_list ready;
    struct lb_list newcomers; /* the oldest first */
    struct lb_rng rng;
    uint64_t now_ns; /* CLOCK_MONOTONIC, read once an iteration */
    uint64_t now_ms;
    uint64_t iteration;
    uint32_t source_cursor;     /* which source address is next */
    uint64_t rest_until_ms;     /* the system refused a socket: accept no sooner */
    bool paused;                /* some listening socket is not watched */
    struct lb_waiting *granted; /* own sessions that their queues granted a try, in order */
    struct lb_request *request; /* in progress; NULL = none */
    struct lb_scan scan;        /* its progress */
    bool adopting;              /* a snapshot waits until the backlogs of sockets that it drops are empty */
    bool rejoining;             /* sessions are joining the stick tables of the new snapshot */
    struct lb_scan rejoin;      /* its progress */
    struct lb_counters counters;
    struct l4lb_worker_stats stats;
    pthread_t owner; /* the thread of its loop ... */
    bool owned;      /* ... while it runs */

    struct {
        pthread_t thread;
        int wake_fd; /* eventfd; any thread writes */
        struct lb_mailbox mailbox;
        struct lb_events events;                       /* the control thread's end is the consumer */
        _Alignas(LB_CACHE_LINE) _Atomic uint64_t seen; /* sequence of the snapshot in use */
        _Atomic(struct lb_request *) request;
    } cross; /* shared with other threads */
};

LB_MUST_CHECK int lb_worker_init(struct lb_worker *worker, uint32_t index, struct lb_runtime *runtime,
                                 const struct l4lb_options *options);
void lb_worker_fini(struct lb_worker *worker);

/* The first line of what only the worker's own thread may call. Before and after its loop runs, any thread may. */
#define LB_OWNER(worker) LB_ASSERT_HOT(!(worker)->owned || pthread_equal((worker)->owner, pthread_self()))

/* Once an iteration: everything within it has the same time. */
void lb_worker_read_clock(struct lb_worker *worker);

/* Any thread: wake the worker from its wait. */
void lb_worker_wake(struct lb_worker *worker);

/* Put a record into the event ring. Drops and counts it when the ring is full. */
void lb_worker_record(struct lb_worker *worker, const struct l4lb_session_record *record);

#endif
