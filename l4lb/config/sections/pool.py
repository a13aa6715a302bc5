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
from l4lb.config.sections.tcp import Tcp


class Hash(Section):
    """How `maglev` and `source_hash` place clients."""

    key: Literal["source_ip", "source_ip_port", "sni"] = "source_ip"
    """What decides where a client goes. `sni` is the server name it asks for; its address when it gives none."""

    table_size: TableSize = 65537
    """Entries of the lookup table, a prime number. More entries share more evenly."""

    max_load: MaxLoad | None = None
    """How many times its share of the connections a backend may have before clients go elsewhere; not given is any."""


class Timeouts(Section):
    """Deadlines of one session."""

    connect: Timeout = 5.0
    """For each attempt to reach a backend."""

    idle: Timeout = 3600.0
    """No byte in either direction for this long."""

    half_close: Timeout = 60.0
    """One side has finished, and the other sent nothing for this long."""

    lifetime: TimeoutOrOff = None
    """How long a session may last. One in the middle of a turn may end it, for as long again at most."""

    first_byte: TimeoutOrOff = None
    """To the client's first byte, and from its last byte to the backend's first. One from the backend settles it."""

    response: TimeoutOrOff = None
    """From the last byte of a question to the first byte of its answer. Replaces `idle` there."""

    stream_gap: TimeoutOrOff = None
    """Silence in the middle of an answer, as far as it is known not to be over. Replaces `idle` there."""

    keepalive: TimeoutOrOff = None
    """Silence between an answer and the next question. Replaces `idle` there."""

    hello: Timeout = 5.0
    """To the end of a TLS ClientHello, where its server name matters. After that the client goes on without one."""


class Rebalance(Section):
    """Closing quiet connections of backends that have more than their share, after another one joined or gained."""

    rate: Rate = Field(default=20.0, json_schema_extra={"default": "20/s"})
    """Connections closed a second, all backends of the pool together."""

    quiet: Interval = 2.0
    """Only connections without a byte for this long. A stream that pauses for longer would be cut."""


class Queue(Section):
    """The waiting room for clients that find no backend with a place."""

    size: QueueSize = 1000
    """Clients at once. More are disconnected."""

    timeout: Timeout = 30.0
    """How long each waits."""


class Sticky(Section):
    """Remembering which backend each client was given, so that it comes back to it."""

    key: Literal["source_ip"] = "source_ip"
    """What a client is known by."""

    ttl: Timeout = 1800.0
    """How long after its last session a client is remembered."""

    entries: StickyEntries = 100_000
    """Clients at once. A new one takes the place of one that has not come for long."""


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
    """How clients are shared out."""

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
    """A known server: fills health, load, timeouts, tcp, drain_timeout and drain_quiet where the pool is silent."""

    hash: Hash = Hash()
    """For `maglev` and `source_hash`."""

    backends: tuple[Backend, ...]
    """Addresses, or sections. Where there are none, clients wait in the `queue`, or are disconnected."""

    discover: Discover | None = None
    """Where more backends are found. With it `backends` may be left out."""

    retries: Retries = 3
    """Attempts after the first that failed to connect."""

    source: Sources = ()
    """Addresses of this host that connections to backends come from, in turn; none given leaves it to the kernel."""

    send_proxy: Literal["off", "v1", "v2"] = "off"
    """Version of the PROXY header that tells backends who the client is."""

    timeouts: Timeouts = Timeouts()
    """Deadlines of a session."""

    tcp: Tcp = Tcp()
    """For the connections to backends."""

    health: Health | None = None
    """Not given: backends are not checked."""

    passive: Passive | None = None
    """Not given: failures of clients' connections eject nobody."""

    queue: Queue | None = None
    """Not given: a client that finds no place is disconnected at once."""

    abort_on_close: bool = False
    """Whether a client that has finished (sent a FIN) before it has a backend has left, and nothing is asked for it."""

    scale_to_zero: bool = False
    """Whether nobody may be there, and that is no fault: clients wait in the `queue` for somebody to be started."""

    sticky: Sticky | None = None
    """Not given: every session is shared out as if its client came for the first time."""

    rebalance: Rebalance | None = None
    """Not given: connections stay where they are for as long as their clients keep them."""

    load: Load | None = None
    """Not given: weights do not follow the load of the backends."""

    agent: Agent | None = None
    """Not given: no agent is asked."""

    slow_start: TimeoutOrOff = None
    """In this time the weight of a backend that has become usable grows to what it is."""

    panic_threshold: Percentage = Field(default=0.0, json_schema_extra={"default": "0%"})
    """Below this share of usable backends health is ignored; 0% is never."""

    on_down: Literal["keep", "close"] = "keep"
    """What becomes of the sessions of a backend that goes down or into maintenance."""

    on_up: Literal["keep", "close_lower"] = "keep"
    """What becomes of the sessions on lower tiers when a backend of a better one comes up."""

    failback: FailbackOrOff = Field(default=0.0, json_schema_extra={"default": "on"})
    """With tiers and `first`, when to go back to a better one that was left: at once, never by itself, or when it has
    been usable for this long."""

    spill: Literal["on", "off"] = "on"
    """With tiers: `off` uses a lower tier only when no backend above it is usable, not when those are full."""

    drain_timeout: PatienceOrOff = 600.0
    """How long a backend that left the file keeps turns in flight; off is for ever."""

    drain_spread: Spread = Field(default=0.0, json_schema_extra={"default": "0s"})
    """Quiet sessions of a backend that is drained or gone, or of l4lb when it stops, leave spread over this time."""

    drain_quiet: Literal["close", "keep"] = "close"
    """What becomes of quiet sessions where their backend is drained or gone, or l4lb stops: closed at once, or kept as
    long as those in a turn."""
