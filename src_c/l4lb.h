/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l4lb - the public interface of the data plane.
 *
 * The control plane describes listeners, pools and backends and publishes them as one immutable snapshot; worker
 * threads accept, pick, connect and relay. No function here is called per connection.
 *
 * Threads: every function is for the control thread, one at a time, except where a comment says "any thread".
 * Memory:  arguments are copied; the caller keeps what it passed. File descriptors stay the caller's.
 * Slots:   a slot is the identity of a listener, pool or backend across snapshots. Its numbers (connections, counters)
 *          belong to the slot and survive every publication. The caller maps names to slots.
 * Errors:  0 or a non-negative result, else -errno.
 */
#ifndef L4LB_H
#define L4LB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct l4lb_engine;
struct lb_lpm;

/* ---- settings ---------------------------------------------------------------------------------------------------- */

/* config/algorithm.h says what each does. */
enum l4lb_balance {
    L4LB_ROUND_ROBIN,
    L4LB_LEAST_CONNECTIONS,
    L4LB_RANDOM,
    L4LB_POWER_OF_TWO,
    L4LB_MAGLEV,
    L4LB_FIRST,
    L4LB_LEAST_BUSY,
    L4LB_LEAST_LATENCY,
    L4LB_N_BALANCE
};

enum l4lb_proxy_mode { L4LB_PROXY_OFF, L4LB_PROXY_REQUIRE, L4LB_PROXY_OPTIONAL };

enum l4lb_send_proxy { L4LB_SEND_PROXY_OFF, L4LB_SEND_PROXY_V1, L4LB_SEND_PROXY_V2 };

/* Which messages of its sessions a pool follows: none, or those of HTTP/1 (exchange.h). */
enum l4lb_protocol { L4LB_PROTOCOL_TCP, L4LB_PROTOCOL_HTTP1 };

/* Which requests are sent again, to another backend, when a kept backend connection turns out to be closed. */
enum l4lb_resend { L4LB_RESEND_OFF, L4LB_RESEND_IDEMPOTENT, L4LB_RESEND_ALL };

/* Maglev's key for a client. Without a server name, the client's address is used. */
enum l4lb_hash_key { L4LB_HASH_SOURCE_IP, L4LB_HASH_SOURCE_IP_PORT, L4LB_HASH_SNI };

enum l4lb_event_kind {
    L4LB_EVENT_OPEN = 1,
    L4LB_EVENT_INTERVAL = 2,
    L4LB_EVENT_CLOSE = 4,
    L4LB_EVENT_REQUEST = 8, /* a response is complete, in a session whose messages are followed */
};

enum l4lb_slot_kind { L4LB_SLOT_LISTENER, L4LB_SLOT_POOL, L4LB_SLOT_BACKEND };

/* The largest weight of a backend, Maglev table and stick table; the most routes of a listener, retries of a session,
 * and source addresses of a pool. */
enum {
    L4LB_WEIGHT_MAX = 65535,
    L4LB_MAGLEV_TABLE_MAX = 5000011,
    L4LB_STICKY_ENTRIES_MAX = 10000000,
    L4LB_ROUTES_MAX = 16384,
    L4LB_RETRIES_MAX = 250,
    L4LB_SOURCES_MAX = 64
};

/* What the kernel accepts, tcp(7). */
enum { L4LB_KEEPALIVE_S_MAX = 32767, L4LB_KEEPALIVE_PROBES_MAX = 127 };

/* How the kernel detects a lost TCP peer, see tcp(7) and RFC 5482. Unix sockets ignore it. */
struct l4lb_tcp {
    uint32_t keepalive_s;     /* silence before the first probe; 0 = no probes */
    uint32_t interval_s;      /* between two probes */
    uint32_t probes;          /* unanswered probes until the peer is lost, unless user_timeout_ms decides */
    uint32_t user_timeout_ms; /* for bytes to be acknowledged; 0 = net.ipv4.tcp_retries2 decides */
};

/* An address range: 16 bytes in network order (IPv4 as ::ffff:a.b.c.d) and a length of 0 to 128 bits. */
struct l4lb_prefix {
    uint8_t address[16];
    uint8_t length;
};

