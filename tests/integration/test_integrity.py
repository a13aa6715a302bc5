"""Bytes arrive whole, in order, once, and at the right connection, whatever their sizes, pace and path."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.conftest import MakeScene
from tests.helpers.leaks import assert_quiet
from tests.helpers.patterns import pattern
from tests.helpers.peers import Backend, Background, End, Ended, Peer, slow_drain
from tests.helpers.scene import Scene
from tests.helpers.waiting import observe, wait_until

BOUNDARIES = sorted(
    {
        1,
        1447, 1448, 1449,
        23_168,
        *((1 << bits) + step for bits in (12, 13, 14, 15, 16, 17, 18, 20) for step in (-1, 0, 1)),
    }
)  # fmt: skip

COPY_ONLY = {"max_pipes": 0}


@pytest.fixture
def small_backend() -> Iterator[Backend]:
    with Backend(receive_buffer=8192) as backend:
        yield backend


@pytest.fixture(params=["splice", "copy"])
def process(request: pytest.FixtureRequest) -> dict[str, int]:
    """Both ways to move bulk data."""
    return COPY_ONLY if request.param == "copy" else {}


@dataclass(frozen=True, slots=True)
class Plan:
    """What one end sends: how much, in which pieces, with which pauses between them."""

    key: int
    length: int
    chunk: int
    pause: float

    @staticmethod
    def drawn(rng: random.Random, key: int) -> Plan:
        length = rng.choice((0, rng.randrange(2000), rng.randrange(100_000), rng.randrange(4 << 20)))
        chunk = rng.choice((rng.randrange(1, 2000), rng.randrange(1, 70_000), 1 << 18))
        # Small pieces of a large stream would only measure Python.
        return Plan(key, length, max(chunk, length // 200), rng.choice((0, 0, 0.0005)))

    def send(self, peer: Peer) -> None:
        rng = random.Random(self.key)
        offset = 0
        while offset < self.length:
            size = min(rng.randrange(1, self.chunk + 1), self.length - offset)
            peer.send(pattern(self.key, offset, size))
            offset += size
            if self.pause:
                observe(rng.random() * self.pause)
        peer.finish()


def exchange(client: Peer, server: Peer, up: Plan, down: Plan) -> None:
    """Both directions at once, each to its FIN."""
    working = [
        Background(lambda: up.send(client)),
        Background(lambda: down.send(server)),
        Background(lambda: client.drain(down.key)),
        Background(lambda: server.drain(up.key)),
    ]
    _, _, received, sent = [work.result() for work in working]
    assert received == Ended(down.length, End.FIN)
    assert sent == Ended(up.length, End.FIN)


@pytest.mark.parametrize("seed", range(10))
def test_random_streams_both_ways_arrive_exactly(
    balance: MakeScene, backend: Backend, seed: int, process: dict[str, int]
) -> None:
    scene = balance(backend, process=process)
    rng = random.Random(seed)
    plans = {}
    exchanges = []
    for number in range(4):
        client, server = scene.pair(backend)
        up, down = Plan.drawn(rng, 4 * seed + number), Plan.drawn(rng, 1000 + 4 * seed + number)
        plans[client.local] = (up.length, down.length)
        exchanges.append(Background(lambda c=client, s=server, u=up, d=down: exchange(c, s, u, d)))  # type: ignore[misc]
    for running in exchanges:
        running.result(60)
    logged = {tuple(line["client"].rsplit(":", 1)): line for line in scene.access(4)}
    for (host, port), (sent, received) in plans.items():
        line = logged[host, str(port)]
        assert (line["bytes_in"], line["bytes_out"], line["code"]) == (sent, received, "--")


def test_sizes_around_buffer_boundaries_arrive_exactly(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    for size in BOUNDARIES:
        client, server = scene.pair(backend)
        exchange(client, server, Plan(size, size, 1 << 18, 0), Plan(size + 1, size, 1 << 18, 0))
        client.close()
        server.close()


def test_bulk_takes_the_splice_path_and_small_exchanges_copy(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    exchange(client, server, Plan(1, 16 << 20, 1 << 18, 0), Plan(2, 10, 10, 0))
    client, server = scene.pair(backend)
    exchange(client, server, Plan(3, 100, 100, 0), Plan(4, 100, 100, 0))
    by_size = sorted(scene.access(2), key=lambda line: int(line["bytes_in"]))
    assert [line["path"] for line in by_size] == ["copy", "splice"]


def test_copy_alone_carries_bulk_when_there_are_no_pipes(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, process=COPY_ONLY)
    before = scene.lb.workers_total("spliced_bytes_total")
    client, server = scene.pair(backend)
    exchange(client, server, Plan(1, 16 << 20, 1 << 18, 0), Plan(2, 16 << 20, 1 << 18, 0))
    assert scene.access()[0]["path"] == "copy"
    assert scene.lb.workers_total("spliced_bytes_total") == before


def test_one_stream_alternates_between_bulk_and_tiny_segments(
    balance: MakeScene, backend: Backend, process: dict[str, int]
) -> None:
    """Changing the path in the middle of a stream moves no byte."""
    scene = balance(backend, process=process)
    client, server = scene.pair(backend)
    offset = 0
    for round_number in range(6):
        bulk = Background(lambda start=offset: client.send_pattern(7, 3 << 20, start))  # type: ignore[misc]
        server.receive_pattern(7, 3 << 20, offset)
        bulk.result()
        offset += 3 << 20
        for size in range(1, 120, 7):
            client.send(pattern(7, offset, size))
            if round_number % 2:
                server.receive_pattern(7, size, offset)
            offset += size
        if not round_number % 2:
            total = sum(range(1, 120, 7))
            server.receive_pattern(7, total, offset - total)
    client.finish()
    assert server.drain(7, offset) == Ended(offset, End.FIN)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_tiny_segments_against_a_stalled_reader_neither_hang_nor_spin(
    balance: MakeScene, small_backend: Backend, direction: str
) -> None:
    """Small segments use up a pipe's slots long before its bytes."""
    scene = balance(small_backend)
    client, server = scene.pair(small_backend, receive_buffer=8192)
    sender, reader = (client, server) if direction == "up" else (server, client)
    # Bulk first, so that the stream is on the splice path when the small segments come.
    start = sender.fill(5, 8 << 20)
    reader.receive_pattern(5, start)
    sent = sender.fill(5, start + 4_000_000, offset=start, chunk=100)
    assert_quiet(scene.lb.pid, 0.5)
    reading = Background(lambda: reader.drain(5, start))
    sender.send_pattern(5, 1000, sent)
    sender.finish()
    assert reading.result() == Ended(sent + 1000, End.FIN)


