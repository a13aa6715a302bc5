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
from l4lb.config.fields.strings import CertificateName, FilePath, HostHeader, ServiceName, UrlPath
from l4lb.config.sections import Section


class HealthTls(Section):
    """TLS of a check. The data of clients is not concerned."""

    verify: bool = True
    """Require a certificate that is valid and for the right name."""

    ca: FilePath | None = None
    """Trusted certificates, in PEM. Default: those of the system."""

    server_name: CertificateName | None = None
    """Name to ask for (SNI) and to find in the certificate. Default: that of `host`, or of the address."""

    certificate: FilePath | None = None
    """Certificate to present, in PEM."""

    key: FilePath | None = None
    """Its key, in PEM, without a password. Default: in `certificate`."""

    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest acceptable version of TLS."""


class Step(Section):
    """One step of a send_expect check: send something, then read until something comes."""

    send: Payload | None = None
    """What to send."""

    expect: Payload | None = None
    """What has to arrive, anywhere in the next 64 KiB after the last match. Bytes that arrived before a step sent
    something do not count as its reply and are dropped; consecutive steps that only send are one message."""

    match: Patterns = ()
    """Looked for in what arrived since something was sent, as more arrives, up to 64 KiB. A forbidden pattern that
    matches fails the check at once; a step that names nothing else passes with the first bytes that do not match it."""


class Progress(Section):
    """A server that has requests and gets nowhere is down, whatever its checks say. Read from what `load` scrapes."""

    counter: Chain
    """A metric that grows with the work done, such as tokens; summed over all series. The first name that is found
    counts."""

    running: Chain = ()
    """Requests in work; summed. Default: that of `load.signals`."""

    stalled: Timeout = 30.0
    """How long the counter may stand still while requests are running."""


class Health(Section):
    """Active checks of the backends of a pool."""

    type: Literal["tcp", "http", "https", "grpc", "redis", "pgsql", "mysql", "smtp", "send_expect", "exec", "none"] = (
        "tcp"
    )
    """`tcp` connects; `http` and `https` send a request and read the status; `grpc` asks the standard health service;
    `redis`, `pgsql` and `mysql` ask a database, `smtp` a mail server; `send_expect` follows a `script`; `exec` runs a
    `command`; `none` is as if there were no section."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    """`http`, `https`: the method."""

    path: UrlPath = "/"
    """`http`, `https`: the path. Redirects are not followed."""

    send: Payload | None = None
    """`http`, `https`: body of the request. Give its type in `headers`."""

    status: Statuses = Field(default=STATUSES_OK, json_schema_extra={"default": ["200-399"]})
    """`http`, `https`: the status codes that mean healthy, such as `[200, 204, 300-399]`. Codes after `!` do not:
    `"!500-599"` is all others, `[200-399, "!302"]` all of a range but one."""

    host: HostHeader | None = None
    """`http`, `https`: the Host header; `grpc`: the authority. Also the name asked for in TLS. Default: the address."""

    headers: Headers = ()
    """`http`, `https`: more headers to send."""

    answer_headers: HeaderPatterns = ()
    """`http`, `https`: patterns for headers of the response; of a repeated header the first counts."""

    body: Patterns = ()
    """`http`, `https`: patterns for the first 64 KiB of the response."""

    service: ServiceName = ""
    """`grpc`: the service to ask for; without it, the server as a whole."""

    role: Role = "any"
    """`redis`, `pgsql`, `mysql`: what a server has to be."""

    user: Account | None = None
    """`redis`, `pgsql`, `mysql`: the user to log in as. `pgsql` needs it, `mysql` for a `role` or a `password`."""

    password: Secret | None = Field(default=None, repr=False)
    """`redis`, `pgsql`, `mysql`: the password, best as `"${VAR}"`. No message and no status shows it."""

    database: Account | None = None
    """`pgsql`: the database to log in to. Default: as `user`."""

    hello: Hello = "HELO localhost"
    """`smtp`: the reply to the greeting."""

    script: Annotated[tuple[Step, ...], Field(max_length=64), BeforeValidator(one_or_many)] = ()
    """`send_expect`: what to send and to expect. One step may stand alone."""

    command: Command | None = None
    """`exec`: the command; exit status 0 is healthy. `{host}` and `{port}` stand for what is checked. No shell reads
    it."""

    environment: Variables = ()
    """`exec`: more variables for the program."""

    tls: HealthTls | None = None
    """All types but `http`, `mysql` and `exec`: TLS of the check; for `pgsql` after `SSLRequest`. `https` without it
    has the defaults below."""

    send_proxy: Literal["off", "v1", "v2"] | None = None
    """Begin the check with a PROXY header that names the proxy itself (`LOCAL`, `UNKNOWN`). Default: as the pool; off
    at another address or port."""

    address: IpAddress | None = None
    """Another address to check, the same for all backends. Default: its own."""

    port: Port | None = None
    """Another port to check. Default: its own."""

    interval: Interval = 2.0
    """From one check to the next. Late checks do not shift later ones; missed ones are left out."""

    fast_interval: Interval | None = None
    """The interval while a backend is `pending`, or while results in a row may soon change its state. Default: as
    `interval`."""

    down_interval: Interval | None = None
    """The interval while a backend is down. Default: as `interval`."""

    jitter: Spread = Field(default=0.1, json_schema_extra={"default": "10%"})
    """How far a check may be off its time either way, so that checks do not run in step."""

    timeout: Timeout = 1.0
    """For a whole check."""

    rise: Count = 2
    """Passed checks in a row after which a backend that was down is up; more for a backend that flaps."""

    fall: Count = 3
    """Failed checks in a row after which a backend is down."""

    start: Literal["pending", "up", "down"] = "pending"
    """The state before the first check: `pending` gets no session until one check passes, `up` gets sessions at once,
    `down` none until `rise` checks pass."""

    progress: Progress | None = None
    """Take a server down that has requests and makes no progress. Needs `load`."""


class BackendHealth(Section):
    """How one backend is checked, if not as the pool says."""

    type: Literal["none"] | None = None
    """`none` leaves it unchecked: it counts as healthy. Default: that of the pool's `health`."""

    address: IpAddress | None = None
    """Another address to check. Default: that of the pool's `health`, or its own."""

    port: Port | None = None
    """Another port to check. Default: that of the pool's `health`, or its own."""
