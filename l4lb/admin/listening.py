"""The listening sockets of the admin server: a unix socket for everything, a TCP address for reading only."""

from __future__ import annotations

import os
import socket
from collections.abc import Container

from l4lb.config import Address
from l4lb.sockets.bind import Bind, BindKey
from l4lb.sockets.inherited import Inherited
from l4lb.sockets.listen import cannot_bind, file_identity, open_tcp, open_unix

UNIX = "admin socket"
TCP = "admin address"
"""Names of the two binds. A listener's name cannot contain a space."""

UNIX_MODE = 0o660
BACKLOG = 128


class Listening:
    """Owns the binds: `path` for the unix one, `listen` for the TCP one, or the `inherited` sockets of the same names.

    Whether the unix socket's file is removed with it follows the rules of `Bind`.
    """

    def __init__(self, path: str | None, listen: Address | None, inherited: Inherited) -> None:
        addresses = {UNIX: None if path is None else Address(path=os.path.abspath(path)), TCP: listen}
        self._addresses = {name: address for name, address in addresses.items() if address is not None}
        self._inherited = inherited
        self._binds: dict[str, Bind] = {}

    @property
    def sockets(self) -> dict[str, socket.socket]:
        """The open socket of each name."""
        return {name: bind.sockets[0] for name, bind in self._binds.items()}

    @property
    def handed_over(self) -> dict[BindKey, socket.socket]:
        """The sockets for a successor, which gets those of a socket unit in another way."""
        return {(name, bind.address): bind.sockets[0] for name, bind in self._binds.items() if not bind.from_unit}

    def open(self) -> None:
        """Open or take over both. StartError if one cannot be opened; `close` closes the other."""
        for name, address in self._addresses.items():
            self._binds[name] = self._take_over(name, address) or _opened(name, address)

    def _take_over(self, name: str, address: Address) -> Bind | None:
        bind = self._inherited.take_over((name, address))
        if bind is not None:
            for surplus in bind.sockets[1:]:
                surplus.close()
            del bind.sockets[1:]
        return bind

    @property
    def is_lost(self) -> bool:
        """Whether no client can reach the unix socket, because its file was removed or replaced."""
        return UNIX in self._binds and self._binds[UNIX].is_lost

    def reopen(self) -> None:
        """Replace a unix socket that is lost. StartError if that is not possible; it is still open then."""
        opened = _opened(UNIX, self._addresses[UNIX])
        self._binds[UNIX].close()
        self._binds[UNIX] = opened

    def take_ownership(self) -> None:
        """The predecessor has let go: the unix socket's file is removed with it."""
        if UNIX in self._binds:
            self._binds[UNIX].own_file()

    def hand_over(self, keys: Container[BindKey]) -> None:
        """A successor has these sockets: leave the unix socket's file alone."""
        bind = self._binds.get(UNIX)
        if bind is not None and (UNIX, bind.address) in keys:
            bind.disown_file()

    def close(self) -> None:
        """Close both, and remove the unix socket's file. Idempotent."""
        for bind in self._binds.values():
            bind.close()
        self._binds.clear()


def _opened(name: str, address: Address) -> Bind:
    try:
        if name == UNIX:
            return Bind(address, [open_unix(address, UNIX_MODE, BACKLOG)], file_identity(address))
        return Bind(address, open_tcp(address, BACKLOG))
    except OSError as error:
        raise cannot_bind("admin.socket" if name == UNIX else "admin.listen", address, error) from error
