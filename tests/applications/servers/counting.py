"""A gRPC server of numbered messages, with the standard health service: HOST PORT NAME.

`Count` streams to the client, `Echo` both ways, `Name` answers at once. Streams of `Count` go on until SIGUSR1.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE = "l4lb.test.Numbers"
MESSAGE_SECONDS = 0.02
END = b"end"


def message(stream: str, index: int) -> bytes:
    """The bytes of one message; no two are alike."""
    return f"{stream}/{index}".encode().ljust(200, b".")


class Numbers:
    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._ending = False

    def end(self) -> None:
        """Let all streams come to their end."""
        self._ending = True

    def handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Count": grpc.unary_stream_rpc_method_handler(self._count),
                "Echo": grpc.stream_stream_rpc_method_handler(self._echo),
                "Name": grpc.unary_unary_rpc_method_handler(self._answer),
            },
        )

    async def _count(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        """First the name of the replica, then messages, last their end."""
        yield self._name
        index = 0
        while not self._ending:
            yield message(request.decode(), index)
            index += 1
            await asyncio.sleep(MESSAGE_SECONDS)
        yield END

    async def _echo(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        """First the name of the replica, then what the client says, last the end."""
        yield self._name
        async for request in requests:
            yield request
        yield END

    async def _answer(self, _request: bytes, _context: Any) -> bytes:
        return self._name


async def main(host: str, port: int, name: str) -> None:
    numbers = Numbers(name)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, numbers.end)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((numbers.handlers(),))
    checks = health.aio.HealthServicer()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_insecure_port(f"{host}:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
