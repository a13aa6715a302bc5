"""The simulated replicas over TCP: HTTP/1.1 with keep-alive, answers as event streams, /health and /metrics.

All of them live in one process. It also keeps the truth: when each replica got a request and when it was done with it.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import cast

import uvloop

from bench.fleet.engine import Engine, Gpu, Job
from bench.fleet.exposition import MODEL, Exposition
from bench.fleet.plan import Scenario
from bench.shared.processes import pinned

PROMPT_BYTES_PER_TOKEN = 4
_HEAD_END = b"\r\n\r\n"
_STREAM_HEAD = (
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    "transfer-encoding: chunked\r\nx-replica: {name}\r\n\r\n"
)
_EVENT = {
    "id": "cmpl-0123456789abcdef0123456789abcdef",
    "object": "text_completion",
    "created": 1700000000,
    "model": MODEL,
    "choices": [{"index": 0, "text": " token", "logprobs": None, "finish_reason": None, "stop_reason": None}],
    "usage": None,
}


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_TOKEN = _chunk(b"data: " + json.dumps(_EVENT).encode() + b"\n\n")
_END = _chunk(b"data: [DONE]\n\n") + _chunk(b"")


@dataclass(frozen=True, slots=True)
class Truth:
    """What a replica saw, for the records: the times when its requests in flight became one more, or one fewer.

    Times are of the monotonic clock, which all processes share.
    """

    name: str
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)


class Replica:
    """An engine on the clock."""

    def __init__(self, name: str, gpu: Gpu, *, answers_at_once: bool) -> None:
        self.engine = Engine(gpu)
        self.exposition = Exposition(self.engine)
        self.truth = Truth(name)
        self.answers_at_once = answers_at_once
        self.head = _STREAM_HEAD.format(name=name).encode()
        self._stall = (math.inf, math.inf)
        self._loop = asyncio.get_running_loop()
        self._answers: dict[Job, Answer] = {}
        self._due: float | None = None

    def stall_between(self, begin: float, end: float) -> None:
        """It accepts all the while, says that it is well, and makes no progress: as a deadlocked engine does."""
        self._stall = (begin, end)

    def submit(self, job: Job, answer: Answer) -> None:
        self._answers[job] = answer
        self.engine.submit(job)
        if self._due is None:
            self._step(time.monotonic())

    def cancel(self, job: Job) -> None:
        if self._answers.pop(job, None) is not None:
            self.engine.cancel(job)

    def _step(self, now: float) -> None:
        """A step that is late does not make the next one late, too: begin it when the last one was due."""
        seconds = self.engine.begin()
        if seconds is None:
            self._due = None
            return
        self._due = now + seconds
        if self._stall[0] <= self._due < self._stall[1]:
            self._due = self._stall[1]
        self._loop.call_later(max(0.0, self._due - time.monotonic()), self._finish)

    def _finish(self) -> None:
        assert self._due is not None
        advanced = self.engine.finish()
        self.exposition.stepped(advanced)
        for job in advanced:
            done = job.produced == job.output
            self._answers[job].token(first=job.produced == 1, last=done)
            if done:
                del self._answers[job]
        self._step(self._due)


class Answer:
    """One request on its way through a replica."""

    def __init__(self, replica: Replica, transport: asyncio.Transport, prompt: int, output: int) -> None:
        self._replica = replica
        self._transport = transport
        self._asked = time.monotonic()
        self.job = Job(prompt, output)
        self.over = False
        replica.truth.begun.append(self._asked)
        if replica.answers_at_once:
            transport.write(replica.head)
        replica.submit(self.job, self)

    def token(self, *, first: bool, last: bool) -> None:
        pieces = [_TOKEN]
        if first:
            self._replica.exposition.answered(time.monotonic() - self._asked)
            if not self._replica.answers_at_once:
                pieces.insert(0, self._replica.head)
        if last:
            pieces.append(_END)
            self._end()
        self._transport.write(b"".join(pieces))

    def abandon(self) -> None:
        """The client has gone: what it wanted is not computed."""
        if not self.over:
            self._replica.cancel(self.job)
            self._end()

    def _end(self) -> None:
        self.over = True
        self._replica.truth.ended.append(time.monotonic())


class Session(asyncio.Protocol):
    """A connection of a client. Requests follow each other; clients that pipeline are not served."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._received = bytearray()
        self._answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0:
            return
        head = self._received[:head_end].decode("latin-1")
        body_begin = head_end + len(_HEAD_END)
        body_end = body_begin + _content_length(head)
        if len(self._received) < body_end:
            return
        body = bytes(self._received[body_begin:body_end])
        del self._received[:body_end]
        self._serve(head.split(" ", 2)[1], body)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._answer is not None:
            self._answer.abandon()

    def _serve(self, path: str, body: bytes) -> None:
        if path == "/v1/completions":
            question = json.loads(body)
            prompt = len(question["prompt"]) // PROMPT_BYTES_PER_TOKEN
            self._answer = Answer(self._replica, self._transport, prompt, question["max_tokens"])
        elif path == "/health":
            self._reply("200 OK", "text/plain", b"")
        elif path == "/metrics":
            self._reply("200 OK", "text/plain; version=0.0.4; charset=utf-8", self._replica.exposition.text())
        elif path == "/v1/models":
            models = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
            self._reply("200 OK", "application/json", json.dumps(models).encode())
        else:
            self._reply("404 Not Found", "text/plain", b"")

    def _reply(self, status: str, kind: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _content_length(head: str) -> int:
    for line in head.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    return 0


def run(scenario: Scenario, cpu: int, pipe: Connection) -> None:
    """A process. Says its addresses, is told when the first request comes, and then, to stop; says the truth."""
    pinned(cpu)()
    with uvloop_runner() as runner:
        pipe.send(runner.run(_serve(scenario, pipe)))


def uvloop_runner() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _serve(scenario: Scenario, pipe: Connection) -> list[Truth]:
    loop = asyncio.get_running_loop()
    # Bound and not listening: an early client is refused, and no other process can take the port.
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in scenario.gpus]
    late = socket.socket()
    late.bind(("127.0.0.1", 0))
    pipe.send([f"127.0.0.1:{each.getsockname()[1]}" for each in (*sockets, late)])
    replicas = [
        Replica(name, gpu, answers_at_once=scenario.answers_at_once)
        for name, gpu in zip(scenario.names, (*scenario.gpus, scenario.added), strict=True)
    ]
    *warm, added = replicas
    servers = [
        await loop.create_server(partial(Session, replica), sock=own)
        for replica, own in zip(warm, sockets, strict=True)
    ]
    start = await loop.run_in_executor(None, pipe.recv)
    stalled = start + scenario.timeline.stalled
    warm[scenario.stalls].stall_between(stalled, stalled + scenario.timeline.stall)
    await asyncio.sleep(start + scenario.timeline.added - time.monotonic())
    servers.append(await loop.create_server(partial(Session, added), sock=late))
    await loop.run_in_executor(None, pipe.recv)
    for server in servers:
        server.close()
    return [replica.truth for replica in replicas]
