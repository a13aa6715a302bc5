"""The access log of the running configuration, if it has one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from l4lb.observe.access import AccessLogWriter
from l4lb.status import Session

if TYPE_CHECKING:
    from l4lb.config import model


class SessionLog:
    """Writes nothing at first. Called from one thread."""

    def __init__(self) -> None:
        self._settings: model.AccessLog | None = None
        self._log: AccessLogWriter | None = None
        self._dropped_before = 0

    @contextlib.contextmanager
    def replacing(self, settings: model.AccessLog | None) -> Iterator[None]:
        """Open the log of `settings`, and close the old one after the block. StartError if it cannot be opened. If the
        block fails, the old log stays."""
        if settings == self._settings:
            yield
            return
        wanted = None if settings is None else AccessLogWriter(settings)
        try:
            yield
        except BaseException:
            if wanted is not None:
                wanted.close()
            raise
        self.close()
        self._log, self._settings = wanted, settings

    def write(self, sessions: Sequence[Session]) -> None:
        """Queue a line for each event. Never blocks."""
        if self._log is not None:
            self._log.write(sessions)

    def reopen(self) -> None:
        """Open the file again, as after a log rotation."""
        if self._log is not None:
            self._log.reopen()

    def close(self) -> None:
        """Write the queued lines, and accept no more. Idempotent."""
        before, self._log = self._log, None
        if before is not None:
            before.close()
            self._dropped_before += before.dropped_total

    @property
    def dropped_total(self) -> int:
        """Lines lost since the start, in all logs so far."""
        return self._dropped_before + (0 if self._log is None else self._log.dropped_total)
