"""Addresses that PROXY headers announce, and sessions that carry them."""

from __future__ import annotations

from typing import Any

from tests.helpers.peers import End, Peer
from tests.helpers.scene import Scene

SOURCE, DESTINATION = ("192.0.2.77", 43210), ("198.51.100.9", 8000)
SOURCE6, DESTINATION6 = ("2001:db8::77", 43210), ("2001:db8::9", 8000)
TRUSTED = {"from": ["127.0.0.0/8"], "mode": "require", "timeout": "5s"}


def text(address: tuple[str, int]) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def finish(client: Peer, server: Peer, scene: Scene) -> dict[str, Any]:
    """End the session both ways; its line in the access log."""
    client.close()
    assert server.drain().end is End.FIN
    server.close()
    return scene.access()[0]
