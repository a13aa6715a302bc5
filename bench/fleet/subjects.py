"""What is compared: balancers and their policies. A further policy is a line in `subjects`.

All have the same replicas, weights and timeouts and relay bytes (TCP mode); HAProxy and l4lb check /health alike, which
nginx cannot. Each is told of a new replica in the way that disturbs it least.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compare import subjects as product
from compare.processes import BenchError, running
from compare.subjects import wait_until_ready
from reload import UnixConnection

SESSIONS_MAX = 6000
ASK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Replica:
    name: str
    address: str
    weight: int


@dataclass(frozen=True, slots=True)
class Site:
    """Where a subject runs: its directory, its CPU, its port; the replicas that there are, and the one that comes."""

    directory: Path
    cpu: int
    port: int
    replicas: Sequence[Replica]
    coming: Replica


@dataclass(frozen=True, slots=True)
class Load:
    """What a balancer knows of a replica: `busy` is what it takes for requests in flight, `turns` for requests so far.

    For HAProxy busy are its connections, as it has nothing better; turns are None.
    """

    busy: int
    turns: int | None


REBALANCE = "rebalance: {rate: 20/s, quiet: 2s}"
LOAD = "load: {signals: {queue: ['vllm:num_requests_waiting'], kv: ['vllm:kv_cache_usage_perc']}}"


class Subject(ABC):
    """A balancer with a policy. `family` groups the policies of a product."""

    family: str

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def command(self, site: Site) -> list[str]:
        """Write the configuration, and say how to run with it in the foreground."""

    @abstractmethod
    def announce(self, site: Site, pid: int) -> None:
        """The coming replica has come."""

    def loads(self, _site: Site) -> Mapping[str, Load]:
        """By replica; empty when the balancer does not tell."""
        return {}

    @contextmanager
    def started(self, site: Site) -> Iterator[int]:
        """Running and ready for the time of the block; gives the process."""
        log = site.directory / f"{self.name}.log"
        with running(self.command(site), cpu=site.cpu, log=log) as process:
            wait_until_ready(self.name, process, ("127.0.0.1", site.port), log, greet=False)
            yield process.pid


class L4lb(Subject):
    """`pool` has further keys of the pool, each a line of YAML."""

    family = "l4lb"

    def __init__(self, name: str, balance: str, *pool: str) -> None:
        super().__init__(name)
        self._balance = balance
        self._pool = pool

    def version(self) -> str:
        return product.L4lb().version()

    def command(self, site: Site) -> list[str]:
        path = self._write(site, site.replicas)
        return [sys.executable, "-m", "l4lb", "run", "-c", str(path)]

    def announce(self, site: Site, _pid: int) -> None:
        self._write(site, [*site.replicas, site.coming])
        self._ask(site, "POST", "/api/v1/reload")

    def loads(self, site: Site) -> Mapping[str, Load]:
        backends = json.loads(self._ask(site, "GET", "/api/v1/status"))["pools"]["fleet"]["backends"]
        return {name: Load(backend["busy"], backend["turns_total"]) for name, backend in backends.items()}

    def _write(self, site: Site, replicas: Sequence[Replica]) -> Path:
        further = "".join(f"    {line}\n" for line in self._pool)
        backends = "".join(f"      - {{name: {r.name}, address: {r.address}, weight: {r.weight}}}\n" for r in replicas)
        path = site.directory / "l4lb.yaml"
        replacement = site.directory / "next.yaml"
        replacement.write_text(f"""\
process: {{workers: 1, max_connections: {SESSIONS_MAX}, drain_timeout: 1s}}
admin: {{socket: {site.directory}/admin.sock}}
log: {{level: warning}}
listeners:
  front: {{bind: "127.0.0.1:{site.port}", pool: fleet}}
