"""The process: from a configuration file to a balancer that runs until a stop is requested.

SIGHUP reloads, SIGUSR1 opens the log files again, SIGUSR2 hands over to a new process, SIGTERM and SIGINT drain and
stop, a second one stops at once. SIGQUIT stops for a restart: where the service manager keeps the sockets, clients wait
until the next process has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import replace

from l4lb._version import __version__
from l4lb.admin.opening import listening_admin
from l4lb.admin.server import AdminServer
from l4lb.balancer.balancer import Balancer
from l4lb.base.gc_pause import gc_paused
from l4lb.base.tasks import Coalesced
from l4lb.base.text import clipped, plural
from l4lb.base.threads import LOAD_TIMEOUT, SerialThread
from l4lb.base.unexpected import log_unhandled
from l4lb.config import Config, load_config
from l4lb.engine import NativeEngine
from l4lb.errors import ConfigError, ControlError, StartError
from l4lb.observe.logs import ProcessLog
from l4lb.process import capabilities, executable
from l4lb.process.capacity import checks_at_once, engine_options, raise_descriptor_limit
from l4lb.process.control import BalancerControl
from l4lb.process.orphans import Orphans
from l4lb.process.privileges import become, find_user
from l4lb.process.restart import restart_required
from l4lb.process.shutdown import Shutdown, StopRequested
from l4lb.process.signals import STOP, handle_signals, ignore_signals
from l4lb.process.upgrade.predecessor import Inheritance, Predecessor
from l4lb.process.upgrade.upgrade import HandoverSource, Upgrades
from l4lb.process.watchdog import Watchdog
from l4lb.sockets import listen_fds
from l4lb.sockets.bind import BindKey
from l4lb.sockets.fd_store import Store
from l4lb.sockets.systemd import Notifier
from l4lb.state.backend_entry import BackendEntry
from l4lb.status import ConfigStatus, ReloadOutcome, Status, UpgradeOutcome, UpgradeStatus

PROBLEMS_SHOWN = 10
"""Problems of a rejected reload in the status. The response to the request and the log have all of them."""

_log = logging.getLogger(__name__)


async def run(path: str, handover: socket.socket | None = None) -> int:
    """Run the configuration at `path` until stopped; the exit status. ConfigError or StartError if it cannot start.

    `handover` is the socket to the process that this one replaces.
    """
    predecessor = None if handover is None else Predecessor(handover)
    try:
        return await _run(path, predecessor)
    except (ConfigError, StartError) as error:
        if predecessor is not None:
            await predecessor.report_failure(clipped("; ".join(str(error).splitlines()[:PROBLEMS_SHOWN])))
        raise
    except StopRequested as stop:
        if predecessor is not None:
            await predecessor.report_failure(str(stop))
        return 0


async def _run(path: str, predecessor: Predecessor | None) -> int:
    config = _load(path)
    process_log = ProcessLog(config.log.level, config.log.format)
    try:
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(log_unhandled(asyncio.get_running_loop()))
            if predecessor is None:
                inheritance = Inheritance(listen_fds.receive(os.environ))
            else:
                stack.callback(predecessor.forget)
                inheritance = await predecessor.receive_all()
            daemon = Daemon(path, config, process_log, stack, inheritance, predecessor)
            await daemon.start()
            await daemon.serve()
        return 0
    finally:
        ignore_signals()
        process_log.close()


class Daemon(BalancerControl):
    """Connects the balancer to its file, logs, signals and service manager. Satisfies `Control`."""

    def __init__(
        self,
        path: str,
        config: Config,
        process_log: ProcessLog,
        stack: contextlib.AsyncExitStack,
        inheritance: Inheritance,
        predecessor: Predecessor | None,
    ) -> None:
        super().__init__()
        privileged = os.geteuid() == 0 and config.process.user is None
        descriptors = raise_descriptor_limit()
        options = engine_options(config, descriptors, privileged=privileged)
        self._path = path
        self._files = SerialThread("reading the configuration", LOAD_TIMEOUT)
        self._config = self._started_with = config
        self._process_log = process_log
        self._stack = stack
        self._engine = NativeEngine(options)
        self._inheritance, self._predecessor = inheritance, predecessor
        self._admin: AdminServer | None = None
        self._upgrades: Upgrades | None = None
        self._notifier = Notifier()
        self._watchdog = Watchdog(self._engine, self._notifier)
        self.balancer = Balancer(
            self._engine,
            self._access_log.write,
            checks_at_once=checks_at_once(descriptors),
            inherited=inheritance.inherited,
            fd_store=Store(self._notifier, self._notifier.store_room, inheritance.inherited.named),
            memory=inheritance.memory,
        )
        self._reloads = Coalesced(self._reload)
        self._shutdown = Shutdown(self.balancer, self._notifier, lambda: predecessor is not None and predecessor.lives)
        # Now, because the working directory may be gone at the time of an upgrade.
        self._command = executable.command(path)
        self._loaded_at = self._reloaded_at = time.time()
        self._last_error: str | None = None

    # ---- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, become the configured user, accept, and replace the predecessor. The stack stops what was started."""
        self._stack.callback(self._notifier.close)
        handle_signals(dict.fromkeys(STOP, self._shutdown.request))
        config = self._config
        account = find_user(config.process.user) if config.process.user and os.geteuid() == 0 else None
        self._engine.start()
        self._stack.push_async_callback(self._close)
        plan = await self._shutdown.unless_requested(self.balancer.prepare(config))
        owner = None if account is None else (account.pw_uid, account.pw_gid)
        admin = listening_admin(self, config.admin, self._inheritance.inherited, owner)
        self._stack.push_async_callback(admin.close)
        if self._predecessor is None:
            await admin.serve()
        self.balancer.hold()
        with gc_paused():
            self.balancer.apply(plan)
        kept = self._inheritance.kept()
        self._inheritance.inherited.close_unclaimed()
        if account is not None:
            self.balancer.sockets.give_to(account.pw_uid, account.pw_gid)
            become(account)
            await self._look_at_reloads(account.pw_name)
        elif config.process.user is not None:
            capabilities.pass_on_nothing()
        # Only now, as that user: it has to be able to open the file again after a rotation.
        with self._access_log.replacing(config.log.access):
            self._handle_signals()
        await self._shutdown.unless_requested(self.balancer.find_backends())
        if self._predecessor is not None:
            await self._take_over(self._predecessor, kept, admin)
        self.balancer.accept()
        if self._predecessor is not None:
            await admin.serve()
        self._admin = admin
        estate = HandoverSource(self.balancer, admin)
        self._upgrades = Upgrades(estate, self._command, self._on_replaced, self._inheritance.upgrades)
        workers = plural(self._engine.options.workers, "worker")
        _log.info("l4lb %s serves %s with %s%s", __version__, self._summary, workers, self._unusable)
        self._notifier.ready(f"serving {self._summary}")
        self._start_tasks()

    async def serve(self) -> None:
        """Run until a stop is requested, then let turns in flight end, for process.drain_timeout at most."""
        await self._shutdown.wait_requested()
        if self._upgrades is not None:
            await self._upgrades.abort()
        await self._shutdown.drain(self._config.process.drain_timeout)

    async def _close(self) -> None:
        await self.balancer.close()
        self._access_log.close()
        if self._shutdown.outcome is not None:
            _log.info("%s", self._shutdown.outcome)

    async def _look_at_reloads(self, user: str) -> None:
        """Log now, rather than at the first reload, if the new user of the process cannot read the configuration."""
        try:
            await self._files.call(_load, self._path)
        except ConfigError as error:
            problem = error.problems[0]
            _log.warning("process.user: '%s' cannot read the configuration, so reloads will fail: %s", user, problem)

    async def _take_over(self, predecessor: Predecessor, kept: Sequence[BindKey], admin: AdminServer) -> None:
        """Have the predecessor release its sockets, and restore what changed there meanwhile."""
        self.balancer.transfer.restore_clients(self._inheritance.memory.sticky)
        news = await predecessor.wait_released(kept, self._shutdown.wait_requested())
        self.balancer.transfer.restore_operator(news.backends)
        self.balancer.transfer.restore_seats(news.seats)
        self.balancer.transfer.restore_clients(news.sticky)
        await predecessor.confirm()
        self.balancer.sockets.take_ownership()
        admin.listening.take_ownership()

    def _on_replaced(self, pid: int) -> None:
        _log.info("upgraded: process %d has taken over; draining this one", pid)
        self._watchdog.stop()
        self._notifier.main_pid(pid)
        self._shutdown.request()

    def _start_tasks(self) -> None:
        supervisor = self._supervise(self._stack)
        supervisor.start("reloads", self._reloads.run)
        if os.getpid() == 1:
            supervisor.start("orphans", Orphans().run)
        self._watchdog.start(supervisor)

    # ---- signals ---------------------------------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        handle_signals(
            {
                signal.SIGHUP: self._reloads.request,
                signal.SIGUSR1: self._reopen_logs,
                signal.SIGUSR2: self._on_upgrade,
                signal.SIGQUIT: self._on_restart,
                **dict.fromkeys(STOP, self._shutdown.request),
            }
        )

    def _on_restart(self) -> None:
        self.balancer.leave_sockets()
        self._shutdown.request()

    def _on_upgrade(self) -> None:
        try:
            self._begin_upgrade()
        except ControlError as error:
            _log.warning("SIGUSR2: %s", error)

    def _reopen_logs(self) -> None:
        self._access_log.reopen()
        _log.info("log files are opened again")

    # ---- upgrade ---------------------------------------------------------------------------------------------------

    async def upgrade(self) -> UpgradeOutcome:
        return await asyncio.shield(self._begin_upgrade())

    def _begin_upgrade(self) -> asyncio.Task[UpgradeOutcome]:
        if self._shutdown.requested:
            raise ControlError("l4lb is stopping; it is too late to upgrade it", 409)
        if self._upgrades is None:
            raise ControlError("l4lb is not up yet; upgrade it once it is", 409)
        if self._upgrades.under_way:
            raise ControlError("an upgrade is under way already", 409)
        if self._reloads.busy:
            raise ControlError("a reload is under way; upgrade once it is done", 409)
        if os.getpid() == 1:
            raise ControlError("process 1 of a container cannot leave without ending it; replace the container", 409)
        return self._upgrades.begin()

    # ---- reload ----------------------------------------------------------------------------------------------------

    async def reload(self) -> ReloadOutcome:
        return await asyncio.shield(self._reloads.request())

    async def _reload(self) -> ReloadOutcome:
        if self._upgrades is not None and self._upgrades.under_way:
            return self._rejected(["an upgrade is under way; reload once it is done"])
        self._notifier.reloading()
        self._mend_admin()
        try:
            config = await self._files.call(_load, self._path)
            plan = await self.balancer.prepare(config)
            with self._access_log.replacing(config.log.access), gc_paused():
                self.balancer.apply(plan)
        except ConfigError as error:
            return self._rejected(error.sentences)
        except (StartError, TimeoutError) as error:
            return self._rejected([str(error)])
        except Exception as error:
            _log.exception("unexpected error in a reload")
            return self._rejected([f"internal error: {error!r}; the process log has the details"])
        self._config = config
        self._process_log.configure(config.log.level, config.log.format)
        self._loaded_at = self._reloaded_at = time.time()
        self._last_error = None
        notes = tuple(restart_required(self._started_with, config))
        _log.info("reloaded %s: %s", self._path, self._summary)
        for note in notes:
            _log.warning("%s", note)
        self._notifier.ready(f"serving {self._summary}")
        return ReloadOutcome(applied=True, notes=notes)

    def _mend_admin(self) -> None:
        if self._admin is not None:
            try:
                self._admin.mend()
            except StartError as error:
                _log.warning("%s", error)

    def _rejected(self, problems: list[str]) -> ReloadOutcome:
        self.balancer.discard()
        for problem in problems:
            _log.error("%s", problem)
        _log.error("the reload of %s was rejected; the running configuration is unchanged", self._path)
        self._reloaded_at = time.time()
        self._last_error = clipped("; ".join(problems[:PROBLEMS_SHOWN]))
        self._notifier.ready(f"serving {self._summary}; the last reload was rejected: {problems[0]}")
        return ReloadOutcome(applied=False, problems=problems)

    # ---- Control ---------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        config = ConfigStatus(
            file=self._path,
            loaded_at=self._loaded_at,
            last_reload_ok=self._last_error is None,
            last_reload_at=self._reloaded_at,
            last_error=self._last_error,
            restart_notes=tuple(restart_required(self._started_with, self._config)),
        )
        with gc_paused():
            status = self._status(config)
        return replace(
            status,
            log_dropped_total=self._process_log.dropped_total,
            control_errors_total=self._process_log.failures_total,
            upgrade=UpgradeStatus() if self._upgrades is None else self._upgrades.status,
            started=self._upgrades is not None,
        )

    # ---- details ---------------------------------------------------------------------------------------------------

    @property
    def _backends(self) -> list[BackendEntry]:
        """All backends, including those that sources found."""
        return [backend for pool in self.balancer.state.pools.values() for backend in pool.backends.values()]

    @property
    def _summary(self) -> str:
        listeners, pools = len(self._config.listeners), len(self._config.pools)
        backends = plural(len(self._backends), "backend")
        return f"{plural(listeners, 'listener')}, {plural(pools, 'pool')}, {backends}"

    @property
    def _unusable(self) -> str:
        """How many backends are usable; empty if all are."""
        usable, backends = sum(backend.accepts_new for backend in self._backends), len(self._backends)
        return "" if usable == backends else f"; {usable} of {plural(backends, 'backend')} usable so far"


def _load(path: str) -> Config:
    with gc_paused():
        return load_config(path)
