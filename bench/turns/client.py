"""Clients that keep their connections: they ask, read the answer to its end, think, and ask again."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import ssl
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

import httpx

from bench.turns.responses import NAME_HEADER, Certificate
from bench.turns.rows import Question, Row, Wire

ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its name, and the client's port of its connection, as l4lb lists it; None where that is unknown."""

    name: str
    port: int | None
    failure: str | None = None


class Client(Protocol):
    async def ask(self, name: str, body: bytes) -> int | None: ...
    async def close(self) -> None: ...


class HttpClient:
    """One connection, as the OpenAI client makes it (which uses httpx, too)."""

    def __init__(self, wire: Wire, port: int, certificate: Certificate | None) -> None:
        verify: ssl.SSLContext | bool = True
        if certificate is not None:
            verify = ssl.create_default_context(cafile=str(certificate.authority))
            verify.minimum_version = ssl.TLSVersion.TLSv1_3
        self._url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}/v1/answers"
        self._http = httpx.AsyncClient(
            verify=verify,
            http1=not wire.http2,
            http2=wire.http2,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=None),
            timeout=ANSWER_SECONDS,
            trust_env=False,
        )

    async def ask(self, name: str, body: bytes) -> int | None:
        async with self._http.stream("POST", self._url, content=body, headers={NAME_HEADER: name}) as answer:
            answer.raise_for_status()
            port: int = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
            async for _ in answer.aiter_raw():
                pass
        return port

    async def close(self) -> None:
        await self._http.aclose()


def body_of(question: Question) -> bytes:
    return json.dumps(dataclasses.asdict(question)).encode() + b"\n" + b"p" * question.prompt_bytes


def run(row: Row, seed: int, port: int, certificate: Certificate | None, until: float, pipe: Connection) -> None:
    """A process. Asks until a time of the monotonic clock; says what was asked; keeps its connections until told."""
    asyncio.run(_run(row, seed, port, certificate, until, pipe))


async def _run(row: Row, seed: int, port: int, certificate: Certificate | None, until: float, pipe: Connection) -> None:
    clients = [_client(row, port, certificate) for _ in range(row.connections)]
    try:
        streams = [
            _ask_on(client, row, seed, connection, stream, until)
            for connection, client in enumerate(clients)
            for stream in range(row.streams)
        ]
        asked = [each for of_stream in await asyncio.gather(*streams) for each in of_stream]
        pipe.send(asked)
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    finally:
        for client in clients:
            await client.close()


def _client(row: Row, port: int, certificate: Certificate | None) -> Client:
    if row.wire is Wire.GRPC:
        from bench.turns import rpc

        return rpc.Client(port)
    return HttpClient(row.wire, port, certificate)


async def _ask_on(client: Client, row: Row, seed: int, connection: int, stream: int, until: float) -> list[Asked]:
    rng = row.chance(seed, connection, stream)
    asked: list[Asked] = []
    await asyncio.sleep(rng.random() * row.work.think)
    while time.monotonic() < until:
        name = f"{connection}.{stream}.{len(asked)}"
        try:
            asked.append(Asked(name, await client.ask(name, body_of(row.work.question(rng)))))
        except (httpx.HTTPError, OSError) as error:
            asked.append(Asked(name, None, repr(error)))
        await asyncio.sleep(rng.expovariate(1 / row.work.think))
    return asked
