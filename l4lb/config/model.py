"""The configuration as the program sees it: frozen, checked, every default filled in.

Attribute names are the keys of the YAML file. Durations are float seconds, None where they are off.
`Config.model_validate` takes plain data and reports everything that is wrong with it. In Python a duration may also be
a number of seconds; a file has to name the unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from l4lb.config import fields, rules
from l4lb.config.discover import Discover
from l4lb.config.section import SECTION


class _Section(BaseModel):
    model_config = SECTION


class Process(_Section):
    """The process itself. Only `drain_timeout` can change without a restart."""

    workers: fields.Workers = "auto"
    """Native threads; `auto` is one for each CPU this process may use."""

    max_connections: fields.Capacity = "auto"
    """Sessions of all listeners together; `auto` follows from the limit on open files. More clients wait."""

    max_pipes: fields.Pipes = "auto"
    """Pipes of each worker, through which bulk data is spliced; 0 copies everything. `auto` suits the limits."""

    user: fields.User | None = None
    """The user to become after binding, when started as root."""

    drain_timeout: fields.Patience = 600.0
    """How long a stopping process waits for its sessions to end."""


class Admin(_Section):
    """Where the process can be asked and told things. Changes need a restart."""

    socket: fields.UnixPath | None = None
    """Path of the unix socket of the whole admin API. Not given: the path in L4LB_SOCKET, or /run/l4lb/admin.sock, if
    it can be had."""

    listen: fields.TcpBind | None = None
    """Address of the read-only HTTP server: metrics, health and status."""


class AccessLog(_Section):
    """One line for each session, or for each of its events."""

    to: fields.FilePath = "-"
    """A file to append to; `-` is standard output."""

    format: Literal["json", "tcplog"] = "json"
    """`tcplog` is the TCP log line of HAProxy."""

    events: fields.Events = ("close",)
    """Which events of a session are logged."""

    interval: fields.Interval = 60.0
    """How often a long session is logged when `events` has `interval`."""


class Log(_Section):
    """What the process says about itself, on standard error, and about its sessions."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""

    format: Literal["text", "json"] = "text"
    """`json` is one object a line."""

    access: AccessLog | None = None
    """Not given: sessions are not logged."""


class Geo(_Section):
    """Where networks are in the world."""

    database: fields.Databases
    """Files in the MaxMind DB format, read at each reload. Of several that know an address the last one counts."""


class ProxyProtocol(_Section):
    """Reading the PROXY header (versions 1 and 2) that another proxy puts before the client's bytes."""

    from_: Annotated[fields.Networks, fields.AT_LEAST_ONE, Field(alias="from")]
    """Peers that must send a header, and whose header is believed."""

    mode: Literal["require", "optional"] = "require"
    """What becomes of all other peers: `require` turns them away, `optional` serves them as themselves. The peers in
    `from` must send a valid header in either mode."""

    timeout: fields.Timeout = 5.0
    """From accepting the connection to the last byte of its header."""


class Tcp(_Section):
    """How the kernel finds out that a TCP peer is lost. Unix sockets have none of it."""

    keepalive: fields.KeepaliveOrOff = None
    """Silence after which a peer is asked for a sign of life."""

    keepalive_interval: fields.Keepalive = 10.0
    """From a probe that is not answered to the next."""

    keepalive_probes: fields.Probes = 6
    """Probes without an answer after which the peer is lost. `user_timeout` takes the place of this number."""

    user_timeout: fields.UserTimeout = None
    """How long sent bytes may go unacknowledged, or untaken, until the peer is lost."""


class Listener(_Section):
    """Addresses that accept clients for one pool."""

    bind: fields.Binds
    """One address or a list."""

    pool: fields.Name
    """The pool that serves these clients."""

    max_connections: fields.Connections = 0
    """Clients at once; 0 is no limit. More clients wait in the backlog."""

    allow: fields.Networks = ()
    """Networks whose clients are served; none given is everyone."""

    deny: fields.Networks = ()
    """Networks whose clients are turned away, even when `allow` has them."""

    proxy_protocol: ProxyProtocol | None = None
    """Not given: no PROXY header is read."""

    sni: fields.Routes = {}
    """Pools by the server name that a TLS client asks for. `pool` serves all others."""

    backlog: fields.Backlog = 4096
    """Clients the kernel holds for each listening socket until they are accepted."""

    tcp: Tcp = Tcp()
    """For the connections of clients."""


