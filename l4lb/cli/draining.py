"""Waits until a drained backend has no session left, and shows the progress.

l4lb closes idle sessions itself. The sessions left are in a turn, have been idle for a moment only, or wait for their
client to read the response. If the drain takes long, the output counts each kind.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

import click

from l4lb.admin.client import AdminClient, ClientError, Json
from l4lb.base.text import plural, short_duration
from l4lb.terminal import tables

POLL_INTERVAL = 0.5

LINE_INTERVAL = 1.0
"""Minimum seconds between two lines of progress, if a line cannot replace the one before."""

EXPLAIN_INTERVAL = 5.0
"""Seconds before the output explains the wait, and between two requests for the sessions."""

QUIET = 1.0
"""Seconds of silence after which l4lb closes a session of a drained backend, at the start of the drain."""

AWAY_MAX = 10.0
"""Seconds for which l4lb may be unreachable: an upgrade may be replacing it."""


def causes(sessions: Sequence[Json], pool: str, backend: str) -> str:
    """The reasons for the wait: `2 in a request, 1 never idle for 1 s`; empty without sessions."""
    found = Counter(
        _cause(session) for session in sessions if (session.get("pool"), session.get("backend")) == (pool, backend)
    )
    return ", ".join(
        f"{found[cause]} {cause}" for cause in (_CONNECTING, _BUSY, _RESTLESS, _UNFINISHED) if found[cause]
    )


_CONNECTING = "connecting"
_BUSY = "in a request"
_RESTLESS = f"never idle for {QUIET:g} s"
_UNFINISHED = "idle (response unread or in doubt, or drain_spread)"


def _cause(session: Json) -> str | None:
    state, phase, idle = session.get("state"), session.get("phase"), session.get("idle_s")
    if state == "closing":
        return None
    if state != "relay":
        return _CONNECTING
    if phase in ("wait", "stream"):
        return _BUSY
    return _RESTLESS if isinstance(idle, int | float) and idle < QUIET else _UNFINISHED


class Drain:
    """The wait for one backend that already drains; `drained` is l4lb's response to the request for it.

    `timeout` is the seconds to wait, None for no limit; with `kill`, sessions that are left then are closed.
    """

    def __init__(
        self, client: AdminClient, names: tuple[str, str], drained: Json, timeout: float | None, *, kill: bool
    ) -> None:
        self._client = client
        self._names = names
        self._label = "/".join(names)
        self._pid = drained.get("pid")
        self._seen = drained
        self._timeout = timeout
        self._kill = kill
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._progress = _Progress()
        self._causes = ""
        self._explain_at = time.monotonic() + EXPLAIN_INTERVAL

    @property
    def left(self) -> str:
        """`1 connection`, `12 connections`."""
        return plural(tables.number(self._seen, "connections"), "connection")

    def wait(self) -> Json:
        """The backend once it has no session left. ClientError if the wait is over or pointless."""
        try:
            while True:
                if self._is_left():
                    self._show()
                    if self._deadline is not None and time.monotonic() >= self._deadline:
                        self._end()
                # At least once: a worker may have sent it a session at the last moment.
                self._pause()
                self._look()
                if not self._is_left():
                    return self._seen
        finally:
            self._progress.close()

    def _is_left(self) -> bool:
        return tables.number(self._seen, "connections") > 0

    def _show(self) -> None:
        self._explain()
        numbers = f"{self._label}: draining, {self.left} left, {tables.number(self._seen, 'busy')} busy{self._causes}"
        deadline = (
            "" if self._deadline is None else f", {short_duration(max(0.0, self._deadline - time.monotonic()))} to go"
        )
        self._progress.show(numbers, deadline)

    def _explain(self) -> None:
        """Find out what takes so long. Without a response the wait goes on unexplained."""
        if time.monotonic() < self._explain_at:
            return
        self._explain_at = time.monotonic() + EXPLAIN_INTERVAL
        try:
            sessions = self._client.sessions().get("sessions")
        except ClientError:
            return
        found = causes(sessions, *self._names) if isinstance(sessions, list) else ""
        how = "" if self._kill else "; --timeout and --kill close them"
        self._causes = f" ({found}{how})" if found else ""

    def _end(self) -> None:
        """After the timeout: close the remaining sessions, or give up."""
        if not self._kill:
            raise ClientError(
                f"{self._label} still has {self.left} after {self._timeout:g} s; it goes on draining, "
                "and `l4lb sessions` shows which"
            )
        self._deadline = None
        killed = tables.number(self._client.kill_sessions(*self._names), "killed")
        self._progress.close()
        click.echo(f"{self._label}: {plural(killed, 'connection')} closed after {self._timeout:g} s", err=True)

    def _pause(self) -> None:
        left = POLL_INTERVAL if self._deadline is None else self._deadline - time.monotonic()
        time.sleep(max(0.0, min(POLL_INTERVAL, left)))

    def _look(self) -> None:
        answer = self._ask()
        if answer.get("pid") != self._pid:
            raise ClientError(
                f"another l4lb process answers now, where {self._label} is set to {answer.get('state')}; the one "
                f"before it had {self.left} left, and ends when they have"
            )
        self._seen = answer
        if self._seen.get("state") == "ready":
            raise ClientError(f"{self._label} was set back to ready meanwhile and has {self.left}")

    def _ask(self) -> Json:
        """The backend now. A short time without a response is no error."""
        until: float | None = None
        while True:
            try:
                return self._client.backend(*self._names)
            except ClientError as error:
                if error.status == 404:
                    raise ClientError(
                        f"{self._label} is gone from the configuration; the {self.left} it had go on for the "
                        "drain_timeout of the pool at most, and `l4lb sessions` shows them"
                    ) from error
                if error.status is not None:
                    raise
                until = time.monotonic() + AWAY_MAX if until is None else until
                if time.monotonic() >= until:
                    raise
                time.sleep(POLL_INTERVAL)


class _Progress:
    """One line on stderr: overwritten on a terminal, elsewhere repeated when the numbers change."""

    def __init__(self) -> None:
        self._terminal = _is_terminal()
        self._open = False
        self._numbers = ""
        self._next = 0.0

    def show(self, numbers: str, deadline: str) -> None:
        if self._terminal:
            click.echo(f"\r{numbers}{deadline}\x1b[K", nl=False, err=True, color=True)
            self._open = True
        elif numbers != self._numbers and time.monotonic() >= self._next:
            click.echo(f"{numbers}{deadline}", err=True)
            self._numbers, self._next = numbers, time.monotonic() + LINE_INTERVAL

    def close(self) -> None:
        """Have the next output begin a new line."""
        if self._open:
            click.echo(err=True)
        self._open = False


def _is_terminal() -> bool:
    return sys.stderr.isatty()
