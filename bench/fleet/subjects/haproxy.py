"""HAProxy: the coming replica is configured but disabled at the start, and enabled when it listens."""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Mapping

from bench.fleet.subjects.base import QUEUE_SECONDS, Load, Replica, Site, Subject
from bench.shared import balancers
from bench.shared.balancers import SESSIONS_MAX
from bench.shared.processes import BenchError

COMMAND_SECONDS = 5.0


class HAProxy(Subject):
    """`mode` is `tcp` or `http`. In HTTP mode requests are placed one by one, on backend connections that clients share
    (`http-reuse safe`, the default), and tokens do not wait for further ones. `server` has further words of each server
    line.
    """

    family = "haproxy"

    def __init__(self, name: str, binary: str, mode: str, balance: str, *, server: str = "") -> None:
        super().__init__(name)
        self._binary = binary
        self._mode = mode
        self._balance = balance
        self._words = server

    def version(self) -> str:
        return balancers.haproxy_version(self._binary)

    def command(self, site: Site) -> list[str]:
        servers = "".join(self._server(replica) for replica in site.replicas)
        prompt = "    option http-no-delay\n" if self._mode == "http" else ""
        path = site.directory / "haproxy.cfg"
        path.write_text(f"""\
global
    maxconn {SESSIONS_MAX}
    nbthread 1
    stats socket {site.directory}/haproxy.sock level admin
defaults
    mode {self._mode}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout queue {QUEUE_SECONDS}s
    timeout check 1s
listen fleet
    bind 127.0.0.1:{site.port}
    balance {self._balance}
{prompt}    option httpchk GET /health
    http-check expect status 200
{servers}{self._server(site.coming, "disabled")}""")
        return balancers.haproxy_command(self._binary, path)

    def announce(self, site: Site, _pid: int) -> None:
        answer = self._ask(site, f"set server fleet/{site.coming.name} state ready")
        if answer.strip():
            raise BenchError(f"{self.name}: {answer.strip()}")

    def loads(self, site: Site) -> Mapping[str, Load]:
        """In HTTP mode, sessions are requests."""
        rows = csv.DictReader(io.StringIO(self._ask(site, "show stat").removeprefix("# ")))
        return {
            row["svname"]: Load(int(row["scur"]), int(row["stot"]) if self._mode == "http" else None)
            for row in rows
            if row["svname"] not in ("FRONTEND", "BACKEND")
        }

    def _server(self, replica: Replica, state: str = "") -> str:
        words = f"weight {replica.weight} check inter 1s rise 2 fall 3 {self._words} {state}"
        return f"    server {replica.name} {replica.address} {words}\n"

    def _ask(self, site: Site, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(COMMAND_SECONDS)
            connection.connect(str(site.directory / "haproxy.sock"))
            connection.sendall(command.encode() + b"\n")
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
        return b"".join(pieces).decode()