class Hash(_Section):
    """How `maglev` and `source_hash` place clients."""

    key: Literal["source_ip", "source_ip_port", "sni"] = "source_ip"
    """What decides where a client goes. `sni` is the server name it asks for; its address when it gives none."""

    table_size: fields.TableSize = 65537
    """Entries of the lookup table, a prime number. More entries share more evenly."""

    max_load: fields.MaxLoad | None = None
    """How many times its share of the connections a backend may have before clients go elsewhere; not given is any."""


class Timeouts(_Section):
    """Deadlines of one session."""

    connect: fields.Timeout = 5.0
    """For each attempt to reach a backend."""

    idle: fields.Timeout = 3600.0
    """No byte in either direction for this long."""

    half_close: fields.Timeout = 60.0
    """One side has finished, and the other sent nothing for this long."""

    lifetime: fields.TimeoutOrOff = None
    """How long a session may last. One in the middle of a turn may end it, for as long again at most."""

    first_byte: fields.TimeoutOrOff = None
    """To the client's first byte, and from its last byte to the backend's first. One from the backend settles it."""

    response: fields.TimeoutOrOff = None
    """From the last byte of a question to the first byte of its answer. Replaces `idle` there."""

    stream_gap: fields.TimeoutOrOff = None
    """Silence in the middle of an answer, as far as it is known not to be over. Replaces `idle` there."""

    keepalive: fields.TimeoutOrOff = None
    """Silence between an answer and the next question. Replaces `idle` there."""

    hello: fields.Timeout = 5.0
    """To the end of a TLS ClientHello, where its server name matters. After that the client goes on without one."""


class HealthTls(_Section):
    """TLS of a check. The data of clients is not concerned."""

    verify: bool = True
    """Whether the backend has to show a certificate that is valid for its name."""

    ca: fields.FilePath | None = None
    """Certificates that are trusted, in one PEM file; those of the system when not given."""

    server_name: fields.CertificateName | None = None
    """Name to ask for and to find in the certificate; `host`, or else the host of the address when not given."""

    certificate: fields.FilePath | None = None
    """Certificate to show to the backend, in PEM."""

    key: fields.FilePath | None = None
    """Its key; in the same file when not given."""

    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that will do."""


class Step(_Section):
    """One step of a send_expect check: send something, then read until something comes."""

    send: fields.Payload | None = None
    """Text, or `hex:` and digits."""

    expect: fields.Payload | None = None
    """What has to be in the answer, anywhere behind what was found before."""


class Progress(_Section):
    """A server that has requests and gets nowhere is down, whatever its checks say. Read from what `load` scrapes."""

    counter: fields.Chain
    """Metric that grows with the work that is done, such as tokens; summed over all series."""

    running: fields.Chain = ()
    """Metric of requests that are worked on; the one of `load.signals` when not given."""

    stalled: fields.Timeout = 30.0
    """How long the counter may stand still while requests are running."""


class Health(_Section):
    """Active checks of the backends of a pool."""

    type: Literal["tcp", "http", "https", "grpc", "send_expect", "exec", "none"] = "tcp"
    """How: `tcp` connects, `none` checks nothing, the others also ask."""

    path: fields.UrlPath = "/"
    """http, https: path to ask for."""

    status: fields.Statuses = Field(default=fields.STATUSES_OK, json_schema_extra={"default": ["200-399"]})
    """http, https: status codes that mean healthy, numbers and ranges."""

    host: fields.HostHeader | None = None
    """http, https: Host header; grpc: authority. The address of the backend when not given."""

    headers: fields.Headers = ()
    """http, https: more headers to send."""

    body: fields.RegularExpression | None = None
    """http, https: regular expression to be found in the answer's first 64 KiB."""

    service: fields.ServiceName = ""
    """grpc: name of the service to ask for; the whole server when empty."""

    script: Annotated[tuple[Step, ...], Field(max_length=64), BeforeValidator(fields.one_or_many)] = ()
    """send_expect: what is said and answered, step by step."""

    command: fields.Command | None = None
    """exec: program and arguments; `{host}` and `{port}` stand for what is checked. Healthy is exit status 0."""

    environment: fields.Variables = ()
    """exec: more variables for the program."""

    tls: HealthTls | None = None
    """TLS of the check. Not given: none, or the defaults where the type is https."""

    send_proxy: Literal["off", "v1", "v2"] | None = None
    """PROXY header (LOCAL) before the check; as `send_proxy` of the pool when not given, off at another address."""

    address: fields.IpAddress | None = None
    """Address to check instead of the one that serves."""

    port: fields.Port | None = None
    """Port to check instead of the one that serves."""

    interval: fields.Interval = 2.0
    """From the start of one check to the start of the next."""

    fast_interval: fields.Interval | None = None
    """The same while results in a row may soon change the state; `interval` when not given."""

    down_interval: fields.Interval | None = None
    """The same while a backend is down; `interval` when not given."""

    jitter: fields.Spread = Field(default=0.1, json_schema_extra={"default": "10%"})
    """How far a check may be off its time, either way, as a share of the interval."""

    timeout: fields.Timeout = 1.0
    """For a whole check."""

    rise: fields.Count = 2
    """Good checks in a row after which a backend is up."""

    fall: fields.Count = 3
    """Failed checks in a row after which a backend is down."""

    start: Literal["pending", "up", "down"] = "pending"
    """What a backend is before its first check: `pending` is up with the first good one, `down` after `rise`."""

    progress: Progress | None = None
    """Not given: nobody looks at whether servers get on with their work."""