struct l4lb_backend_config {
    uint32_t slot;
    uint32_t weight;          /* 0 to L4LB_WEIGHT_MAX; 0 = takes no new session */
    uint32_t connections_max; /* 0 = no limit */
    uint32_t busy_max;      /* turns in flight from which on it gets no new session and, in a pool that follows HTTP/1,
                               no request; 0 = no limit */
    uint32_t cold_busy_max; /* the same while it is cold (l4lb_set_cold), if that is less; 0 = no other limit */
    uint8_t usable;         /* 0 = takes no new session; its sessions go on */
    uint32_t tier;          /* below LB_TIERS_MAX; lower ones come first */
    uint32_t zone;          /* 1 to LB_ZONES_MAX; 0 = no zone */
    const char *name;       /* stable key of the Maglev table */
    const struct sockaddr *address;
    socklen_t address_len;
};

/* An address of this host, with port 0. */
struct l4lb_source {
    const struct sockaddr *address;
    socklen_t address_len;
};

/* How long a relaying session may be silent, in milliseconds. 0 = no timeout of its own for that phase: idle_ms
 * applies. idle_ms and half_close_ms are never 0. */
struct l4lb_timeouts {
    uint32_t idle_ms;
    uint32_t half_close_ms;        /* without progress, once one side has sent its FIN */
    uint32_t first_byte_ms;        /* from the connect to the first byte of the backend */
    uint32_t response_ms;          /* from the end of a request to the first byte of its response */
    uint32_t stream_gap_ms;        /* between two pieces of a response */
    uint32_t keepalive_ms;         /* between two turns */
    uint32_t backend_keepalive_ms; /* of a backend connection between two requests of a followed session; 0 = off */
};

/* Times are milliseconds; 0 means off. */
struct l4lb_pool_config {
    uint32_t slot;
    enum l4lb_balance balance;
    uint32_t table_size; /* Maglev; prime */
    uint32_t max_load;   /* Maglev: per cent of its share of sessions that a backend may have; 0 = no bound */
    enum l4lb_hash_key hash_key;
    uint32_t retries; /* at most L4LB_RETRIES_MAX */
    enum l4lb_send_proxy send_proxy;
    enum l4lb_protocol protocol;
    enum l4lb_resend resend;
    uint64_t connect_ms;
    uint64_t lifetime_ms;
    struct l4lb_timeouts timeouts;
    uint64_t hello_ms;                 /* how long clients of listeners with this pool may take to send a server name */
    struct l4lb_tcp tcp;               /* for the connections to its backends, from the first packet on */
    uint32_t queue_size;               /* sessions that may wait for a backend with capacity; 0 = none */
    uint64_t queue_ms;                 /* how long each may wait */
    uint8_t abort_on_close;            /* a client that sends a FIN before it has a backend counts as gone */
    uint32_t sticky_entries;           /* clients whose backend is remembered; 0 = none */
    uint64_t sticky_ttl_ms;            /* for this long after their last session */
    const struct l4lb_source *sources; /* of connections to backends, in rotation; at most L4LB_SOURCES_MAX */
    size_t n_sources;
    const struct l4lb_backend_config *backends;
    size_t n_backends;
};

/* Clients that send this server name go to this pool. */
struct l4lb_route {
    const char *name; /* a host name, or *.suffix for every name below the suffix */
    uint32_t pool;    /* index into l4lb_config.pools */
};

struct l4lb_listener_config {
    uint32_t slot;
    uint32_t pool;            /* index into l4lb_config.pools; for clients without a route */
    uint32_t connections_max; /* 0 = no limit; beyond it clients wait in the backlog */
    const int *fds;           /* listening sockets, n_binds * n_workers: bind b of worker w at [b * n_workers + w] */
    size_t n_binds;
    struct lb_lpm *allow; /* networks (lpm.h); like the next two shared, not copied; NULL = all */
    struct lb_lpm *deny;  /* wins over allow; NULL = none */
    enum l4lb_proxy_mode proxy_mode;
    struct lb_lpm *proxy_from; /* peers whose PROXY header is trusted; NULL = none */
    uint64_t proxy_timeout_ms; /* from accept to the complete header */
    const struct l4lb_route *routes;
    size_t n_routes;
};

