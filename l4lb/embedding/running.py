"""A balancer that runs on the event loop of a program: from its configuration to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from l4lb.admin.server import AdminServer
from l4lb.balancer.balancer import Balancer
from l4lb.base.threads import LOAD_TIMEOUT, SerialThread
from l4lb.config import Config
from l4lb.embedding import config_source as sources
from l4lb.embedding.config_source import ConfigSource
from l4lb.engine import NativeEngine
from l4lb.engine.api import NO_EVENTS, EventKind
from l4lb.errors import ConfigError, ControlError, StartError
from l4lb.process.capacity import checks_at_once, engine_options, free_descriptors
from l4lb.process.control import BalancerControl
from l4lb.process.restart import restart_required
from l4lb.process.shutdown import Shutdown
from l4lb.sockets.systemd import Notifier
from l4lb.status import ConfigStatus, ReloadOutcome, Session, Status, UpgradeOutcome

OnClose = Callable[[Session], None]
"""Is called with every session that has ended, on the thread of the event loop."""

_log = logging.getLogger(__name__)


class Running(BalancerControl):
    """Balancer, admin server and access log, as `config` has them, which is what `source` says. Satisfies `Control`.

    `run` makes it; the caller of `run` closes it.
    """

    def __init__(self, source: ConfigSource, config: Config, files: SerialThread, on_close: OnClose | None) -> None:
        super().__init__()
        descriptors = free_descriptors()
        options = engine_options(config, descriptors, privileged=os.geteuid() == 0)
        self._source = source
        self._files = files
        self._config = self._started_with = config
        self._on_close = on_close
        with _start_error():
            self._engine = NativeEngine(options)
        self._admin: AdminServer | None = None
        self.balancer = Balancer(
            self._engine,
            self._on_events,
            events=NO_EVENTS if on_close is None else EventKind.CLOSE,
            checks_at_once=checks_at_once(descriptors),
        )
        # The program itself tells its service manager, if it has one.
        self._shutdown = Shutdown(self.balancer, Notifier({}))
        self._stack = contextlib.AsyncExitStack()
        self._reloading = asyncio.Lock()
        self._config_status = _loaded(source)

    async def start(self) -> None:
        """Bind, find and check the backends, accept. StartError, or being cancelled, leaves nothing behind."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._access_log.close)
            stack.push_async_callback(self.balancer.close)
            with _start_error():
                self._engine.start()
            plan = await self.balancer.prepare(self._config)
            await self._start_admin(stack)
            self.balancer.hold()
            with self._access_log.replacing(self._config.log.access):
                self.balancer.apply(plan)
            await self.balancer.start_accepting()
            self._supervise(stack)
            self._stack = stack.pop_all()

    async def _start_admin(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._config.admin
        if settings.socket is not None or settings.listen is not None:
            self._admin = AdminServer(self, settings.socket, settings.listen, hosts=settings.hosts)
            await self._admin.start()
            stack.push_async_callback(self._admin.close)

    async def close(self, timeout: float | None) -> None:
        """Close idle sessions, give turns in flight `timeout` seconds to end, and free everything. None is
        process.drain_timeout, and infinity is no limit."""
        if timeout is None:
            timeout = self._config.process.drain_timeout
        elif math.isinf(timeout):
            timeout = None
        try:
            if timeout is None or timeout > 0:
                await self._shutdown.drain(timeout)
        finally:
            await self._stack.aclose()

    def hurry(self) -> None:
        """End the wait for sessions."""
        self._shutdown.request()
        self._shutdown.request()

    async def apply(self, source: ConfigSource | None) -> tuple[str, ...]:
        """Run the configuration of `source` from now on, all of it, or raise ConfigError or StartError; None reads the
        same source again. The result has a sentence for each key that only a new balancer would use."""
        async with self._reloading:
            try:
                return await self._apply(self._source if source is None else source)
            except (ConfigError, StartError) as error:
                sentences = "; ".join(_sentences(error))
                self._config_status = replace(
                    self._config_status, last_reload_ok=False, last_reload_at=time.time(), last_error=sentences
                )
                raise

    async def _apply(self, source: ConfigSource) -> tuple[str, ...]:
        config = await self._files.call(sources.read, source)
        try:
            plan = await self.balancer.prepare(config)
            with self._access_log.replacing(config.log.access):
                self.balancer.apply(plan)
        except BaseException:
            self.balancer.discard()
            raise
        self._source, self._config = source, config
        notes = tuple(restart_required(self._started_with, config))
        self._config_status = _loaded(source, notes)
        return notes

    @property
    def admin_address(self) -> tuple[str, int] | None:
        """The address of the read-only API; None without one."""
        return None if self._admin is None else self._admin.tcp_address

    # ---- Control ---------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        return self._status(self._config_status)

    async def reload(self) -> ReloadOutcome:
        try:
            return ReloadOutcome(applied=True, notes=await self.apply(None))
        except (ConfigError, StartError) as error:
            return ReloadOutcome(applied=False, problems=_sentences(error))

    async def upgrade(self) -> UpgradeOutcome:
        raise ControlError("this balancer is part of another program; restart that program", 409)

    # ---- events ----------------------------------------------------------------------------------------------------

    def _on_events(self, sessions: list[Session]) -> None:
        access = self._config.log.access
        if access is not None:
            logged = {EventKind[name.upper()] for name in access.events}
            self._access_log.write([session for session in sessions if session.record.event in logged])
        if self._on_close is not None:
            for session in sessions:
                if session.record.event is EventKind.CLOSE:
                    self._tell(self._on_close, session)

    @staticmethod
    def _tell(on_close: OnClose, session: Session) -> None:
        try:
            on_close(session)
        except Exception:
            _log.exception("on_close failed for session %d", session.record.id)


def _loaded(source: ConfigSource, notes: tuple[str, ...] = ()) -> ConfigStatus:
    """Of a configuration that runs from now on."""
    now = time.time()
    return ConfigStatus(
        file=sources.name(source),
        loaded_at=now,
        last_reload_ok=True,
        last_reload_at=now,
        last_error=None,
        restart_notes=notes,
    )


def _sentences(error: ConfigError | StartError) -> list[str]:
    return error.sentences if isinstance(error, ConfigError) else [str(error)]


@contextlib.contextmanager
def _start_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartError(f"the data plane cannot start: {reason}; the limits of the process may be too low") from error


async def run(source: ConfigSource, on_close: OnClose | None) -> Running:
    """A balancer that accepts clients. ConfigError, StartError, or being cancelled, leaves nothing behind."""
    files = SerialThread("reading the configuration", LOAD_TIMEOUT)
    running = Running(source, await files.call(sources.read, source), files, on_close)
    await running.start()
    return running
