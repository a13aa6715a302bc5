"""What is compared: no balancer, l4lb, HAProxy and nginx, all with the same configuration and on one CPU.

With TCP loads they place connections in round robin. With HTTP loads HAProxy and nginx work in HTTP mode and place each
request where fewest are in flight, as l4lb does with `protocol: http1`; with `protocol: tcp` it places connections so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.compare.scenarios import HTTP, TCP
from bench.shared import balancers
from bench.shared.balancers import BACKLOG, ECHO, SESSIONS_MAX, Greeting

PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """Where a subject runs: its directory, its CPU, the port it listens on, and its servers.

    The servers reply to `greeting`, if there is one. With `streams`, a piece of a response must not wait for the next.
    """

    directory: Path
    cpu: int
    port: int
    backends: Sequence[str]
    greeting: Greeting | None = ECHO
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """`pid` is None without a balancer. `address` is the one that the load generator gets."""

    pid: int | None
    address: str


class Subject(ABC):
    """`protocols` are those of the loads that it is measured with."""

    name: str
    protocols: tuple[str, ...] = (TCP,)

    @abstractmethod
    def version(self) -> str: ...

    @contextmanager
    @abstractmethod
    def started(self, site: Site) -> Iterator[Started]:
        """Running and ready for the time of the block."""


class Direct(Subject):
    """The control row: the load generator talks to the servers."""

    name = "direct"
    protocols = (TCP, HTTP)

    def version(self) -> str:
        return ""

    @contextmanager
    def started(self, site: Site) -> Iterator[Started]:
        yield Started(None, f"{site.backends[0]}+{len(site.backends)}")


class Balancer(Subject):
    @abstractmethod
    def command(self, site: Site) -> list[str]:
        """Write the configuration into the site's directory; return the command that runs it in the foreground."""

    @contextmanager
    def started(self, site: Site) -> Iterator[Started]:
        with balancers.started(
            self.name,
            self.command(site),
            cpu=site.cpu,
            port=site.port,
            directory=site.directory,
            greeting=site.greeting,
        ) as process:
            yield Started(process.pid, f"127.0.0.1:{site.port}")


class L4lb(Balancer):
    name = "l4lb"
    settings: tuple[str, ...] = ("balance: round_robin",)

    def version(self) -> str:
        return balancers.l4lb_version()

    def command(self, site: Site) -> list[str]:
        settings = "".join(f"    {line}\n" for line in self.settings)
        backends = "".join(f"      - {backend}\n" for backend in site.backends)
        path = site.directory / "l4lb.yaml"
        path.write_text(f"""\
{balancers.l4lb_preamble(site.directory)}\
listeners:
  front: {{bind: "127.0.0.1:{site.port}", pool: servers, backlog: {BACKLOG}}}
pools:
  servers:
{settings}    timeouts: {{connect: 5s, idle: 1h}}
    health: {{type: none}}
    backends:
{backends}""")
        return balancers.l4lb_command(path)


class L4lbTcp(L4lb):
    name = "l4lb-tcp"
    protocols = (HTTP,)
    settings = ("balance: least_busy",)


class L4lbHttp1(L4lb):
    name = "l4lb-http1"
    protocols = (HTTP,)
    settings = ("balance: least_busy", "protocol: http1")


class HAProxy(Balancer):
    """With `option splice-auto` HAProxy decides by itself; some versions then copy."""

    name = "haproxy"
    mode = "tcp"
    balance = "roundrobin"
    splicing = "option splice-auto"

    def __init__(self, binary: str) -> None:
        self._binary = binary

    def version(self) -> str:
        return balancers.haproxy_version(self._binary)

    def command(self, site: Site) -> list[str]:
        servers = "".join(f"    server s{i} {backend}\n" for i, backend in enumerate(site.backends))
        prompt = "option http-no-delay" if site.streams and self.mode == "http" else ""
        path = site.directory / f"{self.name}.cfg"
        path.write_text(f"""\
global
    maxconn {SESSIONS_MAX}
    nbthread 1
    tune.pipesize {PIPE_BYTES}
defaults
    mode {self.mode}
    balance {self.balance}
    {self.splicing}
    {prompt}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    backlog {BACKLOG}
listen front
    bind 127.0.0.1:{site.port}
{servers}""")
        return balancers.haproxy_command(self._binary, path)


class HAProxySplicing(HAProxy):
    """HAProxy that always splices."""

    name = "haproxy-splice"
    splicing = "option splice-request\n    option splice-response"


class HAProxyHttp(HAProxy):
    """Backend connections are shared among clients (`http-reuse safe`, the default)."""

    name = "haproxy-http"
    protocols = (HTTP,)
    mode = "http"
    balance = "leastconn"


class Nginx(Balancer):
    name = "nginx"

    def __init__(self, binary: str) -> None:
        self._binary = binary

    def version(self) -> str:
        return balancers.nginx_version(self._binary)

    def command(self, site: Site) -> list[str]:
        path = site.directory / "nginx.conf"
        path.write_text(self._configuration(site, "".join(f"        server {each};\n" for each in site.backends)))
        return balancers.nginx_command(self._binary, path)

    def _configuration(self, site: Site, servers: str) -> str:
        return balancers.nginx_stream(self._binary, site.directory, site.port, servers)


class NginxHttp(Nginx):
    name = "nginx-http"
    protocols = (HTTP,)

    def _configuration(self, site: Site, servers: str) -> str:
        return balancers.nginx_http(site.directory, site.port, f"        least_conn;\n{servers}")