def test_both_readers_stalled_then_slow_lose_nothing(
    balance: MakeScene, small_backend: Backend, process: dict[str, int]
) -> None:
    scene = balance(small_backend, process=process)
    client, server = scene.pair(small_backend, receive_buffer=8192)
    up, down = client.fill(1), server.fill(2)
    assert_quiet(scene.lb.pid, 0.5)

    def slowly(peer: Peer, key: int) -> Ended:
        """Ten bytes at a time at first, the rest at full speed."""
        for offset in range(0, 2000, 10):
            peer.receive_pattern(key, 10, offset)
        return peer.drain(key, 2000)

    readers = [Background(lambda: slowly(server, 1)), Background(lambda: slowly(client, 2))]
    client.finish()
    server.finish()
    assert readers[0].result() == Ended(up, End.FIN)
    assert readers[1].result() == Ended(down, End.FIN)


def test_slow_reader_gets_everything(balance: MakeScene, small_backend: Backend) -> None:
    scene = balance(small_backend)
    client, server = scene.pair(small_backend, receive_buffer=8192)
    total = 3 << 20
    feeding = Background(lambda: (server.send_pattern(3, total), server.finish()))
    assert slow_drain(client, 3, 16_384, lambda: observe(0.001)) == Ended(total, End.FIN)
    feeding.result()


