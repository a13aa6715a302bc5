"""PROXY headers to backends: the client's address, what its own header said, and nothing else."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from tests.conftest import MakeScene
from tests.helpers import proxy_header
from tests.helpers.peers import Backend, refused
from tests.helpers.proxy_header import Header, extension, v2
from tests.helpers.waiting import wait_until
from tests.integration.announced import DESTINATION, DESTINATION6, SOURCE, SOURCE6, TRUSTED, finish


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_backend_is_told_the_client_and_the_listener(
    balance: MakeScene, backend: Backend, version: int, host: str
) -> None:
    scene = balance(backend, listener={"bind": f"{host}:0"}, pool={"send_proxy": f"v{version}"})
    client, server = scene.pair(backend)
    local, remote = client.local, client.remote
    assert isinstance(local, tuple)
    assert isinstance(remote, tuple)
    assert proxy_header.receive(server.sock) == Header(version, local, remote)
    client.send(b"payload")
    assert server.receive(7) == b"payload"
    server.send(b"answer")
    assert client.receive(6) == b"answer"
    assert finish(client, server, scene)["bytes_in"] == 7


@pytest.mark.parametrize("version", [1, 2])
def test_header_comes_first_though_the_client_says_nothing(balance: MakeScene, backend: Backend, version: int) -> None:
    """Protocols whose server speaks first."""
    scene = balance(backend, pool={"send_proxy": f"v{version}"})
    client, server = scene.pair(backend)
    assert proxy_header.receive(server.sock).version == version
    server.send(b"220 ready")
    assert client.receive(9) == b"220 ready"


@pytest.mark.parametrize("version", [1, 2])
def test_announced_address_is_passed_on(balance: MakeScene, backend: Backend, version: int) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED}, pool={"send_proxy": f"v{version}"})
    for source, destination in ((SOURCE, DESTINATION), (SOURCE6, DESTINATION6)):
        client = scene.connect()
        client.send(v2(source, destination) + b"payload")
        server = backend.accept()
        assert proxy_header.receive(server.sock) == Header(version, source, destination)
        assert server.receive(7) == b"payload"
        server.close()


# A server name, what a cloud says of the way, and padding.
EXTENSIONS = extension(0x02, b"model.example") + extension(0xEA, b"\x01vpce-1")
PADDED = extension(0x04, b"\x00" * 9) + EXTENSIONS


@pytest.mark.parametrize(("version", "expected"), [(2, EXTENSIONS), (1, b"")])
def test_what_a_trusted_header_says_beside_addresses_is_passed_on(
    balance: MakeScene, backend: Backend, version: int, expected: bytes
) -> None:
    with refused() as dead:
        # The first attempt of some fails; the header of the next one is whole, too.
        pool = {"send_proxy": f"v{version}"}
        scene = balance(dead, backend, listener={"proxy_protocol": TRUSTED}, pool=pool)
        for source, destination in ((SOURCE, DESTINATION), (SOURCE6, DESTINATION6)) * 2:
            client = scene.connect()
            client.send(v2(source, destination, PADDED) + b"payload")
            server = backend.accept()
            assert proxy_header.receive(server.sock) == Header(version, source, destination, expected)
            assert server.receive(7) == b"payload"
            server.close()


def test_a_checksum_is_of_the_header_that_carries_it(balance: MakeScene, backend: Backend) -> None:
    door = {"inner": {"bind": "127.0.0.1:0", "pool": "inner", "proxy_protocol": TRUSTED}}
    inner = {"inner": {"backends": [str(backend)], "send_proxy": "v2"}}
    scene = balance(backend, sections={"listeners": door, "pools": inner})
    # What l4lb sends, l4lb reads: a checksum that is wrong is refused.
    chained = {"proxy_protocol": TRUSTED}
    scene.reload([scene.lb.address("inner")], listener=chained, pool={"send_proxy": "v2"})
    client = scene.connect()
    client.send(with_checksum(SOURCE, DESTINATION, EXTENSIONS) + b"payload")
    with backend.accept() as server:
        header = proxy_header.receive(server.sock)
        assert server.receive(7) == b"payload"
    assert (header.source, header.destination) == (SOURCE, DESTINATION)
    assert header.extensions[: len(EXTENSIONS)] == EXTENSIONS
    assert header.extensions[len(EXTENSIONS) : -4] == extension(0x03, b"1234")[:-4]


def with_checksum(source: tuple[str, int], destination: tuple[str, int], extensions: bytes) -> bytes:
    """A header of version 2 that ends with its checksum, CRC32c."""
    header = v2(source, destination, extensions + extension(0x03, bytes(4)))
    crc = 0xFFFFFFFF
    for byte in header:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return header[:-4] + (crc ^ 0xFFFFFFFF).to_bytes(4)


def test_a_client_that_is_not_trusted_adds_nothing_to_the_header(balance: MakeScene, backend: Backend) -> None:
    listener = {"proxy_protocol": TRUSTED | {"from": ["10.0.0.0/8"], "mode": "optional"}}
    scene = balance(backend, listener=listener, pool={"send_proxy": "v2"})
    forged = v2(SOURCE, DESTINATION, EXTENSIONS)
    client, server = scene.pair(backend)
    client.send(forged)
    assert proxy_header.receive(server.sock) == Header(2, client.local, scene.address)  # type: ignore[arg-type]
    assert server.receive(len(forged)) == forged


def test_a_client_that_waits_keeps_what_its_header_says(balance: MakeScene, backend: Backend) -> None:
    pool = {"send_proxy": "v2", "queue": {"size": 10, "timeout": "60s"}}
    entry = {"address": backend, "max_connections": 1}
    scene = balance(entry, listener={"proxy_protocol": TRUSTED}, pool=pool)
    clients = [scene.connect() for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(v2(SOURCE, DESTINATION, extension(0xE0, bytes([number]))))
        wait_until(lambda: scene.backend_status()["connections"] == 1)
        wait_until(lambda number=number: scene.pool_status()["queued"] == number)  # type: ignore[misc]
    clients[1].reset()
    wait_until(lambda: scene.pool_status()["queued"] == 1)
    for expected in (0, 2):
        with backend.accept() as server:
            assert proxy_header.receive(server.sock).extensions == extension(0xE0, bytes([expected]))
        clients[expected].close()


@pytest.mark.parametrize("version", [1, 2])
def test_unix_client_is_announced_as_unknown(
    balance: MakeScene, backend: Backend, version: int, tmp_path: Path
) -> None:
    scene = balance(backend, listener={"bind": f"unix:{tmp_path}/l"}, pool={"send_proxy": f"v{version}"})
    client, server = scene.pair(backend)
    assert proxy_header.receive(server.sock) == Header(version, None, None)
    client.send(b"payload")
    assert server.receive(7) == b"payload"


def test_backend_is_told_the_way_it_was_chosen(balance: MakeScene) -> None:
    """A reload while the connection is made must not take the header away: what the client says would be believed."""
    with Backend(backlog=0) as backend, contextlib.ExitStack() as stack:
        fillers = [stack.enter_context(socket.socket()) for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(backend.address)
        scene = balance(backend, pool={"send_proxy": "v1"})
        client = scene.connect()
        client.send(b"PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n")
        wait_until(lambda: [session["state"] for session in scene.lb.sessions()] == ["connect"])
        scene.reload(pool={"send_proxy": "off"})
        for filler in fillers:
            filler.close()
        first = wait_until(lambda: stack.enter_context(backend.accept()).read_first())
        assert first.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 "), first


def test_refused_attempt_does_not_repeat_the_header(balance: MakeScene, backend: Backend) -> None:
    with refused() as dead:
        scene = balance(dead, backend, pool={"send_proxy": "v1"})
        for _ in range(4):
            client = scene.connect()
            client.send(b"payload")
            server = backend.accept()
            assert proxy_header.receive(server.sock).source == client.local
            assert server.receive(7) == b"payload"
            server.close()
            client.close()
