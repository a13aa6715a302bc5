"""A running balancer: data plane, listening sockets, health checks and state, kept in step.

It knows nothing of the process around it: no signals, no files, no service manager. Everything runs on one event loop;
what has to wait for a worker runs on a thread.

A change is made in two steps: `prepare` does what may take long and touches nothing that runs, `apply` makes the change
at once, all of it or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from l4lb.config import Address, Config
from l4lb.control import report
from l4lb.control.api import AdminState, HealthState, ListenerStatus, PoolStatus, Session
from l4lb.control.compose import compose
from l4lb.control.departures import Departure, SlotKey, departures
from l4lb.control.discovered import expand, mark, place
from l4lb.control.events import EventPump
from l4lb.control.names import Names
from l4lb.control.outliers import Outliers
from l4lb.control.rebalance import WINDOW, Share, allot, gained, surplus
from l4lb.control.resolve import literal, resolve
from l4lb.control.sockets import Sockets, bind_key
from l4lb.control.state import BackendEntry, BackendKey, State, merge
from l4lb.control.zones import NO_ZONES, Zones, compile_zones
from l4lb.discovery.discovery import Discovery
from l4lb.engine.api import Engine, SessionRecord, SlotKind, WorkerStatistics
from l4lb.errors import ControlError, StartError
from l4lb.health.checks import checks_of, require_tls
from l4lb.health.probes import Target
from l4lb.health.scheduler import CONCURRENCY, Scheduler
from l4lb.load.weigher import Weigher

PUBLISH_INTERVAL = 0.02
"""Seconds between two snapshots for changes of health: a first change counts at once, the ones after it together."""

PUBLISH_PAUSE = 4
"""And so many times as long as the last one took: with thousands of backends, passing changes on is work."""

PUBLISH_RETRY = 1.0
LISTING_BATCH = 1024
FIRST_CHECKS_TIMEOUT = 5.0
STOP_ACCEPTING_TIMEOUT = 5.0

REBALANCE_INTERVAL = 0.25

POLL_INTERVAL = 0.001
"""Seconds between two looks at whether the workers let go of a socket. Whoever comes in between is reset."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration with its names resolved and its zones compiled."""

    config: Config
    targets: Mapping[Address, Target]
    zones: Zones


