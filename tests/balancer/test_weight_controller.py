"""From what servers and agents say to the weights of the data plane, over a data plane that only remembers."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from l4lb.agent.protocol import NO_REPORT
from l4lb.balancer import weight_controller as module
from l4lb.balancer.balancer import Balancer
from l4lb.balancer.cold_starts import ColdStarts
from l4lb.balancer.limit_controller import LimitController
from l4lb.balancer.store import StateStore
from l4lb.balancer.weight_controller import START_GRACE, WeightController
from l4lb.base.tasks import Supervisor, repeat
from l4lb.engine.api import BackendSummary, EngineOptions
from l4lb.load.exposition import Signal, Wanted
from l4lb.state.merge import merge
from l4lb.state.state import State
from l4lb.status import AdminState, HealthState
from tests.helpers.build import Slots, config, merged, targets
from tests.helpers.fake_engine import FakeEngine
from tests.helpers.loops import eventually, run

A, B = "127.0.0.1:9001", "127.0.0.1:9002"
NAMED = ({"name": "a", "address": A}, {"name": "b", "address": B})
SIGNALS = {"queue": "q", "kv": "kv"}
LOADED: dict[str, Any] = {"load": {"signals": SIGNALS, "interval": 0.01, "timeout": 1}}
RAMPED: dict[str, Any] = {"slow_start": 10}


class Servers:
    """Stands in for the network: what each URL says, and which were asked."""

    def __init__(self) -> None:
        self.readings: dict[str, dict[Signal, float]] = {}
        self.asked: list[str] = []

    async def scrape(
        self, _session: object, url: str, _wanted: Wanted, _timeout: float, _sources: object
    ) -> dict[Signal, float]:
        self.asked.append(url)
        if url not in self.readings:
            raise ConnectionRefusedError
        return self.readings[url]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    servers = Servers()
    monkeypatch.setattr(module, "scrape", servers.scrape)
    monkeypatch.setattr("l4lb.load.weights.TAU", 0.1)
    monkeypatch.setattr(module, "APPLY_INTERVAL", 0.06)
    return servers


def controller() -> WeightController:
    engine, store = FakeEngine(), StateStore()
    cold_starts, limits = ColdStarts(engine, store), LimitController(store)
    return WeightController(engine, store, cold_starts, lambda _key, _line: None, lambda _key, _why: None, limits.note)


def url(address: str) -> str:
    return f"http://{address}/metrics"


class Stage:
    """A balancer on a fake engine whose clock the test moves on."""

    def __init__(self) -> None:
        self.engine = FakeEngine(EngineOptions(workers=1))
        self.balancer = Balancer(self.engine, lambda _: None)

    async def apply(self, *backends: object, **pool: Any) -> None:
        self.balancer.apply(await self.balancer.prepare(config(*backends, pool=pool)))

    def weights(self) -> dict[str, int]:
        return {backend.name: backend.weight for backend in self.engine.snapshot.pools[0].backends if backend.usable}

    def backend(self, name: str) -> Any:
        return self.balancer.pools()["app"].backends[name]


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    stage = Stage()

    background = Supervisor()
    background.start("weights", lambda: repeat("weights", 0.02, stage.balancer.parts.weights.round))
    try:
        yield stage
    finally:
        await background.close()
        await stage.balancer.close()


# ---- load ------------------------------------------------------------------------------------------------------------


def test_weights_follow_what_servers_say(servers: Servers) -> None:
    async def main() -> None:
        servers.readings = {url(A): {"queue": 4.0, "kv": 0.1}, url(B): {"queue": 0.0, "kv": 0.0}}
        async with staged() as stage:
            await stage.apply(*NAMED, **LOADED)
            assert stage.weights() == {"a": 1, "b": 1}
            await eventually(lambda: stage.weights() == {"a": 3, "b": 16})
            assert stage.backend("a").effective_weight == 3 / 16
            load = stage.backend("a").load
            assert (load.utilisation, load.stale, dict(load.readings)) == (0.8, False, {"queue": 4.0, "kv": 0.1})
            assert load.scrapes_total["success"] > 0
            servers.readings[url(A)] = {"queue": 0.0, "kv": 0.0}
            await eventually(lambda: stage.weights() == {"a": 1, "b": 1})

    run(main())


def test_publications_for_load_are_few(servers: Servers) -> None:
    """A step at most each APPLY_INTERVAL, and none once the weights have settled."""

    async def main() -> None:
        servers.readings = {url(A): {"queue": 5.0, "kv": 0.0}, url(B): {"queue": 0.0, "kv": 0.0}}
        async with staged() as stage:
            await stage.apply(*NAMED, **LOADED)
            begun = asyncio.get_running_loop().time()
            await eventually(lambda: stage.weights() == {"a": 1, "b": 16})
            passed = asyncio.get_running_loop().time() - begun
            assert len(stage.engine.snapshots) <= 2 + passed / module.APPLY_INTERVAL

    run(main())


def test_a_server_that_says_nothing_is_average(servers: Servers) -> None:
    async def main() -> None:
        servers.readings = {url(A): {"queue": 4.0, "kv": 0.0}}
        async with staged() as stage:
            await stage.apply(*NAMED, **LOADED)
            await eventually(lambda: stage.weights() == {"a": 3, "b": 3})
            load = stage.backend("b").load
            assert (load.utilisation, load.age, load.stale) == (None, None, True)
            await eventually(lambda: stage.backend("b").load.scrapes_total["failure"] > 0)

    run(main())


def test_what_was_known_of_a_server_ends_when_it_moves(servers: Servers) -> None:
    async def main() -> None:
        servers.readings = {url(A): {"queue": 4.0, "kv": 0.0}}
        async with staged() as stage:
            await stage.apply({"name": "a", "address": A}, **LOADED)
            await eventually(lambda: stage.backend("a").load.age is not None)
            await stage.apply({"name": "a", "address": B}, **LOADED)
            assert stage.backend("a").load.age is None

    run(main())


def test_without_load_no_backend_is_scraped_any_more(servers: Servers) -> None:
    async def main() -> None:
        servers.readings = {url(A): {"queue": 4.0, "kv": 0.0}, url(B): {"queue": 0.0, "kv": 0.0}}
        async with staged() as stage:
            await stage.apply(*NAMED, **LOADED)
            await eventually(lambda: stage.weights()["a"] == 3)
            await stage.apply(*NAMED)
            assert stage.weights() == {"a": 1, "b": 1}
            assert stage.backend("a").load is None
            await eventually(lambda: not stage.balancer.parts.weights.active.is_set())

    run(main())


def test_a_backend_on_a_unix_socket_is_not_scraped(servers: Servers) -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply("unix:/run/x.sock", **LOADED)
            assert stage.backend("unix:/run/x.sock").load is None

    run(main())


def test_turns_since_the_scrape_lower_the_weight(servers: Servers) -> None:
    async def main() -> None:
        servers.readings = {url(A): {"queue": 0.0, "kv": 0.0}, url(B): {"queue": 0.0, "kv": 0.0}}
        async with staged() as stage:
            await stage.apply(*NAMED, load={"signals": SIGNALS, "interval": 3600, "timeout": 1})
            for name in "ab":
                # The first scrape of each comes within a tenth of the interval: do not wait for it.
                job = stage.balancer.parts.weights._scrapes.asked(("app", name)).job  # type: ignore[union-attr]
                await stage.balancer.parts.weights._scrape(("app", name), job)
            slot = stage.balancer.state.pools["app"].backends["a"].slot
            stage.engine.summary[slot] = BackendSummary(busy=4, turns_total=4)
            await eventually(lambda: stage.weights() == {"a": 3, "b": 16})

    run(main())


# ---- agents ----------------------------------------------------------------------------------------------------------


def heard(lines: list[str]) -> list[tuple[int, str, str, int, int]]:
    """What follows from an agent's lines: weight in use, state, health, connections and number of snapshots."""
    found = []

    async def main() -> None:
        async with staged() as stage:
            await stage.apply({"name": "a", "address": A, "weight": 4}, agent={"port": 9401, "interval": 3600})
            for line in lines:
                stage.balancer.parts.findings.on_agent(("app", "a"), line)
                await eventually(lambda: not stage.balancer.parts.publication.publisher.waiting)
                status, (spec,) = stage.backend("a"), stage.engine.snapshot.pools[0].backends
                found.append(
                    (
                        status.effective_weight,
                        str(status.state),
                        str(status.health),
                        spec.max_connections,
                        len(stage.engine.snapshots),
                    )
                )

    run(main())
    return found


