"""Real servers in the process of the test: uvicorn for HTTP/1.1, in the clear and in TLS, and Hypercorn for HTTP/2.

Both run the same application: streams that go on until the test lets them end, short answers, and a long one.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import hypercorn
import hypercorn.asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.helpers import tls
from tests.helpers.peers import Address
from tests.helpers.waiting import DEADLINE

TOKEN = b"data: " + b"t" * 200 + b"\n\n"
TOKEN_SECONDS = 0.02
LONG_BYTES = 8 << 20
_CHUNK = bytes(1 << 16)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files, of the test authority."""

    chain: Path
    key: Path


def certificate(directory: Path) -> Certificate:
    """For 127.0.0.1."""
    issued = tls.authority().issue_cert("127.0.0.1")
    made = Certificate(directory / "chain.pem", directory / "key.pem")
    issued.private_key_pem.write_to_path(str(made.key))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(made.chain), append=number > 0)
    return made


class Server:
    """A server on a thread of its own, for the time of the block."""

    def __init__(self, certificate: Certificate | None = None, *, http2: bool = False) -> None:
        self._certificate = certificate
        self._http2 = http2
        self._ended: set[str] = set()
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address: Address = self._sock.getsockname()[:2]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), f"the server did not stop within {DEADLINE:g} s"

    @property
    def secure(self) -> bool:
        return self._certificate is not None

    def end(self, *streams: str) -> None:
        """Let the streams of these names come to their end."""
        self._ended.update(streams)

    def client(self, address: Address) -> httpx.Client:
        """A client of a balancer at `address`. It keeps its connections."""
        return httpx.Client(
            base_url=f"{'https' if self.secure else 'http'}://{address[0]}:{address[1]}",
            verify=tls.client_context() if self.secure else True,
            http1=not self._http2,
            http2=self._http2,
            timeout=DEADLINE,
            trust_env=False,
        )

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._hypercorn() if self._http2 else self._uvicorn())

    async def _uvicorn(self) -> None:
        server = uvicorn.Server(
            uvicorn.Config(
                self._application(),
                ssl_certfile=None if self._certificate is None else self._certificate.chain,
                ssl_keyfile=None if self._certificate is None else str(self._certificate.key),
                log_level="error",
                timeout_graceful_shutdown=1,
            )
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[self._sock]))
            await self._stop.wait()
            server.should_exit = True

    async def _hypercorn(self) -> None:
        config = hypercorn.Config()
        config.bind = [f"fd://{self._sock.detach()}"]
        config.graceful_timeout = 1
        config.errorlog = None
        if self._certificate is not None:
            config.certfile, config.keyfile = str(self._certificate.chain), str(self._certificate.key)
        await hypercorn.asyncio.serve(self._application(), config, shutdown_trigger=self._stop.wait)  # type: ignore[arg-type]

    def _application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/stream/{name}", self._stream, methods=["POST"]),
                Route("/short", self._short, methods=["POST"]),
                Route("/long", self._long),
            ]
        )

    async def _stream(self, request: Request) -> Response:
        await request.body()  # as a model server: an answer that begins before is another subject
        return StreamingResponse(self._tokens(request.path_params["name"]), media_type="text/event-stream")

    async def _tokens(self, name: str) -> AsyncIterator[bytes]:
        while name not in self._ended:
            yield TOKEN
            await asyncio.sleep(TOKEN_SECONDS)
        yield b"data: [DONE]\n\n"

    async def _short(self, request: Request) -> Response:
        return JSONResponse({"received": len(await request.body())})

    async def _long(self, _request: Request) -> Response:
        return StreamingResponse(self._chunks())

    async def _chunks(self) -> AsyncIterator[bytes]:
        for _ in range(LONG_BYTES // len(_CHUNK)):
            yield _CHUNK
