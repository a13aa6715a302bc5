"""`process`: the process itself."""

from __future__ import annotations

from l4lb.config.fields.durations import PatienceOrOff
from l4lb.config.fields.numbers import Capacity, Pipes, Workers
from l4lb.config.fields.words import User
from l4lb.config.sections import Section


class Process(Section):
    """The process itself. Only `drain_timeout` can change without a restart."""

    workers: Workers = "auto"
    """Native threads; `auto` is one for each CPU this process may use."""

    max_connections: Capacity = "auto"
    """Sessions of all listeners together; `auto` follows from the limit on open files. More clients wait."""

    max_pipes: Pipes = "auto"
    """Pipes of each worker, through which bulk data is spliced; 0 copies everything. `auto` suits the limits."""

    user: User | None = None
    """The user to become after binding, when started as root."""

    drain_timeout: PatienceOrOff = 600.0
    """How long a stopping process waits for turns in flight; off is for ever. Quiet sessions go at once."""