def test_an_agents_words_take_effect_and_what_it_does_not_mention_stays() -> None:
    assert heard(
        ["up 75%", "maxconn:9", "drain", "50%", "ready", "down #full", "up", "nonsense", "maint", "ready"]
    ) == [
        (3, "ready", "none", 0, 2),
        (3, "ready", "none", 9, 3),
        (0, "drain", "none", 9, 4),
        (0, "drain", "none", 9, 5),
        (2, "ready", "none", 9, 6),
        (0, "ready", "down", 9, 7),
        (2, "ready", "none", 9, 8),
        (2, "ready", "none", 9, 8),
        (0, "maint", "none", 9, 9),
        (2, "ready", "none", 9, 10),
    ]


def jobs(backend: object, **pool: Any) -> tuple[Any, Any]:
    """What would be asked of this backend: its scrape and its agent."""
    state = merged(config(backend, pool=pool))
    return next(iter(dict(module._scrapes(state)).values()), None), next(
        iter(dict(module._agent_requests(state)).values()), None
    )


@pytest.mark.parametrize(
    ("backend", "agent", "expected"),
    [
        ({"address": A}, {"port": 9401}, ("127.0.0.1", 9401)),
        ({"address": A, "agent": {"port": 9402}}, {"port": 9401}, ("127.0.0.1", 9402)),
        ({"address": A, "agent": {"address": "10.1.0.1"}}, {"port": 9401}, ("10.1.0.1", 9401)),
        ({"address": A, "agent": {"port": 9402}}, {"port": 9401, "address": "10.2.0.1"}, ("10.2.0.1", 9402)),
        ({"address": "unix:/run/a", "agent": {"address": "10.1.0.1"}}, {"port": 9401}, ("10.1.0.1", 9401)),
        ({"address": "unix:/run/a"}, {"port": 9401}, None),
    ],
)
def test_each_backend_may_have_an_agent_of_its_own(backend: Any, agent: Any, expected: Any) -> None:
    _, question = jobs(backend, agent=agent)
    assert (None if question is None else question.target.address[:2]) == expected


