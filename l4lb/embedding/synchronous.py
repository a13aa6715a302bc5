"""The balancer for programs with threads: `AsyncBalancer` on a control thread, asked from any other one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from l4lb.embedding.asynchronous import AsyncBalancer, BoundAddress
from l4lb.embedding.config_source import ConfigSource
from l4lb.embedding.life import Life
from l4lb.embedding.running import OnClose
from l4lb.embedding.thread import LoopThread
from l4lb.errors import ControlError
from l4lb.status import Session, Status

P = ParamSpec("P")
T = TypeVar("T")


class Balancer:
    """A balancer for the length of a `with` block.

        with l4lb.Balancer(config) as lb:
            with socket.create_connection(lb.address("web")) as client:
                ...

    `config` is a mapping of the same shape as the YAML file, the path of such a file, or a `Config`. `on_close` gets
    every session that has ended, on the balancer's control thread; it must be quick and must not call the balancer, and
    what it raises is logged. If events come faster than it takes them, some are dropped and counted
    (`events_dropped_total` of the workers).

    Any thread may call any method, also while an event loop runs there; in a coroutine use `AsyncBalancer`. Methods
    raise ControlError when the balancer does not run, or does not know what they name.

    A child made by fork has no balancer, but copies of its sockets until it ends or runs another program.
    """

    _thread: LoopThread | None = None

    def __init__(self, config: ConfigSource, *, on_close: OnClose | None = None) -> None:
        self._balancer = AsyncBalancer(config, on_close=on_close)

    # ---- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bind every listener, check the backends once (5 seconds at most), and accept clients.

        ConfigError has every problem of the configuration; StartError names what is not available, such as a port. Both
        leave nothing behind, and so does an interrupt. A balancer starts once. It has to be closed, or the program does
        not end.
        """
        if self._thread is not None:
            raise ControlError((Life.CLOSED if self._thread.ending else Life.RUNNING).value)
        balancer = self._balancer
        self._thread = LoopThread(balancer.start, lambda: balancer.close(0))
        self._thread.start()

    def close(self, drain: float | None = None) -> None:
        """Accept no more clients, close idle sessions, give turns in flight `drain` seconds to end, then close the rest
        and free everything.

        None is `process.drain_timeout` of the configuration, or 0 if it has none; `math.inf` is no limit. Idempotent.
        A second call from another thread, or an interrupt, ends the wait for sessions.
        """
        thread = self._thread
        if thread is None or thread.forked:
            return
        thread.check_caller()
        try:
            if thread.open:
                thread.call(self._balancer.close, drain)
        finally:
            thread.end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(None if kind is None else 0)

    def __del__(self) -> None:
        if self._thread is not None and self._thread.open and not self._thread.forked:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=1)
            self._thread.ask_to_end()

    # ---- where and how it is ---------------------------------------------------------------------------------------

    def address(self, listener: str) -> tuple[str, int]:
        """Host and port where a listener accepts: the first one, if it has several. For port 0 it is the port that the
        kernel chose. ControlError if it has unix sockets only."""
        return self._ask(self._balancer.address, listener)

    def addresses(self, listener: str) -> tuple[BoundAddress, ...]:
        """Every address where a listener accepts, in the order of the configuration."""
        return self._ask(self._balancer.addresses, listener)

    def admin_address(self) -> tuple[str, int]:
        """Host and port of `admin.listen`. ControlError if the configuration has none."""
        return self._ask(self._balancer.admin_address)

    def status(self) -> Status:
        """Everything, read now: listeners, pools and their backends, workers."""
        return self._ask(self._balancer.status)

    def metrics(self) -> str:
        """What `/metrics` of a process has of listeners, pools, backends and workers, in Prometheus' text format."""
        return self._running.call(self._balancer.metrics)

    # ---- backends --------------------------------------------------------------------------------------------------
    # A backend is named as for the commands, POOL/BACKEND. What is set here holds until another configuration says
    # something else about that backend.

    def drain(self, backend: str) -> None:
        """Give a backend no new sessions. Turns in flight come to their end, and idle sessions are closed."""
        self._ask(self._balancer.drain, backend)

    def maint(self, backend: str) -> None:
        """As `drain`, and check the backend no more."""
        self._ask(self._balancer.maint, backend)

    def ready(self, backend: str) -> None:
        """Take back `drain` and `maint`."""
        self._ask(self._balancer.ready, backend)

    def weight(self, backend: str, weight: int) -> None:
        """Give a backend another weight, 0 to 256."""
        self._ask(self._balancer.weight, backend, weight)

    def add(self, pool: str, address: str, **settings: object) -> str:
        """Add a backend to a pool; its name, for `POOL/NAME`. `settings` are keys of the configuration.

        lb.add("web", "127.0.0.1:8083", name="c", weight=2)
        """
        return self._running.call(self._balancer.add, pool, address, **settings)

    def change(self, backend: str, **settings: object) -> None:
        """Give a backend another address, or other settings of the configuration; all others stay. Its sessions go on
        where they are."""
        self._running.call(self._balancer.change, backend, **settings)

    def remove(self, backend: str, *, force: bool = False) -> None:
        """Remove a backend from its pool. Its sessions go on as after a reload that removes it; with `force` they are
        closed."""
        self._running.call(self._balancer.remove, backend, force=force)

    def drained(self, backend: str, timeout: float | None = None) -> None:
        """Wait until a backend has no session left. TimeoutError if it still has some after `timeout` seconds.

        lb.drain("web/a")
        lb.drained("web/a", timeout=60)
        """
        self._running.call(self._balancer.drained, backend, timeout)

    # ---- sessions --------------------------------------------------------------------------------------------------

    def sessions(self) -> list[Session]:
        """Every live session."""
        return self._running.call(self._balancer.sessions)

    def kill(self, session: int | Session) -> None:
        """Close one session, named by itself or by its id. ControlError if it is gone."""
        self._running.call(self._balancer.kill, session)

    # ---- the configuration -----------------------------------------------------------------------------------------

    def reload(self, config: ConfigSource | None = None) -> tuple[str, ...]:
        """Run another configuration from now on, all of it or nothing; without `config` the same one, read again.

        On a ConfigError or StartError the old one stays in use, unchanged. Listeners that stay keep their sockets,
        sessions go on, and backends that stay keep counters and health. The result has a sentence for each key whose
        new value only a new balancer would use (`process`, `admin`).
        """
        return self._running.call(self._balancer.reload, config)

    # ---- details ---------------------------------------------------------------------------------------------------

    @property
    def _running(self) -> LoopThread:
        if self._thread is None:
            raise ControlError(Life.NEW.value)
        return self._thread

    def _ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async def ask() -> T:
            return function(*args, **kwargs)

        return self._running.call(ask)
