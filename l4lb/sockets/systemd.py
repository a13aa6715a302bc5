"""Reports the state of the process to systemd, and gives it sockets to store: sd_notify(3), in the few lines it takes.

Without NOTIFY_SOCKET in the environment every call does nothing. Messages arrive in order: once systemd's queue is
full, a thread sends the messages that wait, and later ones wait behind them.
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
"""Seconds for systemd to accept descriptors. The caller waits, because it closes them next."""

SEND_TIMEOUT = 1.0
"""Seconds until a waiting message is tried again from the start: systemd may have been restarted."""

CLOSE_TIMEOUT = 5.0
"""Seconds for messages that still wait when this process ends."""

WAITING_MAX = 64
"""Messages that wait at most. Beyond it the oldest is dropped: each describes the present, so the newest count."""

STOP_EXTENSION = 10.0
"""Seconds that a stopping process may go without a message."""


class Notifier:
    """Sends to `address`, the socket that the service manager named at the start. `store_room` is the number of
    descriptors that it keeps. Owns a thread while messages wait. Call the methods from one thread."""

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
        """Send `NAME=value` lines, without waiting. Ignores errors, such as a manager that has gone."""
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
        """Wait a few seconds until systemd has the messages that still wait."""
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
                # Newer messages may have pushed it out.
                if sent and self._waiting[0] is message:
                    self._waiting.popleft()

    def _try(self, message: bytes, *, timeout: float) -> bool:
        """Whether the message needs no other try: it is sent, or the manager is gone. False while the queue is full."""
        try:
            self._send(message, (), timeout=timeout)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError:
            pass
        return True

    def store(self, name: str, fds: Sequence[int]) -> bool:
        """Store duplicates of these descriptors under this name until they are removed, or the service is stopped.
        Whether the message was sent: systemd does not answer, not even if its store is full."""
        return self._send_now({"FDSTORE": 1, "FDNAME": name, "FDPOLL": 0}, fds)

    def remove_stored(self, name: str) -> bool:
        """Close the descriptors stored under this name. Whether the message was sent."""
        return self._send_now({"FDSTOREREMOVE": 1, "FDNAME": name}, ())

    def _send_now(self, fields: dict[str, str | int], fds: Sequence[int]) -> bool:
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
            # Only a connected socket can wait until its peer has room.
            sock.connect(self.address)
            sock.sendmsg([message], rights)

    def ready(self, status: str) -> None:
        self.notify(READY=1, STATUS=status)

    def reloading(self) -> None:
        self.notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self, status: str) -> None:
        """Each call extends the time that the manager gives the stop (TimeoutStopSec)."""
        self.notify(STOPPING=1, STATUS=status, EXTEND_TIMEOUT_USEC=int(STOP_EXTENSION * 1e6))

    def main_pid(self, pid: int) -> None:
        """Another process is the main one from now on. The manager accepts messages from that one only, so this one
        sends no more."""
        self.notify(MAINPID=pid)
        self._muted = True


def _encoded(fields: Mapping[str, str | int]) -> bytes:
    return "\n".join(f"{name}={value}" for name, value in fields.items()).encode()


def _store_room(environment: dict[str, str]) -> int:
    """How many descriptors systemd stores for the service: systemd 254 sets FDSTORE, for older ones the unit has to."""
    try:
        return max(0, int(environment["FDSTORE"]))
    except (KeyError, ValueError):
        return 0


def _watchdog_interval(environment: dict[str, str]) -> float | None:
    """Seconds between watchdog messages, a third of what systemd allows, so that one may get lost. None if the unit has
    no watchdog."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(environment["WATCHDOG_USEC"]) / 3e6
    except (KeyError, ValueError):
        return None
