"""The compiled binding of src_c/l4lb.h: conversions only, no decisions.

Calls are few and coarse. Calls that wait for a worker release the GIL.
"""

import errno
import os
import socket

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport UINT32_MAX, UINT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.unistd cimport getpid

from l4lb.engine._capi cimport *

from l4lb.engine.api import (
    CloseReason,
    EventKind,
    Path,
    Phase,
    BackendSummary,
    SessionRecord,
    SessionState,
    StickyEntry,
)
from l4lb.engine.packing import pack_address
from l4lb.engine.statistics import (
    STATUS_CLASSES,
    BackendStatistics,
    Histogram,
    ListenerStatistics,
    PoolStatistics,
    Stat,
    StatKind,
    StickyStatistics,
    WorkerStatistics,
)

cdef extern from *:
    """
    #define X(symbol, code, reason, meaning) {reason, code, meaning},
    static const char *const close_table[][3] = {L4LB_CLOSE_TABLE(X)};
    #undef X
    #define X(symbol, reason, meaning) {reason, meaning},
    static const char *const reject_table[][2] = {L4LB_REJECT_TABLE(X)};
    static const char *const pin_table[][2] = {L4LB_PIN_TABLE(X)};
    #undef X
    static const unsigned long long bounds_table[] = L4LB_HISTOGRAM_BOUNDS_US;
    struct stat_line {
        const char *name, *help;
        enum l4lb_stat_kind kind;
        size_t offset;
    };
    #define X(kind, name, help) {#name, help, L4LB_STAT_##kind, offsetof(STRUCT, name)},
    #define STRUCT struct l4lb_backend_stats
    static const struct stat_line backend_stats[] = {L4LB_BACKEND_STATS(X) {0}};
    #undef STRUCT
    #define STRUCT struct l4lb_listener_stats
    static const struct stat_line listener_stats[] = {L4LB_LISTENER_STATS(X) {0}};
    #undef STRUCT
    #define STRUCT struct l4lb_pool_stats
    static const struct stat_line pool_stats[] = {L4LB_POOL_STATS(X) {0}};
    #undef STRUCT
    #define STRUCT struct l4lb_sticky_stats
    static const struct stat_line sticky_stats[] = {L4LB_STICKY_STATS(X) {0}};
    #undef STRUCT
    #define STRUCT struct l4lb_worker_stats
    static const struct stat_line worker_stats[] = {L4LB_WORKER_STATS(X) {0}};
    #undef STRUCT
    #undef X
    _Static_assert(sizeof bounds_table / sizeof bounds_table[0] + 1 == L4LB_N_BUCKETS, "one bucket above the last bound");
    _Static_assert(L4LB_N_STATUS_CLASS == 6, "as many as STATUS_CLASSES has");
    """
    const char *const (*close_table)[3]
    const char *const (*reject_table)[2]
    const char *const (*pin_table)[2]
    const unsigned long long *bounds_table

    struct stat_line:
        const char *name
        const char *help
        l4lb_stat_kind kind
        size_t offset

    const stat_line *backend_stats
    const stat_line *listener_stats
    const stat_line *pool_stats
    const stat_line *sticky_stats
    const stat_line *worker_stats

cdef extern from "structures/maglev.h":
    struct lb_maglev_member:
        const char *name
        uint32_t weight

    int lb_maglev_build(uint32_t *table, uint32_t table_size, const lb_maglev_member *members, size_t n_members)

cdef extern from "structures/lpm.h":
    int lb_lpm_new(const l4lb_prefix *prefixes, const uint32_t *values, size_t n, lb_lpm **out) nogil
    void lb_lpm_free(lb_lpm *lpm) nogil

CLOSE_REASONS = tuple(
    (close_table[i][0].decode(), close_table[i][1].decode()) for i in range(L4LB_N_CLOSE)
)
REJECT_REASONS = tuple(reject_table[i][0].decode() for i in range(L4LB_N_REJECT))
CLOSE_MEANINGS = tuple(close_table[i][2].decode() for i in range(L4LB_N_CLOSE))
REJECT_MEANINGS = tuple(reject_table[i][1].decode() for i in range(L4LB_N_REJECT))
PIN_REASONS = tuple(pin_table[i][0].decode() for i in range(L4LB_N_PIN))
PIN_MEANINGS = tuple(pin_table[i][1].decode() for i in range(L4LB_N_PIN))
BOUNDS = tuple(bounds_table[i] / 1e6 for i in range(L4LB_N_BUCKETS - 1))

