"""Listening sockets that were open before this process started: a predecessor's, or the service manager's.

Sockets of a predecessor and of the service manager's store come with the name of their bind. Sockets of a socket unit
are found by the address that they are bound to. A socket that is closed resets the clients in its queue, so a warning
names each inherited socket that no bind takes.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from l4lb.config import Address
from l4lb.net.interfaces import host_text, socket_address
from l4lb.sockets.bind import Bind, BindKey
from l4lb.sockets.listen import file_identity, file_path
from l4lb.sockets.options import accepts_ipv4, set_nodelay

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Inherited:
    """Owns the sockets until a bind takes them over.

    `named` were left behind for this process. While they are `shared`, their owner still serves clients on them, and
    their files are the owner's. Those `from_unit` belong to a socket unit, which keeps them open while it is active:
    binds get duplicates, so that a listener may be removed and added again.
    """

    shared: bool = False
    named: dict[BindKey, list[socket.socket]] = field(default_factory=dict)
    from_unit: list[socket.socket] = field(default_factory=list)
    _used: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.from_unit) + sum(map(len, self.named.values()))

    def addresses(self) -> Iterator[Address]:
        """The addresses of all sockets that are still here."""
        for sock in self._all():
            yield _address(sock)

    def take_over(self, key: BindKey, configured: Container[Address] = ()) -> Bind | None:
        """A bind with the inherited sockets for `key`, as `bind_key` names it; None if there are none.

        `configured` are all addresses that listeners have: a socket of [::] that accepts IPv4, as `ListenStream=8000`
        makes it, serves 0.0.0.0 as well, unless [::] is configured too.
        """
        _, address = key
        if sockets := self._take(key):
            return Bind(address, sockets, None if self.shared else file_identity(address))
        sockets = self._duplicates(address, configured)
        return Bind(address, sockets, from_unit=True) if sockets else None

    def close_unclaimed(self) -> None:
        """All binds are open: close the sockets that were left behind and that no bind took over, with a warning. Those
        of a socket unit stay open for later, also with a warning."""
        for sockets in self.named.values():
            for sock in sockets:
                _log.warning("no listener uses the inherited socket of %s; closing it", shown(sock))
            _close(sockets)
        self.named.clear()
        for sock in self.from_unit:
            if sock.fileno() not in self._used:
                _log.warning(
                    "no listener uses %s, where a socket unit listens, so clients wait there in vain; "
                    "add a listener, or remove the address from the unit",
                    shown(sock),
                )

    def close(self) -> None:
        """Close all sockets that are still here. Idempotent."""
        _close(self._all())
        self.named.clear()
        self.from_unit.clear()

    def _take(self, key: BindKey) -> list[socket.socket]:
        _, address = key
        found = self.named.pop(key, [])
        if found and not _is_reachable(address):
            _log.warning(
                "the file of the inherited socket %s is gone, so no client reaches it; opening another", address
            )
            _close(found)
            return []
        return [_prepared(sock) for sock in found]

    def _duplicates(self, address: Address, configured: Container[Address]) -> list[socket.socket]:
        bound = _with_interface_number(address)
        found = [sock for sock in self.from_unit if _address(sock) == bound]
        both = Address(host="::", port=address.port)
        if not found and address.host == "0.0.0.0" and both not in configured:
            found = [sock for sock in self.from_unit if _address(sock) == both and accepts_ipv4(sock)]
        if not _is_reachable(address):
            return []
        self._used.update(sock.fileno() for sock in found)
        return [_prepared(sock.dup()) for sock in found]

    def _all(self) -> list[socket.socket]:
        return [sock for sockets in self.named.values() for sock in sockets] + self.from_unit


def shown(sock: socket.socket) -> str:
    """The address that a socket is bound to, as the configuration spells it."""
    return str(_address(sock))


def _prepared(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        set_nodelay(sock)
    return sock


def _is_reachable(address: Address) -> bool:
    """False if the file of a unix socket is gone: the socket is still open, but no client can connect to it."""
    return file_path(address) is None or file_identity(address) is not None


def _with_interface_number(address: Address) -> Address:
    """The address with the number of its interface in place of the name, as getsockname() has it."""
    if address.interface is None or address.host is None or address.port is None:
        return address
    with contextlib.suppress(OSError):
        return Address(host=host_text(socket_address(address.host, address.port)), port=address.port)
    return address


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.close()


def _address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Address(host=host_text(name), port=name[1])
    # An abstract name is bytes that begin with a NUL.
    return Address(path="@" + name[1:].decode(errors="replace") if isinstance(name, bytes) else name)
