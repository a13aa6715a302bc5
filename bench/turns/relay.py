"""A plain relay in l4lb's place that writes down what passes: direction, size and time of each piece."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

READ_BYTES = 1 << 20
"""As much as l4lb moves in one turn of its loop."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that came at once; `at` is a time of the monotonic clock."""

    at: float
    by_client: bool
    size: int


@dataclass(slots=True)
class Conversation:
    """A connection, known by the port of its client."""

    port: int
    pieces: list[Piece] = field(default_factory=list)


def run(backend_port: int, pipe: Connection) -> None:
    """A process. Says its port, is told to stop, says the conversations in the order of their beginning."""
    pipe.send(asyncio.run(_relay_until_told(backend_port, pipe)))


async def _relay_until_told(backend_port: int, pipe: Connection) -> list[Conversation]:
    conversations: list[Conversation] = []
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving[task] = writer
        backend_reader, backend_writer = await asyncio.open_connection("127.0.0.1", backend_port)
        conversation = Conversation(writer.get_extra_info("peername")[1])
        conversations.append(conversation)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass_on(reader, backend_writer, conversation, by_client=True))
            group.create_task(_pass_on(backend_reader, writer, conversation, by_client=False))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    server.close()
    for writer in serving.values():
        writer.transport.abort()
    await asyncio.gather(*serving)
    return conversations


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, conversation: Conversation, *, by_client: bool
) -> None:
    try:
        while data := await reader.read(READ_BYTES):
            conversation.pieces.append(Piece(time.monotonic(), by_client, len(data)))
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # as good an end as any
    finally:
        writer.close()
