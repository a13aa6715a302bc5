"""`pools`: backends that serve the same thing, and how clients are shared out among them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from l4lb.config.fields.addresses import Sources
from l4lb.config.fields.durations import FailbackOrOff, Interval, PatienceOrOff, Spread, Timeout, TimeoutOrOff
from l4lb.config.fields.numbers import MaxLoad, Percentage, QueueSize, Rate, Retries, StickyEntries, TableSize
from l4lb.config.sections import Section
from l4lb.config.sections.backend import Backend
from l4lb.config.sections.discover import Discover
from l4lb.config.sections.health import Health
from l4lb.config.sections.load import Agent, Load
from l4lb.config.sections.passive import Passive
from l4lb.config.sections.slow_start import SlowStart
from l4lb.config.sections.tcp import Tcp


class Hash(Section):
    """How `maglev` and `source_hash` place clients."""

    key: Literal["source_ip", "source_ip_port", "sni"] = "source_ip"
    """What decides where a client goes: its address; its address and port, which spreads the connections of one host;
    or the server name it asks for with TLS, so that all clients of a name share a backend. `sni` waits for the name; a
    client without one is placed by its address."""

    table_size: TableSize = 65537
    """Entries of the lookup table, a prime. More entries share more evenly and take more memory; 100 for each backend
    is a good minimum. If sources find more backends than it has entries, a larger table is used and logged."""

    max_load: MaxLoad | None = None
    """Bounded loads: a backend with this many times its share of the pool's connections (with `protocol: http1`, of its
    turns in flight) takes no more clients; they go where another hash sends them, and if all are full, to the least
    loaded. 1.25 suits most. Default: no bound."""


class Timeouts(Section):
    """Deadlines of one session."""

    connect: Timeout = 5.0
    """For each attempt to connect to a backend."""

    idle: Timeout = 3600.0
    """No byte in either direction for this long."""

    half_close: Timeout = 60.0
    """One side has finished sending, and nothing came from the other, which owes it nothing, for this long. A client
    that ends its request with a FIN is owed the response until the backend has finished too: `response`, `stream_gap`
    and `idle` cover that. Also how long a peer of a closing session may leave sent bytes unread before it is reset."""

    lifetime: TimeoutOrOff = None
    """How long a session may last. A session in the middle of a turn gets up to the same time again to finish it."""

    first_byte: TimeoutOrOff = None
    """From the connection to the first byte of the client, and from the client's last byte to the first byte of the
    backend. After that byte the timer is off for the session."""

    response: TimeoutOrOff = None
    """From the last byte of a request to the first byte of its response. Replaces `idle` there."""

    stream_gap: TimeoutOrOff = None
    """Silence within a response: for up to a minute after a piece that is known never to be the last, for a second at
    most where sizes prove nothing; and of a response that the client does not read. With `protocol: http1`: until the
    response is complete. Replaces `idle` there."""

    keepalive: TimeoutOrOff = None
    """Silence between a response and the next request. Replaces `idle` there."""

    backend_keepalive: TimeoutOrOff = 4.0
    """With `protocol: http1`: how long a backend connection is kept between two requests, while the client's stays
    open. Write less than the backends' own keep-alive, so that no request meets a connection that is about to close.
    `off` keeps it for as long as the backend does."""

    hello: Timeout = 5.0
    """From accepting a client, or from its PROXY header, to the end of its TLS ClientHello, where the server name
    matters: in a pool with `hash.key: sni`, and for the clients of a listener with `sni` whose own pool this is. A
    client that takes longer goes on without a name."""


class Rebalance(Section):
    """Closing idle connections of backends that have more than their share."""

    rate: Rate = Field(default=20.0, json_schema_extra={"default": "20/s"})
    """Connections to close, over all backends of the pool. The pace varies a little, so that balancers do not close in
    step."""

    quiet: Interval = 2.0
    """Close only connections without a byte for this long, unless their last response is certainly complete: then 100ms
    suffice. Longer than any pause of a stream, shorter than the backends' own keep-alive."""


class Queue(Section):
    """The waiting room for clients that find no backend with a place."""

    size: QueueSize = 1000
    """Clients that wait at once. Further clients are disconnected (`queue_full`)."""

    timeout: Timeout = 30.0
    """How long each client waits (`queue_timeout`), all its waits together."""


class Sticky(Section):
    """Remembering which backend each client was given, so that it comes back to it."""

    key: Literal["source_ip"] = "source_ip"
    """What identifies a client: its address, from the PROXY header where that is trusted. Clients on a unix socket are
    not remembered."""

    ttl: Timeout = 1800.0
    """How long after its last session a client is remembered. A reload changes it for all clients at once."""

    entries: StickyEntries = 100_000
    """Clients remembered at once, 43 bytes each."""


