"""What every subject is: a balancer with a policy, told where its replicas are and when another one has come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.shared import balancers
from bench.shared.balancers import Greeting

QUEUE_SECONDS = 30
"""How long a request may wait where a subject bounds the requests in flight of a replica."""
BATCH = 16
"""This bound: the sequences that a replica computes at the same time."""


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

    In TCP mode HAProxy counts connections only: they are its `busy`, and its `turns` is None.
    """

    busy: int
    turns: int | None


class Subject(ABC):
    """A balancer with a policy. `family` groups the policies of a product; an `optional` one may be not installed."""

    family: str
    optional = False
    greeting: Greeting | None = None
    """Without one, a subject is ready when it accepts a connection."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def version(self) -> str:
        """BenchError when the product is not installed."""

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
        with balancers.started(
            self.name,
            self.command(site),
            cpu=site.cpu,
            port=site.port,
            directory=site.directory,
            greeting=self.greeting,
        ) as process:
            yield process.pid
