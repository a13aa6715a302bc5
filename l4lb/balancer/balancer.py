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
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

from l4lb.balancer import report
from l4lb.balancer.alarms import Alarms
from l4lb.balancer.checks import checks_of
from l4lb.balancer.compose import Composer
from l4lb.balancer.cutter import Cutter
from l4lb.balancer.editor import Editor, RunningConfig
from l4lb.balancer.failover import Failover
from l4lb.balancer.loop_guard import LoopGuard
from l4lb.balancer.outliers import Outliers
from l4lb.balancer.planner import Plan, Planner
from l4lb.balancer.publisher import Publisher
from l4lb.balancer.rebalancer import Rebalancer
from l4lb.balancer.reclaimer import Reclaimer
from l4lb.balancer.sessions import Sessions
from l4lb.balancer.transfer import Transfer
from l4lb.balancer.weight_controller import WeightController
from l4lb.base.text import plural
from l4lb.base.threads import ThreadPool
from l4lb.config import Address, Config
from l4lb.engine.api import NO_EVENTS, Engine, EventKind, SlotKind
from l4lb.engine.statistics import WorkerStatistics
from l4lb.errors import ControlError, StartError
from l4lb.handover import restore
from l4lb.handover.records import BackendRecord, HandoverData, StickyBatch
from l4lb.health.scheduler import CONCURRENCY, Scheduler
from l4lb.net.target import Target
from l4lb.sockets.bind import BindKey
from l4lb.sockets.fd_store import Store, no_store
from l4lb.sockets.inherited import Inherited
from l4lb.sockets.listeners import Sockets
from l4lb.state import edits
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.changes import find, with_agent_report, with_operator_change
from l4lb.state.containment import Containment, PoolFaults, refused
from l4lb.state.edits import Edits
from l4lb.state.failback import Seat
from l4lb.state.removals import SlotKey
from l4lb.state.state import BackendKey, State
from l4lb.status import (
    AdminState,
    BackendStatus,
    HealthState,
    ListenerStatus,
    PoolFaultStatus,
    PoolStatus,
    Session,
    Settings,
)

FIRST_CHECKS_TIMEOUT = 5.0
STOP_ACCEPTING_TIMEOUT = 5.0

ENGINE_THREADS = 4
"""For calls that wait for workers, two seconds at most."""

POLL_INTERVAL = 0.001
"""Seconds between two looks at whether the workers let go of a socket. Whoever comes in between is reset."""

_log = logging.getLogger(__name__)


