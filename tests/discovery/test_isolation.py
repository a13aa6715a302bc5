"""Whatever one source says or does, the pools of the others follow theirs."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l4lb.balancer import planner, resolve
from l4lb.balancer.balancer import Balancer
from l4lb.balancer.rediscovery import DISCOVERY_INTERVAL
from l4lb.config import Address
from l4lb.discovery import discovery, follower
from l4lb.discovery.keys import read_pairs
from l4lb.discovery.source import Answer, DiscoveryError, Endpoint, Readiness, Report
from l4lb.discovery.targets import read_groups
from l4lb.engine import NativeEngine
from l4lb.engine.api import EngineOptions, Snapshot
from tests.helpers.build import config
from tests.helpers.loops import eventually, run

Step = Callable[[Report], object]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("127.0.0.1:9"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["targets", "labels", "weight"]), inner, max_size=3)
    ),
    max_leaves=8,
)
HOSTS = st.one_of(
    st.ip_addresses().map(str),
    st.text("0123456789.:%[]\x00\x80 -", max_size=12),
    st.sampled_from(
        ["fe80::1%lo", "fe80::1%nowhere0", "fe80::1", "::ffff:127.0.0.1", "0", "::", "silent.example", "gone.example."]
    ),
)
ENDPOINTS = st.builds(
    Endpoint,
    st.text(max_size=12) | st.sampled_from(["a", "b"]),
    st.builds(Address, HOSTS, st.integers(-1, 70_000)),
    st.integers(-2, 300),
    st.none() | st.text(max_size=5),
    st.integers(-1, 20),
    st.sampled_from(Readiness),
)
ERRORS = st.sampled_from(
    [
        DiscoveryError("broken"),
        OSError(5, "broken"),
        ValueError("x" * 5000),
        RuntimeError(),
        KeyError(),
        RecursionError(),
    ]
)


def says(answer: Any) -> Step:
    return lambda report: report.found(answer)


def breaks(error: Exception) -> Step:
    def step(_report: Report) -> None:
        raise error

    return step


MISBEHAVIOUR = st.one_of(
    st.lists(ENDPOINTS, max_size=4).map(says),
    st.builds(
        lambda good, wrong: says(Answer(good, wrong, wrong)), st.lists(ENDPOINTS, max_size=2), st.just({"x": "y"})
    ),
    JSON.map(lambda data: lambda report: report.found(read_groups(data))),
    st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=30)), max_size=3).map(
        lambda pairs: lambda report: report.found(read_pairs(pairs, "/x/"))
    ),
    ERRORS.map(breaks),
    st.just(lambda report: report.unchanged()),
)


class Scripted:
    """A source that does what it is given to do."""

    interval = math.inf

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Step] = asyncio.Queue()

    async def watch(self, report: Report) -> NoReturn:
        while True:
            if (found := (await self.steps.get())(report)) is not None:
                await found


class Recording(NativeEngine):
    """The data plane as it is, which never starts."""

    snapshot: Snapshot

    def publish(self, snapshot: Snapshot) -> None:
        super().publish(snapshot)
        self.snapshot = snapshot

    def start(self) -> None:
        raise AssertionError


@pytest.fixture(autouse=True, scope="module")
def _hurry() -> Any:
    """One name is silent, all others are not there."""
    answer = threading.Event()

    def ask(name: str) -> list[str]:
        if name == "silent.example":
            answer.wait()
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follower, "BACKOFF_MIN", 0.0001)
        patch.setattr(follower, "BACKOFF_MAX", 0.001)
        patch.setattr(follower, "QUIET", 0.001)
        patch.setattr(planner, "REDISCOVERY_RETRY", 0.001)
        patch.setattr(planner, "FOUND_TIMEOUT", 0.001)
        patch.setattr(resolve, "ask_system", ask)
        yield
        answer.set()


@settings(deadline=None, max_examples=40)
@given(st.lists(MISBEHAVIOUR, min_size=1, max_size=6))
def test_pools_follow_their_sources_whatever_the_source_of_another_pool_does(steps: list[Step]) -> None:
    async def main() -> None:
        sources = {"bad": Scripted(), "good": Scripted()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(discovery, "new_source", lambda given: sources[given.file.path])
            engine = Recording(EngineOptions(pipes_per_worker=0))
            one = Balancer(engine, lambda _: None)
            task: asyncio.Task[None] | None = None
            try:
                pools = {name: {"discover": {"file": {"path": name}, "hold": 0}} for name in sources}
                one.apply(await one.prepare(config(pools=pools, listener={"pool": "good"})))
                task = asyncio.ensure_future(_keep_up(one))
                for number, step in enumerate(steps, 1):
                    sources["bad"].steps.put_nowait(step)
                    name = f"n{number}"
                    sources["good"].steps.put_nowait(says([Endpoint(name, Address("127.0.0.1", number))]))
                    await eventually(lambda: _names(engine, 1) == [name])  # noqa: B023
                await eventually(sources["bad"].steps.empty)
                # The one that was bad is not lost either.
                sources["bad"].steps.put_nowait(says([Endpoint("last", Address("127.0.0.1", 1))]))
                await eventually(lambda: _names(engine, 0) == ["last"])
            finally:
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                await one.close()

    run(main())


def _names(engine: Recording, pool: int) -> list[str]:
    return [backend.name for backend in engine.snapshot.pools[pool].backends]


async def _keep_up(one: Balancer) -> None:
    while True:
        await one.parts.rediscovery.round()
        await asyncio.sleep(DISCOVERY_INTERVAL / 10)
