"""The process: from a configuration file to a balancer that runs until it is told to stop.

SIGHUP reloads, SIGUSR1 opens the log files again, SIGTERM and SIGINT drain and stop, a second one stops at once.
SIGQUIT stops for a restart: clients wait until somebody else has the sockets, where the service manager keeps them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time

import l4lb
from l4lb.admin.server import AdminServer
from l4lb.admin.sockets import DEFAULT_SOCKET
from l4lb.config import Config, load_config
from l4lb.control import listen_fds
from l4lb.control.api import AdminState, ConfigStatus, ReloadOutcome, Session, Status
from l4lb.control.balancer import Balancer
from l4lb.control.capacity import checks_at_once, engine_options, raise_descriptor_limit
from l4lb.control.fd_store import Store
from l4lb.control.privileges import become, find_user
from l4lb.control.restart import restart_notes
from l4lb.control.shutdown import Shutdown
from l4lb.control.systemd import Notifier
from l4lb.control.tasks import Background, Coalesced, repeat
from l4lb.control.upkeep import keep_up
from l4lb.engine import NativeEngine
from l4lb.errors import ConfigError, StartError
from l4lb.garbage import uncollected
from l4lb.observe.logs import ProcessLog
from l4lb.observe.session_log import SessionLog
from l4lb.observe.unforeseen import reported
from l4lb.words import counted

HEARTBEAT_MAX_AGE = 5.0
"""Seconds after which a worker that shows no sign of life is stuck: it turns at least once a second."""

HELD_SIGNALS = frozenset({signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
"""They would end a process that has no handler yet. `hold_signals` keeps them waiting until it has."""

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

_log = logging.getLogger(__name__)


def hold_signals() -> None:
    """Let early signals wait for their handlers. Called before the first thread starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)


async def run(path: str) -> int:
    """Run the configuration at `path` until stopped; the exit status. ConfigError or StartError if it cannot start."""
    config = _load(path)
    process_log = ProcessLog(config.log.level, config.log.format)
    try:
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(reported(asyncio.get_running_loop()))
            daemon = Daemon(path, config, process_log, stack)
            await daemon.start()
            await daemon.serve()
        return 0
    finally:
        # The loop is about to forget its handlers, and a signal that comes so late must not make this a violent end.
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS | STOP_SIGNALS)
        process_log.close()


