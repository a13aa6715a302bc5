"""Sockets of listeners, and a port for them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from l4lb.sockets.listeners import Sockets


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets(workers=2)
    yield sockets
    sockets.close(list(sockets.binds))


@pytest.fixture
def free_port() -> int:
    """Free on every address."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.bind(("::", 0))
        port: int = probe.getsockname()[1]
        return port
