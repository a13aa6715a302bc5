"""The listening sockets of the admin server: opened or taken over together, and seen off with the unix one's file."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from l4lb.config.address import Address
from l4lb.sockets.admin import file_identity, listen_tcp, listen_unix, unlink_if_same
from l4lb.sockets.inherited import Inherited

UNIX = "admin socket"
TCP = "admin address"
"""What the two sockets are called; no listener can have a name with a space."""


class Listening:
    """The sockets by name: `path` for the unix one, `listen` for the TCP one, `inherited` where they are the same."""

    def __init__(self, path: str | None, listen: Address | None, inherited: Inherited) -> None:
        self._path = path
        self._listen = listen
        self._inherited = inherited
        self._identity: tuple[int, int] | None = None
        self._borrowed: set[str] = set()
        self.sockets: dict[str, socket.socket] = {}

    @property
    def names(self) -> dict[tuple[str, Address], socket.socket]:
        """The open ones, as they are named to a successor, which is lent what this process was lent."""
        addresses = {UNIX: None if self._path is None else Address(path=os.path.abspath(self._path)), TCP: self._listen}
        return {
            (name, address): sock
            for name, sock in self.sockets.items()
            if name not in self._borrowed and (address := addresses[name]) is not None
        }

    def open(self) -> None:
        """Open or take over both. StartError when that cannot be done."""
        if self._path is not None:
            address = Address(path=os.path.abspath(self._path))
            known = self._take(UNIX, address)
            self.sockets[UNIX] = known or listen_unix(self._path)
            if known is None or not self._inherited.shared:
                self._identify()
        if self._listen is not None:
            self.sockets[TCP] = self._take(TCP, self._listen) or listen_tcp(self._listen)

    def _take(self, name: str, address: Address) -> socket.socket | None:
        found = self._inherited.take(name, address)
        if not found:
            found = self._inherited.borrow(address)
            self._borrowed |= {name} if found else set()
        for other in found[1:]:
            other.close()
        return found[0] if found else None

    @property
    def is_lost(self) -> bool:
        """Whether no client reaches the unix socket: another file, or none, is where its own was."""
        if self._path is None or UNIX not in self.sockets:
            return False
        try:
            return self._identity not in (None, file_identity(self._path))
        except OSError:
            return True

    def reopen(self) -> None:
        """Put another unix socket in the place of one that is lost. StartError when that cannot be done."""
        assert self._path is not None
        opened = listen_unix(self._path)
        self.sockets.pop(UNIX).close()
        self.sockets[UNIX] = opened
        self._borrowed.discard(UNIX)
        self._identify()

    def _identify(self) -> None:
        # The file of a borrowed socket belongs to the socket unit.
        if self._path is not None and UNIX not in self._borrowed and os.path.exists(self._path):
            self._identity = file_identity(self._path)

    def own(self) -> None:
        """What was taken over is nobody else's any more: the file goes with it."""
        if UNIX in self.sockets:
            self._identify()

    def disown(self, keys: Iterable[tuple[str, Address]]) -> None:
        """Another process has these too: whoever closes them here leaves the file alone."""
        if any(name == UNIX for name, _ in keys):
            self._identity = None

    def close(self) -> None:
        """Close both, and remove the file. Idempotent."""
        if self._path is not None and self._identity is not None:
            # Before the socket closes: until then no other file can have its identity.
            unlink_if_same(self._path, self._identity)
            self._identity = None
        for sock in self.sockets.values():
            sock.close()
        self.sockets.clear()
