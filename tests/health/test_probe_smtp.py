"""smtp: replies of one line and of several, good, bad, early, and none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from l4lb.health.probes import Outcome, Result, failure, success
from tests.health.probing import SHORT, check
from tests.helpers.peers import Backend, End, Peer, Served
from tests.helpers.waiting import wait_until


def server_that_says(greeting: bytes, reply: bytes, ends: list[End] | None = None) -> Callable[[Peer], None]:
    def handle(peer: Peer) -> None:
        peer.send(greeting)
        line = b""
        while not line.endswith(b"\r\n"):
            line += peer.receive(1)
        assert line == b"HELO localhost\r\n"
        peer.send(reply)
        if ends is not None:
            assert peer.receive(6) == b"QUIT\r\n"
            peer.send(b"221 bye\r\n")
            peer.finish()
            ends.append(peer.ended())
        peer.drain()

    return handle


@pytest.mark.parametrize("greeting", [b"220 mx.example ESMTP\r\n", b"220-one\r\n220-two\r\n220 three\r\n", b"220\n"])
@pytest.mark.parametrize("reply", [b"250 hello\r\n", b"250-hello\r\n250-SIZE 1\r\n250 HELP\r\n", b"250 \r\n"])
def test_a_server_that_greets_and_answers(greeting: bytes, reply: bytes) -> None:
    ends: list[End] = []
    with Served(server_that_says(greeting, reply, ends)) as server:
        assert check(server.address, type="smtp") == success("HELO is answered with 250")
        wait_until(lambda: ends)
    assert ends == [End.FIN]


@pytest.mark.parametrize(
    ("greeting", "reply", "message"),
    [
        (b"421 Try again later\r\n", b"", "the greeting: expected 2xx, but '421 Try again later' came"),
        (b"554 No service\r\n", b"", "the greeting: expected 2xx, but '554 No service' came"),
        (b"SSH-2.0-x\r\n", b"", "the greeting: expected 2xx, but 'SSH-2.0-x' came"),
        (b"2200 x\r\n", b"", "the greeting: expected 2xx, but '2200 x' came"),
        (b"220 x\r\n", b"502 what?\r\n", "HELO localhost: expected 2xx, but '502 what?' came"),
        (b"220 x\r\n", b"250-a\r\n550 b\r\n", "HELO localhost: expected 2xx, but '550 b' came"),
    ],
)
def test_a_server_that_refuses_is_quoted_although_it_stays_connected(
    greeting: bytes, reply: bytes, message: str
) -> None:
    with Served(server_that_says(greeting, reply)) as server:
        assert check(server.address, type="smtp") == failure(message)


def test_a_reply_that_came_with_the_greeting_is_none() -> None:
    with Served(server_that_says(b"220 x\r\n250 early\r\n", b"")) as server:
        result = check(server.address, type="smtp", timeout=SHORT)
        assert result == Result(Outcome.TIMEOUT, "no answer to HELO localhost within 0.2s")


def test_silence_and_half_a_line_are_told_apart() -> None:
    with Backend() as backend:
        result = check(backend.address, type="smtp", timeout=SHORT)
        assert result == Result(Outcome.TIMEOUT, "no answer to the greeting within 0.2s")
    with Served(server_that_says(b"220 mx", b"")) as server:
        result = check(server.address, type="smtp", timeout=SHORT)
        assert result == Result(
            Outcome.TIMEOUT, "no complete response to the greeting: expected 2xx, but '220 mx' came within 0.2s"
        )


def test_what_came_before_a_reset_counts() -> None:
    def handle(peer: Peer) -> None:
        peer.send(b"220 x\r\n")
        peer.receive(16)
        peer.send(b"250 x\r\n")
        peer.wait_acknowledged()
        peer.reset()

    with Served(handle) as server:
        assert check(server.address, type="smtp") == success("HELO is answered with 250")


def test_another_hello() -> None:
    def handle(peer: Peer) -> None:
        peer.send(b"220 x\r\n")
        assert peer.receive(17) == b"EHLO lb.example\r\n"
        peer.send(b"250 x\r\n")
        peer.drain()

    with Served(handle) as server:
        expected = success("EHLO is answered with 250")
        assert check(server.address, type="smtp", hello="EHLO lb.example") == expected
