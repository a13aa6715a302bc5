"""Unexpected errors in each part of the control plane: traffic goes on, the log has the error, and the part works again
as soon as it can."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.balancer import Balancer, Json
from tests.helpers.faulty import Faults
from tests.helpers.leaks import holdings
from tests.helpers.peers import Peer, Served, address_of, connect, echo
from tests.helpers.waiting import wait_until
from tests.load.servers import AgentStandIn, ModelServer

METRICS = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running 1
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting 1
"""
LOOP = "unexpected error in the event loop"

PARTS = {
    "l4lb.balancer.reclaimer:Reclaimer.round": "unexpected error in reclaiming",
    "l4lb.balancer.rebalancer:Rebalancer.round": "unexpected error in rebalancing",
    "l4lb.balancer.outliers:Outliers.round": "unexpected error in passive health",
    "l4lb.balancer.weight_controller:WeightController.round": "unexpected error in weights",
    "l4lb.balancer.limit_controller:LimitController.round": "unexpected error in limits",
    "l4lb.balancer.rediscovery:Rediscovery.round": "unexpected error in discovery",
    "l4lb.balancer.installer:Installer.install": "unexpected error",
    "l4lb.balancer.rediscovery:NameRefresher.round": "unexpected error in name resolution",
    "l4lb.balancer.publication:Publication.pass_on": "changes of backends could not be passed on to the data plane",
    "l4lb.balancer.settlement:Settlement.note_pools": "unexpected error in pool changes",
    "l4lb.process.watchdog:Watchdog._show_life": "unexpected error in the watchdog",
    "l4lb.process.daemon:Daemon._reopen_logs": LOOP,
    "l4lb.process.daemon:Daemon._reload": "unexpected error in a requested operation",
    "l4lb.process.daemon:load_config": "unexpected error in a reload",
    "l4lb.balancer.events:EventPump.drain": LOOP,
    "l4lb.balancer.reclaimer:Reclaimer._drain": "unexpected error in reclaiming",
    "l4lb.balancer.sessions:Sessions._deliver": "events of sessions could not be delivered",
    "l4lb.balancer.rebalancer:gained": "unexpected error in pool changes",
    "l4lb.discovery.file:read": "unexpected error in pool main: file",
    "l4lb.health.probes:_asked": "unexpected error in a check",
    "l4lb.health.scheduler:probe": "the health check of ('main'",
    "l4lb.health.scheduler:Scheduler._observe": "the result of a health check of ('main'",
    "l4lb.balancer.weight_controller:WeightController._ask": "agent check of ('main'",
    "l4lb.balancer.weight_controller:WeightController._scrape": "scrape of ('main'",
    "l4lb.balancer.weight_controller:step": "unexpected error in",
    "l4lb.admin.views:status_view": "the admin request GET /api/v1/status failed",
    "l4lb.admin.metrics:render": "the admin request GET /metrics failed",
    "l4lb.observe.access:format_json": "unexpected error in writing to",
}
"""What fails, and what is then in the log."""

BREATH = 0.2
"""Seconds in which what was stirred up shows."""

INTERRUPTED = (
    "l4lb.balancer.outliers:Outliers.round",
    "l4lb.process.daemon:Daemon._reload",
    "l4lb.discovery.file:read",
    "l4lb.health.scheduler:probe",
    "l4lb.balancer.weight_controller:WeightController._scrape",
)
"""Parts that wait for something that may be cancelled under their feet."""

CASES = [
    *((part, "KeyError", "once") for part in PARTS),
    # A check without memory is one that could not be made, and no mistake of a part.
    *((part, "MemoryError", "always") for part in PARTS if part != "l4lb.health.probes:_asked"),
    *((part, "CancelledError", "once") for part in INTERRUPTED),
]


