"""`health`: how the backends of a pool are checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from l4lb.config.fields.accounts import Account, Hello, Role, Secret
from l4lb.config.fields.addresses import IpAddress
from l4lb.config.fields.checks import (
    STATUSES_OK,
    Command,
    HeaderPatterns,
    Headers,
    Patterns,
    Payload,
    Statuses,
    Variables,
)
from l4lb.config.fields.durations import Interval, Timeout
from l4lb.config.fields.numbers import Count, Port, Spread
from l4lb.config.fields.series import Chain
from l4lb.config.fields.shape import one_or_many
from l4lb.config.fields.words import CertificateName, FilePath, HostHeader, ServiceName, UrlPath
from l4lb.config.sections import Section


class HealthTls(Section):
    """TLS of a check. The data of clients is not concerned."""

    verify: bool = True
    """Whether the backend has to show a certificate that is valid for its name."""

    ca: FilePath | None = None
    """Certificates that are trusted, in one PEM file; those of the system when not given."""

    server_name: CertificateName | None = None
    """Name to ask for and to find in the certificate; `host`, or else the host of the address when not given."""

    certificate: FilePath | None = None
    """Certificate to show to the backend, in PEM."""

    key: FilePath | None = None
    """Its key; in the same file when not given."""

    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that will do."""


class Step(Section):
    """One step of a send_expect check: send something, then read until something comes."""

    send: Payload | None = None
    """Text, or `hex:` and digits."""

    expect: Payload | None = None
    """What has to be in the answer, anywhere behind what was found before."""

    match: Patterns = ()
    """Regular expressions for what came since the last step that sent something; one behind `!` must not match."""


class Progress(Section):
    """A server that has requests and gets nowhere is down, whatever its checks say. Read from what `load` scrapes."""

    counter: Chain
    """Metric that grows with the work that is done, such as tokens; summed over all series."""

    running: Chain = ()
    """Metric of requests that are worked on; the one of `load.signals` when not given."""

    stalled: Timeout = 30.0
    """How long the counter may stand still while requests are running."""


class Health(Section):
    """Active checks of the backends of a pool."""

    type: Literal["tcp", "http", "https", "grpc", "redis", "pgsql", "mysql", "smtp", "send_expect", "exec", "none"] = (
        "tcp"
    )
    """How: `tcp` connects, `none` checks nothing, the others also ask."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    """http, https: method to ask with."""

    path: UrlPath = "/"
    """http, https: path to ask for."""

    send: Payload | None = None
    """http, https: body of the request."""

    status: Statuses = Field(default=STATUSES_OK, json_schema_extra={"default": ["200-399"]})
    """http, https: status codes that mean healthy, numbers and ranges; those behind `!` do not."""

    host: HostHeader | None = None
    """http, https: Host header; grpc: authority. The address of the backend when not given."""

    headers: Headers = ()
    """http, https: more headers to send."""

    answer_headers: HeaderPatterns = ()
    """http, https: headers of the answer, each with a regular expression; behind `!` it must not match."""

    body: Patterns = ()
    """http, https: regular expressions to be found in the answer's first 64 KiB; one behind `!` must not be."""

    service: ServiceName = ""
    """grpc: name of the service to ask for; the whole server when empty."""

    role: Role = "any"
    """redis, pgsql, mysql: what a server has to be: `primary` (or `master`), `replica`, or `any` of them."""

    user: Account | None = None
    """redis, pgsql, mysql: user to log in as. pgsql needs one, mysql where there is a role."""

    password: Secret | None = Field(default=None, repr=False)
    """redis, pgsql, mysql: password of the user."""

    database: Account | None = None
    """pgsql: database to log in to; the one that is called as the user when not given."""

    hello: Hello = "HELO localhost"
    """smtp: what to say behind the greeting."""

    script: Annotated[tuple[Step, ...], Field(max_length=64), BeforeValidator(one_or_many)] = ()
    """send_expect: what is said and answered, step by step."""

    command: Command | None = None
    """exec: program and arguments; `{host}` and `{port}` stand for what is checked. Healthy is exit status 0."""

    environment: Variables = ()
    """exec: more variables for the program."""

    tls: HealthTls | None = None
    """TLS of the check. Not given: none, or the defaults where the type is https."""

    send_proxy: Literal["off", "v1", "v2"] | None = None
    """PROXY header (LOCAL) before the check; as `send_proxy` of the pool when not given, off at another address."""

    address: IpAddress | None = None
    """Address to check instead of the one that serves."""

    port: Port | None = None
    """Port to check instead of the one that serves."""

    interval: Interval = 2.0
    """From the start of one check to the start of the next."""

    fast_interval: Interval | None = None
    """The same while results in a row may soon change the state; `interval` when not given."""

    down_interval: Interval | None = None
    """The same while a backend is down; `interval` when not given."""

    jitter: Spread = Field(default=0.1, json_schema_extra={"default": "10%"})
    """How far a check may be off its time, either way, as a share of the interval."""

    timeout: Timeout = 1.0
    """For a whole check."""

    rise: Count = 2
    """Good checks in a row after which a backend is up."""

    fall: Count = 3
    """Failed checks in a row after which a backend is down."""

    start: Literal["pending", "up", "down"] = "pending"
    """What a backend is before its first check: `pending` is up with the first good one, `down` after `rise`."""

    progress: Progress | None = None
    """Not given: nobody looks at whether servers get on with their work."""


class BackendHealth(Section):
    """How one backend is checked, if not as the pool says."""

    type: Literal["none"] | None = None
    """`none`: it is not checked, and counts as healthy."""

    address: IpAddress | None = None
    """Address to check instead of the one that serves."""

    port: Port | None = None
    """Port to check instead of the one that serves."""
