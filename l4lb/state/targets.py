"""Targets of configured addresses that need no look-up. Pure."""

from __future__ import annotations

import socket

from l4lb.config.address import Address
from l4lb.net.target import Target, ip_target


def literal(address: Address) -> Target | None:
    """The target of this address; None for a name, and if this host lacks the interface."""
    if address.is_unix:
        return Target(socket.AF_UNIX, address.unix_name)
    if address.is_name or address.host is None or address.port is None:
        return None
    try:
        return ip_target(address.host, address.port)
    except OSError:
        return None
