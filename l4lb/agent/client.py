"""Asks an agent. I/O only: what its words mean is decided elsewhere."""

from __future__ import annotations

import asyncio
import re
import socket

from l4lb.agent.protocol import LINE_MAX
from l4lb.health.probes import Target
from l4lb.health.probes.dial import dial

_LINE_END = re.compile(rb"[\r\n]")


async def ask(target: Target, timeout: float) -> str:
    """The first line that the agent sends, within `timeout` for everything. OSError when there is none."""
    loop = asyncio.get_running_loop()
    received = b""
    try:
        async with asyncio.timeout(timeout):
            with socket.socket(target.family, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                await dial(sock, target.address)
                while len(received) < LINE_MAX and not _LINE_END.search(received):
                    data = await loop.sock_recv(sock, LINE_MAX - len(received))
                    if not data:
                        break
                    received += data
    except TimeoutError:
        raise TimeoutError(f"no answer within {timeout:g}s") from None
    line = _LINE_END.split(received, maxsplit=1)[0].decode("ascii", "replace").strip()
    if not line:
        raise ConnectionError("it said nothing")
    return line
