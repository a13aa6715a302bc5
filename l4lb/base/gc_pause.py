"""Pausing the garbage collector while many objects are built that will stay.

The switch affects the whole process, so only code that owns the process uses it: the daemon and the commands.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def gc_paused() -> Iterator[None]:
    """Disable the search for reference cycles in the block. The search runs once for every few hundred new objects, and
    a large configuration has hundreds of thousands: loading would take twice as long, with pauses of up to 0.2 s."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
