"""`load` and `agent`: what backends say about how much they have left."""

from __future__ import annotations

from l4lb.config.fields.addresses import IpAddress
from l4lb.config.fields.checks import Payload
from l4lb.config.fields.durations import Interval, Timeout
from l4lb.config.fields.numbers import Limit, Port
from l4lb.config.fields.series import Chain
from l4lb.config.fields.words import Url
from l4lb.config.sections import Section


class LoadSignals(Section):
    """Metrics that say how loaded a backend is: of each, the names it goes by."""

    queue: Chain = ()
    """Requests that wait."""

    running: Chain = ()
    """Requests that are worked on."""

    kv: Chain = ()
    """Share of the KV cache that is in use."""

    gpu: Chain = ()
    """Share of the time that GPUs work."""

    cpu: Chain = ()
    """Share of the CPU that is in use."""

    memory: Chain = ()
    """Share of the memory that is in use."""


class LoadLimits(Section):
    """With how much of it a backend counts as full; the scarcest thing decides."""

    queue: Limit = 5.0
    """Waiting requests."""

    running: Limit = None
    """Running requests."""

    kv: Limit = 0.8
    """Share of the KV cache."""

    gpu: Limit = 1.0
    """Share of the GPU's time."""

    cpu: Limit = 1.0
    """Share of the CPU."""

    memory: Limit = 1.0
    """Share of the memory."""


class Load(Section):
    """Metrics of the backends, scraped to weigh them by what they have left."""

    url: Url = "http://{host}:{port}/metrics"
    """Where the metrics of a backend are; `{host}` and `{port}` are those of its address."""

    interval: Interval = 1.0
    """From the start of one scrape to the start of the next."""

    timeout: Timeout = 1.0
    """For a whole scrape."""

    stale_after: Timeout = 2.0
    """Age from which numbers count less and less, but never less than three intervals."""

    expire: Timeout = 180.0
    """Age from which they do not count at all."""

    signals: LoadSignals = LoadSignals()
    """What to read."""

    limits: LoadLimits = LoadLimits()
    """What is full."""


class Agent(Section):
    """A program beside each backend that answers with a line of HAProxy's agent-check protocol."""

    address: IpAddress | None = None
    """Address to ask instead of the one of the backend."""

    port: Port
    """Where it listens."""

    send: Payload | None = None
    """What to send before the answer is read."""

    interval: Interval = 2.0
    """From the start of one question to the start of the next, and how long an answer may take."""


class BackendAgent(Section):
    """Where the agent of one backend is, if not where the pool says."""

    address: IpAddress | None = None
    """Address to ask instead of the one of the backend."""

    port: Port | None = None
    """Port to ask instead of the one of the pool."""
