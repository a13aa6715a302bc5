"""Servers as processes that a test starts, stops and kills, the balancer in front of them, and what both noted."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.balancer import ROOT, Balancer, Json, child_environment
from tests.helpers.peers import Address, connect
from tests.helpers.waiting import wait_until

START_DEADLINE = 45.0
STOP_DEADLINE = 30.0


class Server:
    """One server; it keeps its address and its books over restarts."""

    def __init__(self, directory: Path, name: str, kind: str, keepalive: float, signed: bool) -> None:
        self.name, self.kind = name, kind
        self._signature = name if signed else "server"
        self._keepalive = keepalive
        self._books = directory / f"{name}.books"
        self._log = directory / f"{name}.log"
        # Reserved for as long as the server lives: it binds the same port with SO_REUSEADDR, and no other gets it.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.address: Address = self._reserved.getsockname()[:2]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, and wait until it listens."""
        host, port = self.address[:2]
        module = "tests.clients.server"
        arguments = (self.kind, str(host), str(port), self._signature, str(self._books), str(self._keepalive))
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                (sys.executable, "-m", module, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=child_environment(),
            )
        wait_until(self._listens, START_DEADLINE, lambda: self._log.read_text())

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """End as a service manager ends it."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(STOP_DEADLINE)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_DEADLINE)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._reserved.close()

    def noted(self) -> list[Json]:
        """The requests it had, of all its processes."""
        lines = self._books.read_text().splitlines(keepends=True) if self._books.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._log.read_text()
        try:
            with connect(self.address):
                return True
        except ConnectionRefusedError:
            return False


class Fleet:
    """Servers that are named s0, s1, ... Leaving it, everything ends cleanly.

    A listener and a pool `web` follow HTTP/1; `plain` are the same with `protocol: tcp`.
    """

    def __init__(
        self,
        *kinds: str,
        pool: Mapping[str, object] | None = None,
        backend: Mapping[str, object] | None = None,
        keepalive: float = 600,
        signed: bool = True,
    ) -> None:
        """With `signed`, responses have the name of the server; otherwise all servers respond the same."""
        self._backend = dict(backend or {})
        self._pool = {"protocol": "http1", "balance": "least_busy"} | dict(pool or {})
        self._stack = ExitStack()
        self.balancer = Balancer()
        self.servers = [
            Server(self.balancer.directory, f"s{number}", kind, keepalive, signed) for number, kind in enumerate(kinds)
        ]

    def __enter__(self) -> Self:
        try:
            for server in self.servers:
                self._stack.callback(server.close)
                server.start()
            self.balancer.write(self.config())
            self._stack.enter_context(self.balancer)
        except BaseException:
            self._stack.close()
            self.balancer.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            wait_until(lambda: self.balancer.session_count() == 0, what=self.balancer.sessions)
            for pool in self.balancer.status()["pools"].values():
                assert all(not (backend["busy"] or backend["connections"]) for backend in pool["backends"].values())
        self._stack.__exit__(kind, error, tb)

    def config(self, servers: Iterable[Server] | None = None, **pool: object) -> Json:
        chosen = self.servers if servers is None else servers
        addresses = {server.name: "{}:{}".format(*server.address) for server in chosen}
        backends = [{"name": name, "address": address} | self._backend for name, address in addresses.items()]
        web = self._pool | {"backends": backends} | pool
        return {
            "listeners": {name: {"bind": "127.0.0.1:0", "pool": name} for name in ("web", "plain")},
            "pools": {"web": web, "plain": {"backends": backends}},
        }

    def reload(self, servers: Iterable[Server] | None = None, **pool: object) -> None:
        """Reload with these servers, or all, and these settings of the pool beside those it began with."""
        self.balancer.reload(self.config(servers, **pool))

    @property
    def address(self) -> Address:
        return self.balancer.address("web")

    @property
    def origin(self) -> str:
        return self.origin_of("web")

    def origin_of(self, listener: str) -> str:
        return "http://{}:{}".format(*self.balancer.address(listener))

    @property
    def pool(self) -> Json:
        found: Json = self.balancer.status()["pools"]["web"]
        return found

    @property
    def pinned(self) -> dict[str, int]:
        """Sessions that are not followed, by reason."""
        return {reason: count for reason, count in self.pool["pinned_total"].items() if count}

    def command(self, *arguments: str) -> None:
        """Run the command line of l4lb; it has to succeed."""
        done = subprocess.run(
            (sys.executable, "-m", "l4lb", *arguments, "--socket", str(self.balancer.socket_path)),
            capture_output=True,
            text=True,
            timeout=STOP_DEADLINE * 2,
            cwd=ROOT,
            env=child_environment(),
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"

    def roll(self, server: Server) -> None:
        """What a rollout does with each server: drain it, end its process, start another, take it back."""
        self.command("drain", f"web/{server.name}", "--wait", "--timeout", "30s")
        server.stop()
        server.start()
        self.command("ready", f"web/{server.name}")

    def release(self) -> None:
        """Let every server respond to the requests that it holds."""
        for server in self.servers:
            server.signal(signal.SIGUSR1)

    def noted(self) -> list[Json]:
        """All requests that reached a server, with its name."""
        return [line | {"server": server.name} for server in self.servers for line in server.noted()]

    def wait_noted(self, client: str, number: int) -> Json:
        """Wait until a request has reached a server."""

        def found() -> Json | None:
            lines = (line for line in self.noted() if (line["client"], line["number"]) == (client, number))
            return next(lines, None)

        return wait_until(found, what=lambda: (client, number, self.noted()[-20:])) or {}

    def wait_up(self, server: Server) -> None:
        """Wait until the checks of a server pass."""
        wait_until(lambda: self.pool["backends"][server.name]["health"] == "up", START_DEADLINE, lambda: self.pool)

    def wait_served(self, server: Server, more: int = 20) -> None:
        """Wait until a server has had so many more requests."""
        wanted = len(server.noted()) + more
        wait_until(lambda: len(server.noted()) >= wanted, START_DEADLINE, lambda: self.pool)

    def check_connections(self, *repeated: str) -> None:
        """No connection of a server has seen two clients, and no request came twice, unless of these methods.

        Number 0 is what wrk repeats.
        """
        lines = self.noted()
        clients: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
        for line in lines:
            clients[line["process"], line["connection"]].add(line["client"])
        assert all(len(names) == 1 for names in clients.values()), clients
        single = [line for line in lines if line["number"] and line["method"] not in repeated]
        times = Counter((line["client"], line["number"]) for line in single)
        assert not {request: count for request, count in times.items() if count > 1}
