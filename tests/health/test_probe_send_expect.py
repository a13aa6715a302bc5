"""send_expect against servers that answer whole, in pieces, wrongly, endlessly or not at all, and against Redis."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from l4lb.health.probes import Subject, failure, success
from tests.applications.conftest import daemon, program
from tests.health.probing import NO_ANSWER, SHORT, check
from tests.helpers.peers import Backend, Peer, Served, refused
from tests.helpers.proxy_header import LOCAL, UNSPECIFIED, v2_raw
from tests.helpers.waiting import wait_until

PING = {"type": "send_expect", "script": {"send": "PING\r\n", "expect": "+PONG\r\n"}}
GOOD = success("answered as expected")


def answering(*pieces: bytes) -> Callable[[Peer], None]:
    """Read a line, then send the pieces, each in a segment of its own, and hold the connection."""

    def handle(peer: Peer) -> None:
        assert peer.receive(6) == b"PING\r\n"
        for piece in pieces:
            peer.send(piece)
            peer.wait_acknowledged()
        peer.drain()

    return handle


def test_whole_answer() -> None:
    with Served(answering(b"+PONG\r\n")) as server:
        assert check(server.address, **PING) == GOOD


def test_answer_that_comes_byte_by_byte_behind_other_bytes() -> None:
    pieces = [bytes([byte]) for byte in b"+PING +PON +PONG\r\n"]
    with Served(answering(*pieces)) as server:
        assert check(server.address, **PING) == GOOD


def test_hex_is_bytes() -> None:
    script = {"send": "hex:50494e470d0a", "expect": "hex:00ff"}
    with Served(answering(b"\x01\x00", b"\xff\x02")) as server:
        assert check(server.address, type="send_expect", script=script) == GOOD


def test_steps_are_taken_in_order_and_one_answer_is_not_found_twice() -> None:
    def smtp(peer: Peer) -> None:
        peer.send(b"220 ready 250\r\n")
        assert peer.receive(6) == b"HELO\r\n"
        peer.send(b"250 hello\r\n")
        peer.drain()

    script = [{"expect": "220 "}, {"send": "HELO\r\n", "expect": "250 hello"}]
    with Served(smtp) as server:
        assert check(server.address, type="send_expect", script=script) == GOOD
        again = [*script, {"expect": "250 hello"}]
        assert check(server.address, type="send_expect", script=again, timeout=SHORT) == NO_ANSWER


def test_wrong_answer_is_quoted_when_the_stream_ends() -> None:
    def handle(peer: Peer) -> None:
        peer.receive(6)
        peer.send(b"-ERR\x00 unknown")

    with Served(handle) as server:
        expected = r"expected '+PONG\r\n', but the stream ended with '-ERR\x00 unknown'"
        assert check(server.address, **PING) == failure(expected)


def test_silence_is_a_timeout() -> None:
    with Backend() as backend:
        assert check(backend.address, **PING, timeout=SHORT) == NO_ANSWER


def test_endless_answer_is_cut_off() -> None:
    def flood(peer: Peer) -> None:
        while True:
            peer.send(b"x" * 65536)

    with Served(flood) as server:
        result = check(server.address, **PING)
        assert not result.ok
        assert "not in the first 64 KiB" in result.message


def test_redis(tmp_path: Path) -> None:
    with refused() as (_, port):
        pass  # Redis takes no socket that is open already
    command = [
        program("redis-server"),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    with daemon(*command, log=tmp_path / "log"):

        def connects() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        wait_until(connects)
        assert check(("127.0.0.1", port), **PING) == GOOD
        wrong = {"type": "send_expect", "script": {"send": "NONSENSE\r\n", "expect": "+PONG"}, "timeout": SHORT}
        assert check(("127.0.0.1", port), **wrong) == NO_ANSWER


@pytest.mark.parametrize(("version", "header"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", None)])
def test_proxy_header_of_the_balancer_itself_comes_first(version: str, header: bytes | None) -> None:
    wanted = header or v2_raw(LOCAL, UNSPECIFIED, b"")

    def handle(peer: Peer) -> None:
        assert peer.receive(len(wanted)) == wanted
        answering(b"+PONG\r\n")(peer)

    with Served(handle) as server:
        assert check(server.address, subject=Subject(send_proxy=version), **PING) == GOOD  # type: ignore[arg-type]