class Pool(Section):
    """Backends that serve the same thing, and how clients are shared out among them."""

    balance: Literal[
        "round_robin",
        "least_connections",
        "least_busy",
        "least_latency",
        "power_of_two",
        "random",
        "maglev",
        "source_hash",
        "first",
    ] = "round_robin"
    """How clients are shared out among the backends."""

    preset: (
        Literal[
            "vllm",
            "sglang",
            "tgi",
            "triton",
            "kserve",
            "ray",
            "mlflow",
            "dask",
            "airflow",
            "prefect",
            "tensorflow-serving",
            "torchserve",
        ]
        | None
    ) = None
    """A known server: fills `protocol`, `health`, `load`, `slow_start`, `timeouts`, `tcp`, `abort_on_close`,
    `drain_timeout` and `drain_quiet` where the pool does not set them."""

    hash: Hash = Hash()
    """Settings of `maglev` and `source_hash`."""

    protocol: Literal["tcp", "http1"] = "tcp"
    """What clients speak. With `http1` each request goes to the backend that `balance` chooses for it, and not only the
    first one of a connection; not a byte is changed. A client that speaks anything else, TLS or HTTP/2 for instance,
    keeps its first backend, as with `tcp`."""

    resend: Literal["idempotent", "all", "off"] = "idempotent"
    """With `protocol: http1`: which requests are sent again, to another backend, when the backend connection that was
    kept for them turns out to be closed before a byte of the response: those with an idempotent method (GET, HEAD, PUT,
    DELETE, OPTIONS, TRACE), all, or none. Only a request that is still held in full is sent again."""

    backends: tuple[Backend, ...]
    """Addresses, or sections as below. May be empty, and may be left out beside `discover`. While a pool has no backend
    at all, clients wait in the `queue`, or are disconnected if there is none."""

    discover: Discover | None = None
    """Where to find more backends."""

    retries: Retries = 3
    """Further attempts after the first one failed to connect. The next attempt goes to a backend that was not tried
    yet, if there is one; the same backend is tried again after a second. With `maglev` and `source_hash`, and for
    clients that `sticky` remembers, only the last attempt goes elsewhere. A unix socket whose backlog is full has not
    failed: it is tried again, after a few milliseconds and then more slowly, until `timeouts.connect`."""

    source: Sources = ()
    """Addresses of this host to connect to backends from, in turn, at most 64; checks, scrapes and agents of the pool
    use them too. An address that has no port left, or that this host does not have, is skipped; each has about 28,000
    ports for each backend. If none has the family of a discovered or resolved backend, the kernel chooses."""

    send_proxy: Literal["off", "v1", "v2"] = "off"
    """Begin each connection to a backend with a PROXY header that names the client. `v2` also passes on the extensions
    of a trusted header."""

    timeouts: Timeouts = Timeouts()
    """Deadlines of a session."""

    tcp: Tcp = Tcp()
    """Detect dead connections to backends."""

    health: Health | None = None
    """Checks. Without the section backends are not checked and always count as healthy."""

    passive: Passive | None = None
    """Eject backends that fail the connections of clients. Without the section none is ejected."""

    queue: Queue | None = None
    """Let clients wait for a backend with capacity. Without the section they are disconnected at once."""

    abort_on_close: bool = False
    """Treat a client that sends a FIN while it is queued, connecting or waiting for a retry as gone: it is disconnected
    (`client_abort`), and no backend works for it. HTTP clients close like that when they give up; the presets of HTTP
    servers turn it on. Leave it off where a client may end its request with a FIN and still read the response. A reset
    always counts as leaving."""

    scale_to_zero: bool = False
    """Allow the pool to be empty: clients wait in the `queue` until a backend starts. Needs a `queue`."""

    sticky: Sticky | None = None
    """Remember which backend each client was given. Without the section every session is balanced anew."""

    rebalance: Rebalance | None = None
    """Move connections to backends that have less than their share. Without the section connections stay for as long as
    clients keep them. With `protocol: http1` requests move instead, and the section has no effect."""

    load: Load | None = None
    """Let weights follow the load of the backends."""

    agent: Agent | None = None
    """Ask a program beside each backend for its load and state."""

    slow_start: SlowStart = SlowStart()
    """Spare a backend that has just become usable: a section as below, or its `duration` alone."""

    panic_threshold: Percentage = Field(default=0.0, json_schema_extra={"default": "0%"})
    """Below this share of usable backends, health is ignored; `0%` is never."""

    on_down: Literal["keep", "close"] = "keep"
    """What happens to the sessions of a backend that goes down or into maintenance: they go on, or are closed at
    once."""

    on_up: Literal["keep", "close_lower"] = "keep"
    """What happens to the sessions on lower tiers when a backend of a better tier comes up."""

    failback: FailbackOrOff = Field(default=0.0, json_schema_extra={"default": "on"})
    """With tiers, and with `balance: first`: when new sessions go back to a better tier or backend: at once (`on`),
    never by themselves (`off`), or once it has been usable for this long."""

    spill: Literal["on", "off"] = "on"
    """With tiers: `off` uses a lower tier only while no backend above it is usable. When the better tiers are full,
    clients wait or are turned away."""

    drain_timeout: PatienceOrOff = 600.0
    """How long turns in flight may go on at a backend that was removed from the file; `off` is without limit."""

    drain_spread: Spread = Field(default=0.0, json_schema_extra={"default": "0s"})
    """Idle sessions of a backend that is drained or removed, and of l4lb when it stops, begin to close spread over this
    time, so that their clients do not all reconnect at once. At most `drain_timeout`; when l4lb stops,
    `process.drain_timeout` is the limit."""

    drain_quiet: Literal["close", "keep"] = "close"
    """What happens to idle sessions when their backend is drained or removed, or l4lb stops: they are closed within a
    second, or kept as long as turns in flight. `keep` is for protocols in which silence is work, such as database
    transactions."""