struct l4lb_config {
    const struct l4lb_listener_config *listeners;
    size_t n_listeners;
    const struct l4lb_pool_config *pools;
    size_t n_pools;
    struct lb_lpm *zones; /* the zone of each network (lpm.h); shared, not copied; NULL = no zones */
    uint32_t events;      /* OR of enum l4lb_event_kind wanted in the event ring */
    uint64_t interval_ms; /* pace of L4LB_EVENT_INTERVAL */
};

struct l4lb_options {
    uint32_t n_workers;
    uint32_t sessions_max; /* all workers together; beyond it clients wait in the backlog */
    uint32_t pipes_max;    /* per worker; 0 = never splice */
    uint32_t pipe_bytes;   /* requested capacity of a pipe */
    uint32_t events_cap;   /* entries of each worker's event ring, a power of two */
};

/* ---- start and stop ---------------------------------------------------------------------------------------------- */

int l4lb_engine_new(const struct l4lb_options *options, struct l4lb_engine **out);
int l4lb_engine_start(struct l4lb_engine *engine);
/* Close every session and end the threads. Clients have a second to take what was sent to them; after that the kernel
 * goes on delivering for as long as it can. The listening sockets of the caller stay open. */
void l4lb_engine_stop(struct l4lb_engine *engine);
void l4lb_engine_free(struct l4lb_engine *engine);

/* ---- the service manager ----------------------------------------------------------------------------------------- */

/* Send WATCHDOG=1 to this unix datagram socket (an abstract name begins with a NUL) from a thread of its own. A message
 * is sent in each interval while every worker has iterations and the last call of l4lb_control_works() is at most
 * `control_ms` old. */
int l4lb_watchdog_start(struct l4lb_engine *engine, const char *name, size_t length, uint64_t interval_ms,
                        uint64_t control_ms);
/* Stop sending. Idempotent. */
void l4lb_watchdog_stop(struct l4lb_engine *engine);
/* Report that the control plane works. Any thread. */
void l4lb_control_works(struct l4lb_engine *engine);

/* ---- configuration ----------------------------------------------------------------------------------------------- */

/* A fresh slot with zeroed numbers, or -ENOSPC. */
int l4lb_slot_take(struct l4lb_engine *engine, enum l4lb_slot_kind kind);
/* Give a slot back. -EBUSY while a snapshot or a session uses it: try again after l4lb_reclaim(). */
int l4lb_slot_give(struct l4lb_engine *engine, enum l4lb_slot_kind kind, uint32_t slot);

/* Replace the running snapshot, all or nothing. Returns when it is visible, not when every worker uses it. */
int l4lb_publish(struct l4lb_engine *engine, const struct l4lb_config *config);
/* Check whether l4lb_publish() would take this pool. Returns 0, or its error. Changes nothing. */
int l4lb_check_pool(struct l4lb_engine *engine, const struct l4lb_pool_config *pool);
/* Free snapshots that no worker can see any more; returns how many retired ones are left. A socket that the newest
 * snapshot lacks may be closed once this returns 0. */
int l4lb_reclaim(struct l4lb_engine *engine);

/* ---- close reasons ----------------------------------------------------------------------------------------------- */

