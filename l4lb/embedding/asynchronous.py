"""The balancer for programs that use asyncio: it runs on their event loop, and its traffic on threads of its own."""

from __future__ import annotations

import asyncio
import os
import warnings
from types import TracebackType
from typing import Self, TypeAlias

from l4lb.admin import metrics
from l4lb.base.names import split_backend
from l4lb.base.tasks import await_uncancelled
from l4lb.config import Address
from l4lb.embedding.config_source import ConfigSource
from l4lb.embedding.life import Life
from l4lb.embedding.running import OnClose, Running, run
from l4lb.errors import ControlError
from l4lb.status import AdminState, Session, Status

DRAIN_POLL_INTERVAL = 0.02
"""Seconds between two looks at whether a backend still has sessions: the workers do not say when the last one ends."""

BoundAddress: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a unix socket, as `socket.connect` takes them."""


class AsyncBalancer:
    """A balancer on the running event loop, for the length of an `async with` block.

        async with l4lb.AsyncBalancer(config) as lb:
            host, port = lb.address("web")
            print(lb.status().pools["web"].backends["a"].health)

    `config` is a mapping of the same shape as the YAML file, the path of such a file, or a `Config`. `on_close` gets
    every session that has ended, on the loop; it must be quick, and what it raises is logged. If events come faster
    than it takes them, some are dropped and counted (`events_dropped_total` of the workers).

    Clients are accepted, balanced and forwarded by native threads: a coroutine that blocks the loop does not delay
    them, only health checks and changes. All methods belong to the loop that `start` ran on; from elsewhere use
    `Balancer`. They raise ControlError when the balancer does not run, or does not know what they name.
    """

    _life = Life.NEW

    def __init__(self, config: ConfigSource, *, on_close: OnClose | None = None) -> None:
        self._source = config
        self._on_close = on_close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: Running | None = None
        self._closing: asyncio.Task[None] | None = None
        self._pid = os.getpid()

    # ---- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind every listener, check the backends once (5 seconds at most), and accept clients.

        ConfigError has every problem of the configuration; StartError names what is not available, such as a port. Both
        leave nothing behind, and so does being cancelled. A balancer starts once.
        """
        if self._life is not Life.NEW:
            raise ControlError(self._life.value)
        self._life = Life.STARTING
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        starting = self._loop.create_task(run(self._source, self._on_close), name="l4lb start")
        try:
            self._running = await await_uncancelled(starting, starting.cancel)
            self._life = Life.RUNNING
        except BaseException:
            self._life = Life.CLOSED
            if not starting.cancelled() and starting.exception() is None:
                # The start had ended before it could be cancelled.
                self._running, self._life = starting.result(), Life.RUNNING
                await self.close(0)
            raise

    async def close(self, drain: float | None = None) -> None:
        """Accept no more clients, close idle sessions, give turns in flight `drain` seconds to end, then close the rest
        and free everything.

        None is `process.drain_timeout` of the configuration, or 0 if it has none; `math.inf` is no limit. Idempotent.
        A second call, or being cancelled, ends the wait for sessions.
        """
        if self._life is Life.CLOSED or self._forked:
            return
        if self._life is Life.STARTING:
            raise ControlError(self._life.value)
        if self._running is None:
            self._life = Life.CLOSED
            return
        if self._closing is None:
            self._here()
            self._closing = asyncio.create_task(self._running.close(drain), name="l4lb close")
        else:
            self._running.hurry()
        try:
            await await_uncancelled(self._closing, self._running.hurry)
        finally:
            self._life = Life.CLOSED

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(None if kind is None else 0)

    def __del__(self) -> None:
        if self._life is Life.RUNNING and not self._forked:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=1)

    # ---- where and how it is ---------------------------------------------------------------------------------------

    def address(self, listener: str) -> tuple[str, int]:
        """Host and port where a listener accepts: the first one, if it has several. For port 0 it is the port that the
        kernel chose. ControlError if it has unix sockets only."""
        for address in self.addresses(listener):
            if not isinstance(address, str):
                return address
        raise ControlError(f"listener '{listener}' has no TCP address; addresses() has its unix sockets")

    def addresses(self, listener: str) -> tuple[BoundAddress, ...]:
        """Every address where a listener accepts, in the order of the configuration."""
        listeners = self._here().balancer.listeners()
        if listener not in listeners:
            raise ControlError(f"there is no listener '{listener}'; there are {', '.join(listeners)}", 404)
        return tuple(map(_bound, listeners[listener].bind))

    def admin_address(self) -> tuple[str, int]:
        """Host and port of `admin.listen`. ControlError if the configuration has none."""
        address = self._here().admin_address
        if address is None:
            raise ControlError("there is no admin.listen in the configuration the balancer was started with", 404)
        return address

    def status(self) -> Status:
        """Everything, read now: listeners, pools and their backends, workers."""
        return self._here().status()

    async def metrics(self) -> str:
        """What `/metrics` of a process has of listeners, pools, backends and workers, in Prometheus' text format."""
        status = self.status()
        return await asyncio.to_thread(lambda: metrics.encode([*metrics.render(status)], openmetrics=False).decode())

    # ---- backends --------------------------------------------------------------------------------------------------
    # A backend is named as for the commands, POOL/BACKEND. What is set here holds until another configuration says
    # something else about that backend.

    def drain(self, backend: str) -> None:
        """Give a backend no new sessions. Turns in flight come to their end, and idle sessions are closed."""
        self._set(backend, state=AdminState.DRAIN)

    def maint(self, backend: str) -> None:
        """As `drain`, and check the backend no more."""
        self._set(backend, state=AdminState.MAINT)

    def ready(self, backend: str) -> None:
        """Take back `drain` and `maint`."""
        self._set(backend, state=AdminState.READY)

    def weight(self, backend: str, weight: int) -> None:
        """Give a backend another weight, 0 to 256."""
        self._set(backend, weight=weight)

    async def add(self, pool: str, address: str, **settings: object) -> str:
        """Add a backend to a pool; its name, for `POOL/NAME`. `settings` are keys of the configuration.

        await lb.add("web", "127.0.0.1:8083", name="c", weight=2)
        """
        return await self._here().add_backend(pool, {"address": address, **settings})

    async def change(self, backend: str, **settings: object) -> None:
        """Give a backend another address, or other settings of the configuration; all others stay. Its sessions go on
        where they are."""
        await self._here().change_backend(*_split(backend), settings)

    async def remove(self, backend: str, *, force: bool = False) -> None:
        """Remove a backend from its pool. Its sessions go on as after a reload that removes it; with `force` they are
        closed."""
        await self._here().remove_backend(*_split(backend), force=force)

    async def drained(self, backend: str, timeout: float | None = None) -> None:
        """Wait until a backend has no session left. TimeoutError if it still has some after `timeout` seconds.

        lb.drain("web/a")
        await lb.drained("web/a", timeout=60)
        """
        name = _split(backend)
        try:
            async with asyncio.timeout(timeout):
                while self._here().balancer.connections(*name):  # noqa: ASYNC110 - see DRAIN_POLL_INTERVAL
                    await asyncio.sleep(DRAIN_POLL_INTERVAL)
        except TimeoutError:
            left = self._here().balancer.connections(*name)
            raise TimeoutError(f"{backend} still has sessions after {timeout:g} s: {left}") from None

    def _set(self, backend: str, *, state: AdminState | None = None, weight: int | None = None) -> None:
        self._here().balancer.set_backend(*_split(backend), state=state, weight=weight)

    # ---- sessions --------------------------------------------------------------------------------------------------

    async def sessions(self) -> list[Session]:
        """Every live session."""
        return await self._here().sessions()

    async def kill(self, session: int | Session) -> None:
        """Close one session, named by itself or by its id. ControlError if it is gone."""
        await self._here().kill_session(session.record.id if isinstance(session, Session) else session)

    # ---- the configuration -----------------------------------------------------------------------------------------

    async def reload(self, config: ConfigSource | None = None) -> tuple[str, ...]:
        """Run another configuration from now on, all of it or nothing; without `config` the same one, read again.

        On a ConfigError or StartError the old one stays in use, unchanged. Listeners that stay keep their sockets,
        sessions go on, and backends that stay keep counters and health. The result has a sentence for each key whose
        new value only a new balancer would use (`process`, `admin`).
        """
        return await self._here().apply(config)

    # ---- details ---------------------------------------------------------------------------------------------------

    @property
    def _forked(self) -> bool:
        """Whether this is a child of the process that the balancer runs in."""
        return os.getpid() != self._pid

    def _here(self) -> Running:
        """What runs; ControlError if nothing runs, or not on this loop."""
        if self._running is None or self._life is not Life.RUNNING:
            raise ControlError(self._life.value)
        if self._forked:
            raise ControlError("the balancer runs in the parent process; a forked child needs one of its own")
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise ControlError(
                "this balancer belongs to the event loop that it was started on; use l4lb.Balancer from other threads"
            )
        return self._running


def _bound(shown: str) -> BoundAddress:
    address = Address.parse(shown)
    if address.host is None or address.port is None:
        return address.unix_name
    return address.host, address.port


def _split(backend: str) -> tuple[str, str]:
    try:
        return split_backend(backend)
    except ValueError as error:
        raise ControlError(str(error)) from None
