/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounds - every limit of the data plane, in one place, with its reason.
 */
#ifndef LB_BOUNDS_H
#define LB_BOUNDS_H

enum {
    /* Workers are bits of one 64-bit mask of paused workers, and 6 bits of a session id. */
    LB_WORKERS_MAX = 64,

    /* Address space is reserved for this many slots; memory is used only for slots that are taken. */
    LB_LISTENER_SLOTS = 1 << 14,
    LB_POOL_SLOTS = 1 << 14,
    LB_BACKEND_SLOTS = 1 << 16,

    /* The search for a free slot covers at least this many, so that a released slot rests before it is used again. */
    LB_SLOTS_REACH_MIN = 256,

    /* A session id has 52 bits, so that every JSON parser reads it exactly. */
    LB_SESSION_INDEX_BITS = 20,
    LB_SESSION_GENERATION_BITS = 26,
    LB_SESSIONS_PER_WORKER_MAX = 1 << LB_SESSION_INDEX_BITS,

    /* epoll events handled in one iteration of the loop. */
    LB_POLL_BATCH = 256,

    /* Relays resumed after they used up their budget, timers expired, and queued sessions granted, in one iteration. */
    LB_READY_BURST = 64,
    LB_EXPIRE_BURST = 64,
    LB_GRANTS_BURST = 64,

    /* Sessions that a scan (scan.h) looks at in one iteration. Closing one costs as much as LB_SCAN_ACT_LOOKS looks: at
     * most 32 are closed, which takes about two milliseconds. */
    LB_SCAN_LOOKS = 2048,
    LB_SCAN_ACT_LOOKS = 64,

    /* Clients accepted from one socket in one iteration, at most. The burst doubles up to this while the backlog does
     * not run empty. */
    LB_ACCEPT_BURST_MAX = 16,

    /* Clients accepted from a socket before it is removed: a full backlog (net.core.somaxconn is 4,096), and as many
     * that came meanwhile. LB_LAST_BURST_PART of them in one iteration. */
    LB_LAST_BURST_MAX = 8192,
    LB_LAST_BURST_PART = 32,

    /* Clients that have not yet sent their PROXY header or server name may hold one in LB_NEWCOMERS_SHARE of the
     * sessions of the process, but always LB_NEWCOMERS_MIN. */
    LB_NEWCOMERS_SHARE = 4,
    LB_NEWCOMERS_MIN = 4,

    /* After the kernel refused a socket for lack of descriptors or memory, a worker accepts no client for this long. */
    LB_ACCEPT_REST_MS = 100,

    /* Size of a read on the copy path, and so the most bytes ever held for a slow sink. */
    LB_COPY_BYTES = 32 * 1024,

    /* Free buffers that a worker keeps for the next slow sink. */
    LB_BUFFERS_KEPT = 32,

    /* A relay that moved this much in one iteration yields to other sessions. */
    LB_RELAY_BUDGET_BYTES = 1 << 20,

    /* After this many full reads in a row on the copy path, a direction counts as bulk and is spliced. */
    LB_BULK_READS = 2,
    /* The rest of a body whose length is known is spliced at once if it is as long as this. */
    LB_BULK_KNOWN_BYTES = LB_COPY_BYTES,
    /* After such a body another one is expected: the read that finds its head takes no more than this of it. */
    LB_BULK_HEAD_BYTES = 4096,

    /* Splicing ends after LB_SMALL_SPLICES reads in a row that are shorter than LB_SMALL_SPLICE_BYTES. */
    LB_SMALL_SPLICE_BYTES = 4096,
    LB_SMALL_SPLICES = 4,

    /* A source that was spliced for LB_BULK_RUN_MS without a pause, and fast enough, wakes the worker only for
     * LB_BULK_LOWAT bytes at once, or after LB_BULK_IDLE_MS without bytes. The tail of a run waits that long, so a run
     * is made much longer. */
    LB_BULK_RUN_MS = 20,
    LB_BULK_LOWAT = 256 * 1024,
    LB_BULK_IDLE_MS = 2,
    /* An idle direction gives its pipe back after this long. */
    LB_PIPE_IDLE_MS = 50,

    /* How long a response must be silent to count as complete: before its own pace is known; at least; and at most, so
     * that a pause in a stream does not keep its backend busy for long. */
    LB_SILENCE_FIRST_MS = 250,
    LB_SILENCE_MIN_MS = 25,
    LB_SILENCE_MAX_MS = 1000,

    /* The same after a piece that never ends a response: what follows is a first token from behind a long queue, or
     * comes from a backend that hung and recovered. */
    LB_SILENCE_NOT_LAST_MS = 60000,

