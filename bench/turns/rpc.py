"""The same over gRPC: one method that streams its answer. Needs grpcio; messages are plain bytes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection

import grpc
import grpc.aio

from bench.turns.responses import NAME_HEADER, STOP_SECONDS, Truth, pieces_of, question_of

METHOD = "/turns.Answers/Ask"


async def serve_until_told(pipe: Connection) -> list[Truth]:
    truths: list[Truth] = []

    async def ask(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        name = dict(context.invocation_metadata() or ())[NAME_HEADER]
        truth = Truth(name, time.monotonic(), 0.0)
        try:
            async for piece in pieces_of(question_of(request), random.Random(name)):
                yield piece
        finally:
            truth.ended = time.monotonic()
            truths.append(truth)

    server = grpc.aio.server()
    _, service, method = METHOD.split("/")
    handlers = {method: grpc.unary_stream_rpc_method_handler(ask)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    await server.stop(STOP_SECONDS)
    return truths


class Client:
    """A channel of its own."""

    def __init__(self, port: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)

    async def ask(self, name: str, body: bytes) -> int | None:
        async for _ in self._channel.unary_stream(METHOD)(body, metadata=((NAME_HEADER, name),)):
            pass
        return None

    async def close(self) -> None:
        await self._channel.close()
