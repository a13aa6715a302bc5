"""The data plane as the control plane sees it.

The types here separate deciding (Python) from forwarding (C). They mirror `src_c/l4lb.h`, which documents the meaning
and unit of every field. `Engine` is the protocol of the compiled `l4lb.engine.NativeEngine` and of the fake in the
tests.

A *slot* is the identity of a listener, pool or backend across snapshots. Its numbers belong to the slot, so the code
that maps names to slots (`l4lb.balancer`) decides what survives a reload.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from l4lb.engine.statistics import BackendStatistics, ListenerStatistics, PoolStatistics, WorkerStatistics

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | str
"""An address as the socket module spells it: (host, port), (host, port, flow, scope), or a unix path."""


class SlotKind(enum.IntEnum):
    LISTENER = 0
    POOL = 1
    BACKEND = 2


class Balance(enum.IntEnum):
    ROUND_ROBIN = 0
    LEAST_CONNECTIONS = 1
    RANDOM = 2
    POWER_OF_TWO = 3
    MAGLEV = 4
    FIRST = 5
    LEAST_BUSY = 6
    LEAST_LATENCY = 7


class ProxyMode(enum.IntEnum):
    OFF = 0
    REQUIRE = 1
    OPTIONAL = 2


class SendProxy(enum.IntEnum):
    OFF = 0
    V1 = 1
    V2 = 2


class PoolProtocol(enum.IntEnum):
    """Which messages of its sessions a pool follows: none, or those of HTTP/1."""

    TCP = 0
    HTTP1 = 1


class Resend(enum.IntEnum):
    """Which requests are sent again when a kept backend connection turns out to be closed."""

    OFF = 0
    IDEMPOTENT = 1
    ALL = 2


class HashKey(enum.IntEnum):
    SOURCE_IP = 0
    SOURCE_IP_PORT = 1
    SNI = 2


class EventKind(enum.IntFlag):
    OPEN = 1
    INTERVAL = 2
    CLOSE = 4
    REQUEST = 8
    """A response is complete, in a session whose messages are followed."""


NO_EVENTS = EventKind(0)


class SessionState(enum.IntEnum):
    HEADER = 0
    CONNECT = 1
    RELAY = 2
    QUEUE = 3
    HELLO = 4
    CLOSING = 5
    """Over, but its peers may not have all bytes yet."""
    KEPT = 6
    """Between two requests, without a backend connection."""


class Phase(enum.IntEnum):
    """What a session is doing, as its bytes tell."""

    NEW = 0
    WAIT = 1
    STREAM = 2
    QUIET = 3


class Path(enum.IntEnum):
    COPY = 0
    SPLICE = 1


class CloseReason(enum.Enum):
    """Why all sessions of a backend are closed. With the last two, a session that is still connecting goes to another
    backend instead, if there is one for it."""

    KILLED = "killed"
    DRAINED = "drained"
    BACKEND_DOWN = "backend_down"
    BETTER_UP = "better_up"


class BackendSpec(NamedTuple):
    slot: int
    name: str
    family: socket.AddressFamily
    address: SocketAddress
    weight: int = 1
    max_connections: int = 0
    max_busy: int = 0
    cold_max_busy: int = 0
    usable: bool = True
    tier: int = 0
    zone: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSpec:
    """0 is off."""

    keepalive_s: int = 0
    interval_s: int = 0
    probes: int = 0
    user_timeout_ms: int = 0


NO_TCP = TcpSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Times are milliseconds; 0 means off."""

    slot: int
    balance: Balance = Balance.ROUND_ROBIN
    table_size: int = 65537
    max_load: int = 0
    hash_key: HashKey = HashKey.SOURCE_IP
    retries: int = 3
    send_proxy: SendProxy = SendProxy.OFF
    protocol: PoolProtocol = PoolProtocol.TCP
    resend: Resend = Resend.IDEMPOTENT
    connect_ms: int = 5_000
    idle_ms: int = 3_600_000
    half_close_ms: int = 60_000
    lifetime_ms: int = 0
    first_byte_ms: int = 0
    response_ms: int = 0
    stream_gap_ms: int = 0
    keepalive_ms: int = 0
    backend_keepalive_ms: int = 4_000
    hello_ms: int = 5_000
    tcp: TcpSpec = NO_TCP
    queue_size: int = 0
    queue_ms: int = 0
    abort_on_close: bool = False
    sticky_entries: int = 0
    sticky_ttl_ms: int = 0
    sources: Sequence[tuple[socket.AddressFamily, SocketAddress]] = ()
    backends: Sequence[BackendSpec] = ()


class NetworkTable(Protocol):
    """Networks in the form that the data plane looks up (`Engine.compile_networks`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSpec:
    """`fds` holds, for each bind address, one listening socket for each worker.

    Without `allow` every client is let in, without `deny` none is rejected; an empty table matches no client. `routes`
    are server names, or `*.suffix`, with the pool of each; `pool` is for all other clients.
    """

    slot: int
    pool: int
    fds: Sequence[Sequence[int]]
    max_connections: int = 0
    allow: NetworkTable | None = None
    deny: NetworkTable | None = None
    proxy_mode: ProxyMode = ProxyMode.OFF
    proxy_from: NetworkTable | None = None
    proxy_timeout_ms: int = 5_000
    routes: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One complete configuration of the data plane; `ListenerSpec.pool` and its routes index `pools`."""

    listeners: Sequence[ListenerSpec] = ()
    pools: Sequence[PoolSpec] = ()
    zones: NetworkTable | None = None
    events: EventKind = NO_EVENTS
    interval_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    workers: int = 1
    max_connections: int = 1024
    pipes_per_worker: int = 64
    pipe_bytes: int = 1 << 20
    events_cap: int = 4096