    /* A drain closes a session that was idle for this long. A shorter silence may be a pause of a stream. */
    LB_DRAIN_IDLE_MS = 1000,
    /* The same if the end of the response is in doubt: it was not recognised, though the pool's ends normally are, or
     * the response has only had a few bytes. */
    LB_DRAIN_DOUBT_MS = 15000,
    /* The same after a stream, where nothing distinguishes a pause from the end. */
    LB_DRAIN_STREAM_MS = 5000,
    /* A client that sends its next request at once is never idle for that long. Once a drain is LB_DRAIN_SOON_AFTER_MS
     * old, LB_DRAIN_SOON_MS suffices if the last piece looks like the end of a response; if that is certain, no silence
     * is needed. */
    LB_DRAIN_SOON_AFTER_MS = 5000,
    LB_DRAIN_SOON_MS = 100,
    /* Later on LB_DRAIN_LATE_MS suffices even without such a sign, for sessions with at least LB_DRAIN_BUSY_TURNS. */
    LB_DRAIN_LATE_AFTER_MS = 15000,
    LB_DRAIN_LATE_MS = 10,
    LB_DRAIN_BUSY_TURNS = 8,
    /* A response that has come in pieces shorter than LB_BULK_PIECE_BYTES for LB_PACED_MS is a stream: it may pause
     * anywhere. */
    LB_BULK_PIECE_BYTES = 4096,
    LB_PACED_MS = 96,
    LB_PACE_TICK_MS = 16,
    /* When a backend begins to drain, a worker closes this many of its idle sessions in each millisecond, so that
     * sessions with a turn in flight do not wait for all of them. */
    LB_DRAIN_BURST = 32,

    /* A session that l4lb closes sends its FINs and reads on for this long after the client has acknowledged
     * everything: bytes that the client sent meanwhile may still be on their way, perhaps sent again after a loss. */
    LB_LINGER_MS = 2000,
    /* A drained session whose client has not taken everything is looked at again after this long, at the earliest. */
    LB_DELIVERY_LOOK_MS = 20,
    /* When the engine stops, clients have this long to take what was sent to them. */
    LB_STOP_MS = 1000,

    /* Without samples, the average latency of a backend halves in this time. */
    LB_LATENCY_HALF_MS = 5000,

    /* Shorter reads neither begin a request during a response nor resume a response that was complete. */
    LB_NOISE_BYTES = 64,

    /* Requests without a response that an exchange keeps apart. A client that pipelines more of them gains little from
     * being balanced. */
    LB_OUTSTANDING_MAX = 16,
    /* A request is kept to be sent again only up to this size: what one buffer of a relay holds. */
    LB_RESEND_BYTES_MAX = LB_COPY_BYTES,

    /* Failed backends that a session remembers, so that it does not try them again. */
    LB_TRIED_MAX = 4,

    /* Backend connections that a followed session keeps between two requests, besides the one in use. Each is a
     * descriptor here and a connection of its backend. A session that goes to and fro between a few backends finds all
     * of them open; one that goes everywhere does not fill every backend with connections. */
    LB_PARKED_MAX = 3,
    /* The least time between two new backend connections that each replace a parked one. Otherwise a client that asks
     * without a pause would pay for a connection with almost every request, and gain less than that costs. */
    LB_REPLACE_MS = 1000,
    LB_HELD_MAX = 1 + LB_PARKED_MAX,

    /* Wait before another attempt at the same backend, so that a refusing backend is not hammered. */
    LB_RETRY_WAIT_MS = 1000,

    /* Wait before another attempt at a backend whose backlog is full: random, up to a bound that grows from
     * LB_FULL_WAIT_MIN_MS to LB_FULL_WAIT_MAX_MS. */
    LB_FULL_WAIT_MIN_MS = 4,
    LB_FULL_WAIT_MAX_MS = 100,

    /* Longest round-robin sequence of a group; weights are scaled down to fit. */
    LB_SEQUENCE_MAX = 1 << 17,

    /* Tiers are 0 to 15. Zones are 1 to 255, so that one byte for each finds the preference of a client. */
    LB_TIERS_MAX = 16,
    LB_ZONES_MAX = 255,

    /* Round-robin cursors of a pool with several groups. If it has more groups, some share a cursor. */
    LB_RR_CURSORS = 32,

    /* The overprovisioning factor: how many usable backends a group needs to keep all its clients (failover.h). */
    LB_OVERPROVISION_PERCENT = 140,

    /* An iteration begins at least this often: the heartbeat of a worker. */
    LB_HEARTBEAT_MS = 500,

    /* A worker without an iteration for this long is stuck, and the watchdog falls silent. */
    LB_HEARTBEAT_MAX_MS = 5000,
};

_Static_assert(LB_SESSION_INDEX_BITS + LB_SESSION_GENERATION_BITS + 6 <= 53, "session ids must be exact in JSON");

#endif