class Daemon:
    """Ties the balancer to its file, its logs, its signals and its service manager. Satisfies `Control`."""

    def __init__(self, path: str, config: Config, process_log: ProcessLog, stack: contextlib.AsyncExitStack) -> None:
        privileged = os.geteuid() == 0 and config.process.user is None
        descriptors = raise_descriptor_limit()
        options = engine_options(config, descriptors, privileged=privileged)
        self._path = path
        self._config = self._started_with = config
        self._process_log = process_log
        self._stack = stack
        self._engine = NativeEngine(options)
        self._access_log = SessionLog()
        self._notifier = Notifier()
        self._inherited = listen_fds.receive(os.environ)
        self._balancer = Balancer(
            self._engine,
            self._access_log.write,
            checks_at_once=checks_at_once(descriptors),
            inherited=self._inherited,
            store=Store(self._notifier, self._notifier.store_room, self._inherited.named),
        )
        self._reloads = Coalesced(self._reload)
        self._shutdown = Shutdown(self._balancer, self._notifier)
        self._started_at = time.monotonic()
        self._loaded_at = self._reloaded_at = time.time()
        self._last_error: str | None = None

    # ---- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, become the configured user, accept. What was started is stopped by the stack."""
        config = self._config
        account = find_user(config.process.user) if config.process.user and os.geteuid() == 0 else None
        self._engine.start()
        self._stack.push_async_callback(self._close)
        plan = await self._balancer.prepare(config)
        await self._start_admin(None if account is None else (account.pw_uid, account.pw_gid))
        self._balancer.hold()
        with self._access_log.replacing(config.log.access), uncollected():
            self._balancer.apply(plan)
        self._inherited.settle()
        if account is not None:
            become(account)
        self._handle_signals()
        await self._balancer.start_accepting()
        self._start_tasks()
        workers = counted(self._engine.options.workers, "worker")
        _log.info("l4lb %s serves %s with %s", l4lb.__version__, self._summary, workers)
        self._notifier.ready(f"serving {self._summary}")

    async def serve(self) -> None:
        """Run until told to stop, then let turns in flight end in their own time, up to process.drain_timeout."""
        await self._shutdown.wait_requested()
        await self._shutdown.drain(self._config.process.drain_timeout)

    async def _close(self) -> None:
        await self._balancer.close()
        self._access_log.close()
        _log.info("%s", self._shutdown.outcome)

    async def _start_admin(self, owner: tuple[int, int] | None) -> None:
        settings = self._config.admin
        path = settings.socket or _default_socket()
        admin = AdminServer(self, path, settings.listen, self._inherited)
        try:
            await admin.start()
        except StartError as error:
            if settings.socket is not None or path is None:
                raise
            # Nobody asked for this socket. Another l4lb may have it.
            _log.warning("%s; running without an admin socket", error)
            path = None
            admin = AdminServer(self, None, settings.listen, self._inherited)
            await admin.start()
        self._stack.push_async_callback(admin.close)
        if owner is not None and path is not None:
            os.chown(path, *owner)

    def _start_tasks(self) -> None:
        tasks = Background()
        self._stack.push_async_callback(tasks.close)
        tasks.start("reload", self._reloads.run())
        keep_up(self._balancer, tasks)
        if self._notifier.watchdog_interval is not None:
            interval = self._notifier.watchdog_interval
            tasks.start("watchdog", repeat("the watchdog", interval, self._feed_watchdog, longest=interval))

    async def _feed_watchdog(self) -> None:
        """A sign of life, if the workers live too."""
        oldest = min(worker.heartbeat_ns for worker in self._balancer.workers())
        age = (time.monotonic_ns() - oldest) / 1e9
        if age < HEARTBEAT_MAX_AGE:
            self._notifier.alive()
        else:
            _log.error("a worker shows no sign of life for %.1f s", age)

    # ---- signals ---------------------------------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reloads.request)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        loop.add_signal_handler(signal.SIGUSR2, self._on_upgrade)
        loop.add_signal_handler(signal.SIGQUIT, self._on_restart)
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._shutdown.request)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)

    def _on_restart(self) -> None:
        self._balancer.leave_sockets()
        self._shutdown.request()

    def _on_upgrade(self) -> None:
        _log.warning("SIGUSR2: this version cannot be upgraded in place; restart it instead")

    def _reopen_logs(self) -> None:
        self._access_log.reopen()
        _log.info("log files are opened again")

    # ---- reload ----------------------------------------------------------------------------------------------------

    async def reload(self) -> ReloadOutcome:
        return await asyncio.shield(self._reloads.request())

    async def _reload(self) -> ReloadOutcome:
        self._notifier.reloading()
        try:
            config = await asyncio.to_thread(_load, self._path)
            plan = await self._balancer.prepare(config)
            with self._access_log.replacing(config.log.access), uncollected():
                self._balancer.apply(plan)
        except ConfigError as error:
            return self._rejected([str(problem) for problem in error.problems])
        except StartError as error:
            return self._rejected([str(error)])
        except Exception as error:
            _log.exception("a reload failed in a way nobody foresaw")
            return self._rejected([f"internal error: {error!r}; the process log has the details"])
        self._config = config
        self._process_log.configure(config.log.level, config.log.format)
        self._loaded_at = self._reloaded_at = time.time()
        self._last_error = None
        notes = tuple(restart_notes(self._started_with, config))
        _log.info("reloaded %s: %s", self._path, self._summary)
        for note in notes:
            _log.warning("%s", note)
        self._notifier.ready(f"serving {self._summary}")
        return ReloadOutcome(applied=True, notes=notes)

    def _rejected(self, problems: list[str]) -> ReloadOutcome:
        self._balancer.discard()
        for problem in problems:
            _log.error("%s", problem)
        _log.error("the reload of %s was rejected; the running configuration is unchanged", self._path)
        self._reloaded_at = time.time()
        self._last_error = "; ".join(problems)
        self._notifier.ready(f"serving {self._summary}; the last reload was rejected: {problems[0]}")
        return ReloadOutcome(applied=False, problems=problems)

    # ---- Control ---------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        with uncollected():
            pools = self._balancer.pools()
        return Status(
            version=l4lb.__version__,
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started_at,
            stopping=self._shutdown.requested,
            config=ConfigStatus(
                file=self._path,
                loaded_at=self._loaded_at,
                last_reload_ok=self._last_error is None,
                last_reload_at=self._reloaded_at,
                last_error=self._last_error,
                restart_notes=tuple(restart_notes(self._started_with, self._config)),
            ),
            listeners=self._balancer.listeners(),
            pools=pools,
            workers=self._balancer.workers(),
            access_log_dropped_total=self._access_log.dropped_total,
            log_dropped_total=self._process_log.dropped_total,
            control_errors_total=self._process_log.failures_total,
            shutdown=self._shutdown.status(),
        )

    async def sessions(self) -> list[Session]:
        return await self._balancer.sessions()

    async def kill_session(self, session: int) -> None:
        await self._balancer.kill_session(session)

    async def kill_sessions(self, pool: str, backend: str) -> int:
        return await self._balancer.kill_sessions(pool, backend)

    def set_backend(
        self, pool: str, backend: str, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        self._balancer.set_backend(pool, backend, state=state, weight=weight)

    # ---- details ---------------------------------------------------------------------------------------------------

    @property
    def _summary(self) -> str:
        backends = sum(len(pool.backends) for pool in self._config.pools.values())
        listeners, pools = len(self._config.listeners), len(self._config.pools)
        return f"{counted(listeners, 'listener')}, {counted(pools, 'pool')}, {counted(backends, 'backend')}"


def _load(path: str) -> Config:
    with uncollected():
        return load_config(path)


def _default_socket() -> str | None:
    """Where the commands look for the admin socket, if that place can be had."""
    path = os.environ.get("L4LB_SOCKET") or DEFAULT_SOCKET
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    except OSError as error:
        _log.warning("no admin socket at %s: %s; set admin.socket to have one", path, error.strerror)
        return None
    return path
