"""Keeps listening sockets in the service manager's store: if this process dies, its replacement gets them back, and no
client is refused in between. See FileDescriptorStoreMax= in systemd.service(5), and sd_pid_notify_with_fds(3).

Stored sockets are named after their bind, so a replacement with another configuration finds them too. Sessions are not
stored: they end with their process.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, unquote

from l4lb.config import Address
from l4lb.sockets.bind import BindKey
from l4lb.sockets.systemd import Notifier

NAME_MAX = 255
"""Characters; printable ASCII, and no colon."""

PREFIX = "l4lb,"

CHUNK = 253
"""Descriptors that fit in one message (SCM_MAX_FD of the kernel)."""

_log = logging.getLogger(__name__)


def name_of(key: BindKey) -> str:
    """The name of a bind's sockets in the store."""
    listener, address = key
    return f"{PREFIX}{quote(listener)},{quote(str(address))}"


def key_of(name: str) -> BindKey | None:
    """The bind that `name_of` gives this name; None for any other name."""
    listener, comma, address = name.removeprefix(PREFIX).partition(",")
    if not name.startswith(PREFIX) or not comma:
        return None
    try:
        return unquote(listener), Address.parse(unquote(address))
    except ValueError:
        return None


class Store:
    """What the service manager keeps for a successor: the sockets of every bind given to `keep`.

    `room` is the number of sockets that fit, 0 without a store. `stored` are the binds that a predecessor may have left
    in it: they stay until the first `keep`, so a start that fails loses nothing. Every method returns within about a
    second, even if the service manager hangs.
    """

    def __init__(self, notifier: Notifier, room: int, stored: Iterable[BindKey] = ()) -> None:
        self._notifier = notifier
        self._room = room
        self._stored = {name_of(key): 0 for key in stored} if room else {}
        self._in_use = False
        self._released = room == 0
        self._complained = False

    def stays(self, key: BindKey) -> bool:
        """Whether this bind's sockets stay open for a successor when this process closes them."""
        return name_of(key) in self._stored and (self._released or not self._in_use)

    def keep(self, binds: Mapping[BindKey, Sequence[socket.socket]]) -> None:
        """Keep the sockets of exactly these binds. Those in the store already are not sent again."""
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
        """Keep this bind no longer. Call it before closing the sockets, which otherwise stay open for clients."""
        name = name_of(key)
        if name in self._stored and not self.stays(key):
            self._remove(name)

    def release(self) -> None:
        """Change nothing from now on: the stored sockets are for a successor. Idempotent."""
        self._released = True

    def _add(self, name: str, sockets: Sequence[socket.socket]) -> None:
        others = sum(count for stored, count in self._stored.items() if stored != name)
        if len(name) > NAME_MAX:
            self._complain(f"the name {_shown(name)} is too long for the service manager's store")
            return
        if others + len(sockets) > self._room:
            self._complain(
                f"the service manager's store has room for {self._room} sockets, but not for those of {_shown(name)}; "
                "raise FileDescriptorStoreMax= and FDSTORE= in the unit"
            )
            return
        fds = [sock.fileno() for sock in sockets]
        for start in range(0, len(fds), CHUNK):
            if not self._notifier.store(name, fds[start : start + CHUNK]):
                self._complain(f"the service manager did not accept the sockets of {_shown(name)}")
                return
        self._stored[name] = len(sockets)

    def _remove(self, name: str) -> None:
        if self._notifier.remove_stored(name):
            del self._stored[name]
        else:
            self._complain(f"the service manager does not know that {_shown(name)} is closed")

    def _complain(self, what: str) -> None:
        """Log one warning only: l4lb works without the store, and a full store stays full."""
        if not self._complained:
            self._complained = True
            _log.warning("%s; if this process dies, clients may be refused until it is replaced", what)


def no_store() -> Store:
    """A store for a process without a service manager: it keeps nothing."""
    return Store(Notifier({}), room=0)


def _shown(name: str) -> str:
    key = key_of(name)
    return name if key is None else str(key[1])
