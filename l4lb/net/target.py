"""The destination of a connection of the control plane: an IP address and port, or a unix socket."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from l4lb.engine.api import SocketAddress
from l4lb.net.interfaces import host_text, socket_address


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and from which IP addresses. If `sources` has none of the family, the kernel picks one."""

    family: socket.AddressFamily
    address: SocketAddress
    sources: tuple[str, ...] = ()

    @property
    def host(self) -> str | None:
        """The IP address, with its interface index if it is link-local. None for a unix socket."""
        return None if isinstance(self.address, str) else host_text(self.address)

    def at(self, port: int) -> Target:
        """The same host at another port. A unix socket has no port and stays as it is."""
        return self if isinstance(self.address, str) else ip_target(host_text(self.address), port)


def ip_target(host: str, port: int) -> Target:
    """The target of an IP address, which may name an interface. OSError if this host does not have that interface."""
    return Target(socket.AF_INET6 if ":" in host else socket.AF_INET, socket_address(host, port))