def test_an_agent_of_a_backend_needs_the_section_of_the_pool() -> None:
    with pytest.raises(ValidationError, match="the pool has no agent"):
        config({"address": A, "agent": {"port": 9402}})


def test_in_maintenance_no_backend_is_asked_unless_its_agent_wants_it() -> None:
    async def main() -> None:
        async with staged() as stage:
            agent = {"port": 9401, "interval": 3600}
            await stage.apply({"name": "a", "address": A}, agent=agent, **LOADED)

            def asked() -> tuple[bool, bool]:
                weights = stage.balancer.parts.weights
                key = ("app", "a")
                return weights._scrapes.asked(key) is not None, weights._agents.asked(key) is not None

            assert asked() == (True, True)
            stage.balancer.set_backend("app", "a", state=AdminState.MAINT)
            assert asked() == (False, False)
            stage.balancer.set_backend("app", "a", state=AdminState.READY)
            assert asked() == (True, True)
            stage.balancer.parts.findings.on_agent(("app", "a"), "maint")
            assert asked() == (False, True)
            stage.balancer.parts.findings.on_agent(("app", "a"), "ready")
            assert asked() == (True, True)
            stage.balancer.set_backend("app", "a", state=AdminState.DRAIN)
            assert asked() == (True, True)

    run(main())


def test_work_that_stood_still_is_forgotten_in_maintenance() -> None:
    async def main() -> None:
        async with staged() as stage:
            progress = {"type": "tcp", "interval": 3600, "progress": {"counter": "done", "running": "running"}}
            await stage.apply({"name": "a", "address": A}, health=progress, **LOADED)
            stage.balancer.parts.findings.on_stalled(("app", "a"), "stands still")
            assert stage.backend("a").stalled
            stage.balancer.set_backend("app", "a", state=AdminState.MAINT)
            assert not stage.backend("a").stalled

    run(main())


def test_the_operator_wins_over_the_agent() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply({"name": "a", "address": A}, agent={"port": 9401, "interval": 3600})
            stage.balancer.set_backend("app", "a", state=AdminState.DRAIN)
            stage.balancer.parts.findings.on_agent(("app", "a"), "ready up 100%")
            assert stage.backend("a").state is AdminState.DRAIN
            stage.balancer.parts.findings.on_agent(("app", "a"), "down #gone")
            assert stage.backend("a").health_message == "its agent says down: gone"
            stage.balancer.set_backend("app", "a", state=AdminState.READY)
            status = stage.backend("a")
            assert (status.state, status.health, status.effective_weight) == (AdminState.READY, HealthState.NONE, 1)

    run(main())


# ---- slow start ------------------------------------------------------------------------------------------------------