/* clang-format off */
/* X(symbol, HAProxy termination code, reason, meaning). Order is the wire order of l4lb_pool_stats.closed. */
#define L4LB_CLOSE_TABLE(X) \
    X(NORMAL, "--", "normal", \
      "Both sides finished.") \
    X(CLIENT_ABORT_CONNECT, "CC", "client_abort", \
      "The client left before a backend was reached.") \
    X(CLIENT_ABORT_QUEUE, "CQ", "client_abort", \
      "The client left while it waited in the queue.") \
    X(CLIENT_ABORT, "CD", "client_abort", \
      "The client broke the connection.") \
    X(CLIENT_LOST, "CD", "client_lost", \
      "The client answered no keepalive probe, or read nothing for `tcp.user_timeout` of the listener.") \
    X(SERVER_ABORT, "SD", "server_abort", \
      "The backend broke the connection.") \
    X(SERVER_LOST, "SD", "server_lost", \
      "The backend answered no keepalive probe, or read nothing for `tcp.user_timeout` of the pool.") \
    X(CONNECT_FAILED, "SC", "connect_failed", \
      "No backend accepted the connection, retries included.") \
    X(CONNECT_TIMEOUT, "sC", "connect_timeout", \
      "The last attempt took longer than `timeouts.connect`.") \
    X(NO_BACKEND, "SC", "no_backend", \
      "No usable backend had capacity.") \
    X(QUEUE_FULL, "SQ", "queue_full", \
      "No usable backend had capacity, and the queue was full.") \
    X(QUEUE_TIMEOUT, "sQ", "queue_timeout", \
      "`queue.timeout`.") \
    X(CLIENT_IDLE, "cD", "idle", \
      "`timeouts.idle`, with no turn in flight.") \
    X(SERVER_IDLE, "sD", "idle", \
      "`timeouts.idle`, while the backend owed a response.") \
    X(CLIENT_HALF_CLOSE, "cD", "half_close", \
      "`timeouts.half_close`: the backend had finished, the client had not.") \
    X(SERVER_HALF_CLOSE, "sD", "half_close", \
      "`timeouts.half_close`: the client had finished, the backend had not.") \
    X(CLIENT_FIRST_BYTE, "cD", "first_byte", \
      "`timeouts.first_byte`: the client never sent a byte.") \
    X(SERVER_FIRST_BYTE, "sD", "first_byte", \
      "`timeouts.first_byte`: the backend did not respond.") \
    X(SERVER_RESPONSE, "sD", "response", \
      "`timeouts.response`.") \
    X(CLIENT_STREAM_GAP, "cD", "stream_gap", \
      "`timeouts.stream_gap`: the client did not read.") \
    X(SERVER_STREAM_GAP, "sD", "stream_gap", \
      "`timeouts.stream_gap`: the backend fell silent.") \
    X(CLIENT_KEEPALIVE, "cD", "keepalive", \
      "`timeouts.keepalive`.") \
    X(LIFETIME, "LD", "lifetime", \
      "`timeouts.lifetime`.") \
    X(KILLED_QUEUE, "KQ", "killed", \
      "Closed by an operator while it waited in the queue.") \
    X(KILLED_CONNECT, "KC", "killed", \
      "Closed by an operator while connecting.") \
    X(KILLED, "KD", "killed", \
      "Closed by an operator.") \
    X(BACKEND_DOWN_CONNECT, "DC", "backend_down", \
      "Its backend went down or into maintenance while it was connecting, the pool has `on_down: " \
      "close`, and no other backend could take it.") \
    X(BACKEND_DOWN, "DD", "backend_down", \
      "Its backend went down or into maintenance, and the pool has `on_down: close`.") \
    X(BETTER_UP_CONNECT, "UC", "better_up", \
      "A backend of a better tier came up while it was connecting, the pool has `on_up: close_lower`, " \
      "and no backend could take it.") \
    X(BETTER_UP, "UD", "better_up", \
      "A backend of a better tier came up, and the pool has `on_up: close_lower`.") \
    X(DRAINED, "DD", "drained", \
      "Its backend is drained, in maintenance or gone from the file, or l4lb stops, and the session was " \
      "idle; or `drain_timeout` of the pool passed.") \
    X(REBALANCED, "DD", "rebalanced", \
      "It was idle, and its backend had more than its share of connections.") \
    X(SHUTDOWN, "KD", "shutdown", \
      "L4lb stopped, and the turn in flight did not end in time.") \
    X(RESOURCE, "RC", "resource", \
      "This host ran out of open files, ports or memory.")
/* clang-format on */

enum l4lb_close {
#define X(symbol, code, reason, meaning) L4LB_CLOSE_##symbol,
    L4LB_CLOSE_TABLE(X)
#undef X
        L4LB_N_CLOSE
};

/* Why a client was rejected before it became a session. */
/* clang-format off */
/* X(symbol, reason, meaning) */
#define L4LB_REJECT_TABLE(X) \
    X(DENIED, "denied", \
      "`deny` has it, or `allow` does not.") \
    X(PROXY_UNTRUSTED, "proxy_untrusted", \
      "`proxy_protocol.mode` is `require` and its address is not in `from`.") \
    X(PROXY_INVALID, "proxy_invalid", \
      "A peer in `from` sent no valid PROXY header.") \
    X(PROXY_TIMEOUT, "proxy_timeout", \
      "The header took too long.") \
    X(CLOSED, "closed", \
      "The client left before it sent a header; or, before its header or server name came, l4lb " \
      "stopped, the listener left the file or an operator closed it.") \
    X(SILENT, "silent", \
      "Too many clients had not sent their PROXY header or server name yet, and this one had been " \
      "silent longest.") \
    X(RESOURCE, "resource", \
      "This host ran out of memory.")
