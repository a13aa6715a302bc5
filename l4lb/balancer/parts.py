"""Builds the parts of a balancer. Says in which order they hear of a change, and which of them run by themselves."""

from __future__ import annotations

from collections.abc import Callable

from l4lb.balancer.alarms import Alarms
from l4lb.balancer.checks import checks_of
from l4lb.balancer.cold_starts import ColdStarts
from l4lb.balancer.cutter import Cutter
from l4lb.balancer.editor import Editor
from l4lb.balancer.failover import Failover
from l4lb.balancer.findings import Findings
from l4lb.balancer.installer import Installer
from l4lb.balancer.intake import Intake
from l4lb.balancer.limit_controller import LimitController
from l4lb.balancer.loop_guard import LoopGuard
from l4lb.balancer.outliers import Outliers
from l4lb.balancer.phase import Phase
from l4lb.balancer.planner import Planner
from l4lb.balancer.publication import Publication
from l4lb.balancer.rebalancer import Rebalancer
from l4lb.balancer.reclaimer import Reclaimer
from l4lb.balancer.rediscovery import NameRefresher, Rediscovery
from l4lb.balancer.report import StatusReporter
from l4lb.balancer.sessions import Sessions
from l4lb.balancer.settlement import Settlement
from l4lb.balancer.socket_closer import SocketCloser
from l4lb.balancer.store import Change, StateStore
from l4lb.balancer.transfer import Transfer
from l4lb.balancer.weight_controller import WeightController
from l4lb.base.tasks import Supervisor
from l4lb.base.threads import ThreadPool
from l4lb.engine.api import Engine, EventKind
from l4lb.handover.records import HandoverData
from l4lb.health.scheduler import Scheduler
from l4lb.sockets.listeners import Sockets
from l4lb.state.containment import Containment
from l4lb.state.state import BackendKey, State
from l4lb.status import Session

ENGINE_THREADS = 4
"""For calls that wait for workers, two seconds at most."""


class Parts:
    """Built in the order of their dependencies: each is given the parts that it uses."""

    def __init__(
        self,
        engine: Engine,
        sockets: Sockets,
        on_events: Callable[[list[Session]], None],
        events: EventKind,
        checks_at_once: int,
        memory: HandoverData,
    ) -> None:
        self.engine, self.sockets = engine, sockets
        self.threads = threads = ThreadPool("l4lb-engine", ENGINE_THREADS)
        self.store = store = StateStore(memory.edits)
        self.phase = phase = Phase()
        self.alarms = Alarms()
        guard = LoopGuard(sockets)
        # What finds something out about backends.
        self.findings = findings = Findings(store)
        self.planner = planner = Planner(engine, memory.endpoints, memory.targets)
        self.scheduler = scheduler = Scheduler[BackendKey](findings.on_health, self._received, checks_at_once)
        self.cold_starts = cold_starts = ColdStarts(engine, store)
        self.limits = limits = LimitController(store)
        self.weights = weights = WeightController(
            engine, store, cold_starts, findings.on_agent, findings.on_stalled, limits.note
        )
        self.outliers = outliers = Outliers(engine, store)
        # What brings the state to the data plane.
        self.publication = publication = Publication(
            engine, store, phase, sockets, self.alarms, events, self._on_passed
        )
        self.failover = failover = Failover(publication.publisher.soon)
        self.rebalancer = rebalancer = Rebalancer(engine, store, threads)
        self.settlement = settlement = Settlement(store, phase, outliers, self.alarms, rebalancer, weights, failover)
        publication.settle = settlement.settle
        self.transfer = transfer = Transfer(engine, store, planner, scheduler, outliers, cold_starts, memory)
        self.installer = installer = Installer(
            engine, store, phase, sockets, planner, guard, transfer, settlement, publication
        )
        self.rediscovery = Rediscovery(store, planner, installer)
        self.name_refresher = NameRefresher(store, planner, guard)
        # What acts on sessions and sockets.
        self.sessions = Sessions(engine, threads, on_events)
        self.reclaimer = Reclaimer(engine, threads, self.sessions)
        self.cutter = Cutter(engine, store, threads)
        self.socket_closer = SocketCloser(engine, store, phase, sockets)
        self.intake = Intake(engine, store, phase, sockets, publication.publisher)
        # What others ask.
        self.editor = Editor(store, phase, planner, installer)
        faults = installer.faults, publication.faults
        self.reporter = StatusReporter(engine, store, sockets, planner, scheduler, weights, limits, outliers, faults)
        self._follow()

    def _follow(self) -> None:
        """Register the followers of the state, in the order in which they are called."""
        follow, installs, checks = self.store.follow, Change.is_install, Change.changes_checks
        # Names come first: from now on a session of a new backend may end, and its event needs them.
        follow("session names", lambda change: self.sessions.learn(change.after), when=installs)
        follow("removed and drained backends", self.reclaimer.follow)
        follow("alarms", lambda change: self.alarms.look_at_install(change.after), when=installs)
        for part, faults in (("discovery", self.installer.faults), ("changes", self.publication.faults)):
            follow(f"faults of {part}", _forgetter(faults), when=installs)
        follow("options of sockets", lambda _: self.intake.apply_settings(), when=installs)
        follow("unused sockets", lambda _: self.socket_closer.look(), when=installs)
        # What is watched. The next ones decide over what is watched now.
        follow("scrapes and agents", lambda change: self.weights.apply(change.after), when=checks)
        follow("limits", lambda change: self.limits.apply(change.after), when=checks)
        follow("passive health", lambda change: self.outliers.apply(change.after), when=checks)
        follow("health checks", lambda change: self.scheduler.apply(checks_of(change.after)), when=checks)
        # What is installed runs already. For all other changes this is a part of the publication.
        follow("pool changes", lambda _: self.settlement.note_pools(), when=self._installs_for_clients)
        # Last, so that it sees what the others have changed.
        follow("publication", self.publication.follow)

    def start(self, supervisor: Supervisor) -> None:
        """Have every part that runs by itself do so. What has nothing to do waits without waking up."""
        supervisor.start("reclaiming", self.reclaimer.run)
        supervisor.start("closing of sockets", self.socket_closer.run)
        supervisor.start("rebalancing", self.rebalancer.run)
        supervisor.start("closing of sessions", self.cutter.run)
        supervisor.start("passive health", self.outliers.run)
        supervisor.start("weights", self.weights.run)
        supervisor.start("limits", self.limits.run)
        supervisor.start("discovery", self.rediscovery.run)
        supervisor.start("name resolution", self.name_refresher.run)

    def _installs_for_clients(self, change: Change) -> bool:
        return self.phase.accepting and change.is_install()

    def _on_passed(self, state: State) -> None:
        self.cutter.note(state)
        self.reclaimer.dirty.set()

    def _received(self, key: BackendKey) -> int:
        entry = self.store.state.find(key)
        return 0 if entry is None else self.engine.summaries([entry.slot])[0].received_bytes_total


def _forgetter(faults: Containment) -> Callable[[Change], None]:
    return lambda change: faults.forget(change.after.pools)
