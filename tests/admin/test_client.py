"""The client of the admin socket against servers that do not answer as they should."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from l4lb.admin.client import AdminClient, ClientError

Serve = Callable[[socket.socket], None]


@contextmanager
def server(path: Path, answer: Serve) -> Iterator[str]:
    """Accepts one connection and gives it to `answer`; closes it when the test is over."""
    over = threading.Event()

    def accept() -> None:
        peer, _ = listener.accept()
        with peer:
            answer(peer)
            over.wait(10)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield str(path)
        finally:
            over.set()
            thread.join(10)


def says(data: bytes) -> Serve:
    def answer(peer: socket.socket) -> None:
        peer.recv(65_536)
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)

    return answer


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "without response"),
        (b"SSH-2.0-x\r\n", "its answer cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "ends too early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "does not answer like l4lb"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "does not answer like l4lb"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}", "l4lb answered with status 500"),
    ],
)
def test_a_stranger_at_the_socket_is_one_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    with server(tmp_path / "s", says(data)) as path, pytest.raises(ClientError, match=sentence):
        AdminClient(path).status()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with server(tmp_path / "s", lambda _: None) as path, pytest.raises(ClientError, match=r"no answer within 0\.05 s"):
        AdminClient(path, timeout=0.05).status()


def test_a_body_that_never_ends_is_given_up(tmp_path: Path) -> None:
    def begin(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    with server(tmp_path / "s", begin) as path, pytest.raises(ClientError, match=r"no answer within 0\.05 s"):
        AdminClient(path, timeout=0.05).status()
