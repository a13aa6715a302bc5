"""`load` and `agent`: what backends say about how much they have left."""

from __future__ import annotations

from l4lb.config.fields.addresses import IpAddress
from l4lb.config.fields.checks import Payload
from l4lb.config.fields.durations import Interval, Timeout
from l4lb.config.fields.numbers import Limit, Port
from l4lb.config.fields.series import Chain
from l4lb.config.fields.strings import Url
from l4lb.config.sections import Section


class LoadSignals(Section):
    """Metrics that say how loaded a backend is: of each, the names it goes by."""

    queue: Chain = ()
    """Requests that wait; summed over all series."""

    running: Chain = ()
    """Requests in work; summed."""

    kv: Chain = ()
    """Share of the KV cache in use; the fullest series."""

    gpu: Chain = ()
    """Share of the time that GPUs work; the busiest."""

    cpu: Chain = ()
    """Share of the CPU in use; the busiest."""

    memory: Chain = ()
    """Share of the memory in use; the fullest."""


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
    """Where the metrics of a backend are. `{host}` and `{port}` are those of its address. A backend on a unix socket,
    or in maintenance, is not scraped. Up to three redirects to the same host are followed."""

    interval: Interval = 1.0
    """From the start of one scrape to the start of the next, give or take 10%."""

    timeout: Timeout = 1.0
    """For a whole scrape."""

    stale_after: Timeout = 2.0
    """Age from which numbers count less and less. Three intervals, if that is more."""

    expire: Timeout = 180.0
    """Age from which numbers no longer count."""

    signals: LoadSignals = LoadSignals()
    """What to read. Needed unless a preset has some."""

    limits: LoadLimits = LoadLimits()
    """At how much of each signal a backend is full."""


class Agent(Section):
    """A program beside each backend that answers with a line of HAProxy's agent-check protocol."""

    address: IpAddress | None = None
    """Another address to ask, the same for all backends. Default: that of the backend."""

    port: Port
    """Where it listens. One backend may have another."""

    send: Payload | None = None
    r"""What to send before the reply is read, such as `"gpu0\n"`."""

    interval: Interval = 2.0
    """From the start of one request to the start of the next, give or take 10%, and how long a reply may take."""


class BackendAgent(Section):
    """Where the agent of one backend is, if not where the pool says."""

    address: IpAddress | None = None
    """Another address to ask. Default: that of the pool's `agent`, or its own."""

    port: Port | None = None
    """Another port to ask. Default: that of the pool's `agent`."""