def weighed(weights: WeightController, state: State, now: float, /, **values: Any) -> State:
    """The state after its backend `a` changed, weighed at that time."""
    entry = state.find(("app", "a"))
    assert entry is not None
    return weights.apply_factors(state.with_backends({("app", "a"): replace(entry, **values)}), now)


def factors(state: State) -> dict[str, float]:
    return {name: entry.weight_factor for name, entry in state.pools["app"].backends.items()}


def ramp_scene() -> tuple[WeightController, State]:
    """The process began at 0, with both backends in service."""
    weights = controller()
    return weights, weights.apply_factors(merged(config(*NAMED, pool=RAMPED)), 0.0, first=True)


BACK: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"health": HealthState.DOWN}, {"health": HealthState.UP}),
    ({"state": AdminState.MAINT}, {"state": AdminState.READY}),
    ({"state": AdminState.DRAIN}, {"state": AdminState.READY}),
    ({"weight": 0}, {"weight": 1}),
    ({"agent": NO_REPORT.with_line("down")}, {"agent": NO_REPORT.with_line("up")}),
]


@pytest.mark.parametrize(("out", "back"), BACK)
def test_a_backend_that_comes_back_starts_slowly(out: dict[str, Any], back: dict[str, Any]) -> None:
    async def main() -> None:
        weights, state = ramp_scene()
        assert factors(state) == {"a": 1, "b": 1}
        state = weighed(weights, state, 100.0, **out)
        state = weighed(weights, state, 200.0, **back)
        assert factors(state) == {"a": 0.1, "b": 1}
        assert weights.active.is_set()
        assert factors(weights.apply_factors(state, 205.0)) == {"a": 0.5, "b": 1}
        state = weights.apply_factors(state, 210.0)
        assert factors(state) == {"a": 1, "b": 1}
        weights.rest(210.5)
        assert not weights.active.is_set()

    run(main())


def test_a_new_backend_starts_slowly_even_at_the_start_of_the_process() -> None:
    async def main() -> None:
        weights, state = ramp_scene()
        wanted = config(*NAMED, {"name": "c", "address": "127.0.0.1:9003"}, pool=RAMPED)
        state = weights.apply_factors(merge(state, wanted, targets(wanted), Slots()), 1.0)
        assert factors(state) == {"a": 1, "b": 1, "c": 0.1}

    run(main())


@pytest.mark.parametrize(("when", "factor"), [(START_GRACE - 1, 1.0), (START_GRACE + 1, 0.1)])
def test_first_checks_at_the_start_are_no_reason_to_start_slowly(when: float, factor: float) -> None:
    async def main() -> None:
        weights = controller()
        state = merged(config(*NAMED, pool=RAMPED | {"health": {"type": "tcp"}}))
        state = weights.apply_factors(state, 0.0, first=True)
        state = weighed(weights, state, when, health=HealthState.UP)
        assert factors(state)["a"] == factor
        # Once it has served, it is like any other.
        state = weighed(weights, state, when, health=HealthState.DOWN)
        assert factors(weighed(weights, state, when, health=HealthState.UP))["a"] == 0.1

    run(main())


def test_a_file_that_changes_a_backend_does_not_make_it_new_but_one_that_moves_it_does() -> None:
    async def main() -> None:
        weights, state = ramp_scene()
        wanted = config(
            {"name": "a", "address": A, "weight": 2}, {"name": "b", "address": "127.0.0.1:9003"}, pool=RAMPED
        )
        state = weights.apply_factors(merge(state, wanted, targets(wanted), Slots()), 100.0)
        assert factors(state) == {"a": 1, "b": 0.1}

    run(main())


def test_slow_start_that_is_configured_later_slows_down_no_backend_in_service() -> None:
    async def main() -> None:
        weights = controller()
        state = weights.apply_factors(merged(config(*NAMED)), 0.0, first=True)
        wanted = config(*NAMED, pool=RAMPED)
        state = weights.apply_factors(merge(state, wanted, targets(wanted), Slots()), 100.0)
        assert factors(state) == {"a": 1, "b": 1}
        assert state.pools["app"].backends["a"].usable_since == -math.inf

    run(main())


def test_slow_start_reaches_the_data_plane_before_the_first_client_does() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply({"name": "a", "address": A}, slow_start=0.2)
            assert stage.weights() == {"a": 1}
            await stage.apply(*NAMED, slow_start=0.5)
            assert stage.weights() == {"a": 16, "b": 2}
            await eventually(lambda: stage.weights() == {"a": 1, "b": 1})

    run(main())
