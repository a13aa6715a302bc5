"""When not to look for garbage: while much is built that will stay.

That is a switch of the whole process, so only who owns the process uses it: the daemon and the commands.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def gc_paused() -> Iterator[None]:
    """No search for reference cycles meanwhile. There is one for every few hundred objects that are made, and a large
    configuration is hundreds of thousands: it would take as long again, and some searches stop everything for 0.2 s.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
