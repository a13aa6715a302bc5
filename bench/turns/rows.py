"""What is measured: each way of answering over each protocol. Pure data; all chance comes from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum


class Wire(StrEnum):
    """How requests travel. On all but `h2` and `grpc` one follows the other on a connection."""

    HTTP1 = "http1"
    TLS = "tls"
    """HTTP/1.1 in TLS 1.3."""
    H2_SINGLE = "h2-single"
    """HTTP/2 in TLS 1.3, one stream at a time."""
    H2 = "h2"
    """The same, several streams at once."""
    GRPC = "grpc"
    """HTTP/2 in the clear, several streams at once."""

    @property
    def secure(self) -> bool:
        return self not in (Wire.HTTP1, Wire.GRPC)

    @property
    def http2(self) -> bool:
        return self not in (Wire.HTTP1, Wire.TLS)

    @property
    def packages(self) -> tuple[str, ...]:
        """What its server and its clients are."""
        if self is Wire.GRPC:
            return ("grpcio",)
        return ("hypercorn", "h2", "httpx") if self.http2 else ("uvicorn", "httptools", "uvloop", "httpx")


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks of the server: `pieces`, the first after `delay`, then one every `pace` give or take a fifth;
    before the piece `pause_before` comes a pause. All times in seconds.

    A piece is an event with a token, or has `piece_bytes`. `late` keeps the head of the answer back until there is
    something to follow it. A `whole` answer is not streamed. `prompt_bytes` are sent along, and nothing is done with
    them.
    """

    delay: float
    pieces: int = 1
    piece_bytes: int | None = None
    pace: float = 0.0
    pause_before: int | None = None
    pause: float = 0.0
    late: bool = False
    whole: bool = False
    prompt_bytes: int = 400

    def waits(self, rng: random.Random) -> Iterator[float]:
        """How long each piece is waited for."""
        yield self.delay
        for number in range(1, self.pieces):
            wait = self.pace * rng.uniform(0.8, 1.2)
            yield wait + self.pause if number == self.pause_before else wait


def _tokens(rng: random.Random, *, late: bool) -> Question:
    pieces = rng.randint(10, 60)
    return Question(
        delay=rng.uniform(0.1, 0.6),
        pieces=pieces,
        pace=rng.uniform(0.02, 0.06),
        pause_before=rng.randrange(2, pieces) if rng.random() < 0.1 else None,
        pause=rng.uniform(0.3, 1.5),
        late=late,
        prompt_bytes=rng.randint(100, 4000),
    )


def _short(rng: random.Random) -> Question:
    return Question(
        delay=rng.lognormvariate(-3.0, 0.8),
        piece_bytes=rng.choice((80, 400, 3000, 20_000)),
        whole=True,
        prompt_bytes=rng.randint(50, 2000),
    )


def _bulk(rng: random.Random) -> Question:
    return Question(delay=rng.uniform(0.0, 0.05), pieces=rng.randint(16, 64), piece_bytes=1 << 16, pace=0.002)


@dataclass(frozen=True, slots=True)
class Work:
    """What clients ask for, and how long they think between two requests: `think` is the mean, exponential."""

    summary: str
    question: Callable[[random.Random], Question]
    clients: int
    think: float


WORKS = {
    "stream": Work(
        "10 to 60 tokens as server-sent events, one each 20 to 60 ms, one answer in ten with a pause of 0.3 to 1.5 s; "
        "the head at once, the first token 0.1 to 0.6 s later",
        lambda rng: _tokens(rng, late=False),
        clients=16,
        think=1.0,
    ),
    "late": Work(
        "the same, the head with the first token",
        lambda rng: _tokens(rng, late=True),
        clients=16,
        think=1.0,
    ),
    "short": Work("JSON of 80 bytes to 20 kB after about 50 ms (most 20 to 150 ms)", _short, clients=12, think=0.15),
    "bulk": Work("downloads of 1 to 4 MiB in chunks of 64 KiB, 2 ms apart", _bulk, clients=4, think=0.3),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A way of answering over a protocol. `streams` requests go over each connection at once."""

    work_name: str
    wire: Wire
    connections: int
    streams: int

    @classmethod
    def of(cls, work_name: str, wire: Wire) -> Row:
        streams = 4 if wire in (Wire.H2, Wire.GRPC) else 1
        return cls(work_name, wire, max(1, WORKS[work_name].clients // streams), streams)

    @property
    def name(self) -> str:
        return f"{self.work_name}.{self.wire}"

    @property
    def work(self) -> Work:
        return WORKS[self.work_name]

    def small(self) -> Row:
        """The same with fewer connections, for a trace that people can read; of gRPC one, as it tells no ports."""
        return replace(self, connections=1 if self.wire is Wire.GRPC else min(6, self.connections))

    def chance(self, seed: int, connection: int, stream: int) -> random.Random:
        return random.Random(f"{self.name} {seed} {connection} {stream}")


ROWS = {
    row.name: row
    for row in (
        *(Row.of(work, wire) for wire in (Wire.HTTP1, Wire.TLS) for work in WORKS),
        *(Row.of(work, wire) for wire in (Wire.H2_SINGLE, Wire.H2) for work in ("stream", "short", "bulk")),
        Row.of("stream", Wire.GRPC),
    )
}
