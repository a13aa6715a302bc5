"""Which Host headers the admin address answers. Pure.

A web page may give its own name the address of this host (DNS rebinding), and a browser then lets its scripts read what
is answered to that name. So only names that no stranger can register are answered, and those of `admin.hosts`.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from ipaddress import ip_address

_NAME = re.compile(r"[a-z0-9._-]*")

_PRIVATE = ("localhost", "local", "internal", "svc")
"""Last labels that cannot be registered: RFC 6761 and 6762, ICANN's private-use label, and Kubernetes services."""


def is_expected(header: str, names: Collection[str]) -> bool:
    """Whether to answer a request with this Host header: an address, a name without dots, this host's own name, a
    private one, or one of `names`, of which `*.suffix` stands for all below the suffix. Browsers always send one."""
    host = _host(header.strip().lower())
    if host is None:
        return False
    return (
        "." not in host
        or _is_address(host)
        or host == socket.gethostname().lower()
        or host.rpartition(".")[2] in _PRIVATE
        or any(_matches(host, name.lower()) for name in names)
    )


def _host(header: str) -> str | None:
    """The host without its port; None if it is malformed."""
    if header.startswith("["):
        host, bracket, rest = header[1:].partition("]")
        return host if bracket and _is_address(host) and (not rest or rest.startswith(":")) else None
    host, _, port = header.partition(":")
    return host.removesuffix(".") if _NAME.fullmatch(host) and (port == "" or port.isdecimal()) else None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _matches(host: str, name: str) -> bool:
    return host.endswith(name[1:]) if name.startswith("*.") else host == name
