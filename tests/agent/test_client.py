"""Asking an agent: one line, however it comes and however the connection ends behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from l4lb.agent.client import ask
from l4lb.agent.protocol import LINE_MAX
from tests.health.probing import target
from tests.helpers.loops import run
from tests.helpers.peers import Address, Peer, Served


def asked(address: Address, timeout: float = 10.0, send: bytes = b"") -> str:
    return run(ask(target(address), timeout, send))


def saying(text: bytes, end: Callable[[Peer], None]) -> Callable[[Peer], None]:
    def handle(peer: Peer) -> None:
        peer.send(text)
        peer.wait_acknowledged()
        end(peer)

    return handle


def stay(peer: Peer) -> None:
    peer.drain()


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (b"up 75%\n", stay),
        (b"up 75%\r\nmore", stay),
        (b"up 75%", Peer.close),
        (b"up 75%", Peer.reset),
        (b"up 75%\n", Peer.reset),
    ],
)
def test_a_line_is_heard_whatever_follows(text: bytes, end: Callable[[Peer], None]) -> None:
    with Served(saying(text, end)) as agent:
        assert asked(agent.address) == "up 75%"


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
def test_an_agent_that_says_nothing_is_a_failure(end: Callable[[Peer], None]) -> None:
    with Served(end) as agent, pytest.raises(OSError, match=r".+"):
        asked(agent.address)


def test_half_a_line_is_none_and_shown() -> None:
    message = r"no answer within 0\.2s, only 'up' without the end of a line"
    with Served(saying(b"up", stay)) as agent, pytest.raises(TimeoutError, match=message):
        asked(agent.address, 0.2)


def test_a_line_without_end_is_cut() -> None:
    with Served(saying(b"x" * 100_000, stay)) as agent:
        assert asked(agent.address) == "x" * LINE_MAX


def test_what_the_agent_is_told_comes_first() -> None:
    def handle(peer: Peer) -> None:
        assert peer.receive(6) == b"gpu-a\n"
        peer.send(b"drain\n")
        peer.drain()

    with Served(handle) as agent:
        assert asked(agent.address, send=b"gpu-a\n") == "drain"
