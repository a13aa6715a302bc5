"""Keeps the weights of backends in step with their load and their age in service, and asks their agents.

Owns the tasks that scrape and ask. Pure functions decide what follows from the answers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from l4lb.agent.client import ask
from l4lb.balancer.checks import check_target
from l4lb.balancer.cold_starts import ColdStarts
from l4lb.balancer.store import Reason, StateStore
from l4lb.base.tasks import repeat
from l4lb.bounded.client import Client
from l4lb.config import model
from l4lb.config.fields.series import Series
from l4lb.engine.api import Engine
from l4lb.health.progress import ProgressTrack, Work
from l4lb.load.exposition import SIGNALS, Readings, Signal, Wanted
from l4lb.load.poller import Asked, Poller
from l4lb.load.ramp import ramp
from l4lb.load.scraper import fill, new_client, scrape
from l4lb.load.weights import APPLY_INTERVAL, LoadRules, LoadTrack, Sample, Traffic, observe, step, utilisation
from l4lb.net.target import Target
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.state import BackendKey, PoolEntry, State
from l4lb.status import LoadStatus

WEIGHTS_INTERVAL = 0.25
"""Seconds between two looks while weights follow something."""

START_GRACE = 10.0
"""Seconds after the start in which a backend that becomes usable counts as usable from before the start."""

STEP_MIN = 0.05
"""Seconds between two looks at the load of a pool, however often it is published."""

_WHERE_THE_POOL_SAYS = model.BackendAgent()

STALE_INTERVALS = 3
"""Intervals for which numbers are used at least, so that one lost scrape changes nothing."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """Where and how a backend is scraped."""

    url: str
    slot: int
    settings: model.Load
    progress: model.Progress | None = None
    sources: tuple[str, ...] = ()

    @property
    def interval(self) -> float:
        return self.settings.interval


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """Where an agent is asked."""

    target: Target
    interval: float
    send: bytes = b""


@dataclass(slots=True)
class _PoolLoad:
    """The tracks of a pool's backends by name, the time of the last step, and of the last change of a weight."""

    tracks: dict[str, LoadTrack] = field(default_factory=dict)
    stepped_at: float = -math.inf
    applied_at: float = -math.inf


