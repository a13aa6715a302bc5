"""Connecting to what looks like a backend and is none, or to one that is full."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from l4lb.engine.api import SocketAddress
from l4lb.net.dial import dial
from tests.helpers.loops import run
from tests.helpers.peers import Peer


def dialled(sock: socket.socket, address: SocketAddress) -> None:
    sock.setblocking(False)
    run(dial(sock, address))


def test_a_socket_that_is_connected_to_itself_is_refused() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
        with pytest.raises(ConnectionRefusedError):
            dialled(sock, address)
    # Its port is free at once, for a server without SO_REUSEADDR too.
    with socket.socket() as server:
        server.bind(address)


def test_a_full_backlog_of_a_unix_socket_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "narrow.sock")

    async def main(listener: socket.socket, sock: socket.socket) -> None:
        sock.setblocking(False)
        waiting = asyncio.create_task(dial(sock, path))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        listener.accept()[0].close()
        await waiting
        assert sock.getpeername() == path

    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as first,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        run(main(listener, sock))


def test_a_unix_socket_without_a_server_is_refused_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "closed.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
        dialled(sock, path)


@pytest.mark.parametrize("said", [b"up\n", b""])
def test_a_server_that_breaks_off_at_once_is_heard_if_it_said_something(said: bytes) -> None:
    async def main(server: socket.socket, sock: socket.socket) -> None:
        sock.setblocking(False)
        dialling = asyncio.create_task(dial(sock, server.getsockname()))
        await asyncio.sleep(0)
        peer, _ = server.accept()
        peer.send(said)
        Peer(peer).reset()
        if not said:
            with pytest.raises(ConnectionResetError):
                await dialling
            return
        await dialling
        assert sock.recv(10) == said

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        run(main(server, sock))


def test_another_socket_of_this_host_is_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        dialled(sock, server.getsockname())
        assert sock.getpeername() == server.getsockname()