class BackendHealth(_Section):
    """Where one backend is checked, if not where the pool says."""

    address: fields.IpAddress | None = None
    """Address to check instead of the one that serves."""

    port: fields.Port | None = None
    """Port to check instead of the one that serves."""


class Passive(_Section):
    """What clients' connections tell: a backend that fails them is ejected for a while."""

    failures: fields.Count = 5
    """By how many the failures of connections have to outnumber the successes."""

    eject: fields.Timeout = 30.0
    """How long the first ejection lasts; later ones last longer, up to ten times."""

    max_ejected: fields.Percentage = Field(default=0.5, json_schema_extra={"default": "50%"})
    """Share of the pool's usable backends that may be out at once, at least one; never the last."""

    black_hole: fields.TimeoutOrOff = 30.0
    """Silence after which a backend that owes answers is ejected, while others of the pool answer."""


class LoadSignals(_Section):
    """Metrics that say how loaded a backend is: of each, the names it goes by."""

    queue: fields.Chain = ()
    """Requests that wait."""

    running: fields.Chain = ()
    """Requests that are worked on."""

    kv: fields.Chain = ()
    """Share of the KV cache that is in use."""

    gpu: fields.Chain = ()
    """Share of the time that GPUs work."""

    cpu: fields.Chain = ()
    """Share of the CPU that is in use."""

    memory: fields.Chain = ()
    """Share of the memory that is in use."""


class LoadLimits(_Section):
    """With how much of it a backend counts as full; the scarcest thing decides."""

    queue: fields.Limit = 5.0
    """Waiting requests."""

    running: fields.Limit = None
    """Running requests."""

    kv: fields.Limit = 0.8
    """Share of the KV cache."""

    gpu: fields.Limit = 1.0
    """Share of the GPU's time."""

    cpu: fields.Limit = 1.0
    """Share of the CPU."""

    memory: fields.Limit = 1.0
    """Share of the memory."""


class Load(_Section):
    """Metrics of the backends, scraped to weigh them by what they have left."""

    url: fields.Url = "http://{host}:{port}/metrics"
    """Where the metrics of a backend are; `{host}` and `{port}` are those of its address."""

    interval: fields.Interval = 1.0
    """From the start of one scrape to the start of the next."""

    timeout: fields.Timeout = 1.0
    """For a whole scrape."""

    stale_after: fields.Timeout = 2.0
    """Age from which numbers count less and less, but never less than three intervals."""

    expire: fields.Timeout = 180.0
    """Age from which they do not count at all."""

    signals: LoadSignals = LoadSignals()
    """What to read."""

    limits: LoadLimits = LoadLimits()
    """What is full."""


class Agent(_Section):
    """A program beside each backend that answers with a line of HAProxy's agent-check protocol."""

    port: fields.Port
    """Where it listens, on the address of the backend."""

    interval: fields.Interval = 2.0
    """From the start of one question to the start of the next, and how long an answer may take."""


