"""Which end closes, how, and when: every combination keeps the bytes and the kind of end.

The table crosses the end that closes (client or server), how (FIN or RST), when (before, during or after the data),
which way the data flows, and whether its reader reads or is stalled at that moment.
"""

from __future__ import annotations

import itertools
from typing import Literal

import pytest

from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Background, End, Peer
from tests.helpers.waiting import wait_until

Side = Literal["client", "server"]
When = Literal["before", "during", "after"]

READING_TOTAL = 1_500_000
"""More than one turn of a relay, so that 'during' is in the middle."""

STALLED_TOTAL = 48 << 20
"""More than every buffer on the way can hold, so that the sender is stopped."""

PARKED_TOTAL = 100_000
"""Small enough to leave the sender's kernel while the reader is stalled."""

CELLS = list(
    itertools.product(("client", "server"), End, ("before", "during", "after"), ("up", "down"), ("reading", "stalled"))
)


def cell_name(cell: tuple[Side, End, When, str, str]) -> str:
    closer, how, when, direction, reader = cell
    return f"{closer}-{how.value}-{when}-{direction}-{reader}"


@pytest.fixture
def small_backend() -> Backend:
    return Backend(receive_buffer=8192)


@pytest.mark.parametrize("cell", CELLS, ids=[cell_name(cell) for cell in CELLS])
def test_bytes_and_kind_of_end_survive(
    balance: MakeScene, small_backend: Backend, cell: tuple[Side, End, When, str, str]
) -> None:
    closer_name, how, when, direction, reader_state = cell
    with small_backend as backend:
        scene = balance(backend)
        client, server = scene.pair(backend, receive_buffer=8192)
        # A backend that resets before the balancer knows it is connected has failed to connect, and is retried.
        wait_until(lambda: [session["state"] for session in scene.lb.sessions()] == ["relay"])
        sender, reader = (client, server) if direction == "up" else (server, client)
        closer = client if closer_name == "client" else server
        key = CELLS.index(cell) % 4
        run = _sender_ends if closer is sender else _reader_ends
        run(sender, reader, how, when, reader_state == "stalled", key)
        client.close()
        server.close()
        scene.wait_connections(0)


def _end(peer: Peer, how: End) -> None:
    if how is End.FIN:
        peer.finish()
    else:
        peer.reset()


def _sender_ends(sender: Peer, reader: Peer, how: End, when: When, stalled: bool, key: int) -> None:
    """The end follows the bytes; a FIN follows all of them, a RST all that had left the sender."""
    at_least = 0
    if when == "before":
        sent = 0
    elif when == "during" and stalled:
        sent = sender.fill(key, STALLED_TOTAL)
        assert sent < STALLED_TOTAL, "the sender was never stopped"
    elif when == "during":
        feeding = Background(lambda: sender.send_pattern(key, READING_TOTAL))
        reader.receive_pattern(key, READING_TOTAL // 3)
        reader.receive_pattern(key, READING_TOTAL // 3, READING_TOTAL // 3)
        at_least = READING_TOTAL // 3 * 2
        feeding.result()
        sent = READING_TOTAL
    else:
        sent = PARKED_TOTAL
        sender.send_pattern(key, sent)
        if stalled:
            sender.wait_acknowledged()
        else:
            reader.receive_pattern(key, sent)
            at_least = sent
        if how is End.RESET:
            sender.wait_acknowledged()
    before_end = at_least
    _end(sender, how)
    ended = reader.drain(key, before_end)
    assert ended.end is how
    if how is End.FIN or when == "after":
        assert ended.count == sent
    else:
        assert before_end <= ended.count <= sent
    if how is End.FIN:
        reader.close()
        assert sender.ended() is End.FIN


def _send_for_ever(sender: Peer) -> None:
    while True:
        sender.send(b"x" * 65536)


def _reader_ends(sender: Peer, reader: Peer, how: End, when: When, stalled: bool, key: int) -> None:
    """A FIN from the reader stops nothing of what it still wants to read; a RST reaches the sender as a RST."""
    total = STALLED_TOTAL // 4 if stalled else READING_TOTAL
    already = 0
    if when == "during":
        if stalled:
            already = sender.fill(key, STALLED_TOTAL)
            assert already < STALLED_TOTAL, "the sender was never stopped"
            total = already + 1_000_000
        else:
            already = READING_TOTAL // 2
            sender.send_pattern(key, already)
    elif when == "after":
        already = total = PARKED_TOTAL
        sender.send_pattern(key, total)
        sender.wait_acknowledged()
    received = 0
    if not stalled:
        reader.receive_pattern(key, already)
        received = already
    _end(reader, how)
    if how is End.RESET:
        wait_until(sender.broken)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            _send_for_ever(sender)
        return
    assert sender.ended() is End.FIN
    feeding = Background(lambda: (sender.send_pattern(key, total - already, already), sender.finish()))
    ended = reader.drain(key, received)
    feeding.result()
    assert ended.end is End.FIN
    assert ended.count == total
