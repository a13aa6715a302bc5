"""How much this process may hold: descriptors, sessions, pipes, workers."""

from __future__ import annotations

import os
import resource

from l4lb.config import Config
from l4lb.engine.api import EngineOptions
from l4lb.errors import StartError

CONTROL_RESERVE = 192
"""Descriptors kept for the control plane, besides those of checks: admin clients, logs, the configuration file."""

CHECKS_MIN, CHECKS_MAX = 64, 1024
DESCRIPTORS_PER_CHECK = 64
"""Checks at once: a share of what may be open. Backends that hang hold one each for as long as `health.timeout`."""

PIPES_MAX = 256
"""Pipes of each worker. Only a transfer that is bulk right now holds one."""

PIPES_UNPRIVILEGED = 64
"""Of all workers: an unprivileged user gets 16,384 pages for pipes (fs.pipe-user-pages-soft), 64 of PIPE_BYTES."""

PIPE_BYTES = 1 << 20

SESSIONS_MAX = 1 << 20


def raise_descriptor_limit() -> int:
    """Lift the soft limit on open files to the hard one; the limit now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_descriptors() -> int:
    """How many files this process may still open. Its limit stays as it is."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft - len(os.listdir("/proc/self/fd"))


def checks_at_once(descriptors: int) -> int:
    """How many health checks may be under way in a process with so many open files."""
    return min(CHECKS_MAX, max(CHECKS_MIN, descriptors // DESCRIPTORS_PER_CHECK))


def engine_options(config: Config, descriptors: int, *, privileged: bool) -> EngineOptions:
    """Fit the engine into `descriptors` open files. StartError when the configuration asks for more than fits."""
    process = config.process
    workers = len(os.sched_getaffinity(0)) if process.workers == "auto" else process.workers
    listening = workers * sum(len(listener.bind) for listener in config.listeners.values())
    spare = descriptors - CONTROL_RESERVE - checks_at_once(descriptors) - listening - 4 * workers
    if spare < 4:
        raise StartError(
            f"{descriptors} open files are too few for {listening} listening sockets and the control plane; "
            "raise the limit (LimitNOFILE= in the unit, or ulimit -n)"
        )
    pipes = _pipes(workers, privileged=privileged) if process.max_pipes == "auto" else process.max_pipes
    pipes = min(pipes, spare // 8 // workers)
    fitting = min((spare - 2 * pipes * workers) // 2, SESSIONS_MAX)
    wanted = fitting if process.max_connections == "auto" else process.max_connections
    if wanted > fitting:
        raise StartError(
            f"process.max_connections: {wanted} needs about {2 * wanted + descriptors - spare} open files, and the "
            f"limit is {descriptors}, which fits {fitting}; raise the limit (LimitNOFILE= in the unit, or ulimit -n)"
        )
    return EngineOptions(workers=workers, max_connections=wanted, pipes_per_worker=pipes, pipe_bytes=PIPE_BYTES)


def _pipes(workers: int, *, privileged: bool) -> int:
    return PIPES_MAX if privileged else max(1, PIPES_UNPRIVILEGED // workers)
