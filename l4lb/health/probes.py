"""One check of one backend. I/O only: what the answer means is decided elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from dataclasses import dataclass

import aiohttp
from yarl import URL

from l4lb.config.model import Health
from l4lb.engine.api import SocketAddress

# Close with a reset: a check every second would fill the table of sockets in TIME_WAIT.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backend is checked."""

    family: socket.AddressFamily
    address: SocketAddress


@dataclass(frozen=True, slots=True)
class Result:
    ok: bool
    message: str


async def probe(target: Target, health: Health) -> Result:
    """Check once, within `health.timeout` for everything. Never raises but CancelledError."""
    try:
        async with asyncio.timeout(health.timeout):
            if health.type == "http":
                return await _probe_http(target, health)
            return await _probe_tcp(target)
    except TimeoutError:
        return Result(False, f"no answer within {health.timeout:g}s")
    except OSError as error:
        # The loop and aiohttp put the address into `strerror`; whoever reads the message knows it.
        return Result(False, os.strerror(error.errno) if error.errno else str(error))
    except (aiohttp.ClientError, ValueError) as error:
        return Result(False, str(error) or type(error).__name__)


async def _probe_tcp(target: Target) -> Result:
    with socket.socket(target.family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        await asyncio.get_running_loop().sock_connect(sock, target.address)
    return Result(True, "connected")


async def _probe_http(target: Target, health: Health) -> Result:
    connector: aiohttp.BaseConnector
    if isinstance(target.address, str):
        if target.address.startswith("\0"):
            return Result(False, "an abstract unix socket cannot be asked by HTTP; use health.type: tcp")
        connector = aiohttp.UnixConnector(target.address, force_close=True)
        origin = URL.build(scheme="http", host="localhost")
    else:
        connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False)
        origin = URL.build(scheme="http", host=target.address[0], port=target.address[1])
    headers = {"Host": health.host} if health.host else {}
    url = origin.join(URL(health.path, encoded=True))
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
        session.get(url, headers=headers, allow_redirects=False) as response,
    ):
        return Result(response.status in health.status, f"HTTP {response.status}")
