"""Everything that asks servers, against servers that are broken or hostile: nothing that they answer takes long.

What counts is the time of the processor that one step of a task takes on the loop: the wall clock says more about what
else the machine does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import threading
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn, get_args

import pytest
import uvloop
import yaml

from l4lb.agent.client import ask
from l4lb.base.gc_pause import gc_paused
from l4lb.base.text import MESSAGE_MAX
from l4lb.config.address import Address
from l4lb.config.fields.series import Series
from l4lb.config.model import Health
from l4lb.config.sections import discover
from l4lb.discovery.dns import DnsSource
from l4lb.discovery.etcd import EtcdSource
from l4lb.discovery.follower import Follower
from l4lb.discovery.http import HttpSource
from l4lb.discovery.kubernetes import KubernetesSource
from l4lb.discovery.source import ENDPOINTS_MAX, DiscoveryError, Endpoint, Source
from l4lb.health.probes import Outcome, probe
from l4lb.load.scraper import new_client, scrape
from l4lb.net.target import Target
from tests.helpers import zoo
from tests.helpers.balancer import Balancer
from tests.helpers.loops import turns
from tests.helpers.peers import Backend, Peer, Served
from tests.helpers.waiting import wait_until

try:  # so that no source has to load it
    from kubernetes_asyncio.client import Configuration as KubernetesClient
except ImportError:
    KubernetesClient = None

pytestmark = pytest.mark.slow

TIMEOUT = 0.5
STEP_MAX = 0.1
"""Seconds of one step, twice of what is allowed: a loaded machine has cold caches."""

zoo.fill()
ANIMALS = sorted(zoo.ANIMALS)
TYPES = [kind for kind in get_args(Health.model_fields["type"].annotation) if kind not in ("none", "exec")]


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with zoo.zoo() as ports:
        yield ports


class Steps:
    """Measures every step of every task of a loop."""

    def __init__(self) -> None:
        self.longest = 0.0

    def factory(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        async def measured() -> Any:
            return await self._measured(coroutine)

        return asyncio.Task(measured(), loop=loop, **options)

    @types.coroutine
    def _measured(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            begun = time.thread_time()
            try:
                waits = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                self.longest = max(self.longest, time.thread_time() - begun)
            value = error = None
            try:
                value = yield waits
            except BaseException as raised:
                error = raised


def visit(main: Callable[[], Awaitable[None]]) -> None:
    steps = Steps()

    async def visited() -> None:
        asyncio.get_running_loop().set_task_factory(steps.factory)  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            await asyncio.create_task(main())  # type: ignore[arg-type]
        await turns()

    # Whatever else the process holds, a search for garbage in it is no work of these steps.
    with gc_paused():
        uvloop.run(visited())
    assert steps.longest < STEP_MAX


def health(kind: str) -> Health:
    settings: dict[str, Any] = {"type": kind, "timeout": TIMEOUT, "interval": 1.0}
    if kind in ("http", "https"):
        settings["body"] = "(x+x+)+y"
    if kind == "send_expect":
        settings["script"] = [{"send": "PING", "expect": "PONG"}, {"expect": "zz"}]
    return Health.model_validate(settings)


@pytest.mark.parametrize("kind", TYPES)
def test_a_check_takes_no_long_step_whatever_it_checks(ports: dict[str, int], kind: str) -> None:
    async def check(port: int) -> None:
        result = await probe(Target(socket.AF_INET, ("127.0.0.1", port)), health(kind))
        assert len(result.message) <= MESSAGE_MAX
        assert result.message.isprintable()
        assert "internal error" not in result.message

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for animal in ANIMALS:
                group.create_task(check(ports[animal]))

    visit(main)


def test_a_check_through_tls_takes_no_long_step(ports: dict[str, int]) -> None:
    async def main() -> None:
        for kind in ("grpc", "tcp", "send_expect"):
            for animal in ("tls alert", "tls junk", "tls records", "flood", "silent", "ends", "body"):
                settings = health(kind).model_copy(
                    update={"tls": Health.model_validate({"type": "tcp", "tls": {}}).tls}
                )
                result = await probe(Target(socket.AF_INET, ("127.0.0.1", ports[animal])), settings)
                assert result.outcome is not Outcome.SUCCESS

    visit(main)


@pytest.mark.parametrize("animal", ANIMALS)
def test_a_scrape_and_an_agent_take_no_long_step(ports: dict[str, int], animal: str) -> None:
    async def main() -> None:
        client = new_client()
        for _ in range(2):
            with contextlib.suppress(OSError, TimeoutError, ValueError):
                await scrape(client, f"http://127.0.0.1:{ports[animal]}/metrics", {"queue": (Series("q"),)}, TIMEOUT)
        await client.close()
        with contextlib.suppress(OSError, TimeoutError):
            await ask(Target(socket.AF_INET, ("127.0.0.1", ports[animal])), TIMEOUT)

    visit(main)


class Ignored:
    """Satisfies `Report`."""

    async def found(self, _answer: Any) -> None:
        pass

    def unchanged(self) -> None:
        pass

    def failed(self, message: str) -> None:
        pass


async def follow(source: Source) -> None:
    """For a while: it fails, if at all, in a way that is foreseen."""
    with contextlib.suppress(DiscoveryError, OSError, TimeoutError, ValueError):
        async with asyncio.timeout(2 * TIMEOUT):
            await source.watch(Ignored())


def sources(port: int, folder: Path) -> Iterator[Source]:
    origin = f"http://127.0.0.1:{port}"
    yield HttpSource(discover.HttpDiscovery.model_validate({"url": f"{origin}/", "timeout": TIMEOUT, "interval": 0.1}))
    yield EtcdSource(
        discover.EtcdDiscovery.model_validate({"endpoints": origin, "prefix": "/l4lb/", "timeout": TIMEOUT})
    )
    if KubernetesClient is None:
        return
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig(origin)))
    yield KubernetesSource(discover.KubernetesDiscovery.model_validate({"service": "a", "kubeconfig": str(path)}))


def kubeconfig(origin: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": origin}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }


@pytest.mark.parametrize("animal", ANIMALS)
def test_a_source_of_backends_takes_no_long_step(ports: dict[str, int], animal: str, tmp_path: Path) -> None:
    async def main() -> None:
        for source in sources(ports[animal], tmp_path):
            await follow(source)

    visit(main)


@pytest.mark.parametrize("answer", zoo.NAMES)
@pytest.mark.parametrize("record", ["A", "SRV"])
def test_a_name_server_causes_no_long_step(ports: dict[str, int], answer: str, record: str) -> None:
    settings = {
        "name": "a.test",
        "record": record,
        "servers": [f"127.0.0.1:{ports[f'names: {answer}']}"],
        "timeout": 1.0,
    }
    source = DnsSource(discover.DnsDiscovery.model_validate(settings | ({"port": 80} if record == "A" else {})))
    visit(lambda: follow(source))


class Once:
    """Satisfies `Source`: one answer, and nothing more."""

    interval = math.inf

    def __init__(self, answer: list[Endpoint]) -> None:
        self._answer = answer

    async def watch(self, report: Any) -> NoReturn:
        await report.found(self._answer)
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("host", ["10.0.{}.{}", "fe80::{}:{}"], ids=["good", "useless"])
def test_an_answer_of_as_many_endpoints_as_fit_takes_no_long_step(host: str) -> None:
    answer = [
        Endpoint(str(number), Address(host.format(number >> 8, number & 255), 80)) for number in range(ENDPOINTS_MAX)
    ]

    async def main() -> None:
        settings = discover.Discover.model_validate({"dns": {"name": "a.test", "port": 80}})
        follower = Follower("p", settings, Once(answer), lambda: None)
        await asyncio.wait_for(follower.answered.wait(), 60)
        await follower.close()

    visit(main)


def hostile_config(ports: dict[str, int], good: Backend) -> dict[str, Any]:
    """Every animal as a backend that is checked, scraped and asked, and as a source."""
    check = {"interval": "2s", "timeout": "500ms"}
    pools: dict[str, Any] = {
        "good": {"backends": [{"name": "b", "address": str(good)}], "health": {"type": "http", "interval": "100ms"}}
    }
    backends = [{"name": f"b{ports[animal]}", "address": f"127.0.0.1:{ports[animal]}"} for animal in ANIMALS]
    for kind in ("http", "https", "grpc"):
        load = {"signals": {"queue": "q"}, "interval": "1s", "timeout": "500ms"}
        pools[kind] = {"backends": backends, "health": {"type": kind, **check}, "load": load}
    source = {"interval": "1s", "timeout": "500ms"}
    for animal in ANIMALS:
        origin, name = f"http://127.0.0.1:{ports[animal]}", animal.replace(" ", "-")
        pools[f"http-{name}"] = {"discover": {"http": {"url": f"{origin}/", **source}}}
        pools[f"etcd-{name}"] = {"discover": {"etcd": {"endpoints": origin, "prefix": "/l4lb/", "timeout": "500ms"}}}
    for name in zoo.NAMES.keys() - {"many"}:
        dns = {"name": "a.test", "port": 80, "servers": [f"127.0.0.1:{ports[f'names: {name}']}"], "timeout": "500ms"}
        pools[f"dns-{name.replace(' ', '-')}"] = {"discover": {"dns": dns}}
    return {"listeners": {"front": {"bind": "127.0.0.1:0", "pool": "good"}}, "pools": pools}


def test_a_balancer_does_its_work_among_hostile_servers(ports: dict[str, int]) -> None:
    """Other pools are checked, status and reload answer, and no traceback is logged."""
    healthy = threading.Event()
    healthy.set()

    def serve(peer: Peer) -> None:
        peer.receive(4)
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" if healthy.is_set() else b"HTTP/1.1 500 No\r\n\r\n")

    with Served(serve) as good, Balancer(hostile_config(ports, good)) as lb:

        def becomes(state: str) -> None:
            wait_until(lambda: lb.status()["pools"]["good"]["backends"]["b"]["health"] == state, deadline=60)

        becomes("up")
        for _ in range(2):
            healthy.clear()
            becomes("down")
            lb.reload()
            healthy.set()
            becomes("up")
        _, metrics = lb.fetch("GET", "/metrics", deadline=60)
        assert b"\nl4lb_control_errors_total 0\n" in metrics
        assert b"\nl4lb_control_loop_lag_seconds_count " in metrics
        for pool in lb.status()["pools"].values():
            for one in pool["backends"].values():
                assert len(one["health_message"]) <= MESSAGE_MAX
