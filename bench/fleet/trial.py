"""One run: the fleet, a balancer in front of it, the clients, and what clients and servers report afterwards."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bench.fleet import client, server
from bench.fleet.client import Outcome
from bench.fleet.plan import Scenario
from bench.fleet.server import Truth
from bench.fleet.subjects.base import Replica, Site, Subject
from bench.fleet.truth import Sample
from bench.shared.children import MESSAGE_SECONDS, child, receive
from bench.shared.places import free_port
from bench.shared.processes import BenchError

SAMPLE_SECONDS = 0.25
LEAD_SECONDS = 0.5
"""From "go" to the first request: all processes have read it by then."""
ANNOUNCE_SECONDS = 0.2
"""From the time that a replica listens until the balancer is told."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was seen. `start` is the time of the monotonic clock when the first request could come."""

    start: float
    outcomes: list[Outcome]
    truths: list[Truth]
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Places:
    """CPUs to run on: `load` is that of clients and servers."""

    balancer: int
    load: int


def run(scenario: Scenario, subject: Subject, seed: int, places: Places) -> Trial:
    with (
        tempfile.TemporaryDirectory(prefix="l4lb-fleet-") as directory,
        child(server.run, scenario, places.load) as servers,
    ):
        addresses = receive(servers, "the servers")
        *replicas, coming = (
            Replica(name, address, weight)
            for name, address, weight in zip(scenario.names, addresses, scenario.weights, strict=True)
        )
        site = Site(Path(directory), places.balancer, free_port(), replicas, coming)
        with subject.started(site) as pid:
            target = ("127.0.0.1", site.port)
            with child(client.run, scenario, seed, target, places.load) as clients:
                receive(clients, "the clients")
                start = time.monotonic() + LEAD_SECONDS
                servers.send(start)
                clients.send(start)
                samples = _watch(scenario, subject, site, pid, start, clients)
                outcomes = receive(clients, "the clients")
                loads = subject.loads(site)
                if loads:
                    samples.append(Sample(time.monotonic(), loads))
        servers.send("stop")
        truths = receive(servers, "the servers")
    return Trial(start, outcomes, truths, samples)


def _watch(
    scenario: Scenario, subject: Subject, site: Site, pid: int, start: float, clients: Connection
) -> list[Sample]:
    """Until the clients are done: ask the balancer what it knows, and tell it of the new replica in time."""
    samples = []
    announce_at = start + scenario.timeline.added + ANNOUNCE_SECONDS
    deadline = start + scenario.timeline.end + scenario.timeline.drain + MESSAGE_SECONDS
    announced = False
    while not clients.poll(SAMPLE_SECONDS):
        now = time.monotonic()
        if now > deadline:
            raise BenchError("the clients do not come to an end")
        if not announced and now >= announce_at:
            subject.announce(site, pid)
            announced = True
        if start + scenario.timeline.measured <= now < start + scenario.timeline.end:
            loads = subject.loads(site)
            if loads:
                samples.append(Sample(time.monotonic(), loads))
    return samples
