# The part of src_c/l4lb.h that the extension uses, name for name. Meanings and units are documented there.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        pass
    struct sockaddr_storage:
        unsigned short ss_family
    ctypedef unsigned int socklen_t

cdef extern from "l4lb.h" nogil:
    struct l4lb_engine:
        pass

    struct l4lb_tcp:
        uint32_t keepalive_s
        uint32_t interval_s
        uint32_t probes
        uint32_t user_timeout_ms

    struct lb_lpm:
        pass

    struct l4lb_prefix:
        uint8_t address[16]
        uint8_t length

    struct l4lb_backend_config:
        uint32_t slot
        uint32_t weight
        uint32_t connections_max
        uint32_t busy_max
        uint32_t cold_busy_max
        uint8_t usable
        uint32_t tier
        uint32_t zone
        const char *name
        const sockaddr *address
        socklen_t address_len

    enum l4lb_balance:
        pass
    enum l4lb_proxy_mode:
        pass
    enum l4lb_send_proxy:
        pass
    enum l4lb_protocol:
        pass
    enum l4lb_resend:
        pass
    enum l4lb_hash_key:
        pass
    enum l4lb_slot_kind:
        pass

    struct l4lb_source:
        const sockaddr *address
        socklen_t address_len

    struct l4lb_timeouts:
        uint32_t idle_ms
        uint32_t half_close_ms
        uint32_t first_byte_ms
        uint32_t response_ms
        uint32_t stream_gap_ms
        uint32_t keepalive_ms
        uint32_t backend_keepalive_ms

    struct l4lb_pool_config:
        uint32_t slot
        l4lb_balance balance
        uint32_t table_size
        uint32_t max_load
        l4lb_hash_key hash_key
        uint32_t retries
        l4lb_send_proxy send_proxy
        l4lb_protocol protocol
        l4lb_resend resend
        uint64_t connect_ms
        uint64_t lifetime_ms
        l4lb_timeouts timeouts
        uint64_t hello_ms
        l4lb_tcp tcp
        uint32_t queue_size
        uint64_t queue_ms
        uint8_t abort_on_close
        uint32_t sticky_entries
        uint64_t sticky_ttl_ms
        const l4lb_source *sources
        size_t n_sources
        const l4lb_backend_config *backends
        size_t n_backends

    struct l4lb_route:
        const char *name
        uint32_t pool

    struct l4lb_listener_config:
        uint32_t slot
        uint32_t pool
        uint32_t connections_max
        const int *fds
        size_t n_binds
        lb_lpm *allow
        lb_lpm *deny
        l4lb_proxy_mode proxy_mode
        lb_lpm *proxy_from
        uint64_t proxy_timeout_ms
        const l4lb_route *routes
        size_t n_routes

    struct l4lb_config:
        const l4lb_listener_config *listeners
        size_t n_listeners
        const l4lb_pool_config *pools
        size_t n_pools
        lb_lpm *zones
        uint32_t events
        uint64_t interval_ms

    struct l4lb_options:
        uint32_t n_workers
        uint32_t sessions_max
        uint32_t pipes_max
        uint32_t pipe_bytes
        uint32_t events_cap

    enum:
        L4LB_N_CLOSE
        L4LB_N_REJECT
        L4LB_N_PIN
        L4LB_N_STATUS_CLASS
        L4LB_N_BUCKETS

    struct l4lb_histogram:
        uint64_t buckets[20]
        uint64_t sum_us

    enum l4lb_stat_kind:
        L4LB_STAT_HISTOGRAM

    struct l4lb_backend_stats:
        uint64_t responses[1]  # L4LB_N_STATUS_CLASS of them

    struct l4lb_backend_summary:
        uint64_t connections
        uint64_t busy
        uint64_t latency_us
        uint64_t failures_total
        uint64_t responded_total
        uint64_t turns_total
        uint64_t received_bytes_total
        uint64_t responses_total
        uint64_t server_errors_total
        uint64_t cold_left

    struct l4lb_listener_stats:
        uint64_t rejected[1]  # L4LB_N_REJECT of them

    struct l4lb_sticky_stats:
        pass

    struct l4lb_pool_stats:
        uint64_t closed[1]  # L4LB_N_CLOSE of them
        uint64_t pinned[1]  # L4LB_N_PIN of them
        l4lb_sticky_stats sticky

    struct l4lb_worker_stats:
        pass

    struct l4lb_sticky_entry:
        uint8_t key[16]
        uint32_t backend
        uint64_t left_ms

    struct l4lb_endpoint:
        uint16_t family
        uint16_t port
        uint8_t address[16]

    struct l4lb_session_record:
        uint64_t id
        uint32_t event
        uint32_t listener
        uint32_t pool
        uint32_t backend
        l4lb_endpoint client
        uint8_t state
        uint8_t close
        uint8_t path
        uint8_t retries
        uint8_t phase
        uint8_t pin
        uint16_t status
        uint32_t turns
        uint32_t moves
        uint64_t started_ns
        uint64_t duration_us
        uint64_t queue_us
        uint64_t connect_us
        uint64_t first_byte_us
        uint64_t bytes_in
        uint64_t bytes_out
        uint64_t idle_us

    int l4lb_engine_new(const l4lb_options *options, l4lb_engine **out)
    int l4lb_engine_start(l4lb_engine *engine)
    void l4lb_engine_stop(l4lb_engine *engine)
    void l4lb_engine_free(l4lb_engine *engine)
    int l4lb_watchdog_start(l4lb_engine *engine, const char *name, size_t length, uint64_t interval_ms,
                            uint64_t control_ms)
    void l4lb_watchdog_stop(l4lb_engine *engine)
    void l4lb_control_works(l4lb_engine *engine)
    int l4lb_slot_take(l4lb_engine *engine, l4lb_slot_kind kind)
    int l4lb_slot_give(l4lb_engine *engine, l4lb_slot_kind kind, uint32_t slot)
    int l4lb_publish(l4lb_engine *engine, const l4lb_config *config)
    int l4lb_check_pool(l4lb_engine *engine, const l4lb_pool_config *pool)
    int l4lb_reclaim(l4lb_engine *engine)
    int l4lb_read_backend(const l4lb_engine *engine, uint32_t slot, l4lb_backend_stats *out)
    int l4lb_read_summaries(const l4lb_engine *engine, const uint32_t *slots, size_t n, l4lb_backend_summary *out)
    int l4lb_read_listener(const l4lb_engine *engine, uint32_t slot, l4lb_listener_stats *out)
    int l4lb_read_pool(const l4lb_engine *engine, uint32_t slot, l4lb_pool_stats *out)
    int l4lb_read_worker(const l4lb_engine *engine, uint32_t worker, l4lb_worker_stats *out)
    int l4lb_sticky_count(const l4lb_engine *engine, uint32_t pool)
    int l4lb_sticky_read(const l4lb_engine *engine, uint32_t pool, uint32_t *cursor, l4lb_sticky_entry *out, size_t n)
    int l4lb_sticky_write(const l4lb_engine *engine, uint32_t pool, const l4lb_sticky_entry *entries, size_t n)
    int l4lb_list_sessions(l4lb_engine *engine, uint32_t worker, uint64_t after, l4lb_session_record *out, size_t n,
                           int timeout_ms)
    int l4lb_kill_session(l4lb_engine *engine, uint64_t id, int timeout_ms)
    enum l4lb_close:
        L4LB_CLOSE_KILLED
        L4LB_CLOSE_DRAINED
        L4LB_CLOSE_BACKEND_DOWN
        L4LB_CLOSE_BETTER_UP

    int l4lb_kill_backend(l4lb_engine *engine, uint32_t slot, l4lb_close reason, int timeout_ms)
    int l4lb_set_draining(l4lb_engine *engine, const uint32_t *slots, size_t n, bint draining, uint32_t spread_ms,
                         int timeout_ms)
    int l4lb_drain_clients(l4lb_engine *engine, uint32_t spread_ms, int timeout_ms)
    int l4lb_set_cold(l4lb_engine *engine, const uint32_t *slots, size_t n, uint32_t responses)
    int l4lb_close_idle(l4lb_engine *engine, uint32_t slot, uint32_t n, uint32_t idle_ms, int timeout_ms)
    int l4lb_event_fd(const l4lb_engine *engine)
    int l4lb_take_events(l4lb_engine *engine, l4lb_session_record *out, size_t n)
