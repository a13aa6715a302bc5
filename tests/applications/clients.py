"""HTTP clients that keep a model server busy, and know which of their requests failed on which connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from tests.helpers.balancer import Json
from tests.helpers.waiting import DEADLINE, wait_until

Ask = Callable[[httpx.Client, int], str]
"""Makes a request of this number, checks its answer, and returns the replica that gave it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, and the client's address of the connection it went wrong on, if there was one."""

    error: str
    client: str | None


class _Connection:
    """The connection that a client of one connection uses at the moment."""

    def __init__(self) -> None:
        self.local: str | None = None

    def watch(self, request: httpx.Request) -> None:
        request.extensions["trace"] = self.trace

    def trace(self, event: str, info: Any) -> None:
        if event == "connection.connect_tcp.started":
            self.local = None
        elif event == "connection.connect_tcp.complete":
            host, port = info["return_value"].get_extra_info("client_addr")[:2]
            self.local = f"{host}:{port}"


def client(origin: str) -> httpx.Client:
    """A client that keeps its one connection for as long as it lives."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)
    return httpx.Client(base_url=origin, timeout=DEADLINE, trust_env=False, limits=limits)


def lost(lines: list[Json], failures: list[Failure]) -> set[str]:
    """The replicas whose clients had failures."""
    served = {line["client"]: line["backend"] for line in lines}
    return {served[failure.client] for failure in failures if failure.client is not None}


class Load:
    """Clients on threads of their own, each with one request after the other, for the length of the block.

    `each` is how many requests share a connection.
    """

    def __init__(self, origin: str, ask: Ask, clients: int = 4, each: int = 10) -> None:
        self.failures: list[Failure] = []
        self.answers: dict[str, int] = {}
        """By replica."""
        self._origin, self._ask, self._each = origin, ask, each
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE)
            assert not thread.is_alive()

    def wait_answers(self, replica: str, more: int = 20) -> None:
        """Wait until a replica has answered so many more requests."""
        wanted = self.answers.get(replica, 0) + more
        wait_until(lambda: self.answers.get(replica, 0) >= wanted, what=lambda: (self.answers, self.failures))

    def _run(self) -> None:
        while not self._stop.is_set():
            connection = _Connection()
            with client(self._origin) as http:
                http.event_hooks["request"] = [connection.watch]
                for number in range(self._each):
                    try:
                        replica = self._ask(http, number)
                    except (httpx.HTTPError, AssertionError) as error:
                        with self._lock:
                            self.failures.append(Failure(repr(error), connection.local))
                        break
                    with self._lock:
                        self.answers[replica] = self.answers.get(replica, 0) + 1
