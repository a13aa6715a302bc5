"""Logs exceptions that would otherwise be lost: in callbacks, threads and tasks that nothing awaits.

Repeated work handles its own errors, see `base.tasks`. This module covers the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def contained(what: str) -> Iterator[None]:
    """Log an exception of the block and go on behind it, so that what follows is done in any case."""
    try:
        yield
    except Exception:
        _log.exception("unexpected error in %s", what)


@contextlib.contextmanager
def log_unhandled(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """In the block, log every such exception of this process with its traceback."""
    before = threading.excepthook, sys.unraisablehook
    loop.set_exception_handler(_in_loop)
    threading.excepthook = _in_thread
    sys.unraisablehook = _unraisable
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = before
        loop.set_exception_handler(None)


def _in_loop(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    where = ", ".join(f"{key}: {value!r}" for key, value in context.items() if key not in ("message", "exception"))
    _say(f"the event loop: {context.get('message')}; {where}", context.get("exception"))


def _in_thread(arguments: threading.ExceptHookArgs) -> None:
    name = "a thread" if arguments.thread is None else f"the thread {arguments.thread.name}"
    _say(f"{name} has ended", arguments.exc_value)


def _unraisable(arguments: sys.UnraisableHookArgs) -> None:
    _say(f"{arguments.err_msg or 'ignored'}: {arguments.object!r}", arguments.exc_value)


def _say(what: str, error: BaseException | None) -> None:
    _log.error("unexpected error in %s", what, exc_info=error)