class BackendSummary(NamedTuple):
    """The numbers of a backend that are watched all the time. `latency` is 0 while unknown. `failures_total` counts
    connects that failed or timed out and sessions that the backend reset before its first byte; `responded_total`
    counts sessions that received a first byte. `responses_total`, and of these `server_errors_total` with a status of
    5xx, are 0 where HTTP/1 is not followed. `cold_left` is how many responses the backend has to give until it is
    warm."""

    busy: int = 0
    latency: float = 0.0
    failures_total: int = 0
    responded_total: int = 0
    turns_total: int = 0
    received_bytes_total: int = 0
    responses_total: int = 0
    server_errors_total: int = 0
    cold_left: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyEntry:
    """A client and the slot of its backend. `key` is the client's address, 16 bytes, IPv4 mapped into IPv6; `left` are
    the seconds until the client is forgotten if it does not return."""

    key: bytes
    backend: int
    left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A session as it is (in a listing), or at an event. `None` marks a phase that was never reached.

    `event` is None in a listing; `close` is (reason, termination code) in a close event. Times are seconds; `started`
    is wall-clock time since the epoch. In a request event, times and bytes are those of the request. `pin` says why the
    session keeps its backend, and `status` is that of the latest response, where HTTP/1 is followed.
    """

    id: int
    event: EventKind | None
    listener: int
    pool: int
    backend: int | None
    client: str
    client_port: int
    state: SessionState
    close: tuple[str, str] | None
    path: Path
    retries: int
    phase: Phase
    pin: str | None
    status: int | None
    turns: int
    moves: int
    started: float
    duration: float
    queue: float
    connect: float | None
    first_byte: float | None
    bytes_in: int
    bytes_out: int
    idle: float


class Engine(Protocol):
    """The data plane. Only the control thread calls it, except where a method says "any thread"."""

    options: EngineOptions

    def start(self) -> None:
        """Start the worker threads."""

    def stop(self) -> None:
        """Close every session and end the worker threads; listening sockets stay open."""

    def close(self) -> None:
        """Free everything. Idempotent."""

    def take_slot(self, kind: SlotKind) -> int:
        """Take a free slot, with its numbers at zero. OSError(ENOSPC) if there is none left."""

    def give_slot(self, kind: SlotKind, slot: int) -> bool:
        """Give a slot back; False while a snapshot or session still uses it (try again after `reclaim`)."""

    def publish(self, snapshot: Snapshot) -> None:
        """Replace the running snapshot, all or nothing. ValueError or OSError leaves the old one running."""

    def check_pool(self, pool: PoolSpec) -> None:
        """Check whether `publish` would take this pool: ValueError or OSError if not. Changes nothing."""

    def compile_networks(self, networks: bytes, numbers: bytes | None = None) -> NetworkTable:
        """A table of packed networks (`l4lb.engine.packing`) and, for zones, the number of each, 4 bytes in this
        machine's order. The longest network wins, and of equal ones the last. Any thread; slow for many networks."""

    def reclaim(self) -> int:
        """Free retired snapshots. Returns how many are left; at 0, sockets that the newest one lacks may be closed."""

    def backend_statistics(self, slot: int) -> BackendStatistics: ...

    def summaries(self, slots: Sequence[int]) -> list[BackendSummary]:
        """The numbers of many backends at once, cheaply."""

    def listener_statistics(self, slot: int) -> ListenerStatistics: ...

    def pool_statistics(self, slot: int) -> PoolStatistics: ...

    def worker_statistics(self, worker: int) -> WorkerStatistics: ...

    def sticky_read(self, pool: int, after: int = 0, limit: int = 1024) -> tuple[list[StickyEntry], int]:
        """Up to `limit` clients that the pool remembers, and `after` for the next call; an empty list at the end. A
        client that is remembered all the time appears once. FileNotFoundError if the pool remembers no clients."""

    def sticky_write(self, pool: int, entries: Sequence[StickyEntry]) -> int:
        """Let the pool remember these clients, too; returns how many were added. Clients that are known already or came
        later have precedence. FileNotFoundError if the pool remembers no clients, ValueError for a bad key or slot."""

    def sessions(self, worker: int, after: int = 0, limit: int = 1024) -> list[SessionRecord]:
        """Up to `limit` sessions of a worker with ids above `after`. Any thread; may wait for the worker."""

    def kill_session(self, session: int) -> bool:
        """Close one session; False if it is gone. Any thread; may wait for the worker."""

    def kill_backend(self, slot: int, reason: CloseReason) -> int:
        """Close every session of a backend; returns how many. Any thread; may wait for the workers."""

    def set_draining(self, slots: Sequence[int], draining: bool, spread_ms: int = 0) -> int:
        """Drain these backends, which closes each session once it is idle, or stop draining them. `spread_ms` spreads
        the closing over that time. Returns how many sessions are idle already. Any thread; may wait for the workers."""

    def drain_clients(self, spread_ms: int) -> None:
        """Drain the clients, for a stop: followed sessions close between two requests, spread over that time. Any
        thread; may wait for the workers."""

    def set_cold(self, slots: Sequence[int], responses: int) -> None:
        """These backends have just become usable: each is cold until it has given so many complete responses. Any
        thread."""

    def close_idle(self, slot: int, limit: int, idle_ms: int) -> int:
        """Close up to `limit` sessions of a backend that have been idle for `idle_ms`, or for less where responses
        are certainly complete; returns how many. Any thread; may wait for the workers."""

    @property
    def event_fd(self) -> int:
        """Readable when session events wait."""

    def take_events(self, limit: int = 4096) -> list[SessionRecord]:
        """Take waiting session events and clear `event_fd`."""