class Balancer:
    """Owns `engine`, which is not started yet. `on_events` gets the sessions that the access log asks for, and those of
    `events`. Listeners use `inherited` sockets where there are some; what they have open is kept in `store`. What a
    predecessor knew is not found out anew: `memory`."""

    def __init__(
        self,
        engine: Engine,
        on_events: Callable[[list[Session]], None],
        *,
        events: EventKind = NO_EVENTS,
        checks_at_once: int = CONCURRENCY,
        inherited: Inherited | None = None,
        store: Store | None = None,
        memory: HandoverData | None = None,
    ) -> None:
        self._engine = engine
        self._threads = ThreadPool("l4lb-engine", ENGINE_THREADS)
        self._state = State()
        self._config: Config | None = None
        self._accepting = True
        self._stopping = False
        self._handing_over = False
        self._noted = self._state
        self._sockets = Sockets(engine.options.workers, inherited or Inherited(), store or no_store())
        self._scheduler: Scheduler[BackendKey] = Scheduler(self._on_health, self._received, checks_at_once)
        self._weights = WeightController(engine, self._on_agent, self._on_stalled)
        self._outliers = Outliers(engine)
        memory = memory or HandoverData()
        self._loops = LoopGuard(self._sockets)
        self._planner = Planner(engine, memory.endpoints, memory.targets)
        self._transfer = Transfer(engine, self._planner, self._scheduler, self._outliers, memory.backends, memory.seats)
        self._editor = Editor(self._planner, self._editable, self._edit, memory.edits)
        self._composer = Composer(events)
        self._publisher = Publisher(self._publish)
        self._failover = Failover(self._publisher.soon)
        self._cutter = Cutter(engine, self._threads, lambda: self._state)
        self._found = Containment("what was discovered is not in use")
        self._changes = Containment("changes of its backends are not in use")
        self._rebalancer = Rebalancer(engine, self._threads, lambda: self._state)
        self._reporter = report.StatusReporter(self._scheduler, self._weights, self._outliers, engine)
        self._alarms = Alarms()
        self._sessions = Sessions(engine, self._threads, on_events)
        self._reclaimer = Reclaimer(engine, self._threads, self._sockets, self._sessions)

    # ---- the configuration -----------------------------------------------------------------------------------------

    async def prepare(self, config: Config) -> Plan:
        """Look up the names of `config`, compile its zones, and wait a while for sources of backends new in it.

        A name that does not resolve is no error: its backend waits for an address. Nor is a source that does not
        answer. At the start nobody has to wait for those here: clients are held instead, see `find_backends`.
        StartError if a database, or a file that checks need, cannot be read.
        """
        return await self._planner.prepare(config, self._state, wait=self._config is not None)

    def discard(self) -> None:
        """Let go of what was prepared and will not be applied."""
        self._planner.discard()

    def apply(self, plan: Plan) -> None:
        """Make the planned configuration the running one. StartError changes nothing; see `discard`."""
        if self._stopping:
            # Its listeners would take clients that nobody serves.
            raise StartError("the process is stopping and takes no new configuration; change it after the next start")
        lost = self._sockets.set_lost_aside()
        try:
            self._install(plan)
        except StartError:
            self._sockets.put_back(lost)
            raise
        self._planner.follow(plan.config)

    def _install(self, plan: Plan, wanted: Edits | None = None, known: State | None = None) -> None:
        """Run the planned configuration with the `wanted` edits, or with those that hold under it, where backends are
        `known` as they are in this state, or in the one that runs."""
        now = asyncio.get_running_loop().time()
        wanted = self._editor.lasting(plan.config) if wanted is None else wanted
        edited = replace(plan, config=edits.over(plan.config, wanted))
        listeners = {} if self._stopping else plan.config.listeners
        opened = self._sockets.open_missing(listeners)
        try:
            state, targets = self._found.attempt(
                lambda kept: self._take_up(edited, self._state if known is None else known, now, kept),
                lambda name: self._is_discovered(edited, name),
            )
        except Exception as error:
            self._sockets.close(opened)
            if not isinstance(error, (OSError, ValueError, PoolFaults)):
                raise
            raise StartError(f"the data plane cannot take this configuration: {error}") from error
        # It runs: from here on nothing takes it back, whatever part of what follows fails.
        before, self._state, self._config = self._state, state, plan.config
        _in_any_case(
            lambda: self._editor.keep(wanted),
            lambda: self._sessions.learn(state),
            lambda: self._reclaimer.retire(before, state, now),
            lambda: self._reclaimer.note_draining(before, state, state.changed(before)),
            lambda: self._planner.keep(targets),
            lambda: self._alarms.forget(state),
            lambda: self._found.forget(state.pools),
            lambda: self._changes.forget(state.pools),
            lambda: self._alarms.look_for_panic(state),
            lambda: self._alarms.look_for_tables(state),
            lambda: self._sockets.apply_settings(listeners),
            lambda: self._reclaimer.note_sockets({} if self._stopping else state.listeners),
            self._check,
            *((self._note_changes,) if self._accepting else ()),
        )
        self._reclaimer.dirty.set()
        if self._state is not state:
            self._publisher.soon()

    def _take_up(
        self, plan: Plan, old: State, now: float, kept: frozenset[str]
    ) -> tuple[State, Mapping[Address, Target]]:
        """Have the data plane take the plan, but for the pools in `kept`; what it runs then. Or raise, and change
        nothing."""
        taken: set[SlotKey] = set()

        def take_slot(kind: SlotKind) -> int:
            slot = self._engine.take_slot(kind)
            taken.add((kind, slot))
            return slot

        def give_slot(kind: SlotKind, slot: int) -> None:
            taken.remove((kind, slot))
            self._engine.give_slot(kind, slot)

        try:
            merged, targets = self._planner.merge(plan, old, take_slot, give_slot, kept)
            merged = self._loops.guarded(merged)
            # Backends that are found before the first client comes were there before l4lb was.
            first = self._config is None or not (self._accepting or self._stopping)
            if self._config is None:
                merged = self._transfer.restore(merged, now)
            state = self._weights.apply_factors(merged, now, first=first)
            state = self._failover.settle(state, now, clients=not first)
            self._pass_on(state, plan.config)
        except Exception:
            for kind, slot in taken:
                self._engine.give_slot(kind, slot)
            raise
        return state, targets

    def _is_discovered(self, plan: Plan, pool: str) -> bool:
        """Whether a fault of the pool is its source's: the file and the operator say the same as before. What they have
        changed is taken as a whole, or not at all."""
        running = None if self._config is None else edits.over(self._config, self._editor.lasting(self._config))
        before = None if running is None else running.pools.get(pool)
        wanted = plan.config.pools[pool]
        return wanted.discover is not None and before in (None, wanted)

    async def rediscover(self) -> None:
        """Make what discovery has found the backends that run; one round of it, once there is something new.

        Also while the process stops: who still waits in a queue may be waiting for just that.
        """
        await self._planner.rediscovered.wait()
        await self._rediscover()

    async def _rediscover(self) -> None:
        self._planner.rediscovered.clear()
        if self._config is None:
            return
        targets = await self._planner.look_up_found(self._config)
        try:
            # The configuration that runs now: it may be another one than before the look-up.
            self._install(Plan(self._config, targets, self._state.zones, self._state.access))
        except StartError as error:
            self._found.refuse(error)
            self._planner.retry_later()
        except Exception:
            self._planner.retry_later()
            raise
        if self._found.active:
            self._planner.retry_later()

    async def resolve_again(self) -> None:
        """Look names up again; backends that moved are checked and used at their new address."""
        if self._config is None:
            return
        names = {backend.config.address for _, backend in self._state.backends() if backend.config.address.is_open}
        targets = await self._planner.look_up(names)
        moved = {
            key: replace(backend, target=target)
            for key, backend in self._state.backends()
            if (target := targets.get(backend.config.address, backend.target)) != backend.target
        }
        guarded = self._loops.guarded(self._state.with_backends(moved))
        before = dict(self._state.backends())
        changed = {key: entry for key, entry in guarded.backends() if entry.target != before[key].target}
        for key, entry in changed.items():
            _log.info("%s/%s is now at %s", *key, entry.target and entry.target.address)
        if changed:
            self._change(changed)
            self._publisher.now()

    def _check(self) -> None:
        self._weights.apply(self._state)
        self._outliers.apply(self._state)
        self._scheduler.apply(checks_of(self._state))

    # ---- changes at run time ---------------------------------------------------------------------------------------

    def set_backend(
        self, pool: str, backend: str, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        """Change a backend until the file changes it. ControlError for one that is not there."""
        entry = find(self._state, (pool, backend))
        changed = with_operator_change(self._state.pools[pool], entry, state, weight)
        if changed == entry:
            return
        self._change({(pool, backend): changed})
        self._publisher.now()
        _log.info("%s/%s is set to %s, weight %d", pool, backend, changed.state.value, changed.current_weight)

    async def add_backend(self, pool: str, settings: Settings) -> str:
        """Add a backend until the file has one of its name; its name. ControlError if that cannot be."""
        return await self._editor.add(pool, settings)

    async def change_backend(
        self, pool: str, backend: str, settings: Settings, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        """Give a backend other settings until the file changes it. ControlError if that cannot be."""
        await self._editor.change((pool, backend), settings, state, weight)

    async def remove_backend(self, pool: str, backend: str, *, force: bool = False) -> int:
        """Remove a backend until the file changes it; how many sessions it had. They go on as when the file no longer
        has it; with `force` they are closed. ControlError if that cannot be."""
        slot = find(self._state, (pool, backend)).slot
        sessions = self._engine.backend_statistics(slot).connections
        self._editor.remove((pool, backend))
        if force:
            await self._sessions.kill_of(slot)
        return sessions

    @contextlib.contextmanager
    def unedited(self) -> Iterator[None]:
        """Within it no backend is added, removed or given other settings: a successor is told what they are."""
        self._handing_over = True
        try:
            yield
        finally:
            self._handing_over = False

    def _editable(self) -> RunningConfig:
        if self._handing_over:
            raise ControlError("an upgrade is under way; change backends once it is done", 409)
        if self._config is None or self._stopping:
            raise ControlError("l4lb is not up yet, or stops; change backends while it serves", 409)
        return RunningConfig(self._config, self._state)

    def _edit(self, wanted: Edits, known: State) -> None:
        assert self._config is not None
        try:
            self._install(Plan(self._config, {}, self._state.zones, self._state.access), wanted, known)
        except StartError as error:
            raise ControlError(str(error), 409) from error

    def written(self) -> dict[str, list[Settings]]:
        """The backends of each pool as a file would have them, those of its source apart."""
        return {} if self._config is None else edits.written_backends(self._config, self._editor.edits, self._state)

    def _change(self, changed: Mapping[BackendKey, BackendEntry]) -> None:
        self._replace(changed)
        self._check()

    def _replace(self, changed: Mapping[BackendKey, BackendEntry]) -> None:
        before, self._state = self._state, self._state.with_backends(changed)
        self._reclaimer.note_draining(before, self._state, changed)

    def _on_health(self, key: BackendKey, health: HealthState, message: str) -> None:
        entry = self._state.find(key)
        if entry is None:
            return
        self._replace({key: replace(entry, health=health)})
        level = logging.INFO if health is HealthState.UP else logging.WARNING
        _log.log(level, "%s/%s is %s: %s", *key, health.value, message)
        self._publisher.soon()

    def _received(self, key: BackendKey) -> int:
        entry = self._state.find(key)
        return 0 if entry is None else self._engine.summaries([entry.slot])[0].received_bytes_total

    def _on_agent(self, key: BackendKey, line: str) -> None:
        entry = self._state.find(key)
        if entry is None or (changed := with_agent_report(self._state.pools[key[0]], entry, line)).agent == entry.agent:
            return
        self._state = self._state.with_backends({key: changed})
        if changed.agreed_state is not entry.agreed_state:
            self._check()
        if (changed.agent.state, changed.agent.down) != (entry.agent.state, entry.agent.down):
            _log.warning("%s/%s: its agent says %s", *key, line)
        self._publisher.soon()

    def _on_stalled(self, key: BackendKey, stalled: str | None) -> None:
        entry = self._state.find(key)
        if entry is None or entry.stalled == stalled:
            return
        self._replace({key: replace(entry, stalled=stalled)})
        if stalled is None:
            _log.info("%s/%s gets on with its work", *key)
        else:
            _log.warning("%s/%s is down: %s", *key, stalled)
        self._publisher.soon()

    async def evaluate(self) -> None:
        """Eject backends that fail clients' connections. One round of it, once there is a pool that wants it."""
        await self._outliers.active.wait()
        if self._judge():
            self._publisher.soon()

    def _judge(self) -> bool:
        changed = self._outliers.evaluate(self._state, asyncio.get_running_loop().time())
        self._replace(changed)
        return bool(changed)

    def _note_changes(self) -> None:
        """What follows for pools from what happened to their backends. Once for many changes: each is a look at all.

        Before anybody is turned away, who is ejected comes back.
        """
        changed = [name for name, pool in self._state.pools.items() if pool is not self._noted.pools.get(name)]
        if not all(self._state.pools[name].accepting() for name in changed):
            self._judge()
        self._alarms.look_for_backends(self._state, changed)
        self._rebalancer.note_gains(self._noted, self._state)
        self._noted = self._state

    def _pass_on(self, state: State, config: Config, kept: frozenset[str] = frozenset()) -> None:
        """Have the data plane run this state. PoolFaults has the pools that it cannot take."""
        fds = self._sockets.fds()
        snapshot = self._composer.compose(state, fds, config.log, accepting=self._accepting, kept=kept)
        try:
            self._engine.publish(snapshot)
        except (OSError, ValueError) as error:
            faults = dict(refused(self._engine, self._composer.new(state, snapshot)))
            raise PoolFaults(faults) if faults else error from error
        self._composer.settle(state, snapshot)
        self._cutter.note(state)

    def _publish(self) -> None:
        if (config := self._config) is not None:
            # Backends that die have to be told to the data plane, whatever else does not work.
            _in_any_case(self._note_changes, self._weigh, self._settle)
            self._changes.attempt(lambda kept: self._pass_on(self._state, config, kept), self._composer.has)
            if self._changes.active:
                self._publisher.later()
            self._alarms.look_for_panic(self._state)
            self._reclaimer.dirty.set()

    def _weigh(self) -> None:
        self._state = self._weights.apply_factors(self._state, asyncio.get_running_loop().time())

    def _settle(self) -> None:
        now, clients = asyncio.get_running_loop().time(), self._accepting or self._stopping
        self._state = self._failover.settle(self._state, now, clients=clients)

    async def update_weights(self) -> None:
        """Let weights follow load and slow start. One round of it, once there is anything to follow."""
        await self._weights.active.wait()
        before = self._state
        self._weigh()
        if any(
            pool.weights() != before.pools[name].weights()
            for name, pool in self._state.pools.items()
            if pool is not before.pools[name]
        ):
            self._publisher.now()
        self._weights.rest(asyncio.get_running_loop().time())

    # ---- sessions --------------------------------------------------------------------------------------------------

    async def sessions(self) -> list[Session]:
        return await self._sessions.all()

    async def kill_session(self, session: int) -> None:
        await self._sessions.kill(session)

    async def kill_sessions(self, pool: str, backend: str) -> int:
        """Close every session of a backend; how many. ControlError for one that is not there."""
        killed = await self._sessions.kill_of(find(self._state, (pool, backend)).slot)
        _log.warning("%s/%s: %s closed, as an operator asked", pool, backend, plural(killed, "session"))
        return killed

    # ---- numbers ---------------------------------------------------------------------------------------------------

    def listeners(self) -> dict[str, ListenerStatus]:
        return {
            name: report.listener_status(name, listener, self._sockets, self._engine)
            for name, listener in self._state.listeners.items()
        }

    def pools(self) -> dict[str, PoolStatus]:
        now = asyncio.get_running_loop().time()
        if self._config is None:
            return {}
        origins = edits.origins(self._config, self._editor.edits)
        return {
            name: self._reporter.pool(
                name, pool, now, self._planner.status(name, now), origins[name], self._faults(name)
            )
            for name, pool in self._state.pools.items()
        }

    def backend(self, pool: str, backend: str) -> BackendStatus:
        """One of them: with thousands, all would take long. ControlError for one that is not there."""
        key, now = (pool, backend), asyncio.get_running_loop().time()
        find(self._state, key)
        assert self._config is not None
        origins, known = edits.origins(self._config, self._editor.edits, [pool])[pool], self._state.pools[pool]
        return self._reporter.backend(key, known, known.effective_weights()[backend], origins, now)

    def _faults(self, pool: str) -> PoolFaultStatus:
        parts = self._found, self._changes
        message = next((fault for part in parts if (fault := part.fault(pool)) is not None), None)
        return PoolFaultStatus(message, sum(part.faults_total[pool] for part in parts))

    def connections(self, pool: str, backend: str) -> int:
        """Sessions of one backend. ControlError for one that is not there."""
        return self._engine.backend_statistics(find(self._state, (pool, backend)).slot).connections

    def workers(self) -> list[WorkerStatistics]:
        return [self._engine.worker_statistics(worker) for worker in range(self._engine.options.workers)]

    @property
    def max_connections(self) -> int:
        """What the whole process may hold."""
        return self._engine.options.max_connections

    def session_count(self) -> int:
        return sum(worker.sessions for worker in self.workers())

    def busy_count(self) -> int:
        """Sessions in a turn, those at backends that have left included."""
        slots = [backend.slot for _, backend in self._state.backends()] + self._reclaimer.removed_slots
        return sum(summary.busy for summary in self._engine.summaries(slots))

    # ---- housekeeping ----------------------------------------------------------------------------------------------

    async def reclaim(self) -> None:
        """Let go of what no session and no worker uses any more; end the sessions whose patience is over.

        One round of it, once there is anything to do.
        """
        await self._reclaimer.dirty.wait()
        await self._reclaimer.reclaim()

    async def close_sockets(self) -> None:
        """Close sockets that no listener has any more. One look at whether that is possible, once there are some."""
        await self._reclaimer.unused.wait()
        self._reclaimer.close_sockets({} if self._stopping else self._state.listeners)

    async def cut(self) -> None:
        """Close the sessions that pools give up as backends go down or come up. One round of it, once there are any."""
        await self._cutter.active.wait()
        await self._cutter.round()

    async def rebalance(self) -> None:
        """Close a few quiet connections where there are too many; one round of it, once there is a reason."""
        await self._rebalancer.active.wait()
        await self._rebalancer.round()

    # ---- accepting -------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Open sockets and check backends, but accept nobody before `accept`: clients wait in the queues."""
        self._accepting = False

    async def find_backends(self) -> None:
        """Wait a while for sources to answer and backends to be checked: before that, nobody would serve clients."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_CHECKS_TIMEOUT):
                while self._planner.waiting:
                    await self.rediscover()
                await self._rediscover()
                await self._scheduler.first_results()

    async def start_accepting(self) -> None:
        """Let clients in once there is somebody to serve them, as far as can be known in a while."""
        await self.find_backends()
        self.accept()

    def accept(self) -> None:
        """Let clients in."""
        self._accepting = True
        self._publisher.once()

    def leave_sockets(self) -> None:
        """From now on closing a socket that is in the store closes it for nobody: somebody else goes on with it."""
        self._sockets.store.release()

    async def stop_accepting(self) -> None:
        """Accept nobody any more; who waits in a queue is still served. Sessions go on, and may still retry."""
        self._stopping = True
        await self.pause_accepting()
        self._sockets.close(list(self._sockets.binds))

    async def pause_accepting(self, closing: Collection[BindKey] = ()) -> bool:
        """Accept nobody for now; who waits in a queue is still served, who comes later waits. Sockets stay open, but
        those that are `closing` soon let next to nobody queue. Whether no worker has them any more."""
        self._sockets.shrink_queues(closing)
        self._accepting = False
        # A failure must not end a stop, and with it every session: it is tried again.
        self._publisher.now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_ACCEPTING_TIMEOUT):
                while self._publisher.waiting or self._engine.reclaim() > 0:  # noqa: ASYNC110 - the workers cannot signal it
                    await asyncio.sleep(POLL_INTERVAL)
            return True
        return False

    def resume_accepting(self) -> None:
        """Let clients in again after a pause; if that is not possible at once, then as soon as it is."""
        self._accepting = True
        if self._config is not None:
            self._sockets.apply_settings(self._config.listeners)
        self._publisher.now()

    # ---- a successor -----------------------------------------------------------------------------------------------

    @property
    def sockets(self) -> Sockets:
        return self._sockets

    def export(self) -> HandoverData:
        """What a successor has to know beside what the next two tell."""
        return HandoverData() if self._config is None else self._transfer.export(self._config, self._editor.edits)

    def export_backends(self, told: State) -> Iterator[BackendRecord]:
        """What is known of backends, but for those that are treated as in the state that was `told`: one by one, so
        that other things may happen in between."""
        return self._transfer.export_backends(self._state, dict(told.backends()))

    def export_clients(self, since: float = math.inf) -> Iterator[StickyBatch]:
        """The clients of sticky pools who came in the last `since` seconds, some at a time."""
        return self._transfer.export_clients(self._state, since)

    @property
    def state(self) -> State:
        """What runs now."""
        return self._state

    def restore_clients(self, batches: list[StickyBatch]) -> None:
        """Take over what the sticky pools of a predecessor remember; `batches` is empty then."""
        self._transfer.restore_clients(self._state, batches)

    def restore_operator(self, told: Mapping[BackendKey, BackendRecord]) -> None:
        """Do what an operator did to a predecessor's backends after this one was told of them."""
        if changed := restore.operator_changes(self._state, told):
            self._change(changed)
            self._publisher.now()

    def restore_seats(self, seats: Mapping[str, Seat]) -> None:
        """Stay where a predecessor's pools stayed when it let go."""
        if (state := restore.seats(self._state, seats)) is not self._state:
            self._state = state
            self._publisher.now()

    def drain_all(self) -> None:
        """Close sessions once they are quiet, at every backend; turns in flight go on to their end."""
        self._reclaimer.drain_all(self._state)

    async def close(self) -> None:
        """Stop checking, close every session, end the workers. Their last events are delivered."""
        # A stop has taken its sockets out of the store. If this is the end of anything else, they are for a successor.
        self.leave_sockets()
        self._publisher.close()
        self._failover.close()
        await self._planner.close()
        await self._scheduler.close()
        await self._weights.close()
        self._sessions.close()
        await self._threads.call(self._engine.stop)
        self._threads.close()
        self._sessions.drain()
        self._sockets.close(list(self._sockets.binds))
        self._sockets.inherited.close()
        self._engine.close()


def _in_any_case(*parts: Callable[[], None]) -> None:
    """Do each of these, also when one before it fails in a way nobody foresaw."""
    for part in parts:
        try:
            part()
        except Exception:
            _log.exception("a part of the control plane failed; changes are made without it")
