"""What is compared: balancers and their policies. Another policy is a line in `subjects`.

All have the same replicas, weights and timeouts and relay bytes (TCP mode); HAProxy and l4lb check /health alike, which
nginx cannot. Each learns of a new replica in the way that disturbs it
least.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.shared import balancers
from bench.shared.admin import call_once
from bench.shared.balancers import SESSIONS_MAX
from bench.shared.processes import BenchError

COMMAND_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Replica:
    name: str
    address: str
    weight: int


@dataclass(frozen=True, slots=True)
class Site:
    """Where a subject runs: its directory, its CPU, its port; the replicas at the start, and the one to come."""

    directory: Path
    cpu: int
    port: int
    replicas: Sequence[Replica]
    coming: Replica


@dataclass(frozen=True, slots=True)
class Load:
    """What a balancer knows of a replica: `busy` is its count of requests in flight, `turns` of all requests so far.

    HAProxy counts connections only: they are its `busy`, and its `turns` is None.
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
        """Write the configuration; return the command that runs it in the foreground."""

    @abstractmethod
    def announce(self, site: Site, pid: int) -> None:
        """Tell the balancer that the coming replica listens."""

    def loads(self, _site: Site) -> Mapping[str, Load]:
        """By replica; empty when the balancer has no such numbers."""
        return {}

    @contextmanager
    def started(self, site: Site) -> Iterator[int]:
        """Running and ready for the time of the block; gives the process."""
        command = self.command(site)
        with balancers.started(
            self.name, command, cpu=site.cpu, port=site.port, directory=site.directory, greet=False
        ) as process:
            yield process.pid


class L4lb(Subject):
    """`pool` has further keys of the pool, each a line of YAML."""

    family = "l4lb"

    def __init__(self, name: str, balance: str, *pool: str) -> None:
        super().__init__(name)
        self._balance = balance
        self._pool = pool

    def version(self) -> str:
        return balancers.l4lb_version()

    def command(self, site: Site) -> list[str]:
        return balancers.l4lb_command(self._write(site, site.replicas))

    def announce(self, site: Site, _pid: int) -> None:
        self._write(site, [*site.replicas, site.coming])
        call_once(balancers.admin_socket(site.directory), "POST", "/api/v1/reload")

    def loads(self, site: Site) -> Mapping[str, Load]:
        status = json.loads(call_once(balancers.admin_socket(site.directory), "GET", "/api/v1/status"))
        backends = status["pools"]["fleet"]["backends"]
        return {name: Load(backend["busy"], backend["turns_total"]) for name, backend in backends.items()}

    def _write(self, site: Site, replicas: Sequence[Replica]) -> Path:
        further = "".join(f"    {line}\n" for line in self._pool)
        backends = "".join(f"      - {{name: {r.name}, address: {r.address}, weight: {r.weight}}}\n" for r in replicas)
        path = site.directory / "l4lb.yaml"
        replacement = site.directory / "next.yaml"
        replacement.write_text(f"""\
{balancers.l4lb_preamble(site.directory)}\
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


class HAProxy(Subject):
    """The coming replica is configured but disabled at the start, and enabled when it listens."""

    family = "haproxy"

    def __init__(self, name: str, binary: str, balance: str) -> None:
        super().__init__(name)
        self._binary = binary
        self._balance = balance

    def version(self) -> str:
        return balancers.haproxy_version(self._binary)

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
        return balancers.haproxy_command(self._binary, path)

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
            connection.settimeout(COMMAND_SECONDS)
            connection.connect(str(site.directory / "haproxy.sock"))
            connection.sendall(command.encode() + b"\n")
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
        return b"".join(pieces).decode()


class Nginx(Subject):
    """Reloads when the replica comes; old workers keep their connections."""

    family = "nginx"

    def __init__(self, name: str, binary: str, balance: str) -> None:
        super().__init__(name)
        self._binary = binary
        self._balance = balance

    def version(self) -> str:
        return balancers.nginx_version(self._binary)

    def command(self, site: Site) -> list[str]:
        return balancers.nginx_command(self._binary, self._write(site, site.replicas))

    def announce(self, site: Site, pid: int) -> None:
        self._write(site, [*site.replicas, site.coming])
        os.kill(pid, signal.SIGHUP)

    def _write(self, site: Site, replicas: Sequence[Replica]) -> Path:
        servers = "".join(f"        server {replica.address} weight={replica.weight};\n" for replica in replicas)
        path = site.directory / "nginx.conf"
        upstream = f"        {self._balance};\n{servers}"
        path.write_text(balancers.nginx_configuration(self._binary, site.directory, site.port, upstream))
        return path


def subjects(haproxy: str, nginx: str) -> dict[str, Subject]:
    """All subjects by name."""
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
