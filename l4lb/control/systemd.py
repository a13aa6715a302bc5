"""Telling systemd how it goes: sd_notify(3), in the few lines it takes.

Without NOTIFY_SOCKET in the environment every call does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

STOP_EXTENSION = 10.0
"""Seconds that a process which is stopping may be silent for."""


class Notifier:
    """Speaks to the socket that the service manager named at start."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        environment = dict(os.environ) if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval = _watchdog_interval(environment)

    def notify(self, **fields: str | int) -> None:
        """Send `NAME=value` lines. A manager that does not listen is no reason to fail."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in fields.items()).encode()
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        ):
            sock.setblocking(False)
            sock.sendto(message, self._address)

    def ready(self, status: str) -> None:
        self.notify(READY=1, STATUS=status)

    def reloading(self) -> None:
        self.notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self, status: str) -> None:
        """Said again and again, it keeps the manager from running out of patience (TimeoutStopSec)."""
        self.notify(STOPPING=1, STATUS=status, EXTEND_TIMEOUT_USEC=int(STOP_EXTENSION * 1e6))

    def alive(self) -> None:
        self.notify(WATCHDOG=1)


def _watchdog_interval(environment: dict[str, str]) -> float | None:
    """Seconds between signs of life, half of what systemd allows; None when it does not ask for any."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(environment["WATCHDOG_USEC"]) / 2e6
    except (KeyError, ValueError):
        return None
