"""The conversation of an upgrade: whole messages with their descriptors, and peers that say something else."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from l4lb.handover.batches import batches
from l4lb.process.upgrade.channel import (
    BODY_MAX,
    DESCRIPTORS_MAX,
    Channel,
    HandoverError,
    Message,
    PeerEnded,
    decode_body,
    decode_header,
    encode,
    send_blocking,
)
from tests.helpers.loops import run as run_loop

Case = Callable[[Channel, socket.socket], Awaitable[None]]


def converse(case: Case) -> None:
    """Run `case` with a channel and the bare socket at its other end; no descriptor is left open."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        try:
            async with asyncio.timeout(10):
                await case(channel, theirs)
        finally:
            channel.close()
            theirs.close()

    # The first loop of a process opens what all of them share.
    run_loop(asyncio.sleep(0))
    before = set(os.listdir("/proc/self/fd"))
    run_loop(run())
    assert set(os.listdir("/proc/self/fd")) == before


def test_messages_arrive_whole_and_in_order_with_their_descriptors() -> None:
    async def case(channel: Channel, theirs: socket.socket) -> None:
        other = Channel(theirs)
        ends = [os.pipe() for _ in range(DESCRIPTORS_MAX)]
        readers = [reader for reader, _ in ends]
        sending = asyncio.ensure_future(send(channel, readers))
        first = await other.receive()
        assert (first.kind, first.fields) == ("first", {"text": "ü" * 100_000})
        second = await other.receive()
        assert len(second.descriptors) == len(readers)
        for (_, writer), got in zip(ends, second.descriptors, strict=True):
            os.write(writer, b"x")
            assert os.read(got, 1) == b"x"
            assert not os.get_inheritable(got)
        second.close()
        await sending
        for pair in ends:
            for descriptor in pair:
                os.close(descriptor)

    async def send(channel: Channel, readers: list[int]) -> None:
        await channel.send("first", text="ü" * 100_000)
        await channel.send("second", readers)

    converse(case)


def test_a_message_before_the_loop_is_one_like_any_other() -> None:
    async def case(channel: Channel, theirs: socket.socket) -> None:
        send_blocking(theirs, "hello", pid=7)
        assert await channel.receive() == Message("hello", {"pid": 7}, [])

    converse(case)


@pytest.mark.parametrize(
    "data",
    [b"x" * 100, struct.pack("!II", 0, 0), struct.pack("!II", BODY_MAX + 1, 0), struct.pack("!II", 9, 254),
     struct.pack("!II", 2, 0) + b"{}", struct.pack("!II", 2, 0) + b"[]", struct.pack("!II", 3, 0) + b"\xff{}",
     struct.pack("!II", 13, 1) + b'{"kind": "x"}'],
    ids=["noise", "empty", "too long", "too many descriptors", "no kind", "no object", "no text", "too few of them"],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: bytes) -> None:
    async def case(channel: Channel, theirs: socket.socket) -> None:
        theirs.sendall(data)
        with pytest.raises(HandoverError):
            await channel.receive()

    converse(case)


@pytest.mark.parametrize("data", [b"", b"abc", struct.pack("!II", 100, 0), struct.pack("!II", 100, 0) + b"half"])
def test_the_end_is_noticed_wherever_it_comes(data: bytes) -> None:
    async def case(channel: Channel, theirs: socket.socket) -> None:
        theirs.sendall(data)
        theirs.close()
        with pytest.raises(PeerEnded):
            await channel.receive()

    converse(case)


def test_descriptors_of_a_message_that_is_cut_off_are_closed() -> None:
    async def case(channel: Channel, theirs: socket.socket) -> None:
        reader, writer = os.pipe()
        socket.send_fds(theirs, [struct.pack("!II", 100, 1)], [reader])
        os.close(reader)
        theirs.close()
        with pytest.raises(PeerEnded):
            await channel.receive()
        with pytest.raises(BrokenPipeError):
            os.write(writer, b"x")
        os.close(writer)

    converse(case)


def test_sending_without_a_receiver_is_noticed() -> None:
    async def case(channel: Channel, theirs: socket.socket) -> None:
        theirs.close()
        with pytest.raises(PeerEnded):
            await channel.send("hello")

    converse(case)


def test_sending_to_a_receiver_that_does_not_read_can_be_given_up() -> None:
    async def case(channel: Channel, _theirs: socket.socket) -> None:
        async def send() -> None:
            async with asyncio.timeout(0.05):
                while True:
                    await channel.send("sticky", packed="x" * 500_000)

        with pytest.raises(TimeoutError):
            await send()

    converse(case)


def test_what_is_too_large_is_not_sent() -> None:
    with pytest.raises(ValueError, match="too large"):
        encode(Message("x", {"text": "x" * BODY_MAX}))
    with pytest.raises(ValueError, match="too large"):
        encode(Message("x", {}, range(DESCRIPTORS_MAX + 1)))


def test_unknown_fields_are_kept() -> None:
    header, body = encode(Message("new", {"unheard": [1]}))
    assert decode_header(header) == (len(body), 0)
    assert decode_body(body) == Message("new", {"unheard": [1]})


def test_batches_hold_everything_once() -> None:
    assert [list(some) for some in batches(list(range(5)), 2)] == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []
