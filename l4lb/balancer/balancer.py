"""A running balancer: from a configuration to clients that are served, and what programs and operators ask of it.

Its `parts` keep data plane, listening sockets, checks, discovery and state in step. They know nothing of the process
around them: no signals, no files, no service manager. Everything runs on one event loop; calls that wait for a worker
run on a thread.

A change is made in two steps: `prepare` does what may take long and touches nothing that runs, `apply` makes the change
at once, all of it or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection

from l4lb.balancer.parts import Parts
from l4lb.balancer.planner import Plan
from l4lb.balancer.transfer import Transfer
from l4lb.base.tasks import Supervisor
from l4lb.base.text import plural
from l4lb.config import Config
from l4lb.engine.api import NO_EVENTS, Engine, EventKind
from l4lb.engine.statistics import WorkerStatistics
from l4lb.errors import StartError
from l4lb.handover.records import HandoverData
from l4lb.health.scheduler import CONCURRENCY
from l4lb.sockets.bind import BindKey
from l4lb.sockets.fd_store import Store, no_store
from l4lb.sockets.inherited import Inherited
from l4lb.sockets.listeners import Sockets
from l4lb.state.changes import find
from l4lb.state.state import State
from l4lb.status import AdminState, BackendStatus, ListenerStatus, PoolStatus, Session, Settings

FIRST_CHECKS_TIMEOUT = 5.0
"""Seconds that clients wait at the start for sources to answer and backends to be checked."""

_log = logging.getLogger(__name__)


class Balancer:
    """Owns `engine`, which is not started yet. `on_events` gets the sessions that the access log asks for, and those of
    `events`. Listeners use `inherited` sockets where there are some; `fd_store` keeps what they have open. `memory` is
    what a predecessor knew. What names a pool, backend or session that is not there raises ControlError."""

    def __init__(
        self,
        engine: Engine,
        on_events: Callable[[list[Session]], None],
        *,
        events: EventKind = NO_EVENTS,
        checks_at_once: int = CONCURRENCY,
        inherited: Inherited | None = None,
        fd_store: Store | None = None,
        memory: HandoverData | None = None,
    ) -> None:
        self._engine = engine
        self.sockets = Sockets(engine.options.workers, inherited or Inherited(), fd_store or no_store())
        self.parts = Parts(engine, self.sockets, on_events, events, checks_at_once, memory or HandoverData())

    def start(self, supervisor: Supervisor) -> None:
        """Have every part that runs by itself do so."""
        self.parts.start(supervisor)

    @property
    def state(self) -> State:
        """What runs now."""
        return self.parts.store.state

    @property
    def transfer(self) -> Transfer:
        """For a successor, and from a predecessor."""
        return self.parts.transfer

    # ---- the configuration -----------------------------------------------------------------------------------------

    async def prepare(self, config: Config) -> Plan:
        """Look up the names of `config`, compile its zones, and wait a while for sources of backends new in it.

        A name that does not resolve is no error: its backend waits for an address. Nor is a source that does not
        answer. The first configuration does not wait for sources: clients are held instead, see `find_backends`.
        StartError if a database, or a file that checks need, cannot be read.
        """
        store = self.parts.store
        return await self.parts.planner.prepare(config, store.state, wait=store.config is not None)

    def discard(self) -> None:
        """Forget what was prepared and will not be applied."""
        self.parts.planner.discard()

    def apply(self, plan: Plan) -> None:
        """Make the planned configuration the running one. StartError changes nothing; see `discard`."""
        if self.parts.phase.stopping:
            # Its listeners would accept clients that are never served.
            raise StartError("the process is stopping and takes no new configuration; change it after the next start")
        lost = self.sockets.set_lost_aside()
        try:
            self.parts.installer.install(plan)
        except StartError:
            self.sockets.put_back(lost)
            raise
        self.parts.planner.follow(plan.config)

    # ---- clients ---------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Open sockets and check backends, but accept no client before `accept`: clients wait in the queues."""
        self.parts.intake.hold()

    async def find_backends(self) -> None:
        """Wait a while for sources to answer and backends to be checked: before that, clients would find none."""
        parts = self.parts
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_CHECKS_TIMEOUT):
                while parts.planner.waiting:
                    await parts.rediscovery.round()
                await parts.rediscovery.use_found()
                await parts.scheduler.first_results()

    def accept(self) -> None:
        """Let clients in."""
        self.parts.intake.accept()

    async def start_accepting(self) -> None:
        """Let clients in once there are backends for them, as far as can be known in a while."""
        await self.find_backends()
        self.accept()

    async def pause_accepting(self, closing: Collection[BindKey] = ()) -> bool:
        """Accept no clients for now, see `Intake.pause`."""
        return await self.parts.intake.pause(closing)

    def resume_accepting(self) -> None:
        """Let clients in again after a pause, as soon as possible."""
        self.parts.intake.resume()

    async def stop_accepting(self) -> None:
        """Accept no more clients, for good. Sessions go on, and may still retry."""
        await self.parts.intake.stop()

    def leave_sockets(self) -> None:
        """From now on a socket in the store stays open for another process, though this one closes it."""
        self.sockets.store.release()

    def drain_all(self) -> None:
        """Close sessions once they are idle, at every backend; turns in flight go on to their end."""
        self.parts.reclaimer.drain_all(self.state)

    async def close(self) -> None:
        """Stop checking, close every session, end the workers. Their last events are delivered."""
        # A stop has taken its sockets out of the store. If this is the end of anything else, they are for a successor.
        self.leave_sockets()
        parts = self.parts
        parts.publication.publisher.close()
        parts.failover.close()
        parts.cold_starts.close()
        await parts.planner.close()
        await parts.scheduler.close()
        await parts.weights.close()
        parts.sessions.close()
        await parts.threads.call(self._engine.stop)
        parts.threads.close()
        parts.sessions.drain()
        self.sockets.close(list(self.sockets.binds))
        self.sockets.inherited.close()
        self._engine.close()

    # ---- backends, at run time -------------------------------------------------------------------------------------

    def set_backend(
        self, pool: str, backend: str, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        """Change the state or weight of a backend until the file changes it."""
        self.parts.editor.set((pool, backend), state, weight)

    async def add_backend(self, pool: str, settings: Settings) -> str:
        """Add a backend until the file has one of its name; its name."""
        return await self.parts.editor.add(pool, settings)

    async def change_backend(
        self, pool: str, backend: str, settings: Settings, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        """Give a backend other settings until the file changes it."""
        await self.parts.editor.change((pool, backend), settings, state, weight)

    async def remove_backend(self, pool: str, backend: str, *, force: bool = False) -> int:
        """Remove a backend until the file changes it; how many sessions it had. They go on as when the file no longer
        has it; with `force` they are closed."""
        slot, sessions = find(self.state, (pool, backend)).slot, self.connections(pool, backend)
        self.parts.editor.remove((pool, backend))
        if force:
            await self.parts.sessions.kill_of(slot)
        return sessions

    def unedited(self) -> contextlib.AbstractContextManager[None]:
        """Within the block backends are not added, removed or given other settings."""
        return self.parts.editor.unedited()

    def written(self) -> dict[str, list[Settings]]:
        """The backends of each pool as a file would have them, without those of its source."""
        return self.parts.editor.written()

    # ---- sessions --------------------------------------------------------------------------------------------------

    async def sessions(self) -> list[Session]:
        return await self.parts.sessions.all()

    async def kill_session(self, session: int) -> None:
        await self.parts.sessions.kill(session)

    async def kill_sessions(self, pool: str, backend: str) -> int:
        """Close every session of a backend; how many."""
        killed = await self.parts.sessions.kill_of(find(self.state, (pool, backend)).slot)
        _log.warning("%s/%s: %s closed, as an operator asked", pool, backend, plural(killed, "session"))
        return killed

    # ---- numbers ---------------------------------------------------------------------------------------------------

    def listeners(self) -> dict[str, ListenerStatus]:
        return self.parts.reporter.listeners()

    def pools(self) -> dict[str, PoolStatus]:
        return self.parts.reporter.pools()

    def backend(self, pool: str, backend: str) -> BackendStatus:
        return self.parts.reporter.backend((pool, backend))

    def connections(self, pool: str, backend: str) -> int:
        """Sessions of one backend."""
        return self._engine.backend_statistics(find(self.state, (pool, backend)).slot).connections

    def workers(self) -> list[WorkerStatistics]:
        return [self._engine.worker_statistics(worker) for worker in range(self._engine.options.workers)]

    @property
    def max_connections(self) -> int:
        """What the whole process may hold."""
        return self._engine.options.max_connections

    def session_count(self) -> int:
        return sum(worker.sessions for worker in self.workers())

    def busy_count(self) -> int:
        """Sessions in a turn, including those at removed backends."""
        slots = [backend.slot for _, backend in self.state.backends()] + self.parts.reclaimer.removed_slots
        return sum(summary.busy for summary in self._engine.summaries(slots))