/* clang-format on */

enum l4lb_reject {
#define X(symbol, reason, meaning) L4LB_REJECT_##symbol,
    L4LB_REJECT_TABLE(X)
#undef X
        L4LB_N_REJECT
};

/* Why a session of a pool with `protocol: http1` keeps its backend for good, and is relayed like one of `tcp`. */
/* clang-format off */
/* X(symbol, reason, meaning) */
#define L4LB_PIN_TABLE(X) \
    X(NONE, "none", \
      "It does not.") \
    X(NOT_HTTP, "not_http", \
      "Its first bytes are not an HTTP/1 request: TLS, HTTP/2 or another protocol.") \
    X(SYNTAX, "syntax", \
      "A start line, field line or chunk line that not every parser reads alike: a bare LF or CR, a folded line, " \
      "a space before the colon, a control byte.") \
    X(LENGTH, "length", \
      "A length that not every parser reads alike: Content-Length with Transfer-Encoding, more than one length, a " \
      "coding other than chunked, a number that is too large.") \
    X(TOO_LONG, "too_long", \
      "The head of a message, a chunk line or the trailers of a chunked body have more than 64 KiB.") \
    X(PIPELINE, "pipeline", \
      "More than 16 requests without a response.") \
    X(EARLY_RESPONSE, "early_response", \
      "A response was complete before its request was: the next bytes could be of either request.") \
    X(UNREQUESTED, "unrequested", \
      "The backend sent bytes that no request had asked for.") \
    X(UPGRADE, "upgrade", \
      "The connection changes to another protocol: a response 101, or a CONNECT.") \
    X(CREDENTIAL, "credential", \
      "The connection is the credential: NTLM or Negotiate in `WWW-Authenticate` or `Authorization`.") \
    X(RESOURCE, "resource", \
      "This host ran out of memory.")
/* clang-format on */

enum l4lb_pin {
#define X(symbol, reason, meaning) L4LB_PIN_##symbol,
    L4LB_PIN_TABLE(X)
#undef X
        L4LB_N_PIN
};

/* Classes of status codes: 1xx (of 101 only), 2xx, 3xx, 4xx, 5xx, and others. */
enum { L4LB_N_STATUS_CLASS = 6 };

/* ---- numbers: any thread ----------------------------------------------------------------------------------------- */

/* Upper bounds of histogram buckets in microseconds; one more bucket lies above the last. */
#define L4LB_HISTOGRAM_BOUNDS_US                                                                                       \
    {100,    250,    500,     1000,    2500,    5000,     10000,    25000,    50000,    100000,                        \
     250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000}
enum { L4LB_N_BUCKETS = 20 };

struct l4lb_histogram {
    uint64_t buckets[L4LB_N_BUCKETS]; /* not cumulative */
    uint64_t sum_us;
};

/* Every statistic is one line of a table: X(kind, name, help). The line defines the field of the struct, its metric
 * (l4lb_OBJECT_NAME, with Prometheus' suffixes), its key in the API and its row in the reference. A name that ends in
 * `_total` only grows; one that ends in `_us` is a time in microseconds, 0 while unknown. Kinds: GAUGE, now; COUNTER,
 * since the start; HISTOGRAM, of times; INTERNAL, for the control plane, in neither metrics nor API. */
enum l4lb_stat_kind { L4LB_STAT_GAUGE, L4LB_STAT_COUNTER, L4LB_STAT_HISTOGRAM, L4LB_STAT_INTERNAL };

#define L4LB_STAT_TYPE_GAUGE uint64_t
#define L4LB_STAT_TYPE_COUNTER uint64_t
#define L4LB_STAT_TYPE_HISTOGRAM struct l4lb_histogram
#define L4LB_STAT_TYPE_INTERNAL uint64_t
#define L4LB_STAT_FIELD(kind, name, help) L4LB_STAT_TYPE_##kind name;

