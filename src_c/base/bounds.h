/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounds - every limit of the data plane, in one place, with its reason.
 */
#ifndef LB_BOUNDS_H
#define LB_BOUNDS_H

enum {
    /* Workers are bits of one 64-bit mask of paused workers, and 6 bits of a session id. */
    LB_WORKERS_MAX = 64,

    /* Address space is reserved for this many slots; pages are used only when a slot is. */
    LB_LISTENER_SLOTS = 1 << 14,
    LB_POOL_SLOTS = 1 << 14,
    LB_BACKEND_SLOTS = 1 << 16,

    /* How many of them are in turn where few are taken: one that is free rests for a while. */
    LB_SLOTS_REACH_MIN = 256,

    /* A session id is 52 bits, so that every JSON reader keeps it exact. */
    LB_SESSION_INDEX_BITS = 20,
    LB_SESSION_GENERATION_BITS = 26,
    LB_SESSIONS_PER_WORKER_MAX = 1 << LB_SESSION_INDEX_BITS,

    /* Events taken from the kernel in one loop turn. */
    LB_POLL_BATCH = 256,

    /* Relays that were cut short and go on, timers that expire, and calls from waiting rooms, in one loop turn. */
    LB_READY_BURST = 64,
    LB_EXPIRE_BURST = 64,
    LB_GRANTS_BURST = 64,

    /* A scan of all sessions looks at so many in one loop turn, or at fewer if it closes some: closing one costs as
     * much as so many looks. That is 32 closed sessions, about two milliseconds. */
    LB_SCAN_LOOKS = 2048,
    LB_SCAN_ACT_LOOKS = 64,

    /* Clients accepted from one socket in one turn when its queue keeps being full. */
    LB_ACCEPT_BURST_MAX = 16,

    /* Clients accepted from a socket before it goes away: a full queue (net.core.somaxconn is 4,096), and as many that
     * came meanwhile; and in one loop turn. */
    LB_LAST_BURST_MAX = 8192,
    LB_LAST_BURST_PART = 32,

    /* Clients that have not shown their PROXY header or server name may hold this part of the sessions of the process,
     * and so many in any case. */
    LB_NEWCOMERS_SHARE = 4,
    LB_NEWCOMERS_MIN = 4,

    /* After the system refuses another socket, accepting rests this long. */
    LB_ACCEPT_REST_MS = 100,

    /* One read of the copy path, and so the most bytes ever held for a slow sink. */
    LB_COPY_BYTES = 32 * 1024,

    /* Free buffers kept for the next slow sink. */
    LB_BUFFERS_KEPT = 32,

    /* A relay that moved this much in one turn lets other sessions go first. */
    LB_RELAY_BUDGET_BYTES = 1 << 20,

    /* Full copy reads in a row after which a direction is bulk and is spliced. */
    LB_BULK_READS = 2,

    /* Spliced reads shorter than this, this many in a row, and the direction is not bulk any more. */
    LB_SMALL_SPLICE_BYTES = 4096,
    LB_SMALL_SPLICES = 4,

    /* A source that spliced for this long without a pause, and fast enough, wakes us only for LB_BULK_LOWAT bytes at
     * once or when it was quiet for LB_BULK_IDLE_MS. The tail of a run waits that long, so the run is much longer. */
    LB_BULK_RUN_MS = 20,
    LB_BULK_LOWAT = 256 * 1024,
    LB_BULK_IDLE_MS = 2,
    /* A quiet direction gives its pipe back after this long. */
    LB_PIPE_IDLE_MS = 50,

    /* How long an answer has to be silent to be over: before its own pace is known; at least; and at most, so that a
     * pause of a stream does not keep its backend busy for long. */
    LB_SILENCE_FIRST_MS = 250,
    LB_SILENCE_MIN_MS = 25,
    LB_SILENCE_MAX_MS = 1000,

    /* After a piece that is never the last of its answer: what comes is a first token behind a long queue, or a backend
     * that hangs and comes back. */
    LB_SILENCE_NOT_LAST_MS = 60000,

    /* A session is quiet for good, as far as closing it goes, after this long: a stream may only have paused. */
    LB_DRAIN_IDLE_MS = 1000,
    /* The same where the end of the answer was not told by its last piece, as it is as a rule in that pool; and where
     * all of the answer was next to nothing. */
    LB_DRAIN_DOUBT_MS = 15000,
    /* The same behind a stream, where nothing tells a pause from the end. */
    LB_DRAIN_STREAM_MS = 5000,
    /* A client that asks again at once is never quiet for so long. The longer it has been about to leave, the less it
     * takes, if the last piece looks like the end of a response; and once that is certain, nothing. */
    LB_DRAIN_SOON_AFTER_MS = 5000,
    LB_DRAIN_SOON_MS = 100,
    LB_DRAIN_LATE_AFTER_MS = 15000,
    LB_DRAIN_LATE_MS = 10,
    /* Without such a sign it takes this many turns to be taken for a client that is never quiet. */
    LB_DRAIN_BUSY_TURNS = 8,
    /* An answer that has come in smaller pieces than this for this long is a stream: it may pause anywhere. */
    LB_BULK_PIECE_BYTES = 4096,
    LB_PACED_MS = 96,
    LB_PACE_TICK_MS = 16,
    /* Of many that are quiet when their backend begins to leave, a worker closes so many each millisecond: those who
     * are in a turn do not wait for all of them. */
    LB_DRAIN_BURST = 32,

    /* A session that l4lb ends sends its FIN and reads on for this long after the client has acknowledged everything.
     * Something that the client wrote meanwhile is still on its way, once lost and repeated perhaps. */
    LB_LINGER_MS = 2000,
    /* A drained session whose client still has to take something is looked at again after this long at least. */
    LB_DELIVERY_LOOK_MS = 20,
    /* When the engine stops, workers wait this long for clients to take what was sent. */
    LB_STOP_MS = 1000,

    /* The average latency of a backend that nobody asks halves in this time. */
    LB_LATENCY_HALF_MS = 5000,

    /* Pieces shorter than this are no question in the middle of an answer, and no answer in the middle of silence. */
    LB_NOISE_BYTES = 64,

    /* Backends a session remembers not to try again. */
    LB_TRIED_MAX = 4,

    /* A connection attempt to the same backend waits this long, so that a refusing backend is not hammered. */
    LB_RETRY_WAIT_MS = 1000,

    /* Waits between two tries at a backlog that is full, drawn from 1 to a number that begins and ends with these. */
    LB_FULL_WAIT_MIN_MS = 4,
    LB_FULL_WAIT_MAX_MS = 100,

    /* The round-robin sequence of a group; weights are scaled down to fit. */
    LB_SEQUENCE_MAX = 1 << 17,

    /* Tiers are 0 to 15. Zones are 1 to 255, so that a pool finds a client's way by one byte for each. */
    LB_TIERS_MAX = 16,
    LB_ZONES_MAX = 255,

    /* Round-robin positions of a pool with several groups. With more groups than that, some share one. */
    LB_RR_CURSORS = 32,

    /* A group with so many per cent of what its clients need keeps all of them (see failover.h). */
    LB_OVERPROVISION_PERCENT = 140,

    /* A loop turn happens at least this often: the heartbeat. */
    LB_HEARTBEAT_MS = 500,

    /* After so long without one, a worker is stuck, and the service manager is not told that all is well. */
    LB_HEARTBEAT_MAX_MS = 5000,
};

_Static_assert(LB_SESSION_INDEX_BITS + LB_SESSION_GENERATION_BITS + 6 <= 53, "session ids must be exact in JSON");

#endif
