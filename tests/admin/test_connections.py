"""Connections to the admin server: how many it keeps, and how it ends those that stall or send garbage."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress

import pytest

from l4lb.admin import backends, connections, server
from l4lb.status import Session
from tests.admin.fake_control import FakeControl, make_session
from tests.admin.serving import Run, Served, closed
from tests.helpers.loops import eventually


def test_half_a_request_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT", 0.05)

    async def case(served: Served) -> None:
        for half in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"PATCH /api/v1/pools/p/backends/b HTT"):
            reader, writer = await served.open_unix()
            writer.write(half)
            assert await closed(reader)
            writer.close()
        async with served.unix.get("/healthz") as answer:
            assert answer.status == 200

    run(case)


def test_half_a_body_is_cut_off(run: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "REQUEST_TIMEOUT", 0.05)

    async def case(served: Served) -> None:
        reader, writer = await served.open_unix()
        writer.write(b"PATCH /api/v1/pools/llama/backends/a HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{")
        assert b" 408 " in await reader.readline()
        writer.close()
        assert control.changes == []

    run(case)


def test_a_client_that_does_not_read_its_answer_is_cut_off(
    run: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER_TIMEOUT", 0.05)
    control.live = [make_session(n) for n in range(5_000)]

    async def case(served: Served) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(served.path)
            client.sendall(b"GET /api/v1/sessions HTTP/1.1\r\nHost: x\r\n\r\n")
            door = served.server._doors["admin socket"]
            await eventually(lambda: bool(door.guards))
            await eventually(lambda: not door.guards)

    run(case)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(10_000)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n\r\n",
        bytes(range(256)) * 40 + b"\r\n\r\n",
    ],
    ids=["long line", "long header", "many headers", "tls", "proxy", "bytes"],
)
def test_garbage_is_refused_and_others_are_served(run: Run, garbage: bytes) -> None:
    async def case(served: Served) -> None:
        reader, writer = await served.open_unix()
        writer.write(garbage)
        assert b" 400 " in await reader.readline()
        assert await closed(reader)
        writer.close()
        async with served.unix.get("/healthz") as answer:
            assert answer.status == 200

    run(case)


async def doors_have(served: Served, count: int) -> None:
    await eventually(lambda: len(served.server._doors["admin address"].guards) == count)


def test_clients_that_only_hold_connections_keep_no_other_client_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 3)

    async def case(served: Served) -> None:
        assert served.server.tcp_address is not None
        pairs = []
        for count in range(3):
            pairs.append(await asyncio.open_connection(*served.server.tcp_address))
            pairs[-1][1].write(b"GET /healthz HTTP/1.1\r\nHost:")
            await doors_have(served, count + 1)
        async with served.tcp.get("/healthz") as got:
            assert got.status == 200
        await doors_have(served, 3)
        # The one that has waited for longest had to go.
        with suppress(ConnectionResetError):
            assert await pairs[0][0].read() == b""
        for _, writer in pairs:
            writer.close()

    run(case)


def test_one_address_gets_no_more_than_its_share(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server.OF_ONE_ADDRESS_MAX, "admin address", 2)

    async def case(served: Served) -> None:
        assert served.server.tcp_address is not None
        host, port = served.server.tcp_address
        other = await asyncio.open_connection(host, port, local_addr=("127.0.0.2", 0))
        await doors_have(served, 1)
        pairs = [await asyncio.open_connection(host, port) for _ in range(5)]
        for reader, _ in pairs[:3]:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        await doors_have(served, 3)
        for reader, writer in (other, *pairs[3:]):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        for _, writer in (other, *pairs):
            writer.close()

    run(case)


def test_connections_beyond_the_limit_are_told_while_all_others_are_answered(
    run: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    held = asyncio.Event()

    async def sessions() -> list[Session]:
        await held.wait()
        return []

    monkeypatch.setattr(control, "sessions", sessions)

    async def case(served: Served) -> None:
        assert served.server.tcp_address is not None
        answers = [asyncio.ensure_future(served.tcp.get("/api/v1/sessions")) for _ in range(2)]
        await eventually(
            lambda: [guard.answers for guard in served.server._doors["admin address"].guards.values()] == [True, True]
        )
        reader, writer = await asyncio.open_connection(*served.server.tcp_address)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert "too many connections" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        async with served.unix.get("/healthz") as got:
            assert got.status == 200
        held.set()
        for done in answers:
            async with await done as got:
                assert got.status == 200
        writer.close()

    run(case)