pools:
  fleet:
    balance: {self._balance}
{further}    timeouts: {{connect: 5s, idle: 1h}}
    health: {{type: http, path: /health, status: [200], interval: 1s, timeout: 1s, rise: 2, fall: 3}}
    backends:
{backends}""")
        replacement.replace(path)
        return path

    def _ask(self, site: Site, method: str, path: str) -> bytes:
        connection = UnixConnection(site.directory / "admin.sock")
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise BenchError(f"{self.name}: {method} {path} failed: {body.decode(errors='replace')}")
        return body


class HAProxy(Subject):
    """The replica that comes is configured from the start, and enabled when it has come."""

    family = "haproxy"

    def __init__(self, name: str, binary: str, balance: str) -> None:
        super().__init__(name)
        self._binary = binary
        self._balance = balance

    def version(self) -> str:
        return product.HAProxy(self._binary).version()

    def command(self, site: Site) -> list[str]:
        servers = "".join(self._server(replica) for replica in site.replicas)
        path = site.directory / "haproxy.cfg"
        path.write_text(f"""\
global
    maxconn {SESSIONS_MAX}
    nbthread 1
    stats socket {site.directory}/haproxy.sock level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout check 1s
listen fleet
    bind 127.0.0.1:{site.port}
    balance {self._balance}
    option httpchk GET /health
    http-check expect status 200
{servers}{self._server(site.coming, "disabled")}""")
        return [self._binary, "-db", "-f", str(path)]

    def announce(self, site: Site, _pid: int) -> None:
        answer = self._ask(site, f"set server fleet/{site.coming.name} state ready")
        if answer.strip():
            raise BenchError(f"{self.name}: {answer.strip()}")

    def loads(self, site: Site) -> Mapping[str, Load]:
        rows = csv.DictReader(io.StringIO(self._ask(site, "show stat").removeprefix("# ")))
        return {
            row["svname"]: Load(int(row["scur"]), None) for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")
        }

    def _server(self, replica: Replica, state: str = "") -> str:
        check = "check inter 1s rise 2 fall 3"
        return f"    server {replica.name} {replica.address} weight {replica.weight} {check} {state}\n"

    def _ask(self, site: Site, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ASK_SECONDS)
            connection.connect(str(site.directory / "haproxy.sock"))
            connection.sendall(command.encode() + b"\n")
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
        return b"".join(pieces).decode()


class _Nginx(product.Nginx):
    def load_module(self) -> str:
        """The line of the configuration that loads the stream module, if it takes one."""
        return self._load_stream_module()


class Nginx(Subject):
    """Reloads when the replica comes: old workers keep the connections that there are."""

    family = "nginx"

    def __init__(self, name: str, binary: str, balance: str) -> None:
        super().__init__(name)
        self._product = _Nginx(binary)
        self._binary = binary
        self._balance = balance

    def version(self) -> str:
        return self._product.version()

    def command(self, site: Site) -> list[str]:
        return [self._binary, "-c", str(self._write(site, site.replicas))]

    def announce(self, site: Site, pid: int) -> None:
        self._write(site, [*site.replicas, site.coming])
        os.kill(pid, signal.SIGHUP)

    def _write(self, site: Site, replicas: Sequence[Replica]) -> Path:
        servers = "".join(f"        server {replica.address} weight={replica.weight};\n" for replica in replicas)
        path = site.directory / "nginx.conf"
        path.write_text(f"""\
{self._product.load_module()}
daemon off;
worker_processes 1;
worker_rlimit_nofile {2 * SESSIONS_MAX + 256};
pid {site.directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {2 * SESSIONS_MAX + 64}; }}
stream {{
    access_log off;
    upstream fleet {{
        {self._balance};
{servers}    }}
    server {{
        listen 127.0.0.1:{site.port} backlog=4096;
        proxy_pass fleet;
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
    }}
}}
""")
        return path


def subjects(haproxy: str, nginx: str) -> dict[str, Subject]:
    """All there are, by name."""
    every: tuple[Subject, ...] = (
        HAProxy("haproxy-leastconn", haproxy, "leastconn"),
        HAProxy("haproxy-random", haproxy, "random(2)"),
        Nginx("nginx-least-conn", nginx, "least_conn"),
        L4lb("l4lb-least-connections", "least_connections"),
        L4lb("l4lb-power-of-two", "power_of_two"),
        L4lb("l4lb-least-busy", "least_busy"),
        L4lb("l4lb-least-latency", "least_latency"),
        L4lb("l4lb-rebalance", "least_busy", REBALANCE),
        L4lb("l4lb-load", "least_busy", REBALANCE, LOAD),
    )
    return {subject.name: subject for subject in every}