class Balancer:
    """Owns `engine`, which is not started yet. `on_events` gets the sessions that the access log asks for."""

    def __init__(
        self, engine: Engine, on_events: Callable[[list[Session]], None], *, checks_at_once: int = CONCURRENCY
    ) -> None:
        self._engine = engine
        self._on_events = on_events
        self._state = State()
        self._config: Config | None = None
        self._targets: dict[Address, Target] = {}
        self._sockets = Sockets(engine.options.workers)
        self._scheduler: Scheduler[BackendKey] = Scheduler(self._on_health, self._received, checks_at_once)
        self._weigher = Weigher(engine, self._on_agent, self._on_stalled)
        self._outliers = Outliers(engine)
        self._rediscovered = asyncio.Event()
        self._discovery = Discovery(self._rediscovered.set)
        self._undiscovered = ""
        self._names = Names()
        self._departures: dict[SlotKey, Departure] = {}
        self._deadlines: dict[SlotKey, float] = {}
        self._accepting = True
        self._stopping = False
        self._untidy = asyncio.Event()
        self._leaving: dict[int, bool] = {}
        self._rebalancing: dict[str, float] = {}
        self._panicking: set[str] = set()
        self._unbalanced = asyncio.Event()
        self._published_at = 0.0
        self._publish_pause = PUBLISH_INTERVAL
        self._noted = self._state
        self._told: set[str] = set()
        self._publish_timer: asyncio.TimerHandle | None = None
        self._dice = random.Random()
        self._pump = EventPump(engine, self._deliver)

    # ---- the configuration -----------------------------------------------------------------------------------------

    async def prepare(self, config: Config) -> Plan:
        """Look up the names of `config`, compile its zones, and wait a while for sources of backends new in it.

        A name that does not resolve is no error: its backend waits for an address. Nor is a source that does not
        answer. At the start nobody has to wait for those here: clients are held instead, see `start_accepting`.
        StartError if a database, or a file that checks need, cannot be read.
        """
        await asyncio.to_thread(require_tls, config)
        zones = NO_ZONES
        if config.zones:
            zones = await asyncio.to_thread(compile_zones, config, self._state.zones, self._engine.compile_zones)
        for selector in zones.idle:
            _log.warning("zones: no database has a network of %s", selector)
        if self._config is not None:
            await self._discovery.prepare(config)
        addresses = _addresses(expand(config, self._discovery.found(config)))
        return Plan(config, await resolve(addresses, self._targets), zones)

    def discard(self) -> None:
        """Let go of what was prepared and will not be applied."""
        self._discovery.discard()

    def apply(self, plan: Plan) -> None:
        """Make the planned configuration the running one. StartError changes nothing; see `discard`."""
        self._install(plan)
        self._discovery.apply(plan.config)

    def _install(self, plan: Plan) -> None:
        if self._stopping:
            # Its listeners would take clients that nobody serves.
            raise StartError("the process is stopping and takes no new configuration; change it after the next start")
        now = asyncio.get_running_loop().time()
        opened = self._sockets.open_missing(plan.config.listeners)
        taken: list[SlotKey] = []

        def take_slot(kind: SlotKind) -> int:
            slot = self._engine.take_slot(kind)
            taken.append((kind, slot))
            return slot

        found = self._discovery.found(plan.config)
        expanded = expand(plan.config, found)
        # What was found since the plan was made, and is no name, needs no look-up.
        targets = {
            address: target
            for address in _addresses(expanded)
            if (target := plan.targets.get(address) or literal(address)) is not None
        }
        try:
            merged = merge(place(self._state, plan.config, found), expanded, targets, take_slot, plan.zones)
            # Who is found before the first client comes was there before l4lb was.
            first = self._config is None or not self._accepting
            state = self._weigher.weigh(mark(merged, plan.config, found), now, first=first)
            self._engine.publish(compose(state, self._sockets.fds(), plan.config.log, accepting=self._accepting))
        except (OSError, ValueError) as error:
            for kind, slot in taken:
                self._engine.give_slot(kind, slot)
            self._sockets.close(opened)
            raise StartError(f"the data plane cannot take this configuration: {error}") from error
        self._untidy.set()
        for departure in departures(self._state, state):
            key = (departure.kind, departure.slot)
            self._departures[key] = departure
            if departure.kind is SlotKind.BACKEND:
                self._leaving[departure.slot] = True
            if departure.patience is not None:
                self._deadlines[key] = now + departure.patience
        self._note_gains(self._state, state)
        self._note_leaving(self._state, state, (key for key, _ in state.backends()))
        self._noted = state
        self._told &= state.pools.keys()
        self._state, self._config, self._targets = state, plan.config, targets
        self._names.learn(state)
        self._tell_of_panic()
        self._sockets.apply_options(plan.config.listeners)
        self._check()

    async def rediscover(self) -> None:
        """Make what discovery has found the backends that run; one round of it, once there is something new."""
        await self._rediscovered.wait()
        await self._rediscover()

    async def _rediscover(self) -> None:
        self._rediscovered.clear()
        if self._config is None or self._stopping:
            return
        found = self._discovery.found(self._config)
        names = {endpoint.address for endpoints in found.values() for endpoint in endpoints if endpoint.address.is_name}
        targets = await resolve(names - self._targets.keys(), self._targets)
        try:
            # The configuration that runs now: it may be another one than before the look-up.
            self._install(Plan(self._config, self._targets | targets, self._state.zones))
        except StartError as error:
            if str(error) != self._undiscovered:
                _log.error("what was discovered is not in use: %s", error)
            self._undiscovered = str(error)
            asyncio.get_running_loop().call_later(PUBLISH_RETRY, self._rediscovered.set)
        else:
            self._undiscovered = ""

    async def resolve_again(self) -> None:
        """Look names up again; backends that moved are checked and used at their new address."""
        config = self._config
        if config is None:
            return
        names = {backend.config.address for _, backend in self._state.backends() if backend.config.address.is_name}
        targets = await resolve(names, self._targets) if names else {}
        self._targets |= targets
        changed = {}
        for key, backend in self._state.backends():
            target = targets.get(backend.config.address, backend.target)
            if target != backend.target:
                _log.info("%s/%s is now at %s", *key, target and target.address)
                changed[key] = replace(backend, target=target)
        if changed:
            self._change(changed)
            self._publish_changes()

    def _check(self) -> None:
        self._weigher.apply(self._state)
        self._outliers.apply(self._state)
        self._scheduler.apply(checks_of(self._state))

    # ---- changes at run time ---------------------------------------------------------------------------------------

    def set_backend(
        self, pool: str, backend: str, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        """Change a backend until the file changes it. ControlError for one that is not there."""
        entry = self._find((pool, backend))
        if weight is not None and not 0 <= weight <= 256:
            raise ControlError(f"weight {weight} is out of range; weights are 0 to 256", 400)
        changed = replace(
            entry,
            state=entry.state if state is None else state,
            weight=entry.weight if weight is None else weight,
            # What its agent asked for ends too: it may have gone since.
            agent=entry.agent.cleared() if state is AdminState.READY else entry.agent,
        )
        changed = self._unknown_after_maint(pool, entry, changed)
        if changed == entry:
            return
        self._change({(pool, backend): changed})
        self._publish_changes()
        _log.info("%s/%s is set to %s, weight %d", pool, backend, changed.state.value, changed.current_weight)

    def _unknown_after_maint(self, pool: str, before: BackendEntry, after: BackendEntry) -> BackendEntry:
        """Nothing is known of a backend that is not checked."""
        if (before.admin_state is AdminState.MAINT) == (after.admin_state is AdminState.MAINT):
            return after
        return replace(after, health=self._state.pools[pool].untested)

    def _find(self, key: BackendKey) -> BackendEntry:
        if key[0] not in self._state.pools:
            raise ControlError(f"there is no pool '{key[0]}'; `l4lb status` shows the names", 404)
        entry = self._state.find(key)
        if entry is None:
            raise ControlError(f"there is no backend '{key[1]}' in pool '{key[0]}'; `l4lb status` shows the names", 404)
        return entry

    def _change(self, changed: Mapping[BackendKey, BackendEntry]) -> None:
        self._replace(changed)
        self._check()

    def _replace(self, changed: Mapping[BackendKey, BackendEntry]) -> None:
        before, self._state = self._state, self._state.with_backends(changed)
        self._note_leaving(before, self._state, changed)

    def _note_leaving(self, before: State, after: State, keys: Iterable[BackendKey]) -> None:
        for key in keys:
            known, backend = before.find(key), after.find(key)
            if known is not None and backend is not None and known.leaving is not backend.leaving:
                self._leaving[backend.slot] = backend.leaving

    def _note_gains(self, before: State, after: State) -> None:
        until = asyncio.get_running_loop().time() + WINDOW
        for pool in gained(before, after):
            if after.pools[pool].config.rebalance is not None and pool in before.pools:
                self._rebalancing[pool] = until
                self._unbalanced.set()

    def _on_health(self, key: BackendKey, health: HealthState, message: str) -> None:
        entry = self._state.find(key)
        if entry is None:
            return
        self._replace({key: replace(entry, health=health)})
        level = logging.INFO if health is HealthState.UP else logging.WARNING
        _log.log(level, "%s/%s is %s: %s", *key, health.value, message)
        self._publish_soon()

    def _received(self, key: BackendKey) -> int:
        entry = self._state.find(key)
        return 0 if entry is None else self._engine.pulses([entry.slot])[0].received_bytes_total

    def _on_agent(self, key: BackendKey, line: str) -> None:
        entry = self._state.find(key)
        if entry is None or (verdict := entry.agent.heard(line)) == entry.agent:
            return
        changed = self._unknown_after_maint(key[0], entry, replace(entry, agent=verdict))
        self._state = self._state.with_backends({key: changed})
        if changed.admin_state is not entry.admin_state:
            self._check()
        if (verdict.state, verdict.down) != (entry.agent.state, entry.agent.down):
            _log.warning("%s/%s: its agent says %s", *key, line)
        self._publish_soon()

    def _on_stalled(self, key: BackendKey, stalled: str | None) -> None:
        entry = self._state.find(key)
        if entry is None or entry.stalled == stalled:
            return
        self._replace({key: replace(entry, stalled=stalled)})
        if stalled is None:
            _log.info("%s/%s gets on with its work", *key)
        else:
            _log.warning("%s/%s is down: %s", *key, stalled)
        self._publish_soon()

    async def judge(self) -> None:
        """Eject backends that fail clients' connections. One round of it, once there is a pool that wants it."""
        await self._outliers.active.wait()
        if self._judge():
            self._publish_soon()

    def _judge(self) -> bool:
        changed = self._outliers.judge(self._state, asyncio.get_running_loop().time())
        self._replace(changed)
        return bool(changed)

    def _note_changes(self) -> None:
        """What follows for pools from what happened to their backends. Once for many changes: each is a look at all.

        Before anybody is turned away, who is ejected comes back.
        """
        changed = [name for name, pool in self._state.pools.items() if pool is not self._noted.pools.get(name)]
        if any(not self._is_usable(name) for name in changed):
            self._judge()
        for name in changed:
            if self._is_usable(name):
                self._told.discard(name)
            elif name not in self._told and not self._is_pending(name):
                self._told.add(name)
                _log.error("pool %s has no usable backend: its clients are turned away", name)
        self._note_gains(self._noted, self._state)
        self._noted = self._state

    def _is_usable(self, pool: str) -> bool:
        return bool(self._state.pools[pool].taking())

    def _is_pending(self, pool: str) -> bool:
        return any(backend.health is HealthState.PENDING for backend in self._state.pools[pool].backends.values())

    def _tell_of_panic(self) -> None:
        panicking = {name for name, pool in self._state.pools.items() if pool.panic}
        for name in sorted(panicking - self._panicking):
            threshold = self._state.pools[name].config.panic_threshold
            _log.error(
                "pool %s panics: less than %g%% of its backends are usable, so health is ignored", name, 100 * threshold
            )
        for name in sorted(self._panicking - panicking):
            _log.warning("pool %s has calmed down: only healthy backends are used", name)
        self._panicking = panicking

    def _publish_soon(self) -> None:
        if self._publish_timer is None:
            loop, due = asyncio.get_running_loop(), self._published_at + self._publish_pause
            if loop.time() < due:
                self._publish_timer = loop.call_at(due, self._publish_changes)
            else:
                # Now, not soon: whoever reads that a backend is up may send it a client.
                self._publish_changes()

    def _publish_changes(self) -> None:
        """Pass on what has changed about backends; until that succeeds it is tried again."""
        if self._publish_timer is not None:
            self._publish_timer.cancel()
            self._publish_timer = None
        try:
            self._publish()
        except Exception:
            _log.exception("changes of backends could not be passed on to the data plane; trying again")
            self._publish_timer = asyncio.get_running_loop().call_later(PUBLISH_RETRY, self._publish_changes)

    def _publish(self) -> None:
        if self._config is not None:
            self._published_at = now = asyncio.get_running_loop().time()
            began = time.monotonic()
            self._note_changes()
            self._state = self._weigher.weigh(self._state, now)
            fds = self._sockets.fds()
            self._engine.publish(compose(self._state, fds, self._config.log, accepting=self._accepting))
            self._tell_of_panic()
            self._publish_pause = max(PUBLISH_INTERVAL, PUBLISH_PAUSE * (time.monotonic() - began))
            self._untidy.set()

    async def weigh(self) -> None:
        """Let weights follow load and slow start. One round of it, once there is anything to follow."""
        await self._weigher.active.wait()
        now = asyncio.get_running_loop().time()
        before, self._state = self._state, self._weigher.weigh(self._state, now)
        if any(
            pool.weights() != before.pools[name].weights()
            for name, pool in self._state.pools.items()
            if pool is not before.pools[name]
        ):
            self._publish_changes()
        self._weigher.rest(now)

    # ---- sessions --------------------------------------------------------------------------------------------------

    async def sessions(self) -> list[Session]:
        return [self._names.session(record) for record in await asyncio.to_thread(self._list_sessions)]

    def _list_sessions(self) -> list[SessionRecord]:
        records: list[SessionRecord] = []
        for worker in range(self._engine.options.workers):
            after = 0
            while batch := self._engine.sessions(worker, after, LISTING_BATCH):
                records += batch
                after = batch[-1].id
        return records

    async def kill_session(self, session: int) -> None:
        if not await asyncio.to_thread(self._engine.kill_session, session):
            raise ControlError(f"there is no session {session}; `l4lb sessions` shows who is there", 404)

    def _deliver(self, records: list[SessionRecord]) -> None:
        self._on_events([self._names.session(record) for record in records])

    # ---- numbers ---------------------------------------------------------------------------------------------------

    def listeners(self) -> dict[str, ListenerStatus]:
        return {
            name: report.listener_status(name, listener, self._sockets, self._engine)
            for name, listener in self._state.listeners.items()
        }

    def pools(self) -> dict[str, PoolStatus]:
        now = asyncio.get_running_loop().time()
        return {
            name: report.pool_status(
                name,
                pool,
                self._scheduler,
                self._weigher,
                self._outliers,
                self._engine,
                now,
                self._discovery.status(name, now),
            )
            for name, pool in self._state.pools.items()
        }

    def workers(self) -> list[WorkerStatistics]:
        return [self._engine.worker_statistics(worker) for worker in range(self._engine.options.workers)]

    def session_count(self) -> int:
        return sum(worker.sessions for worker in self.workers())

    # ---- housekeeping ----------------------------------------------------------------------------------------------

    async def tidy(self) -> None:
        """Let go of what no session and no worker uses any more; end the sessions whose patience is over.

        One round of it, once there is anything to do.
        """
        await self._untidy.wait()
        # What changes while this waits for a worker is for the next round.
        self._untidy.clear()
        tidy = False
        try:
            settled = self._engine.reclaim() == 0
            if settled:
                self._close_unused_sockets()
            await self._leave()
            self._give_slots()
            await self._end_patience()
            tidy = settled and not self._departures and not self._leaving
        finally:
            if not tidy:
                self._untidy.set()

    def _close_unused_sockets(self) -> None:
        wanted = {
            bind_key(name, address)
            for name, listener in self._state.listeners.items()
            for address in listener.config.bind
            if not self._stopping
        }
        self._sockets.close([key for key in self._sockets.binds if key not in wanted])

    def _give_slots(self) -> None:
        for (kind, slot), departure in list(self._departures.items()):
            if self._engine.give_slot(kind, slot):
                # The last sessions may just have ended: their events still need the name.
                self._pump.drain()
                self._names.forget(kind, slot)
                del self._departures[kind, slot]
                self._deadlines.pop((kind, slot), None)
                _log.debug("%s has left", departure.label)

    async def _leave(self) -> None:
        """Have quiet sessions leave backends that are drained or gone, and stay at the others."""
        while self._leaving:
            slot, leaving = self._leaving.popitem()
            try:
                await asyncio.to_thread(self._engine.set_leaving, slot, leaving)
            except OSError:
                self._leaving.setdefault(slot, leaving)
                raise

    async def rebalance(self) -> None:
        """Close a few quiet connections where there are too many; one round of it, once there is a reason."""
        await self._unbalanced.wait()
        now = asyncio.get_running_loop().time()
        for pool_name, until in list(self._rebalancing.items()):
            pool = self._state.pools.get(pool_name)
            if pool is None or pool.config.rebalance is None or pool.panic or now >= until:
                del self._rebalancing[pool_name]
                continue
            weights = pool.effective_weights()
            shares = {
                name: Share(self._engine.backend_statistics(backend.slot).connections, weights[name])
                for name, backend in pool.backends.items()
            }
            surpluses: dict[str, int] = {}
            for names in pool.places().values():
                surpluses |= surplus({name: shares[name] for name in names})
            quiet_ms = round(pool.config.rebalance.quiet * 1000)
            for name, count in allot(surpluses, pool.config.rebalance, REBALANCE_INTERVAL, self._dice).items():
                await asyncio.to_thread(self._engine.close_quiet, pool.backends[name].slot, count, quiet_ms)
        if not self._rebalancing:
            self._unbalanced.clear()

    async def _end_patience(self) -> None:
        now = asyncio.get_running_loop().time()
        for key in [key for key, deadline in self._deadlines.items() if deadline <= now]:
            killed = await asyncio.to_thread(self._engine.kill_backend, key[1])
            del self._deadlines[key]
            if killed:
                label = self._departures[key].label
                _log.warning("%s: %d sessions outlived drain_timeout and were closed", label, killed)

    def hold(self) -> None:
        """Open sockets and check backends, but accept nobody before `start_accepting`: clients wait in the queues."""
        self._accepting = False

    async def start_accepting(self) -> None:
        """Let clients in once the backends have been found and checked: before that, nobody would serve them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_CHECKS_TIMEOUT):
                while self._discovery.waiting:
                    await self.rediscover()
                await self._rediscover()
                await self._scheduler.first_results()
        self._accepting = True
        self._publish()

    async def stop_accepting(self) -> None:
        """Accept nobody any more; who waits in a queue is still served. Sessions go on, and may still retry."""
        self._accepting = False
        self._stopping = True
        self._publish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_ACCEPTING_TIMEOUT):
                while self._engine.reclaim() > 0:  # noqa: ASYNC110 - the workers cannot signal it
                    await asyncio.sleep(POLL_INTERVAL)
        self._sockets.close(list(self._sockets.binds))

    async def close(self) -> None:
        """Stop checking, close every session, end the workers. Their last events are delivered."""
        if self._publish_timer is not None:
            self._publish_timer.cancel()
        await self._discovery.close()
        await self._scheduler.close()
        await self._weigher.close()
        self._pump.close()
        await asyncio.to_thread(self._engine.stop)
        self._pump.drain()
        self._sockets.close(list(self._sockets.binds))
        self._engine.close()


def _addresses(config: Config) -> set[Address]:
    return {backend.address for pool in config.pools.values() for backend in pool.backends}