/* clang-format off */
#define L4LB_BACKEND_STATS(X) \
    X(GAUGE, connections, "Connections now, connecting ones included.") \
    X(GAUGE, busy, "Turns in flight: sessions with a request whose response is not complete.") \
    X(GAUGE, latency_us, "Recent time to the first byte of a turn, a decaying peak; 0 when unknown.") \
    X(COUNTER, connections_total, "Connections attempted.") \
    X(COUNTER, connect_failures_total, "Connects refused, unreachable or reset.") \
    X(COUNTER, connect_timeouts_total, "Connects that timed out.") \
    X(COUNTER, retries_total, "Failed connects that were tried again.") \
    X(COUNTER, resets_total, "Sessions that the backend reset before its first byte.") \
    X(INTERNAL, responded_total, "Sessions in which the backend sent a first byte.") \
    X(COUNTER, received_bytes_total, "Bytes received from the backend.") \
    X(COUNTER, sent_bytes_total, "Bytes sent to the backend.") \
    X(COUNTER, turns_total, "Turns begun: requests with their responses.") \
    X(HISTOGRAM, connect, "Time to connect to the backend.") \
    X(HISTOGRAM, first_byte, "Last client byte to first backend byte of each turn.") \
    X(HISTOGRAM, first_body, "Last client byte to the first byte of a response's body, where HTTP/1 is followed.") \
    X(HISTOGRAM, stream_gap, "Silence between two pieces of a response.") \
    X(HISTOGRAM, turn, "First client byte to last backend byte of each turn.")

#define L4LB_LISTENER_STATS(X) \
    X(GAUGE, connections, "Client connections now.") \
    X(COUNTER, connections_total, "Client connections accepted.")

#define L4LB_POOL_STATS(X) \
    X(GAUGE, queued, "Clients waiting in the queue.") \
    X(COUNTER, moves_total, "Requests that went to another backend than the one before them on their connection.") \
    X(COUNTER, reused_total, "Moves that took an open backend connection of the same session.") \
    X(COUNTER, resends_total, "Requests sent again because a kept backend connection was closed.") \
    X(COUNTER, detached_total, "Backend connections that ended between two requests while the client stayed.") \
    X(HISTOGRAM, queue, "Time in the queue of clients that got a backend.")

/* Sessions that reached a backend, in pools that remember clients (l4lb_pool_sticky_NAME). */
#define L4LB_STICKY_STATS(X) \
    X(COUNTER, hits_total, "Sessions that reached the backend remembered for their client.") \
    X(COUNTER, misses_total, "Sessions of clients that were not remembered.") \
    X(COUNTER, moved_total, "Sessions that reached another backend, remembered from then on: the old one takes none.") \
    X(COUNTER, passed_total, "Sessions that reached another backend while the remembered one was full.")

#define L4LB_WORKER_STATS(X) \
    X(GAUGE, sessions, "Sessions now.") \
    X(COUNTER, loops_total, "Iterations of the event loop.") \
    X(COUNTER, idle_wakeups_total, "Events that moved nothing.") \
    X(COUNTER, accept_pauses_total, "Pauses in accepting for want of a resource.") \
    X(COUNTER, copied_bytes_total, "Bytes relayed through user space.") \
    X(COUNTER, spliced_bytes_total, "Bytes relayed inside the kernel by splice.") \
    X(GAUGE, pipes, "Splice pipes open.") \
    X(GAUGE, pipes_in_use, "Splice pipes that hold data of a relay.") \
    X(COUNTER, pipe_fallbacks_total, "Times that a relay copied for want of a pipe.") \
    X(COUNTER, events_dropped_total, "Session events lost at a full ring.") \
    X(INTERNAL, heartbeat_ns, "CLOCK_MONOTONIC at the last iteration of the event loop.")
/* clang-format on */

/* Readers add up these structs as arrays of uint64_t, so they have no fields of other types. */
struct l4lb_backend_stats {
    L4LB_BACKEND_STATS(L4LB_STAT_FIELD)
    uint64_t responses[L4LB_N_STATUS_CLASS]; /* where HTTP/1 is followed */
};

struct l4lb_listener_stats {
    L4LB_LISTENER_STATS(L4LB_STAT_FIELD)
    uint64_t rejected[L4LB_N_REJECT];
};

