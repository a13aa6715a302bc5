"""`process`: the process itself."""

from __future__ import annotations

from l4lb.config.fields.durations import PatienceOrOff
from l4lb.config.fields.numbers import Capacity, Pipes, Workers
from l4lb.config.fields.strings import User
from l4lb.config.sections import Section


class Process(Section):
    """The process itself. Only `drain_timeout` can change without a restart."""

    workers: Workers = "auto"
    """Native threads that carry the traffic. `auto` is one for each CPU that this process may use."""

    max_connections: Capacity = "auto"
    """Sessions of all listeners together; each takes two open files. `auto` is what the hard limit on open files
    allows, 1048576 at most. A number above that limit is a startup error. Further clients wait in the backlog. At most
    a quarter of the sessions may be clients whose PROXY header or server name has not arrived; beyond that the client
    that has been silent longest is turned away (`silent`), so that silent peers cannot keep others out."""

    max_pipes: Pipes = "auto"
    """Pipes of each worker, through which bulk data is spliced inside the kernel; 0 copies everything. `auto` fits the
    limits on open files and on pipe memory."""

    user: User | None = None
    """The user to become, with its groups, once the addresses are bound. Only for a process started as root. That user
    then opens log files (after a rotation too, so it needs write access to their directory) and reads the configuration
    again. The only right of root that stays is binding ports below 1024, for reloads and upgrades; `exec` checks do not
    have it, and programs cannot gain any (no_new_privs)."""

    drain_timeout: PatienceOrOff = 600.0
    """How long a stopping process waits for turns in flight before it closes them; `0s` does not wait, `off` waits
    without limit. Idle sessions are closed within a second."""
