"""The sockets of one bind, an address that a listener or the admin server is bound to, with the file of a unix one."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from l4lb.config import Address
from l4lb.sockets.listen import FileIdentity, file_identity, file_path, unlink_if_same

BindKey = tuple[str, Address]
"""Names a bind: "" and a fixed address, or the listener and an address with port 0, which is another for each."""

Rows = Sequence[Sequence[int]]
"""Descriptors of one bind: each row has one for every worker. More than one row if more sockets were taken over."""


def bind_key(listener: str, address: Address) -> BindKey:
    """The name of a bind. Listeners may hand a fixed address on to each other; port 0 stays with its listener."""
    return (listener if address.port == 0 else "", address)


@dataclass(slots=True)
class Bind:
    """The sockets of one address: one for each worker, or a single unix socket that all workers share.

    Sockets that were taken over may be fewer or more than workers: workers share them, or have several. `from_unit`
    says that they are duplicates of a socket unit's sockets, and that the file is the unit's. `identity` is set while
    the file of a unix socket is to be removed with the bind.
    """

    address: Address
    sockets: list[socket.socket]
    identity: FileIdentity | None = None
    from_unit: bool = False

    def fds(self, workers: int) -> Rows:
        fds = [sock.fileno() for sock in self.sockets]
        rows = [fds[start : start + workers] for start in range(0, len(fds), workers)]
        return [[row[worker % len(row)] for worker in range(workers)] for row in rows]

    @property
    def is_lost(self) -> bool:
        """Whether no client can reach the unix socket, because its file was removed or replaced."""
        if file_path(self.address) is None:
            return False
        found = file_identity(self.address)
        return found is None or self.identity not in (None, found)

    @property
    def shown(self) -> str:
        """The address with the port that the kernel chose for port 0."""
        if self.address.is_unix:
            return str(self.address)
        host, port = self.sockets[0].getsockname()[:2]
        return str(Address(host=host if self.address.interface is None else self.address.host, port=port))

    def own_file(self) -> None:
        """Have the file of a unix socket removed with the bind."""
        if not self.from_unit:
            self.identity = self.identity or file_identity(self.address)

    def disown_file(self) -> None:
        """Leave the file alone: another process uses it."""
        self.identity = None

    def give_to(self, user: int, group: int) -> None:
        """Make this user the owner of the sockets, and of the file of a unix socket."""
        for sock in self.sockets:
            os.fchown(sock.fileno(), user, group)
        if self.address.path is not None and self.identity is not None:
            os.chown(self.address.path, user, group, follow_symlinks=False)

    def close(self) -> None:
        """Close the sockets, and remove the file if it is this bind's. Idempotent."""
        if self.identity is not None:
            unlink_if_same(self.address, self.identity)
            self.identity = None
        for sock in self.sockets:
            sock.close()