struct l4lb_sticky_stats {
    L4LB_STICKY_STATS(L4LB_STAT_FIELD)
};

struct l4lb_pool_stats {
    L4LB_POOL_STATS(L4LB_STAT_FIELD)
    uint64_t closed[L4LB_N_CLOSE];
    uint64_t pinned[L4LB_N_PIN];
    struct l4lb_sticky_stats sticky;
};

struct l4lb_worker_stats {
    L4LB_WORKER_STATS(L4LB_STAT_FIELD)
};

/* The numbers of a backend that the control plane watches all the time. */
struct l4lb_backend_summary {
    uint64_t connections;
    uint64_t busy;
    uint64_t latency_us;
    uint64_t failures_total; /* connects that failed or timed out, plus resets_total */
    uint64_t responded_total;
    uint64_t turns_total;
    uint64_t received_bytes_total;
    uint64_t responses_total;     /* with a status, where HTTP/1 is followed */
    uint64_t server_errors_total; /* of these, with a status of 5xx */
    uint64_t cold_left;           /* responses until it is no longer cold */
};

int l4lb_read_backend(const struct l4lb_engine *engine, uint32_t slot, struct l4lb_backend_stats *out);
/* Read n backends at once. */
int l4lb_read_summaries(const struct l4lb_engine *engine, const uint32_t *slots, size_t n,
                        struct l4lb_backend_summary *out);
int l4lb_read_listener(const struct l4lb_engine *engine, uint32_t slot, struct l4lb_listener_stats *out);
int l4lb_read_pool(const struct l4lb_engine *engine, uint32_t slot, struct l4lb_pool_stats *out);
int l4lb_read_worker(const struct l4lb_engine *engine, uint32_t worker, struct l4lb_worker_stats *out);

/* ---- remembered clients ------------------------------------------------------------------------------------------ */

/* A client and the backend it was given. */
struct l4lb_sticky_entry {
    uint8_t key[16];  /* its address in network order (IPv4 as ::ffff:a.b.c.d) */
    uint32_t backend; /* slot */
    uint64_t left_ms; /* until it is forgotten if it does not return; the full time while it is connected */
};

/* Count the clients that a pool remembers now; -ENOENT if the pool remembers none. */
int l4lb_sticky_count(const struct l4lb_engine *engine, uint32_t pool);
/* Copy up to n entries of a pool, from *cursor on (0 at first), and move it on. Returns how many; 0 at the end, -ENOENT
 * if the pool remembers no clients. A client that is remembered all the time is returned once. */
int l4lb_sticky_read(const struct l4lb_engine *engine, uint32_t pool, uint32_t *cursor, struct l4lb_sticky_entry *out,
                     size_t n);
/* Remember these clients of a pool, too, unless they are known already, or there is no room and others came later.
 * Returns how many were added; -ENOENT if the pool remembers no clients, -EINVAL (and none added) if a slot is not
 * taken. */
int l4lb_sticky_write(const struct l4lb_engine *engine, uint32_t pool, const struct l4lb_sticky_entry *entries,
                      size_t n);

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

enum l4lb_path { L4LB_PATH_COPY, L4LB_PATH_SPLICE };

enum l4lb_session_state {
    L4LB_SESSION_HEADER,
    L4LB_SESSION_CONNECT,
    L4LB_SESSION_RELAY,
    L4LB_SESSION_QUEUE,
    L4LB_SESSION_HELLO,
    L4LB_SESSION_CLOSING, /* over; its peers may not have all bytes yet */
    L4LB_SESSION_KEPT,    /* between two requests, without a backend connection */
};

/* What a session is doing, as its bytes tell (phase.h). */
enum l4lb_phase { L4LB_PHASE_NEW, L4LB_PHASE_WAIT, L4LB_PHASE_STREAM, L4LB_PHASE_QUIET };

/* The client's address: from the PROXY header where that was trusted. Unix peers have family AF_UNIX and nothing
 * else. */
struct l4lb_endpoint {
    uint16_t family; /* AF_INET, AF_INET6, AF_UNIX */
    uint16_t port;   /* host order */
    uint8_t address[16];
};

/* One session, as it is (in a listing) or at an event. Times of a phase that was never reached are UINT64_MAX. In a
 * REQUEST event, times and bytes are those of the request: it started with its first byte, and first_byte_us counts
 * from its last. */