class WeightController:
    """`on_agent(key, line)` is called on the loop with each answer of an agent, `on_stalled(key, why)` with each scrape
    that tells of progress: why the work of a backend stands still, None if it does not; `on_readings(key,
    readings)` with each scrape. `active` while a weight may change by itself."""

    def __init__(
        self,
        engine: Engine,
        store: StateStore,
        cold_starts: ColdStarts,
        on_agent: Callable[[BackendKey, str], None],
        on_stalled: Callable[[BackendKey, str | None], None],
        on_readings: Callable[[BackendKey, Readings], None],
    ) -> None:
        self._engine = engine
        self._store = store
        self._cold_starts = cold_starts
        self._on_agent = on_agent
        self._on_stalled = on_stalled
        self._on_readings = on_readings
        self._progress: dict[BackendKey, ProgressTrack] = {}
        self._client: Client | None = None
        self._scrapes: Poller[BackendKey, Scrape] = Poller("scrape", self._scrape)
        self._agents: Poller[BackendKey, AgentRequest] = Poller("agent check", self._ask)
        self._pools: dict[str, _PoolLoad] = {}
        self._steady: dict[str, PoolEntry] = {}
        self._ramping_until = -math.inf
        self.active = asyncio.Event()

    def apply(self, state: State) -> None:
        """Scrape and ask the backends of this state from now on."""
        scrapes = dict(_scrapes(state))
        for key, job in scrapes.items():
            known = self._scrapes.asked(key)
            if known is None or known.job.url != job.url:
                # The numbers of another server say nothing about this one.
                self._pools.setdefault(key[0], _PoolLoad()).tracks[key[1]] = LoadTrack()
                self._progress.pop(key, None)
        for name in self._pools.keys() - {pool for pool, _ in scrapes}:
            del self._pools[name]
        for name, load in self._pools.items():
            load.tracks = {backend: track for backend, track in load.tracks.items() if (name, backend) in scrapes}
        self._progress = {key: seen for key, seen in self._progress.items() if key in scrapes}
        self._scrapes.apply(scrapes)
        self._agents.apply(dict(_agent_requests(state)))
        if scrapes:
            self.active.set()

    async def close(self) -> None:
        """Stop, and wait until no request is under way."""
        await self._scrapes.close()
        await self._agents.close()
        if self._client is not None:
            await self._client.close()

    # ---- asking ----------------------------------------------------------------------------------------------------

    async def _scrape(self, key: BackendKey, job: Scrape) -> str:
        if self._client is None:
            self._client = new_client()
        at, traffic = asyncio.get_running_loop().time(), self._traffic(job.slot)
        readings = await scrape(self._client, job.url, _wanted(job), job.settings.timeout, job.sources)
        self._note_progress(key, job, at, readings)
        self._on_readings(key, readings)
        tracks = self._pools[key[0]].tracks
        tracks[key[1]] = observe(tracks[key[1]], Sample(at, readings, traffic), _rules(job.settings))
        return ", ".join(f"{signal} {value:g}" for signal, value in readings.items())

    def _note_progress(self, key: BackendKey, job: Scrape, at: float, readings: Readings) -> None:
        if job.progress is None:
            return
        work = Work(at, readings.get("working"), readings.get("done"))
        seen = self._progress[key] = self._progress.get(key, ProgressTrack()).observe(work)
        limit = job.progress.stalled
        why = None
        if seen.stalled(limit) is not None:
            why = f"{job.progress.counter[0]} stands still for {limit:g}s or more, while requests are running"
        self._on_stalled(key, why)

    async def _ask(self, key: BackendKey, question: AgentRequest) -> str:
        line = await ask(question.target, question.interval, question.send)
        self._on_agent(key, line)
        return line

    def _traffic(self, slot: int) -> Traffic:
        (summary,) = self._engine.summaries([slot])
        return Traffic(summary.turns_total, summary.busy)

    # ---- weighing --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await repeat("weights", WEIGHTS_INTERVAL, self.round)

    async def round(self) -> None:
        """Wait until there is something to follow, and let weights follow it."""
        await self.active.wait()
        self.step()
        self.rest(asyncio.get_running_loop().time())

    def step(self) -> None:
        """Give backends the factors of this moment."""
        now = asyncio.get_running_loop().time()
        self._store.change(self.apply_factors(self._store.state, now), Reason.WEIGHT)

    def apply_factors(self, state: State, now: float, *, first: bool = False) -> State:
        """The state with the factors of this moment. With `first`, every backend was usable before the start."""
        pools = {
            name: pool if pool is self._steady.get(name) else self._weighed_pool(name, pool, now, first=first)
            for name, pool in state.pools.items()
        }
        # The weights of these pools do not depend on time.
        self._steady = {name: pool for name, pool in pools.items() if not first and _is_steady(pool)}
        if all(pool is state.pools[name] for name, pool in pools.items()):
            return state
        return replace(state, pools=pools)

    def rest(self, now: float) -> None:
        """Go to sleep if no weight can change by itself."""
        if not self._pools and now > self._ramping_until:
            self.active.clear()

    def _weighed_pool(self, name: str, pool: PoolEntry, now: float, *, first: bool) -> PoolEntry:
        loads = self._step(name, pool, now)
        backends: dict[str, BackendEntry] = {}
        slow_start = pool.config.slow_start
        fresh: list[int] = []
        for backend_name, entry in pool.backends.items():
            before, entry = entry, _aged(entry, now, first=first)
            since = entry.usable_since
            if before.usable_since is None and since == now:
                fresh.append(entry.slot)
            warm = 1.0 if since is None else ramp(now - since, slow_start.duration)
            if warm < 1 and since is not None and slow_start.duration is not None:
                self._ramping_until = max(self._ramping_until, since + slow_start.duration)
                self.active.set()
            track = loads.get(backend_name)
            load_factor = 1.0 if track is None else track.applied
            if (warm, load_factor) != (entry.slow_start_factor, entry.load_factor):
                entry = replace(entry, slow_start_factor=warm, load_factor=load_factor)
            backends[backend_name] = entry
        if slow_start.turns:
            self._cold_starts.begin(fresh, slow_start.responses)
        if all(entry is pool.backends[backend_name] for backend_name, entry in backends.items()):
            return pool
        return replace(pool, backends=backends)

    def _step(self, name: str, pool: PoolEntry, now: float) -> Mapping[str, LoadTrack]:
        load, settings = self._pools.get(name), pool.config.load
        if load is None or settings is None:
            return {}
        elapsed = now - load.stepped_at
        if elapsed < STEP_MIN:
            return load.tracks
        traffic = {
            backend: self._traffic(pool.backends[backend].slot)
            for backend, track in load.tracks.items()
            if track.sample is not None and backend in pool.backends
        }
        serving = {backend for backend, entry in pool.backends.items() if entry.accepts_new}
        tracks = step(load.tracks, traffic, serving, _rules(settings), now, min(elapsed, APPLY_INTERVAL))
        if now - load.applied_at < APPLY_INTERVAL:
            tracks = {
                backend: replace(track, applied=load.tracks[backend].applied) for backend, track in tracks.items()
            }
        elif any(track.applied != load.tracks[backend].applied for backend, track in tracks.items()):
            load.applied_at = now
        load.tracks, load.stepped_at = tracks, now
        return tracks

    # ---- numbers ---------------------------------------------------------------------------------------------------

    def load(self, key: BackendKey, entry: BackendEntry, now: float) -> LoadStatus | None:
        """The load of a backend as far as known; None if the backend is not scraped."""
        asked = self._scrapes.asked(key)
        if asked is None:
            return None
        rules, track = _rules(asked.job.settings), self._pools[key[0]].tracks[key[1]]
        sample = track.sample
        return LoadStatus(
            utilisation=None if sample is None else utilisation(sample.readings, rules.limits),
            readings={} if sample is None else {str(signal): value for signal, value in sample.readings.items()},
            age=None if sample is None else track.age(now),
            stale=not track.is_fresh(now, rules),
            factor=entry.weight_factor,
            message=asked.message,
            scrapes_total=asked.results_total,
        )

    def agent(self, key: BackendKey) -> Asked[AgentRequest] | None:
        """The answers of the agent of a backend; None if it has none."""
        return self._agents.asked(key)


