"""A listener, a pool and its backends inside a balancer that many tests share.

Starting a process for every test would cost a second each. Instead a process is kept for each set of settings that
only a start can change, and every test reloads it with a listener and a pool of fresh names. A test that breaks the
process gets a new one for its successor.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.helpers import balancer
from tests.helpers.balancer import Balancer, Json
from tests.helpers.leaks import descriptors
from tests.helpers.peers import Address, Backend, Peer, connect, spelled
from tests.helpers.waiting import wait_until

_numbers = itertools.count(1)

BackendLike = Backend | Address | Mapping[str, Any]


def backend_entry(backend: BackendLike, name: str) -> Json:
    """A backend as the configuration writes it."""
    if isinstance(backend, Mapping):
        entry = dict(backend)
        address = entry["address"]
        return {"name": name} | entry | {"address": address if isinstance(address, str) else _spelled(address)}
    return {"name": name, "address": _spelled(backend)}


def _spelled(backend: Backend | Address) -> str:
    return str(backend) if isinstance(backend, Backend) else spelled(backend)


class Scene:
    """One listener in front of one pool. Backends are named b0, b1, ... unless they carry a name."""

    def __init__(
        self,
        lb: Balancer,
        settings: Json,
        listener: Json,
        pool: Json,
        backends: Sequence[BackendLike],
        sections: Json,
    ) -> None:
        number = next(_numbers)
        self.lb = lb
        self.settings = settings
        self.listener = f"l{number}"
        self.pool = f"p{number}"
        self._stack = contextlib.ExitStack()
        self._listener_config = {"bind": "127.0.0.1:0"} | listener
        self._pool_config = dict(pool)
        self._sections = sections
        self._backends = list(backends)
        self.reload()
        self._sockets = descriptors(lb.popen.pid)["socket"]
        self.address = lb.address(self.listener)

    @property
    def config(self) -> Json:
        entries = [backend_entry(backend, f"b{index}") for index, backend in enumerate(self._backends)]
        return balancer.merge(
            self.settings | self._sections,
            {
                "listeners": {self.listener: self._listener_config | {"pool": self.pool}},
                "pools": {self.pool: self._pool_config | {"backends": entries}},
            },
        )

    def reload(
        self,
        backends: Sequence[BackendLike] | None = None,
        listener: Mapping[str, Any] | None = None,
        pool: Mapping[str, Any] | None = None,
        sections: Mapping[str, Any] | None = None,
    ) -> None:
        """Reload with what changed; the rest stays."""
        self._sections |= sections or {}
        self._backends = self._backends if backends is None else list(backends)
        self._listener_config |= listener or {}
        self._pool_config |= pool or {}
        self.lb.reload(self.config)

    def connect(self, **options: Any) -> Peer:
        """A client of the listener, closed when the scene ends."""
        return self._stack.enter_context(connect(self.address, **options))

    def pair(self, backend: Backend, **options: Any) -> tuple[Peer, Peer]:
        """A client, and the backend's end of its session."""
        client = self.connect(**options)
        return client, self._stack.enter_context(backend.accept())

    def listener_status(self) -> Json:
        status: Json = self.lb.status()["listeners"][self.listener]
        return status

    def pool_status(self) -> Json:
        status: Json = self.lb.status()["pools"][self.pool]
        return status

    def backend_status(self, name: str = "b0") -> Json:
        status: Json = self.pool_status()["backends"][name]
        return status

    def closed(self) -> dict[str, int]:
        """Ended sessions by `code reason`."""
        return {
            f"{code} {reason}": count
            for reason, codes in self.pool_status()["closed_total"].items()
            for code, count in codes.items()
            if count
        }

    def wait_closed(self, *expected: str) -> None:
        """Wait until the ended sessions are exactly these, each as `code reason`."""
        wanted = {word: expected.count(word) for word in expected}
        wait_until(lambda: self.closed() == wanted, what=lambda: f"{self.closed()}, not {wanted}")

    def wait_connections(self, number: int) -> None:
        """Wait until the listener has `number` connections."""
        wait_until(
            lambda: self.listener_status()["connections"] == number,
            what=lambda: f"{self.listener_status()}, not {number} connections",
        )

    def access(self, number: int = 1) -> list[Json]:
        """The access log's lines of this listener, once there are at least `number` of them."""

        def lines() -> list[Json]:
            return [line for line in self.lb.access() if line["listener"] == self.listener]

        wait_until(lambda: len(lines()) >= number, what=lambda: f"{len(lines())} of {number} lines")
        return lines()

    def close(self) -> None:
        """Close what the test left open and check that the balancer then holds no session and no socket of it."""
        self._stack.close()
        lb = self.lb
        wait_until(lambda: lb.session_count() == 0, what=lambda: f"sessions left: {lb.sessions()}")
        wait_until(
            lambda: descriptors(lb.popen.pid)["socket"] <= self._sockets + 2,
            what=lambda: f"sockets: {self._sockets} at first, now {descriptors(lb.popen.pid)}",
        )

    def abandon(self) -> None:
        self._stack.close()


class Stage:
    """The balancers that tests share, by the settings that need a start of their own."""

    def __init__(self) -> None:
        self._running: dict[str, Balancer] = {}

    def balancer(self, settings: Json) -> Balancer:
        key = json.dumps(settings, sort_keys=True)
        lb = self._running.get(key)
        if lb is None or lb.popen.poll() is not None:
            lb = balancer.Balancer(settings).__enter__()
            self._running[key] = lb
        return lb

    def discard(self, lb: Balancer) -> None:
        """Never use it again: a test failed on it, so its state proves nothing for others."""
        self._running = {key: other for key, other in self._running.items() if other is not lb}
        lb.close()

    def close(self) -> None:
        """Stop them all; AssertionError when one does not end cleanly."""
        with contextlib.ExitStack() as stack:
            for lb in self._running.values():
                stack.push(lb)
