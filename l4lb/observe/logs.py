"""The process log on stderr, as text or JSON, at a bounded rate and without ever blocking.

`ProcessLog` takes over the standard `logging` tree; code logs through `logging.getLogger(__name__)` as usual.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from l4lb.base.text import MESSAGE_MAX, clipped
from l4lb.observe.writer import Writer

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

QUEUE_LINES = 8192
WINDOW = 10.0  # seconds over which repeats are counted
SAME_MESSAGE_BURST = 5
SAME_TEMPLATE_BURST = 200  # generous: a rack of backends going down is worth a line each
KEYS_MAX = 1024

TRACE_MAX = 16 * 1024
REMARK_MAX = 64
"""Characters that a cut message leaves for the remark that counts its repeats."""


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds, from seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def format_text(record: logging.LogRecord) -> str:
    line = f"{timestamp(record.created)} {record.levelname.lower():7} {record.name}: "
    line += clipped(record.getMessage())
    return f"{line}\n{_trace(record)}" if record.exc_info else line


def format_json(record: logging.LogRecord) -> str:
    fields = {
        "time": timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    if record.exc_info:
        fields["exception"] = _trace(record)
    return json.dumps(fields)


def _trace(record: logging.LogRecord) -> str:
    assert record.exc_info
    # Control characters could forge lines or drive the terminal in which the log is read.
    lines = logging.Formatter().formatException(record.exc_info)[-TRACE_MAX:].splitlines()
    return "\n".join(clipped(line) for line in lines)


class RepeatLimiter:
    """Lets a key pass `burst` times in each window of `WINDOW` seconds, and counts what it holds back."""

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self._windows: OrderedDict[object, tuple[float, int]] = OrderedDict()

    def admit(self, key: object, now: float) -> tuple[bool, int]:
        """Whether `key` may pass at `now`, and how many were held back in the window that ended."""
        started, count = self._windows.get(key, (now, 0))
        held_back = 0
        if now - started >= WINDOW:
            held_back = max(0, count - self._burst)
            started, count = now, 0
        self._windows[key] = (started, count + 1)
        self._windows.move_to_end(key)
        if len(self._windows) > KEYS_MAX:
            self._windows.popitem(last=False)
        return count < self._burst, held_back


class _Handler(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self.format_line = format_text
        self._write = write
        self._same_message = RepeatLimiter(SAME_MESSAGE_BURST)
        self._same_template = RepeatLimiter(SAME_TEMPLATE_BURST)
        self.failures_total = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.levelno >= logging.ERROR:
            self.failures_total += 1
        try:
            now = time.monotonic()
            message = record.getMessage()
            message = message if len(message) <= MESSAGE_MAX else f"{message[: MESSAGE_MAX - REMARK_MAX]}…"
            passes, same = self._same_message.admit((record.name, record.levelno, message), now)
            if not passes:
                return
            passes, alike = self._same_template.admit((record.name, record.levelno, str(record.msg)), now)
            if not passes:
                return
            if held_back := max(same, alike):
                message = f"{message} ({held_back} more like this were not logged)"
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = message, None
            self._write(self.format_line(record))
        except Exception:  # a mistake in a log call must not take the caller down
            self.handleError(record)


class ProcessLog:
    """Sends everything logged in this process to `descriptor` until closed. One at a time."""

    def __init__(self, level: Level = "info", format: Format = "text", descriptor: int | None = None) -> None:  # noqa: A002
        self._writer: Writer[str] = Writer(
            sys.stderr.fileno() if descriptor is None else descriptor,
            lambda line: line.encode(errors="backslashreplace") + b"\n",
            capacity=QUEUE_LINES,
            name="l4lb-log",
        )
        self._handler = _Handler(lambda line: self._writer.put((line,)))
        root = logging.getLogger()
        self._before = (root.level, root.handlers[:])
        root.handlers = [self._handler]
        root.setLevel(logging.WARNING)
        logging.captureWarnings(True)
        self.configure(level, format)

    @property
    def dropped_total(self) -> int:
        """Lines lost because stderr was blocked for too long."""
        return self._writer.dropped_total

    @property
    def failures_total(self) -> int:
        """Unexpected errors: the lines with a traceback, including those held back."""
        return self._handler.failures_total

    def configure(self, level: Level, format: Format) -> None:  # noqa: A002
        """Change level and format, as after a reload."""
        # Only our own loggers follow the level: the libraries' debug lines are about themselves.
        logging.getLogger("l4lb").setLevel(level.upper())
        self._handler.format_line = format_json if format == "json" else format_text

    def close(self) -> None:
        """Write the queued lines, give up soon if stderr is blocked, and restore the logging tree. Idempotent."""
        root = logging.getLogger()
        if self._handler in root.handlers:
            logging.captureWarnings(False)
            root.setLevel(self._before[0])
            root.handlers = self._before[1]
        self._writer.close()
