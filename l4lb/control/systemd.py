"""Telling systemd how it goes, and giving it sockets to keep: sd_notify(3), in the few lines it takes.

Without NOTIFY_SOCKET in the environment every call does nothing.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import time
from collections.abc import Mapping, Sequence

STORE_TIMEOUT = 1.0
"""Seconds in which systemd takes a message that must not get lost."""

STOP_EXTENSION = 10.0
"""Seconds that a process which is stopping may be silent for."""


class Notifier:
    """Speaks to the socket that the service manager named at start. `store_room` is how many descriptors it keeps."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        environment = dict(os.environ) if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval = _watchdog_interval(environment)
        self.store_room = _store_room(environment) if address else 0

    def notify(self, **fields: str | int) -> None:
        """Send `NAME=value` lines. A manager that does not listen is no reason to fail."""
        if not self._address:
            return
        with contextlib.suppress(OSError):
            self._send(fields, (), timeout=0.0)

    def store(self, name: str, fds: Sequence[int]) -> bool:
        """Have duplicates of these kept under this name until they are removed, or the service is stopped. Whether it
        was said: a store that is full says nothing."""
        return self._say({"FDSTORE": 1, "FDNAME": name, "FDPOLL": 0}, fds)

    def remove_stored(self, name: str) -> bool:
        """Have what is kept under this name closed. Whether it was said."""
        return self._say({"FDSTOREREMOVE": 1, "FDNAME": name}, ())

    def _say(self, fields: dict[str, str | int], fds: Sequence[int]) -> bool:
        try:
            self._send(fields, fds, timeout=STORE_TIMEOUT)
        except OSError:
            return False
        return True

    def _send(self, fields: Mapping[str, str | int], fds: Sequence[int], *, timeout: float) -> None:
        message = "\n".join(f"{name}={value}" for name, value in fields.items()).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.sendmsg([message], rights, 0, self._address)

    def ready(self, status: str) -> None:
        self.notify(READY=1, STATUS=status)

    def reloading(self) -> None:
        self.notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self, status: str) -> None:
        """Said again and again, it keeps the manager from running out of patience (TimeoutStopSec)."""
        self.notify(STOPPING=1, STATUS=status, EXTEND_TIMEOUT_USEC=int(STOP_EXTENSION * 1e6))

    def main_pid(self, pid: int) -> None:
        """Another process is the main one from now on: nobody listens to this one any more, so it says nothing more."""
        self.notify(MAINPID=pid)
        self._address = ""

    def alive(self) -> None:
        self.notify(WATCHDOG=1)


def _store_room(environment: dict[str, str]) -> int:
    """How many descriptors it keeps: systemd 254 and later say so, for older ones the unit does."""
    try:
        return max(0, int(environment["FDSTORE"]))
    except (KeyError, ValueError):
        return 0


def _watchdog_interval(environment: dict[str, str]) -> float | None:
    """Seconds between signs of life, a third of what systemd allows: one may fail. None when it asks for none."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(environment["WATCHDOG_USEC"]) / 3e6
    except (KeyError, ValueError):
        return None