@dataclass
class World:
    """A balancer with every part at work."""

    lb: Balancer
    faults: Faults
    established: Peer
    targets: Path
    write_targets: Callable[[int], None]

    def __post_init__(self) -> None:
        self.weights = itertools.cycle(range(1, 100))

    def stir(self) -> None:
        """Give every part something to do."""
        self.write_targets(next(self.weights))
        for state in ("drain", "ready"):
            self.lb.fetch("PATCH", "/api/v1/pools/main/backends/b1", {"state": state})
        for path in ("/metrics", "/api/v1/status"):
            self.lb.fetch("GET", path)
        self.lb.signal(signal.SIGUSR1)
        self.lb.signal(signal.SIGHUP)
        self.serve()

    def stir_until(self, predicate: Callable[[], bool]) -> None:
        """Wait until it is true, with all parts at work."""

        def stirred() -> bool:
            self.stir()
            with contextlib.suppress(AssertionError):
                return wait_until(predicate, BREATH)
            return False

        begin = len(self.lb.log)
        wait_until(stirred, what=lambda: self.lb.log[begin:])

    def serve(self) -> None:
        """An established session goes on, and a new one begins and ends."""
        exchange(self.established)
        with connect(self.established.remote) as client:
            exchange(client)


def exchange(peer: Peer) -> None:
    peer.send(b"hello")
    assert peer.receive(5) == b"hello"


def settings(backends: list[Json], agent: int, targets: Path) -> Json:
    return {
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {
            "main": {
                "backends": backends,
                "discover": {"file": {"path": str(targets)}, "hold": "0s"},
                "health": {"type": "tcp", "interval": "50ms"},
                "passive": {},
                "rebalance": {},
                "agent": {"port": agent, "interval": "50ms"},
                "slow_start": "1s",
                "queue": {"size": 10, "timeout": "10s"},
                "load": {
                    "url": "http://{host}:%d/metrics",
                    "interval": "50ms",
                    "signals": {"running": "vllm:num_requests_running", "queue": "vllm:num_requests_waiting"},
                    "limits": {"running": 100, "queue": 100},
                },
            }
        },
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    targets = tmp_path_factory.mktemp("targets") / "backends.json"
    with contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(Served(echo)) for _ in range(3))
        model = stack.enter_context(ModelServer("model", METRICS))
        agent = stack.enter_context(AgentStandIn())
        faults = Faults(folder, list(PARTS))

        def write_targets(weight: int) -> None:
            entry = {"targets": [str(third)], "labels": {"weight": str(weight)}}
            new = targets.with_suffix(".new")
            new.write_text(json.dumps([entry]))
            new.rename(targets)

        write_targets(1)
        backends = [{"name": "b0", "address": str(first), "max_busy": "auto"}, {"name": "b1", "address": str(second)}]
        config = settings(backends, address_of(agent.sock)[1], targets)
        pool = config["pools"]["main"]
        pool["load"]["url"] %= address_of(model.sock)[1]
        lb = faults.balancer(config, {"l4lb.balancer.rediscovery:RESOLVE_INTERVAL": 0.05}, {"WATCHDOG_USEC": "150000"})
        stack.callback(lb.close)
        lb.start()
        world = World(lb, faults, stack.enter_context(connect(lb.address("main"))), targets, write_targets)
        world.stir()
        before = holdings(lb.popen.pid)
        yield world
        after = holdings(lb.popen.pid)
        assert after.threads <= before.threads + 2
        assert after.other <= before.other + 2
        world.established.close()
        lb.signal(signal.SIGTERM)
        assert lb.popen.wait(20) == 0, lb.log


@pytest.mark.parametrize(("part", "kind", "mode"), CASES)
def test_a_part_that_fails_is_reported_and_works_again(world: World, part: str, kind: str, mode: str) -> None:
    lb, faults, sentence = world.lb, world.faults, PARTS[part]
    begin = len(lb.log)
    counted = lb.metric("l4lb_control_errors_total")

    with faults.on(part, kind, mode):
        world.stir_until(lambda: sentence in lb.log[begin:])
        world.serve()
    said_after = lb.log[begin:].partition(sentence)[2]
    assert "Traceback (most recent call last)" in said_after
    assert kind in said_after
    faults.forget(part)
    world.stir_until(lambda: faults.returned(part))
    wait_until(lambda: lb.metric("l4lb_control_errors_total") > counted)
