"""What is compared: no balancer at all, l4lb, HAProxy and nginx, each configured alike and started on one CPU."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compare.processes import ROOT, BenchError, last_lines, running

START_SECONDS = 20.0
SESSIONS_MAX = 6000
BACKLOG = 4096
PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """Where a subject runs: its directory, its CPU, the port it listens on, and the servers behind it.

    `greets` says that the servers answer the requests of our generator.
    """

    directory: Path
    cpu: int
    port: int
    backends: Sequence[str]
    greets: bool = True


@dataclass(frozen=True, slots=True)
class Started:
    """`pid` is None where there is no balancer. `address` is what the load generator is given."""

    pid: int | None
    address: str


class Subject(ABC):
    name: str

    @abstractmethod
    def version(self) -> str: ...

    @contextmanager
    @abstractmethod
    def started(self, site: Site) -> Iterator[Started]:
        """Running and ready for the time of the block."""


class Direct(Subject):
    """The control row: the load generator talks to the servers."""

    name = "direct"

    def version(self) -> str:
        return ""

    @contextmanager
    def started(self, site: Site) -> Iterator[Started]:
        yield Started(None, f"{site.backends[0]}+{len(site.backends)}")


class Balancer(Subject):
    @abstractmethod
    def command(self, site: Site) -> list[str]:
        """Write the configuration into the site's directory, and say how to run with it in the foreground."""

    @contextmanager
    def started(self, site: Site) -> Iterator[Started]:
        log = site.directory / f"{self.name}.log"
        with running(self.command(site), cpu=site.cpu, log=log) as process:
            wait_until_ready(self.name, process, ("127.0.0.1", site.port), log, greet=site.greets)
            yield Started(process.pid, f"127.0.0.1:{site.port}")


class L4lb(Balancer):
    name = "l4lb"

    def version(self) -> str:
        return _first_line([sys.executable, "-m", "l4lb", "--version"]).split()[-1]

    def command(self, site: Site) -> list[str]:
        backends = "".join(f"      - {backend}\n" for backend in site.backends)
        path = site.directory / "l4lb.yaml"
        path.write_text(f"""\
process: {{workers: 1, max_connections: {SESSIONS_MAX}, drain_timeout: 1s}}
admin: {{socket: {site.directory}/admin.sock}}
log: {{level: warning}}
listeners:
  front: {{bind: "127.0.0.1:{site.port}", pool: servers, backlog: {BACKLOG}}}
pools:
  servers:
    balance: round_robin
    timeouts: {{connect: 5s, idle: 1h}}
    health: {{type: none}}
    backends:
{backends}""")
        return [sys.executable, "-m", "l4lb", "run", "-c", str(path)]


class HAProxy(Balancer):
    """With `option splice-auto` it decides by itself, and some versions then copy."""

    name = "haproxy"
    splicing = "option splice-auto"

    def __init__(self, binary: str) -> None:
        self._binary = binary

    def version(self) -> str:
        return _first_line([self._binary, "-v"]).removeprefix("HAProxy version ").split()[0]

    def command(self, site: Site) -> list[str]:
        servers = "".join(f"    server s{i} {backend}\n" for i, backend in enumerate(site.backends))
        path = site.directory / f"{self.name}.cfg"
        path.write_text(f"""\
global
    maxconn {SESSIONS_MAX}
    nbthread 1
    tune.pipesize {PIPE_BYTES}
defaults
    mode tcp
    balance roundrobin
    {self.splicing}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    backlog {BACKLOG}
listen front
    bind 127.0.0.1:{site.port}
{servers}""")
        return [self._binary, "-db", "-f", str(path)]


class HAProxySplicing(HAProxy):
    """Made to splice whatever it would decide."""

    name = "haproxy-splice"
    splicing = "option splice-request\n    option splice-response"


class Nginx(Balancer):
    name = "nginx"

    def __init__(self, binary: str) -> None:
        self._binary = binary

    def version(self) -> str:
        return _first_line([self._binary, "-v"]).rpartition("/")[2]

    def command(self, site: Site) -> list[str]:
        servers = "".join(f"        server {backend};\n" for backend in site.backends)
        path = site.directory / "nginx.conf"
        path.write_text(f"""\
{self._load_stream_module()}
daemon off;
worker_processes 1;
worker_rlimit_nofile {2 * SESSIONS_MAX + 256};
pid {site.directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {2 * SESSIONS_MAX + 64}; }}
stream {{
    access_log off;
    upstream servers {{
{servers}    }}
    server {{
        listen 127.0.0.1:{site.port} backlog={BACKLOG};
        proxy_pass servers;
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
    }}
}}
""")
        return [self._binary, "-c", str(path)]

    def _load_stream_module(self) -> str:
        options = subprocess.run([self._binary, "-V"], capture_output=True, text=True, check=True).stderr
        if "--with-stream=dynamic" not in options:
            return ""
        modules = re.search(r"--modules-path=(\S+)", options)
        return f"load_module {modules[1] if modules else 'modules'}/ngx_stream_module.so;"


def _first_line(command: list[str]) -> str:
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(
            f"{command[0]} does not run ({error}); give its path, or leave it out with --subjects"
        ) from error
    return (output.stdout or output.stderr).splitlines()[0]


def wait_until_ready(
    name: str, process: subprocess.Popen[bytes], address: tuple[str, int], log: Path, *, greet: bool = True
) -> None:
    """Ready means that a request has gone through to a server and back, or, without `greet`, that it accepts."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(address, greet=greet):
            return
        time.sleep(0.02)
    raise BenchError(f"{name} is not ready (exit status {process.poll()}):\n{last_lines(log)}")


def _answers(address: tuple[str, int], *, greet: bool) -> bool:
    request = b"e" + bytes(63)
    try:
        with socket.create_connection(address, timeout=1) as connection:
            if not greet:
                return True
            connection.sendall(request)
            return connection.recv(len(request), socket.MSG_WAITALL) == request
    except OSError:
        return False