def _is_steady(pool: PoolEntry) -> bool:
    return pool.config.load is None and pool.config.slow_start.duration is None


def _aged(entry: BackendEntry, now: float, *, first: bool) -> BackendEntry:
    """The entry with the time since which it is usable. A backend from before the start always was."""
    if not entry.accepts_new:
        warm_until = now + START_GRACE if first else entry.warm_until
        if entry.usable_since is None and entry.warm_until == warm_until:
            return entry
        return replace(entry, usable_since=None, warm_until=warm_until)
    if entry.usable_since is not None:
        return entry
    return replace(entry, usable_since=-math.inf if first or now < entry.warm_until else now, warm_until=-math.inf)


def _scrapes(state: State) -> Iterator[tuple[BackendKey, Scrape]]:
    for pool_name, pool in state.pools.items():
        load, health = pool.config.load, pool.config.health
        progress = None if health is None else health.progress
        for name, entry in pool.backends.items() if load is not None else ():
            # A unix socket has no host to be scraped at.
            target = entry.target if entry.worth_checking else None
            if load is not None and target is not None and not isinstance(target.address, str):
                url = fill(load.url, str(target.host), target.address[1])
                yield (pool_name, name), Scrape(url, entry.slot, load, progress, pool.config.source)


def _agent_requests(state: State) -> Iterator[tuple[BackendKey, AgentRequest]]:
    """An agent that has asked for maintenance itself may end it. In maintenance by the operator it is not asked."""
    for pool_name, pool in state.pools.items():
        agent = pool.config.agent
        for name, entry in pool.backends.items() if agent is not None else ():
            if agent is None or entry.target is None or not entry.worth_asking:
                continue
            target = check_target(entry.target, agent, entry.config.agent or _WHERE_THE_POOL_SAYS)
            if not isinstance(target.address, str):
                target = replace(target, sources=pool.config.source)
                yield (pool_name, name), AgentRequest(target, agent.interval, agent.send or b"")


def _wanted(job: Scrape) -> Wanted:
    signals = job.settings.signals
    wanted: dict[Signal, Sequence[Series]] = {
        signal: chain for signal in SIGNALS if (chain := getattr(signals, signal))
    }
    if job.progress is not None:
        wanted |= {"working": job.progress.running or signals.running, "done": job.progress.counter}
    return wanted


def _rules(settings: model.Load) -> LoadRules:
    return LoadRules(
        limits={signal: getattr(settings.limits, signal) for signal in SIGNALS},
        stale_after=max(settings.stale_after, STALE_INTERVALS * settings.interval),
        expire=settings.expire,
    )
