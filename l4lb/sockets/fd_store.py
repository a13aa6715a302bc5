"""Listening sockets left with the service manager: a process that dies is replaced by one that has them again, and no
client was refused in between. See FileDescriptorStoreMax= in systemd.service(5), and sd_pid_notify_with_fds(3).

What is stored is named after its bind, so it is found again whatever else has changed. Sockets only: sessions end with
the process that has them.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, unquote

from l4lb.config import Address
from l4lb.sockets.inherited import BindKey
from l4lb.sockets.systemd import Notifier

NAME_MAX = 255
"""Characters; printable ASCII, and no colon."""

PREFIX = "l4lb,"

CHUNK = 253
"""Descriptors that fit in one message (SCM_MAX_FD of the kernel)."""

_log = logging.getLogger(__name__)


def name_of(key: BindKey) -> str:
    """What the sockets of a bind are called in the store."""
    listener, address = key
    return f"{PREFIX}{quote(listener)},{quote(str(address))}"


def key_of(name: str) -> BindKey | None:
    """The bind whose sockets are called so; None for a name that is not of this store."""
    listener, comma, address = name.removeprefix(PREFIX).partition(",")
    if not name.startswith(PREFIX) or not comma:
        return None
    try:
        return unquote(listener), Address.parse(unquote(address))
    except ValueError:
        return None


class Store:
    """What the service manager keeps for a successor: the sockets of every bind given to `keep`.

    `room` is how many it takes, 0 where there is no store. `stored` are the binds that a predecessor may have left in
    it: they stay until the first `keep`, so a start that fails loses nothing. All methods return within a second or so,
    whatever the service manager does.
    """

    def __init__(self, notifier: Notifier, room: int, stored: Iterable[BindKey] = ()) -> None:
        self._notifier = notifier
        self._room = room
        self._stored = {name_of(key): 0 for key in stored} if room else {}
        self._in_use = False
        self._released = room == 0
        self._complained = False

    def stays(self, key: BindKey) -> bool:
        """Whether the sockets of this bind stay open for a successor when they are closed here."""
        return name_of(key) in self._stored and (self._released or not self._in_use)

    def keep(self, binds: Mapping[BindKey, Sequence[socket.socket]]) -> None:
        """Keep the sockets of exactly these binds. What is there already is not stored twice."""
        if self._released:
            return
        self._in_use = True
        wanted = {name_of(key): sockets for key, sockets in binds.items()}
        for name in self._stored.keys() - wanted.keys():
            self._remove(name)
        for name, sockets in wanted.items():
            if self._stored.get(name, 0) != len(sockets):
                self._add(name, sockets)

    def forget(self, key: BindKey) -> None:
        """Keep this bind no longer: it is about to be closed, and has to close for clients too."""
        name = name_of(key)
        if name in self._stored and not self.stays(key):
            self._remove(name)

    def release(self) -> None:
        """Change nothing from now on: what is there is for a successor. Idempotent."""
        self._released = True

    def _add(self, name: str, sockets: Sequence[socket.socket]) -> None:
        others = sum(count for stored, count in self._stored.items() if stored != name)
        if len(name) > NAME_MAX:
            self._complain(f"the name {_shown(name)} is too long for the store of the service manager")
            return
        if others + len(sockets) > self._room:
            self._complain(
                f"the store of the service manager has room for {self._room} sockets, and not for those of "
                f"{_shown(name)}; raise FileDescriptorStoreMax= and FDSTORE= in the unit"
            )
            return
        fds = [sock.fileno() for sock in sockets]
        for start in range(0, len(fds), CHUNK):
            if not self._notifier.store(name, fds[start : start + CHUNK]):
                self._complain(f"the service manager did not take the sockets of {_shown(name)}")
                return
        self._stored[name] = len(sockets)

    def _remove(self, name: str) -> None:
        if self._notifier.remove_stored(name):
            del self._stored[name]
        else:
            self._complain(f"the service manager was not told that {_shown(name)} is closed")

    def _complain(self, what: str) -> None:
        """Once: the balancer works without it, and a full store stays full."""
        if not self._complained:
            self._complained = True
            _log.warning("%s; clients that come while a process that died is replaced may be refused", what)


def no_store() -> Store:
    """For a process that has no service manager."""
    return Store(Notifier({}), room=0)


def _shown(name: str) -> str:
    key = key_of(name)
    return name if key is None else str(key[1])