class Backend(_Section):
    """One server of a pool. In a file, its address alone is enough."""

    name: fields.BackendName
    """What it is called in logs, metrics and commands; its address when not given."""

    address: fields.Target
    """Where it listens."""

    weight: fields.Weight = 1
    """Its share of new sessions; 0 gives it none."""

    max_connections: fields.Connections = 0
    """Sessions at once; 0 is no limit."""

    max_busy: fields.Connections = 0
    """Turns in flight beyond which it gets no new session; 0 is no limit. Sessions it has may begin more."""

    zone: fields.Name | None = None
    """Where it is: clients of this zone are given to it first."""

    tier: fields.Tier = 0
    """Backends of a higher tier get what those of the lower ones cannot take."""

    health: BackendHealth | None = None
    """Not given: it is checked where the pool says."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        if not isinstance(data, Mapping | Backend):
            data = {"address": data}
        if isinstance(data, Mapping) and "name" not in data:
            # An address that cannot be read is reported as such, not as a missing name.
            return {**data, "name": rules.backend_name(data) or "?"}
        return data


class Rebalance(_Section):
    """Closing quiet connections of backends that have more than their share, after another one joined or gained."""

    rate: fields.Rate = Field(default=20.0, json_schema_extra={"default": "20/s"})
    """Connections closed a second, all backends of the pool together."""

    quiet: fields.Interval = 2.0
    """Only connections without a byte for this long. A stream that pauses for longer would be cut."""


class Queue(_Section):
    """The waiting room for clients that find no backend with a place."""

    size: fields.QueueSize = 1000
    """Clients at once. More are disconnected."""

    timeout: fields.Timeout = 30.0
    """How long each waits."""


class Sticky(_Section):
    """Remembering which backend each client was given, so that it comes back to it."""

    key: Literal["source_ip"] = "source_ip"
    """What a client is known by."""

    ttl: fields.Timeout = 1800.0
    """How long after its last session a client is remembered."""

    entries: fields.StickyEntries = 100_000
    """Clients at once. A new one takes the place of one that has not come for long."""


class Pool(_Section):
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
    """A known server: fills health, load, timeouts, tcp and drain_timeout where the pool is silent."""

    hash: Hash = Hash()
    """For `maglev` and `source_hash`."""

    backends: tuple[Backend, ...]
    """Addresses, or sections. Where there are none, clients are disconnected."""

    discover: Discover | None = None
    """Where more backends are found. With it `backends` may be left out."""

    retries: fields.Retries = 3
    """Attempts after the first that failed to connect."""

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

    sticky: Sticky | None = None
    """Not given: every session is shared out as if its client came for the first time."""

    rebalance: Rebalance | None = None
    """Not given: connections stay where they are for as long as their clients keep them."""

    load: Load | None = None
    """Not given: weights do not follow the load of the backends."""

    agent: Agent | None = None
    """Not given: no agent is asked."""

    slow_start: fields.TimeoutOrOff = None
    """In this time the weight of a backend that has become usable grows to what it is."""

    panic_threshold: fields.Percentage = Field(default=0.0, json_schema_extra={"default": "0%"})
    """Below this share of usable backends health is ignored; 0% is never."""

    drain_timeout: fields.PatienceOrOff = 600.0
    """How long a backend that left the file keeps turns in flight; off is for ever. Quiet sessions go at once."""


class Defaults(Listener, Pool):
    """Any key of a listener or a pool, for those that are silent about it. Merged into them before they are read."""

    bind: fields.Binds = ()
    pool: fields.Name = ""
    backends: tuple[Backend, ...] = ()


class Config(_Section):
    """A whole configuration: every listener names a pool that is there, and nothing clashes."""

    process: Process = Process()
    admin: Admin = Admin()
    log: Log = Log()
    defaults: Defaults = Defaults()

    geo: Geo | None = None
    """Not given: zones have networks only."""

    zones: dict[fields.Name, fields.Zone] = {}
    """Where clients are: of each zone its networks, or what a database says of them."""

    listeners: dict[fields.Name, Listener]
    pools: dict[fields.Name, Pool]

    @model_validator(mode="wrap")
    @classmethod
    def _read_as_a_whole(cls, data: Any, read: ModelWrapValidatorHandler[Config]) -> Config:
        if not isinstance(data, Mapping):
            return read(data)
        merged = rules.merge_defaults(data, frozenset(Listener.model_fields), frozenset(Pool.model_fields))
        details = [_conflict_details(conflict) for conflict in rules.find_conflicts(merged)]
        try:
            config = read(merged)
        except ValidationError as error:
            details = [*(_details(line) for line in error.errors()), *details]
        if details:
            raise ValidationError.from_exception_data("Config", details)
        return config


def _details(line: ErrorDetails) -> InitErrorDetails:
    return InitErrorDetails(type=line["type"], loc=line["loc"], input=line["input"], ctx=line.get("ctx", {}))


def _conflict_details(conflict: rules.Conflict) -> InitErrorDetails:
    error = PydanticCustomError("conflict", "{message}", {"message": conflict.message, "first": conflict.first})
    return InitErrorDetails(type=error, loc=conflict.loc, input=None)
