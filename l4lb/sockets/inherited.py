"""Listening sockets that were open before this process was: a predecessor's, or the service manager's.

They are known by the name of a bind where whoever gave them knows it, and by the address they are bound to where not.
What nobody takes is closed with the rest: that resets the clients in its queue, so it is said.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from l4lb.config import Address
from l4lb.net.interfaces import host_text, socket_address

BindKey = tuple[str, Address]
"""Names a bind. A fixed address is the same whichever listener has it; port 0 is another port for each listener."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Inherited:
    """Owns the sockets until they are taken.

    `named` were left behind for this process. While they are `shared` their owner still serves on them, and the files
    that belong to them are its own. `unnamed` are lent by a socket unit that has them open for as long as it is active:
    listeners use duplicates of them, so that a listener may go and come back.
    """

    shared: bool = False
    named: dict[BindKey, list[socket.socket]] = field(default_factory=dict)
    unnamed: list[socket.socket] = field(default_factory=list)
    _lent: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.unnamed) + sum(map(len, self.named.values()))

    def addresses(self) -> Iterator[Address]:
        """Where the sockets that are still here are bound."""
        for sock in self._all():
            yield _address(sock)

    def take(self, listener: str, address: Address) -> list[socket.socket]:
        """The sockets left behind for a bind, as `sockets.bind_key` names it, ready for use; none if there are none."""
        found = self.named.pop((listener, address), [])
        if found and not _reachable(address):
            _log.warning("the file of the socket %s is gone, so nobody reaches it; it is opened anew", address)
            _close(found)
            return []
        return [_ready(sock) for sock in found]

    def borrow(self, address: Address, others: Container[Address] = ()) -> list[socket.socket]:
        """Duplicates of the lent sockets for `address`, ready for use; none if there are none.

        A socket of [::] that takes IPv4 too, as `ListenStream=8000` makes it, does for 0.0.0.0 as well, unless [::] is
        among the `others` that are configured.
        """
        bound = _numbered(address)
        found = [sock for sock in self.unnamed if _address(sock) == bound]
        both = Address(host="::", port=address.port)
        if not found and address.host == "0.0.0.0" and both not in others:
            found = [sock for sock in self.unnamed if _address(sock) == both and _takes_ipv4(sock)]
        if not _reachable(address):
            return []
        self._lent.update(sock.fileno() for sock in found)
        return [_ready(sock.dup()) for sock in found]

    def settle(self) -> None:
        """Everybody has what they want: say what is left, and close it unless it is only lent."""
        for sockets in self.named.values():
            for sock in sockets:
                _log.warning("no listener wants the inherited socket of %s; it is closed", shown(sock))
            _close(sockets)
        self.named.clear()
        for sock in self.unnamed:
            if sock.fileno() not in self._lent:
                _log.warning(
                    "nothing is configured for %s, where a socket unit listens: clients wait there in vain; "
                    "add a listener, or take it out of the unit",
                    shown(sock),
                )

    def close(self) -> None:
        """Close what is still here. Idempotent."""
        _close(self._all())
        self.named.clear()
        self.unnamed.clear()

    def _all(self) -> list[socket.socket]:
        return [sock for sockets in self.named.values() for sock in sockets] + self.unnamed


def shown(sock: socket.socket) -> str:
    """Where it is bound, as the configuration spells it."""
    return str(_address(sock))


def _ready(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        # Accepted sockets inherit it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _reachable(address: Address) -> bool:
    """A unix socket whose file is gone lives on, and nobody can connect to it."""
    return address.path is None or address.path.startswith("@") or os.path.exists(address.path)


def _numbered(address: Address) -> Address:
    """The address with its interface as a number, as the kernel tells it."""
    if address.interface is None or address.host is None or address.port is None:
        return address
    with contextlib.suppress(OSError):
        return Address(host=host_text(socket_address(address.host, address.port)), port=address.port)
    return address


def _takes_ipv4(sock: socket.socket) -> bool:
    return not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.close()


def _address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Address(host=host_text(name), port=name[1])
    # An abstract name comes as bytes that begin with a NUL.
    return Address(path="@" + name[1:].decode(errors="replace") if isinstance(name, bytes) else name)
