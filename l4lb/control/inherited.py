"""Listening sockets that were open before this process was: a predecessor's, or the service manager's.

They are known by the name of a bind where whoever gave them knows it, and by the address they are bound to where not.
What nobody takes is closed with the rest: that resets the clients in its queue, so it is said.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass, field

from l4lb.config import Address

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Inherited:
    """Owns the sockets until they are taken."""

    named: dict[tuple[str, Address], list[socket.socket]] = field(default_factory=dict)
    unnamed: list[socket.socket] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.unnamed) + sum(map(len, self.named.values()))

    def take(self, listener: str, address: Address) -> list[socket.socket]:
        """The sockets of a bind, as `sockets.bind_key` names it, ready for use; none if there are none."""
        found = self.named.pop((listener, address), [])
        if not found:
            found = [sock for sock in self.unnamed if _bound_to(sock, address)]
            self.unnamed = [sock for sock in self.unnamed if sock not in found]
        for sock in found:
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                # Accepted sockets inherit it.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found

    def close(self) -> None:
        """Close what was not taken. Idempotent."""
        left = [sock for sockets in self.named.values() for sock in sockets] + self.unnamed
        self.named.clear()
        self.unnamed.clear()
        for sock in left:
            _log.warning("no listener wants the inherited socket of %s; it is closed", shown(sock))
            sock.close()


def shown(sock: socket.socket) -> str:
    """Where it is bound, as the configuration spells it."""
    return str(_address(sock))


def _bound_to(sock: socket.socket, address: Address) -> bool:
    return _address(sock) == address


def _address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Address(host=name[0], port=name[1])
    # An abstract name comes as bytes that begin with a NUL.
    return Address(path="@" + name[1:].decode(errors="replace") if isinstance(name, bytes) else name)
