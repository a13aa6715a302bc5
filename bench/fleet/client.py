"""The applications: each keeps a pool of connections, sends its requests when they are due, and times the answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import cast

from bench.fleet.plan import Pools, Scenario
from bench.fleet.server import PROMPT_BYTES_PER_TOKEN, uvloop_runner
from bench.fleet.workload import Request
from bench.shared.processes import pinned

CONNECT_SECONDS = 10.0
_HEAD_END = b"\r\n\r\n"
_EVENT_END = b"\n\n"


@dataclass(slots=True)
class Outcome:
    """What became of a request. Seconds; `at` is when it was due, counted from the start, and the others from then.

    `failure` is None for an answer that came to its end; `connect`: there was no connection; `lost`: it broke before a
    byte of the answer came; `refused`: the answer was an error; `cut`: it broke in the middle; `unfinished`: there was
    no end when the run ended.
    """

    at: float
    replica: str | None = None
    reused: bool = False
    first_token: float | None = None
    end: float | None = None
    tokens: int = 0
    gap_most: float = 0.0
    failure: str | None = None

    @property
    def gap_mean(self) -> float:
        """Between two tokens; 0 when there are not two."""
        if self.end is None or self.first_token is None or self.tokens < 2:
            return 0.0
        return (self.end - self.first_token) / (self.tokens - 1)


class Channel(asyncio.Protocol):
    """A connection and the answer that is coming on it."""

    def __init__(self) -> None:
        self.open = True
        self.idle_since = 0.0
        self._received = bytearray()
        self._events = bytearray()
        self._in_head = True
        self._last_answer = False
        self._outcome: Outcome | None = None
        self._due = 0.0
        self._last = 0.0
        self._over: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def ask(self, question: bytes, outcome: Outcome, due: float) -> None:
        """Returns when the answer is over or has failed."""
        self._outcome, self._due, self._in_head = outcome, due, True
        self._over = asyncio.get_running_loop().create_future()
        self._transport.write(question)
        await self._over

    def close(self) -> None:
        self.open = False
        self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self.open = False
        if self._outcome is not None:
            self._finish("lost" if self._in_head and not self._received else "cut")

    def eof_received(self) -> None:
        """A pool sees this when it looks at a connection before it uses it."""
        self.open = False

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._received += data
        if self._in_head and not self._read_head():
            return
        while (chunk := self._next_chunk()) is not None:
            self._take(chunk, now)

    def _read_head(self) -> bool:
        """False while the head is not whole, and when there is no stream after it."""
        end = self._received.find(_HEAD_END)
        if end < 0 or self._outcome is None:
            return False
        status, *lines = self._received[:end].decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status.split(" ", 2)[1] != "200":
            self._finish("refused")
            return False
        self._outcome.replica = fields.get("x-replica")
        self._last_answer = fields.get("connection", "").lower() == "close"
        del self._received[: end + len(_HEAD_END)]
        self._in_head = False
        return True

    def _next_chunk(self) -> bytes | None:
        line_end = self._received.find(b"\r\n")
        if line_end < 0:
            return None
        begin = line_end + 2
        end = begin + int(self._received[:line_end], 16)
        if len(self._received) < end + 2:
            return None
        chunk = bytes(self._received[begin:end])
        del self._received[: end + 2]
        return chunk

    def _take(self, chunk: bytes, now: float) -> None:
        """A proxy may cut a stream into other chunks than the replica did."""
        if self._outcome is None:
            return
        if not chunk:
            self._finish(None)
            return
        self._events += chunk
        while (end := self._events.find(_EVENT_END)) >= 0:
            if self._events.startswith(b"data: {"):
                self._token(self._outcome, now)
            del self._events[: end + len(_EVENT_END)]

    def _token(self, outcome: Outcome, now: float) -> None:
        outcome.tokens += 1
        if outcome.first_token is None:
            outcome.first_token = now - self._due
        else:
            outcome.gap_most = max(outcome.gap_most, now - self._last)
        self._last = now
        outcome.end = now - self._due

    def _finish(self, failure: str | None) -> None:
        """After a failure, and where the answer said that it is the last one, the connection is used no more."""
        assert self._outcome is not None
        self._outcome.failure = failure
        self._outcome = None
        if failure is not None or self._last_answer:
            self.close()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


class Application:
    """A process of some customer: its own address, its own pool."""

    def __init__(self, number: int, target: tuple[str, int], pools: Pools) -> None:
        self._source = (f"127.0.2.{number + 1}", 0)
        self._target = target
        self._pools = pools
        self._idle: list[Channel] = []

    async def serve(self, request: Request, due: float, outcome: Outcome) -> None:
        """Fills in the outcome."""
        channel = self._pick()
        outcome.reused = channel is not None
        if channel is None:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, channel = await loop.create_connection(Channel, *self._target, local_addr=self._source)
            except OSError:
                outcome.failure = "connect"
                return
        await channel.ask(_question(request), outcome, due)
        self._release(channel)

    def expire(self) -> None:
        """Close what has been idle for too long: the ones at the bottom, as they were used last before the others."""
        oldest = time.monotonic() - self._pools.idle_seconds
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).close()

    def _pick(self) -> Channel | None:
        while self._idle:
            channel = self._idle.pop()
            if channel.open:
                return channel
        return None

    def _release(self, channel: Channel) -> None:
        self._idle = [idle for idle in self._idle if idle.open]
        if not channel.open:
            return
        if len(self._idle) >= self._pools.idle_most:
            channel.close()
            return
        channel.idle_since = time.monotonic()
        self._idle.append(channel)


def _question(request: Request) -> bytes:
    prompt = "x" * (request.prompt * PROMPT_BYTES_PER_TOKEN)
    body = json.dumps({"model": "sim", "prompt": prompt, "max_tokens": request.output, "stream": True}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: fleet\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    return head.encode() + _HEAD_END + body


def run(scenario: Scenario, seed: int, target: tuple[str, int], cpu: int, pipe: Connection) -> None:
    """A process. Is told when to start; says what became of the requests, all of them, in their order."""
    pinned(cpu)()
    work = scenario.requests(seed)
    pipe.send("ready")
    start: float = pipe.recv()
    with uvloop_runner() as runner:
        pipe.send(runner.run(_ask_all(scenario, work, target, start)))


async def _ask_all(scenario: Scenario, work: Sequence[Request], target: tuple[str, int], start: float) -> list[Outcome]:
    applications = [Application(i, target, scenario.pools) for i in range(scenario.traffic.applications)]
    outcomes = [Outcome(request.at, failure="unfinished") for request in work]
    expiry = asyncio.create_task(_expire(applications))
    under_way: set[asyncio.Task[None]] = set()
    for request, outcome in zip(work, outcomes, strict=True):
        due = start + request.at
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(applications[request.application].serve(request, due, outcome))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way, timeout=scenario.timeline.drain)
    left = [expiry, *under_way]
    for each in left:
        each.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    return outcomes


async def _expire(applications: Sequence[Application]) -> None:
    while True:
        await asyncio.sleep(0.25)
        for application in applications:
            application.expire()
