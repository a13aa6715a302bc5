"""A real server that answers as it is asked to, and keeps the truth: when each request began and when it was over.

uvicorn serves HTTP/1.1, in the clear and in TLS, on uvloop, as it does for vLLM and SGLang; Hypercorn serves HTTP/2.
Both run the same Starlette application.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection

import hypercorn
import hypercorn.asyncio
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.turns.responses import NAME_HEADER, STOP_SECONDS, Certificate, Truth, pieces_of, question_of
from bench.turns.rows import Question, Wire

KEEP_ALIVE_SECONDS = 75
"""Longer than any client thinks: a request that meets the end of its connection is another subject."""


class Witness:
    """Writes down when each request begins and when the last of its answer has been handed to the kernel."""

    def __init__(self, application: ASGIApp, truths: list[Truth]) -> None:
        self._application = application
        self._truths = truths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        begun = time.monotonic()
        ended: float | None = None

        async def watch(message: Message) -> None:
            nonlocal ended
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                ended = time.monotonic()

        try:
            await self._application(scope, receive, watch)
        finally:
            name = dict(scope["headers"]).get(NAME_HEADER.encode(), b"").decode()
            self._truths.append(Truth(name, begun, time.monotonic() if ended is None else ended))


async def _answer(request: Request) -> Response:
    question = question_of(await request.body())
    rng = random.Random(request.headers[NAME_HEADER])
    if question.whole:
        await asyncio.sleep(question.delay)
        return JSONResponse({"embedding": "x" * (question.piece_bytes or 0)})
    if question.late:
        await asyncio.sleep(question.delay)
    return StreamingResponse(_stream(question, rng), media_type="text/event-stream")


async def _stream(question: Question, rng: random.Random) -> AsyncIterator[bytes]:
    async for piece in pieces_of(question, rng, waited=question.late):
        yield piece
    if question.piece_bytes is None:
        yield b"data: [DONE]\n\n"


def application(truths: list[Truth]) -> ASGIApp:
    return Witness(Starlette(routes=[Route("/v1/answers", _answer, methods=["POST"])]), truths)


async def serve(
    wire: Wire, certificate: Certificate | None, sock: socket.socket, truths: list[Truth], stop: asyncio.Event
) -> None:
    """Until `stop` is set. The socket is closed afterwards."""
    app = application(truths)
    if wire.http2:
        config = hypercorn.Config()
        config.bind = [f"fd://{sock.detach()}"]
        config.graceful_timeout = STOP_SECONDS
        config.keep_alive_timeout = KEEP_ALIVE_SECONDS
        config.loglevel = "WARNING"
        if certificate is not None:
            config.certfile, config.keyfile = str(certificate.chain), str(certificate.key)
        await hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
        return
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            ssl_certfile=None if certificate is None else certificate.chain,
            ssl_keyfile=None if certificate is None else str(certificate.key),
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[sock]))
        serving.add_done_callback(lambda _: stop.set())
        await stop.wait()
        server.should_exit = True


def run(wire: Wire, certificate: Certificate | None, pipe: Connection) -> None:
    """A process. Says its port, is told to stop, says the truth."""
    if wire is Wire.GRPC:
        from bench.turns import rpc

        serving = rpc.serve_until_told(pipe)
    else:
        serving = _serve_until_told(wire, certificate, pipe)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pipe.send(runner.run(serving))


async def _serve_until_told(wire: Wire, certificate: Certificate | None, pipe: Connection) -> list[Truth]:
    truths: list[Truth] = []
    stop = asyncio.Event()
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    pipe.send(sock.getsockname()[1])

    async def told() -> None:
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        stop.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(told())
        group.create_task(serve(wire, certificate, sock, truths, stop))
    return truths