struct l4lb_session_record {
    uint64_t id;
    uint32_t event; /* enum l4lb_event_kind; 0 in a listing */
    uint32_t listener;
    uint32_t pool;
    uint32_t backend; /* slot, or UINT32_MAX if no backend was reached */
    struct l4lb_endpoint client;
    uint8_t state; /* enum l4lb_session_state */
    uint8_t close; /* enum l4lb_close, of a close event */
    uint8_t path;  /* enum l4lb_path: splice once any byte was spliced */
    uint8_t retries;
    uint8_t phase;       /* enum l4lb_phase */
    bool has_capacity;   /* counts as one of the connections of its backend */
    uint8_t pin;         /* enum l4lb_pin */
    uint16_t status;     /* of the latest response, where HTTP/1 is followed; 0 = none */
    uint32_t turns;      /* begun so far */
    uint32_t moves;      /* requests that went to another backend than the one before */
    uint64_t started_ns; /* CLOCK_REALTIME */
    uint64_t duration_us;
    uint64_t queue_us; /* in the queue, so far */
    uint64_t connect_us;
    uint64_t first_byte_us; /* accept to first backend byte */
    uint64_t bytes_in;      /* from the client */
    uint64_t bytes_out;
    uint64_t idle_us; /* since the last byte either way */
};

/* Copy up to n records of a worker's sessions with ids above `after`, in order of id. Returns the number copied; call
 * again with the last id until it returns 0. Waits for the worker, at most timeout_ms. Any thread. */
int l4lb_list_sessions(struct l4lb_engine *engine, uint32_t worker, uint64_t after, struct l4lb_session_record *out,
                       size_t n, int timeout_ms);
/* Close one session (close reason KILLED). -ENOENT if it is gone. Any thread. */
int l4lb_kill_session(struct l4lb_engine *engine, uint64_t id, int timeout_ms);
/* Drain these backends, or stop draining them. Each of their sessions closes (DRAINED) after one idle second, or later
 * if its response may only have paused; requests in flight finish. The older a drain gets, the less silence is needed,
 * for the sake of sessions that are never idle for a second: none after a response whose end is certain. spread_ms
 * spreads the closing over that time. One call looks at each session once. Returns how many sessions were idle already
 * and close in a moment. Any thread. */
int l4lb_set_draining(struct l4lb_engine *engine, const uint32_t *slots, size_t n, bool draining, uint32_t spread_ms,
                      int timeout_ms);
/* Drain the clients, for a stop: followed sessions (L4LB_PROTOCOL_HTTP1) close between two requests, spread over
 * spread_ms. A drain of their backend only detaches its connection. Any thread. */
int l4lb_drain_clients(struct l4lb_engine *engine, uint32_t spread_ms, int timeout_ms);
/* These backends have just become usable: each is cold until it has given `responses` complete responses. Any thread.
 */
int l4lb_set_cold(struct l4lb_engine *engine, const uint32_t *slots, size_t n, uint32_t responses);
/* Close up to n sessions of a backend that have been idle for idle_ms (close reason REBALANCED), in no particular
 * order. Where last pieces of responses are normally recognised, only sessions whose response ended with one are
 * closed; where such an end is certain, a shorter silence suffices. Returns how many. Any thread. */
int l4lb_close_idle(struct l4lb_engine *engine, uint32_t slot, uint32_t n, uint32_t idle_ms, int timeout_ms);
/* Close every session of a backend, for this reason: DRAINED at the end of its drain timeout, KILLED on request of an
 * operator, BACKEND_DOWN or BETTER_UP by the settings of the pool. For the last two, a session that is still connecting
 * goes to another backend instead, if the snapshot has one for it. Returns how many were closed. Any thread. */
int l4lb_kill_backend(struct l4lb_engine *engine, uint32_t slot, enum l4lb_close reason, int timeout_ms);

/* ---- events ------------------------------------------------------------------------------------------------------ */

/* An eventfd that is readable while session events wait. */
int l4lb_event_fd(const struct l4lb_engine *engine);
/* Take up to n events, oldest first within a worker; clears the eventfd unless there may be more. Returns how many. */
int l4lb_take_events(struct l4lb_engine *engine, struct l4lb_session_record *out, size_t n);

#endif
