"""Where things run: CPUs to pin to, and ports that are free at the moment."""

from __future__ import annotations

import os
import socket


def default_cpus() -> tuple[int, int]:
    """The CPUs of the balancer and of the load: the first two that are available."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[1] if len(available) > 1 else available[0]


def free_port() -> int:
    """Another program may still take the port; then binding to it fails with a clear error."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