def test_fin_behind_any_tail_in_a_full_pipe_follows_the_tail(
    balance: MakeScene, small_backend: Backend, process: dict[str, int]
) -> None:
    """The last block and the FIN come together while the reader is stalled and everything in between is full."""
    scene = balance(small_backend, process=process)
    rng = random.Random(11)
    for tail in [0, 1, 4095, 4096, 4097, *(rng.randrange(70_000) for _ in range(7))]:
        client, server = scene.pair(small_backend, receive_buffer=8192)
        sent = server.fill(9, quiet=0.02)
        adding = Background(lambda s=server, n=sent, t=tail: (s.send_pattern(9, t, n), s.finish()))  # type: ignore[misc]
        assert client.drain(9) == Ended(sent + tail, End.FIN)
        adding.result()
        client.close()
        server.close()


def test_reset_at_any_offset_leaves_an_exact_prefix(
    balance: MakeScene, backend: Backend, process: dict[str, int]
) -> None:
    scene = balance(backend, process=process)
    rng = random.Random(3)
    for number in range(30):
        client, server = scene.pair(backend)
        sender, reader = (client, server) if number % 2 else (server, client)
        length = rng.randrange(3_000_000 if number % 3 else 20_000)

        def send(sender: Peer = sender, length: int = length, number: int = number) -> None:
            sender.send_pattern(number, length)
            if number % 4 < 2:
                sender.wait_acknowledged()
            sender.reset()

        sending = Background(send)
        ended = reader.drain(number)
        sending.result()
        assert ended.end is End.RESET
        assert ended.count <= length
        if number % 4 < 2:
            assert ended.count == length, "bytes that had arrived were dropped because of the RST behind them"
        reader.close()


def test_what_an_aborted_session_held_reaches_no_other_session(
    balance: MakeScene, small_backend: Backend, process: dict[str, int]
) -> None:
    """Pipes, buffers and slots are used again at once after a session died with bytes in them."""
    # A backend that resets before the balancer has seen it connected would be tried again, and meet a later `accept`.
    scene = balance(small_backend, process=process, pool={"retries": 0})
    for number in range(120):
        client, server = scene.pair(small_backend, receive_buffer=8192)
        (client if number % 2 else server).fill(2 * number, 4 << 20, quiet=0)
        (server if number % 4 < 2 else client).reset()
        following, next_server = scene.pair(small_backend)
        following.send_pattern(2 * number + 1, 2000)
        next_server.receive_pattern(2 * number + 1, 2000)
        next_server.send_pattern(2 * number + 1, 300_000)
        following.receive_pattern(2 * number + 1, 300_000)
        for peer in (client, server, following, next_server):
            peer.close()


def test_one_byte_ping_pong_has_no_delayed_acknowledgement_plateau(balance: MakeScene, backend: Backend) -> None:
    """2,000 exchanges at 40 ms each would take 80 s, far beyond the deadline."""
    scene = balance(backend)
    client, server = scene.pair(backend)

    def answer() -> None:
        for _ in range(2000):
            server.send(server.receive(1))

    answering = Background(answer)
    for _ in range(2000):
        client.send(b"x")
        assert client.receive(1) == b"x"
    answering.result()


@pytest.mark.parametrize("ahead", [3, 8 << 20], ids=["small", "bulk"])
def test_urgent_byte_is_dropped_and_holds_nothing_back(balance: MakeScene, backend: Backend, ahead: int) -> None:
    """Reads stop at the mark of an urgent byte, and no event tells that more lies behind it."""
    scene = balance(backend)
    for round_number in range(20 if ahead < 1000 else 3):
        client, server = scene.pair(backend)
        with client, server:
            receiving = Background(partial(server.receive_pattern, round_number, ahead + 500))
            client.send_pattern(round_number, ahead)
            client.sock.send(b"!", socket.MSG_OOB)
            client.send_pattern(round_number, 500, ahead)
            receiving.result()
            server.send(b"?")
            assert client.receive(1) == b"?"


def test_bytes_are_counted_where_they_went(balance: MakeScene, backend: Backend) -> None:
    scene: Scene = balance(backend)
    client, server = scene.pair(backend)
    exchange(client, server, Plan(1, 5_000_001, 1 << 18, 0), Plan(2, 777, 1 << 18, 0))
    wait_until(lambda: scene.backend_status()["connections"] == 0)
    status = scene.backend_status()
    assert (status["bytes_in"], status["bytes_out"]) == (5_000_001, 777)
