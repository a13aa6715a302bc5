"""Asks an agent for its line. I/O only: `protocol` interprets the line."""

from __future__ import annotations

import asyncio
import re
import socket

from l4lb.agent.protocol import LINE_MAX
from l4lb.base.text import quoted
from l4lb.net.dial import come_from, dial
from l4lb.net.target import Target

_LINE_END = re.compile(rb"[\r\n]")


async def ask(target: Target, timeout: float, send: bytes = b"") -> str:
    """Send `send` to the agent and return the first line of its reply. OSError on failure, after `timeout` seconds at
    most."""
    received = bytearray()
    try:
        async with asyncio.timeout(timeout):
            with socket.socket(target.family, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                come_from(sock, target.sources)
                await dial(sock, target.address)
                if send:
                    await asyncio.get_running_loop().sock_sendall(sock, send)
                await _read_line(sock, received)
    except TimeoutError:
        said = f", only {quoted(bytes(received))} without the end of a line" if received else ""
        raise TimeoutError(f"no answer within {timeout:g}s{said}") from None
    line = _LINE_END.split(received, maxsplit=1)[0].decode("ascii", "replace").strip()
    if not line:
        raise ConnectionError("empty response")
    return line


async def _read_line(sock: socket.socket, received: bytearray) -> None:
    """Read until the line is complete. If the connection ends first, the data before its end counts."""
    loop = asyncio.get_running_loop()
    try:
        while len(received) < LINE_MAX and not _LINE_END.search(received):
            data = await loop.sock_recv(sock, LINE_MAX - len(received))
            if not data:
                return
            received += data
    except ConnectionError:
        if not received:
            raise
