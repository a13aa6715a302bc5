"""Where a connection of the control plane leads: an IP address and port, or a unix socket."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from l4lb.engine.api import SocketAddress
from l4lb.net.interfaces import host_text, socket_address


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backend is checked, and from which IP addresses; where none of its family is given, from any."""

    family: socket.AddressFamily
    address: SocketAddress
    sources: tuple[str, ...] = ()

    @property
    def host(self) -> str | None:
        """The IP address, with the number of its interface if it is link-local; None on a unix socket."""
        return None if isinstance(self.address, str) else host_text(self.address)

    def at(self, port: int) -> Target:
        """The same host at another port. A unix socket has none, and stays as it is."""
        return self if isinstance(self.address, str) else ip_target(host_text(self.address), port)


def ip_target(host: str, port: int) -> Target:
    """Of an IP address, which may have an interface. OSError if that is not there."""
    return Target(socket.AF_INET6 if ":" in host else socket.AF_INET, socket_address(host, port))