CLOSE_CODES = {
    CloseReason.KILLED: L4LB_CLOSE_KILLED,
    CloseReason.DRAINED: L4LB_CLOSE_DRAINED,
    CloseReason.BACKEND_DOWN: L4LB_CLOSE_BACKEND_DOWN,
    CloseReason.BETTER_UP: L4LB_CLOSE_BETTER_UP,
}

# How long a listing or a kill waits for a worker, whose iterations take milliseconds.
cdef int WAIT_MS = 2000

# Sessions or events copied out of the data plane at once.
cdef size_t BATCH = 256


cdef int check(int result) except -1:
    """Raise -errno as an OSError of the subclass that fits."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


cdef class Arena:
    """C memory that lives as long as this object."""

    cdef list _blocks

    def __cinit__(self):
        self._blocks = []

    cdef void *take(self, size_t count, size_t size) except NULL:
        cdef void *block = calloc(count + 1, size)
        if block == NULL:
            raise MemoryError
        self._blocks.append(<size_t>block)
        return block

    cdef const char *keep(self, bytes data) except NULL:
        cdef char *copy = <char *>self.take(len(data), 1)
        memcpy(copy, <const char *>data, len(data))
        return copy

    def __dealloc__(self):
        for block in self._blocks:
            free(<void *><size_t>block)


cdef size_t fill_prefixes(const l4lb_prefix **out, bytes packed) except? 0:
    """Borrows the bytes, which live as long as their spec."""
    if len(packed) % sizeof(l4lb_prefix) != 0:
        raise ValueError("packed networks must have 17 bytes each")
    out[0] = <const l4lb_prefix *><const char *>packed
    return len(packed) // sizeof(l4lb_prefix)


cdef class NetworkTable:
    """A compiled table, shared with snapshots by count."""

    cdef lb_lpm *_lpm

    def __cinit__(self, bytes networks, bytes numbers=None):
        cdef const l4lb_prefix *prefixes
        cdef const uint32_t *values = NULL
        cdef size_t n = fill_prefixes(&prefixes, networks)
        cdef int result
        if numbers is not None:
            values = <const uint32_t *><const char *>numbers
            if <size_t>len(numbers) != n * sizeof(uint32_t):
                raise ValueError("every network needs a number of 4 bytes")
        with nogil:
            result = lb_lpm_new(prefixes, values, n, &self._lpm)
        check(result)

    def __dealloc__(self):
        lb_lpm_free(self._lpm)


cdef lb_lpm *lpm_of(table) except? NULL:
    """Borrows the table: the snapshot adds its own share."""
    return NULL if table is None else (<NetworkTable?>table)._lpm


def maglev_table(names, weights, uint32_t size):
    cdef Arena arena = Arena()
    cdef lb_maglev_member *members = <lb_maglev_member *>arena.take(len(names), sizeof(lb_maglev_member))
    cdef uint32_t *table = <uint32_t *>arena.take(size, sizeof(uint32_t))
    for i, (name, weight) in enumerate(zip(names, weights, strict=True)):
        members[i].name = arena.keep(name.encode())
        members[i].weight = weight
    check(lb_maglev_build(table, size, members, len(names)))
    return [table[i] for i in range(size)]


cdef uint32_t *fill_slots(Arena arena, slots) except NULL:
    cdef uint32_t *numbers = <uint32_t *>arena.take(len(slots), sizeof(uint32_t))
    for i, slot in enumerate(slots):
        numbers[i] = slot
    return numbers


cdef int fill_backend(Arena arena, l4lb_backend_config *out, spec) except -1:
    cdef bytes address = pack_address(spec.family, spec.address)
    out.slot = spec.slot
    out.weight = spec.weight
    out.connections_max = spec.max_connections
    out.busy_max = spec.max_busy
    out.cold_busy_max = spec.cold_max_busy
    out.usable = spec.usable
    out.tier = spec.tier
    out.zone = spec.zone
    out.name = arena.keep(spec.name.encode())
    out.address = <const sockaddr *>arena.keep(address)
    out.address_len = len(address)
    return 0


cdef const l4lb_source *fill_sources(Arena arena, sources) except NULL:
    cdef l4lb_source *out = <l4lb_source *>arena.take(len(sources), sizeof(l4lb_source))
    for i, (family, address) in enumerate(sources):
        packed = pack_address(family, address)
        out[i].address = <const sockaddr *>arena.keep(packed)
        out[i].address_len = len(packed)
    return out


cdef int fill_timeouts(l4lb_timeouts *out, spec) except -1:
    """Longer timeouts are cut to what 32 bits hold: 49 days."""
    out.idle_ms = min(spec.idle_ms, UINT32_MAX)
    out.half_close_ms = min(spec.half_close_ms, UINT32_MAX)
    out.first_byte_ms = min(spec.first_byte_ms, UINT32_MAX)
    out.response_ms = min(spec.response_ms, UINT32_MAX)
    out.stream_gap_ms = min(spec.stream_gap_ms, UINT32_MAX)
    out.keepalive_ms = min(spec.keepalive_ms, UINT32_MAX)
    out.backend_keepalive_ms = min(spec.backend_keepalive_ms, UINT32_MAX)
    return 0


cdef int fill_pool(Arena arena, l4lb_pool_config *out, spec) except -1:
    cdef l4lb_backend_config *backends = <l4lb_backend_config *>arena.take(
        len(spec.backends), sizeof(l4lb_backend_config)
    )
    for i, backend in enumerate(spec.backends):
        fill_backend(arena, &backends[i], backend)
    out.slot = spec.slot
    out.balance = <l4lb_balance><int>spec.balance
    out.table_size = spec.table_size
    out.max_load = spec.max_load
    out.hash_key = <l4lb_hash_key><int>spec.hash_key
    out.retries = spec.retries
    out.send_proxy = <l4lb_send_proxy><int>spec.send_proxy
    out.protocol = <l4lb_protocol><int>spec.protocol
    out.resend = <l4lb_resend><int>spec.resend
    out.connect_ms = spec.connect_ms
    out.lifetime_ms = spec.lifetime_ms
    fill_timeouts(&out.timeouts, spec)
    out.hello_ms = spec.hello_ms
    out.tcp.keepalive_s = spec.tcp.keepalive_s
    out.tcp.interval_s = spec.tcp.interval_s
    out.tcp.probes = spec.tcp.probes
    out.tcp.user_timeout_ms = spec.tcp.user_timeout_ms
    out.queue_size = spec.queue_size
    out.queue_ms = spec.queue_ms
    out.abort_on_close = spec.abort_on_close
    out.sticky_entries = spec.sticky_entries
    out.sticky_ttl_ms = spec.sticky_ttl_ms
    out.sources = fill_sources(arena, spec.sources)
    out.n_sources = len(spec.sources)
    out.backends = backends
    out.n_backends = len(spec.backends)
    return 0


cdef int fill_listener(Arena arena, l4lb_listener_config *out, spec, size_t n_workers) except -1:
    cdef int *fds = <int *>arena.take(len(spec.fds) * n_workers, sizeof(int))
    cdef l4lb_route *routes = <l4lb_route *>arena.take(len(spec.routes), sizeof(l4lb_route))
    cdef size_t n = 0
    for bind in spec.fds:
        if <size_t>len(bind) != n_workers:
            raise ValueError(f"a bind needs one socket for each of {n_workers} workers, not {len(bind)}")
        for fd in bind:
            fds[n] = fd
            n += 1
    out.slot = spec.slot
    out.pool = spec.pool
    out.connections_max = spec.max_connections
    out.fds = fds
    out.n_binds = len(spec.fds)
    out.allow = lpm_of(spec.allow)
    out.deny = lpm_of(spec.deny)
    out.proxy_mode = <l4lb_proxy_mode><int>spec.proxy_mode
    out.proxy_from = lpm_of(spec.proxy_from)
    out.proxy_timeout_ms = spec.proxy_timeout_ms
    for i, (name, pool) in enumerate(spec.routes):
        routes[i].name = arena.keep(name.encode())
        routes[i].pool = pool
    out.routes = routes
    out.n_routes = len(spec.routes)
    return 0


cdef class StatTable:
    """A table of statistics of `l4lb.h`: its lines as `Stat`, and a reader of the struct that they describe."""

    cdef const stat_line *_lines
    cdef tuple _attributes
    cdef readonly tuple stats

    @staticmethod
    cdef StatTable of(const stat_line *lines):
        cdef StatTable table = StatTable()
        cdef size_t n = 0
        stats = []
        while lines[n].name != NULL:
            stats.append(Stat(lines[n].name.decode(), StatKind(lines[n].kind), lines[n].help.decode()))
            n += 1
        table._lines = lines
        table.stats = tuple(stats)
        table._attributes = tuple(stat.attribute for stat in stats)
        return table

    cdef dict read(self, const void *values):
        """The values of the struct, by `Stat.attribute`."""
        cdef const char *base = <const char *>values
        cdef size_t i = 0
        cdef dict read = {}
        for attribute, stat in zip(self._attributes, self.stats):
            if self._lines[i].kind == L4LB_STAT_HISTOGRAM:
                read[attribute] = to_histogram(<const l4lb_histogram *>(base + self._lines[i].offset))
            else:
                value = (<const uint64_t *>(base + self._lines[i].offset))[0]
                read[attribute] = value if attribute == stat.name else (value / 1e6 if value else None)
            i += 1
        return read


cdef StatTable BACKEND_TABLE = StatTable.of(backend_stats)
cdef StatTable LISTENER_TABLE = StatTable.of(listener_stats)
cdef StatTable POOL_TABLE = StatTable.of(pool_stats)
cdef StatTable STICKY_TABLE = StatTable.of(sticky_stats)
cdef StatTable WORKER_TABLE = StatTable.of(worker_stats)

BACKEND_STATS = BACKEND_TABLE.stats
LISTENER_STATS = LISTENER_TABLE.stats
POOL_STATS = POOL_TABLE.stats
STICKY_STATS = STICKY_TABLE.stats
WORKER_STATS = WORKER_TABLE.stats


cdef object to_histogram(const l4lb_histogram *histogram):
    counts = tuple(histogram.buckets[i] for i in range(L4LB_N_BUCKETS))
    return Histogram(BOUNDS, counts, histogram.sum_us / 1e6)


cdef object to_seconds(uint64_t us):
    return None if us == UINT64_MAX else us / 1e6


cdef object to_record(const l4lb_session_record *record):
    cdef size_t address_len = 0
    family = record.client.family
    if family == socket.AF_INET:
        address_len = 4
    elif family == socket.AF_INET6:
        address_len = 16
    address = PyBytes_FromStringAndSize(<const char *>record.client.address, address_len)
    return SessionRecord(
        id=record.id,
        event=EventKind(record.event) if record.event else None,
        listener=record.listener,
        pool=record.pool,
        backend=None if record.backend == UINT32_MAX else record.backend,
        client=socket.inet_ntop(family, address) if address_len else "unix",
        client_port=record.client.port,
        state=SessionState(record.state),
        close=CLOSE_REASONS[record.close] if record.event == EventKind.CLOSE else None,
        path=Path(record.path),
        retries=record.retries,
        phase=Phase(record.phase),
        pin=PIN_REASONS[record.pin] if record.pin else None,
        status=record.status or None,
        turns=record.turns,
        moves=record.moves,
        started=record.started_ns / 1e9,
        duration=record.duration_us / 1e6,
        queue=record.queue_us / 1e6,
        connect=to_seconds(record.connect_us),
        first_byte=to_seconds(record.first_byte_us),
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        idle=record.idle_us / 1e6,
    )


cdef class NativeEngine:
    """The data plane in C. `l4lb.engine.api.Engine` documents the methods."""

    cdef l4lb_engine *_engine
    cdef int _pid
    cdef readonly object options

    def __cinit__(self, options):
        cdef l4lb_options native
        self._pid = getpid()
        native.n_workers = options.workers
        native.sessions_max = options.max_connections
        native.pipes_max = options.pipes_per_worker
        native.pipe_bytes = options.pipe_bytes
        native.events_cap = options.events_cap
        self.options = options
        check(l4lb_engine_new(&native, &self._engine))

    def __dealloc__(self):
        if self.ours():
            l4lb_engine_free(self._engine)

    cdef bint ours(self):
        """False in a forked child: it has the memory of the engine but not its threads, and joining them would hang."""
        return self._pid == getpid()

    cdef l4lb_engine *open(self) except NULL:
        if self._engine == NULL:
            raise ValueError("the engine is closed")
        return self._engine

    def start(self):
        check(l4lb_engine_start(self.open()))

    def stop(self):
        cdef l4lb_engine *engine = self.open()
        if self.ours():
            with nogil:
                l4lb_engine_stop(engine)

    def start_watchdog(self, bytes name, uint64_t interval_ms, uint64_t control_ms):
        check(l4lb_watchdog_start(self.open(), name, len(name), interval_ms, control_ms))

    def stop_watchdog(self):
        cdef l4lb_engine *engine = self.open()
        if self.ours():
            with nogil:
                l4lb_watchdog_stop(engine)

    def control_works(self):
        l4lb_control_works(self.open())

    def close(self):
        cdef l4lb_engine *engine = self._engine
        self._engine = NULL
        if self.ours():
            with nogil:
                l4lb_engine_free(engine)

    def take_slot(self, kind):
        return check(l4lb_slot_take(self.open(), <l4lb_slot_kind><int>kind))

    def give_slot(self, kind, uint32_t slot):
        try:
            check(l4lb_slot_give(self.open(), <l4lb_slot_kind><int>kind, slot))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
        return True

    def publish(self, snapshot):
        cdef Arena arena = Arena()
        cdef size_t n_workers = self.options.workers
        cdef l4lb_config config
        cdef l4lb_listener_config *listeners = <l4lb_listener_config *>arena.take(
            len(snapshot.listeners), sizeof(l4lb_listener_config)
        )
        cdef l4lb_pool_config *pools = <l4lb_pool_config *>arena.take(len(snapshot.pools), sizeof(l4lb_pool_config))
        for i, pool in enumerate(snapshot.pools):
            fill_pool(arena, &pools[i], pool)
        for i, listener in enumerate(snapshot.listeners):
            fill_listener(arena, &listeners[i], listener, n_workers)
        config.listeners = listeners
        config.n_listeners = len(snapshot.listeners)
        config.pools = pools
        config.n_pools = len(snapshot.pools)
        config.zones = lpm_of(snapshot.zones)
        config.events = <uint32_t><int>snapshot.events
        config.interval_ms = snapshot.interval_ms
        check(l4lb_publish(self.open(), &config))

    def check_pool(self, pool):
        cdef Arena arena = Arena()
        cdef l4lb_pool_config *config = <l4lb_pool_config *>arena.take(1, sizeof(l4lb_pool_config))
        fill_pool(arena, config, pool)
        check(l4lb_check_pool(self.open(), config))

    def compile_networks(self, networks, numbers=None):
        return NetworkTable(networks, numbers)

    def reclaim(self):
        return l4lb_reclaim(self.open())

    def backend_statistics(self, uint32_t slot):
        cdef l4lb_backend_stats stats
        check(l4lb_read_backend(self.open(), slot, &stats))
        return BackendStatistics(
            responses_total={STATUS_CLASSES[i]: stats.responses[i] for i in range(L4LB_N_STATUS_CLASS)},
            **BACKEND_TABLE.read(&stats),
        )

    def summaries(self, slots):
        cdef Arena arena = Arena()
        cdef size_t i, n = len(slots)
        cdef uint32_t *numbers = fill_slots(arena, slots)
        cdef l4lb_backend_summary *summaries = <l4lb_backend_summary *>arena.take(n, sizeof(l4lb_backend_summary))
        check(l4lb_read_summaries(self.open(), numbers, n, summaries))
        return [
            BackendSummary(
                summaries[i].busy,
                summaries[i].latency_us / 1e6,
                summaries[i].failures_total,
                summaries[i].responded_total,
                summaries[i].turns_total,
                summaries[i].received_bytes_total,
                summaries[i].responses_total,
                summaries[i].server_errors_total,
                summaries[i].cold_left,
                summaries[i].connections,
            )
            for i in range(n)
        ]

    def listener_statistics(self, uint32_t slot):
        cdef l4lb_listener_stats stats
        check(l4lb_read_listener(self.open(), slot, &stats))
        return ListenerStatistics(
            rejected_total={REJECT_REASONS[i]: stats.rejected[i] for i in range(L4LB_N_REJECT)},
            **LISTENER_TABLE.read(&stats),
        )

    def pool_statistics(self, uint32_t slot):
        cdef l4lb_pool_stats stats
        cdef int entries = l4lb_sticky_count(self.open(), slot)
        check(l4lb_read_pool(self.open(), slot, &stats))
        return PoolStatistics(
            sticky=StickyStatistics(entries=entries, **STICKY_TABLE.read(&stats.sticky)) if entries >= 0 else None,
            closed_total={CLOSE_REASONS[i]: stats.closed[i] for i in range(L4LB_N_CLOSE)},
            pinned_total={PIN_REASONS[i]: stats.pinned[i] for i in range(1, L4LB_N_PIN)},
            **POOL_TABLE.read(&stats),
        )

    def worker_statistics(self, uint32_t worker):
        cdef l4lb_worker_stats stats
        check(l4lb_read_worker(self.open(), worker, &stats))
        return WorkerStatistics(**WORKER_TABLE.read(&stats))

    def sticky_read(self, uint32_t pool, uint32_t after=0, size_t limit=1024):
        cdef Arena arena = Arena()
        cdef l4lb_sticky_entry *found = <l4lb_sticky_entry *>arena.take(limit, sizeof(l4lb_sticky_entry))
        cdef int n = check(l4lb_sticky_read(self.open(), pool, &after, found, limit))
        entries = []
        for i in range(n):
            key = PyBytes_FromStringAndSize(<const char *>found[i].key, sizeof(found[i].key))
            entries.append(StickyEntry(key=key, backend=found[i].backend, left=found[i].left_ms / 1e3))
        return entries, after

    def sticky_write(self, uint32_t pool, entries):
        cdef Arena arena = Arena()
        cdef l4lb_sticky_entry *given = <l4lb_sticky_entry *>arena.take(len(entries), sizeof(l4lb_sticky_entry))
        cdef int added
        for i, entry in enumerate(entries):
            if len(entry.key) != sizeof(given[i].key):
                raise ValueError(f"a key has {sizeof(given[i].key)} bytes, not {len(entry.key)}")
            memcpy(given[i].key, <const char *>entry.key, sizeof(given[i].key))
            given[i].backend = entry.backend
            given[i].left_ms = <uint64_t>max(0.0, entry.left * 1e3)
        added = l4lb_sticky_write(self.open(), pool, given, len(entries))
        if added == -errno.EINVAL:
            raise ValueError("the slot of a backend is not taken")
        return check(added)

    def sessions(self, uint32_t worker, uint64_t after=0, size_t limit=1024):
        cdef Arena arena = Arena()
        cdef l4lb_session_record *records = <l4lb_session_record *>arena.take(limit, sizeof(l4lb_session_record))
        cdef l4lb_engine *engine = self.open()
        cdef int n
        with nogil:
            n = l4lb_list_sessions(engine, worker, after, records, limit, WAIT_MS)
        return [to_record(&records[i]) for i in range(check(n))]

    def kill_session(self, uint64_t session):
        cdef l4lb_engine *engine = self.open()
        cdef int result
        with nogil:
            result = l4lb_kill_session(engine, session, WAIT_MS)
        try:
            check(result)
        except FileNotFoundError:
            return False
        return True

    def kill_backend(self, uint32_t slot, reason):
        cdef l4lb_engine *engine = self.open()
        cdef l4lb_close code = CLOSE_CODES[reason]
        cdef int result
        with nogil:
            result = l4lb_kill_backend(engine, slot, code, WAIT_MS)
        return check(result)

    def set_draining(self, slots, bint draining, uint32_t spread_ms=0):
        cdef l4lb_engine *engine = self.open()
        cdef Arena arena = Arena()
        cdef size_t n = len(slots)
        cdef uint32_t *numbers = fill_slots(arena, slots)
        cdef int result
        with nogil:
            result = l4lb_set_draining(engine, numbers, n, draining, spread_ms, WAIT_MS)
        return check(result)

    def drain_clients(self, uint32_t spread_ms):
        cdef l4lb_engine *engine = self.open()
        cdef int result
        with nogil:
            result = l4lb_drain_clients(engine, spread_ms, WAIT_MS)
        check(result)

    def set_cold(self, slots, uint32_t responses):
        cdef Arena arena = Arena()
        check(l4lb_set_cold(self.open(), fill_slots(arena, slots), len(slots), responses))

    def close_idle(self, uint32_t slot, uint32_t limit, uint32_t idle_ms):
        cdef l4lb_engine *engine = self.open()
        cdef int result
        with nogil:
            result = l4lb_close_idle(engine, slot, limit, idle_ms, WAIT_MS)
        return check(result)

    @property
    def event_fd(self):
        return l4lb_event_fd(self.open())

    def take_events(self, size_t limit=4096):
        cdef Arena arena = Arena()
        cdef size_t batch = min(limit, BATCH)
        cdef l4lb_session_record *records = <l4lb_session_record *>arena.take(batch, sizeof(l4lb_session_record))
        cdef int n = <int>batch
        events = []
        while n == <int>batch and <size_t>len(events) < limit:
            n = l4lb_take_events(self.open(), records, min(batch, limit - <size_t>len(events)))
            for i in range(n):
                events.append(to_record(&records[i]))
        return events
