"""An admin server in front of a fake control plane, with a client for each of its sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from l4lb.admin.server import AdminServer
from l4lb.config import Address
from tests.admin.fake_control import FakeControl

DEADLINE = 10.0


@dataclass(frozen=True)
class Served:
    control: FakeControl
    server: AdminServer
    path: str
    unix: aiohttp.ClientSession
    tcp: aiohttp.ClientSession

    async def open_unix(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)


Case = Callable[[Served], Awaitable[None]]


@asynccontextmanager
async def serving(tmp_path: Path, control: FakeControl) -> AsyncIterator[Served]:
    path = str(tmp_path / "admin.sock")
    admin = AdminServer(control, path, Address.parse("127.0.0.1:0"))
    await admin.start()
    try:
        assert admin.tcp_address is not None
        host, port = admin.tcp_address
        async with (
            aiohttp.ClientSession("http://l4lb", connector=aiohttp.UnixConnector(path)) as unix,
            aiohttp.ClientSession(f"http://{host}:{port}") as tcp,
        ):
            yield Served(control, admin, path, unix, tcp)
    finally:
        await admin.close()


Run = Callable[[Case], None]


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the peer ends the connection, having sent whatever it likes."""
    with suppress(ConnectionError):
        await reader.read()
    return True
