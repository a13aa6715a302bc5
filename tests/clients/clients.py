"""HTTP clients as programs use them: each keeps one connection, and counts how many it has opened."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import threading
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import httpx
import requests

from tests.clients.messages import Ask
from tests.helpers.waiting import DEADLINE, wait_until

PATIENCE = 60.0
"""Seconds that a response may take. Not what is tested: the machine may be busy."""


class Client(Protocol):
    """One connection, one request at a time."""

    name: str

    def send(self, ask: Ask) -> tuple[int, bytes]:
        """Status and body of the response."""
        ...

    @property
    def connections(self) -> int:
        """How many it has opened so far."""
        ...

    def close(self) -> None: ...


class Httpx:
    def __init__(self, origin: str, name: str) -> None:
        self.name = name
        self.connections = 0
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)
        self._http = httpx.Client(base_url=origin, timeout=PATIENCE, trust_env=False, limits=limits)

    def send(self, ask: Ask) -> tuple[int, bytes]:
        extensions = {"trace": self._trace}
        response = self._http.request(ask.method, ask.target, content=ask.body, extensions=extensions)
        return response.status_code, response.content

    def _trace(self, event: str, _info: Any) -> None:
        self.connections += event == "connection.connect_tcp.complete"

    def close(self) -> None:
        self._http.close()


class Requests:
    def __init__(self, origin: str, name: str) -> None:
        self.name = name
        self._origin = origin
        self._session = requests.Session()
        self._session.trust_env = False
        self._adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1)
        self._session.mount("http://", self._adapter)

    def send(self, ask: Ask) -> tuple[int, bytes]:
        response = self._session.request(ask.method, self._origin + ask.target, data=ask.body, timeout=PATIENCE)
        return response.status_code, response.content

    @property
    def connections(self) -> int:
        pools = self._adapter.poolmanager.pools
        return sum(pools[key].num_connections for key in pools.keys())  # noqa: SIM118 - it cannot be iterated over

    def close(self) -> None:
        self._session.close()


class Aiohttp:
    def __init__(self, origin: str, name: str) -> None:
        self.name = name
        self.connections = 0
        self._origin = origin
        self._runner = asyncio.Runner()
        self._session = self._runner.run(self._open())

    async def _open(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._opened)
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=600)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        return aiohttp.ClientSession(self._origin, connector=connector, trace_configs=[trace], timeout=timeout)

    async def _opened(self, *_: object) -> None:
        self.connections += 1

    def send(self, ask: Ask) -> tuple[int, bytes]:
        return self._runner.run(self._send(ask))

    async def _send(self, ask: Ask) -> tuple[int, bytes]:
        async with self._session.request(ask.method, ask.target, data=ask.body) as response:
            return response.status, await response.read()

    def close(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()


class Fetch:
    """`fetch` of Node, in a process that takes requests on its standard input."""

    def __init__(self, origin: str, name: str, node: str) -> None:
        self.name = name
        self.connections = 0
        self._origin = origin
        program = Path(__file__).with_name("fetch.mjs")
        self._process = subprocess.Popen((node, str(program)), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, ask: Ask) -> tuple[int, bytes]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        body = None if ask.body is None else b64encode(ask.body).decode()
        line = {"method": ask.method, "url": self._origin + ask.target, "body": body}
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        self.connections = told["connections"]
        if "error" in told:
            raise ConnectionError(told["error"])
        return told["status"], b64decode(told["body"])

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


@contextmanager
def crowd(origin: str, node: str, copies: int = 1) -> Iterator[list[Client]]:
    """Some of each kind, closed at the end of the block."""
    with ExitStack() as stack:
        clients: list[Client] = []
        for copy in range(copies):
            clients += [
                Httpx(origin, f"httpx {copy}"),
                Requests(origin, f"requests {copy}"),
                Aiohttp(origin, f"aiohttp {copy}"),
                Fetch(origin, f"fetch {copy}", node),
            ]
        for client in clients:
            stack.callback(client.close)
        yield clients


def opened(clients: Iterable[Client]) -> dict[str, int]:
    """Of each client, how many connections it has opened; all but those with exactly one."""
    return {client.name: client.connections for client in clients if client.connections != 1}


class Walk:
    """Clients that send one request after another, each on a thread of its own, for the length of the block.

    A client ends with its first failure.
    """

    def __init__(self, clients: Iterable[Client], asks: Callable[[str, int], Ask] | None = None) -> None:
        self.clients = list(clients)
        self.failures: list[str] = []
        self.answers: Counter[str] = Counter()
        """By server."""
        self.done: Counter[str] = Counter()
        """By client."""
        self._asks = asks or mixed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(client,)) for client in self.clients]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()

    def wait_done(self, more: int = 5) -> None:
        """Wait until each client has had so many more responses, or one has failed."""
        wanted = {client.name: self.done[client.name] + more for client in self.clients}
        wait_until(
            lambda: self.failures or all(self.done[name] >= number for name, number in wanted.items()),
            6 * DEADLINE,
            lambda: self.done,
        )
        self.check()

    def check(self) -> None:
        assert self.failures == []

    def _run(self, client: Client) -> None:
        try:
            for number in itertools.count(1):
                if self._stop.is_set():
                    return
                ask = self._asks(client.name, number)
                server = ask.check(*client.send(ask))
                with self._lock:
                    self.answers[server] += 1
                    self.done[client.name] += 1
        except Exception as error:
            with self._lock:
                self.failures.append(f"{client.name}: {error!r}")


def mixed(client: str, number: int) -> Ask:
    """Small and large ones, with lengths and chunks, and streams."""
    match number % 5:
        case 0:
            return Ask(client, number, "POST", size=200_000)
        case 1:
            return Ask(client, number)
        case 2:
            return Ask(client, number, "POST", size=1000)
        case 3:
            return Ask(client, number, path="/stream", size=10)
    return Ask(client, number, path="/chunked", size=300_000)


def small(client: str, number: int) -> Ask:
    return Ask(client, number)
