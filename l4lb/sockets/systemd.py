"""Telling systemd how it goes, and giving it sockets to keep: sd_notify(3), in the few lines it takes.

Without NOTIFY_SOCKET in the environment every call does nothing. Messages arrive, in order, as soon as systemd reads
them: the first one that its queue has no room for is sent by a thread, and those that follow wait behind it.
"""

from __future__ import annotations

import array
import collections
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence

STORE_TIMEOUT = 1.0
"""Seconds in which systemd takes descriptors. The caller waits, as it goes on to close them."""

SEND_TIMEOUT = 1.0
"""Seconds until a message that waits for room is tried anew: systemd may have been started again."""

CLOSE_TIMEOUT = 5.0
"""Seconds for what still waits when this process ends."""

WAITING_MAX = 64
"""Messages that wait; then the oldest is lost. Each says how it is now, so the newest count."""

STOP_EXTENSION = 10.0
"""Seconds that a process which is stopping may be silent for."""


class Notifier:
    """Speaks to the socket that the service manager named at start, `address`. `store_room` is how many descriptors it
    keeps. Owns a thread while messages wait; the methods are for one thread."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        environment = dict(os.environ) if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        self.address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval = _watchdog_interval(environment)
        self.store_room = _store_room(environment) if address else 0
        self._muted = not address
        self._waiting: collections.deque[bytes] = collections.deque(maxlen=WAITING_MAX)
        self._lock = threading.Lock()
        self._sender: threading.Thread | None = None

    def notify(self, **fields: str | int) -> None:
        """Send `NAME=value` lines, without waiting. A manager that does not listen is no reason to fail."""
        if self._muted:
            return
        message = _encoded(fields)
        with self._lock:
            if self._waiting or not self._try(message, timeout=0.0):
                self._waiting.append(message)
                if self._sender is None:
                    self._sender = threading.Thread(target=self._send_waiting, name="l4lb-notify", daemon=True)
                    self._sender.start()

    def close(self) -> None:
        """Wait a few seconds for messages that have not been taken yet."""
        with self._lock:
            sender = self._sender
        if sender is not None:
            sender.join(CLOSE_TIMEOUT)

    def _send_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._sender = None
                    return
                message = self._waiting[0]
            sent = self._try(message, timeout=SEND_TIMEOUT)
            with self._lock:
                # It may be gone, pushed out by newer ones.
                if sent and self._waiting[0] is message:
                    self._waiting.popleft()

    def _try(self, message: bytes, *, timeout: float) -> bool:
        """Whether the message is out of the way: taken, or no manager is there. False while the manager is busy."""
        try:
            self._send(message, (), timeout=timeout)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError:
            pass
        return True

    def store(self, name: str, fds: Sequence[int]) -> bool:
        """Have duplicates of these kept under this name until they are removed, or the service is stopped. Whether it
        was said: a store that is full says nothing."""
        return self._say({"FDSTORE": 1, "FDNAME": name, "FDPOLL": 0}, fds)

    def remove_stored(self, name: str) -> bool:
        """Have what is kept under this name closed. Whether it was said."""
        return self._say({"FDSTOREREMOVE": 1, "FDNAME": name}, ())

    def _say(self, fields: dict[str, str | int], fds: Sequence[int]) -> bool:
        if self._muted:
            return False
        try:
            self._send(_encoded(fields), fds, timeout=STORE_TIMEOUT)
        except OSError:
            return False
        return True

    def _send(self, message: bytes, fds: Sequence[int], *, timeout: float) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            # Only a connected socket can be waited on until its peer has room.
            sock.connect(self.address)
            sock.sendmsg([message], rights)

    def ready(self, status: str) -> None:
        self.notify(READY=1, STATUS=status)

    def reloading(self) -> None:
        self.notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self, status: str) -> None:
        """Said again and again, it keeps the manager from running out of patience (TimeoutStopSec)."""
        self.notify(STOPPING=1, STATUS=status, EXTEND_TIMEOUT_USEC=int(STOP_EXTENSION * 1e6))

    def main_pid(self, pid: int) -> None:
        """Another process is the main one from now on. The manager listens to that one only, so this one says nothing
        more."""
        self.notify(MAINPID=pid)
        self._muted = True


def _encoded(fields: Mapping[str, str | int]) -> bytes:
    return "\n".join(f"{name}={value}" for name, value in fields.items()).encode()


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
