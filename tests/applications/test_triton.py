"""gRPC behind conf/triton.yaml: every message of every stream comes once and in order, whatever changes around it."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator

import grpc
import pytest

from tests.applications.fleet import SERVER, A, B, C, Fleet, endings, recipe
from tests.applications.servers.counting import END, SERVICE, message
from tests.helpers.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.slow

PORT = 8001
REPLICAS = {"triton-a": A, "triton-b": B, "triton-c": C}
ALONE = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100))
"""Each channel is a connection of its own, and soon tries again."""

NORMAL, DRAINED, CUT = ("--", "normal"), ("DD", "drained"), ("SD", "server_abort")


def backend(name: str) -> dict[str, str]:
    return {"name": name, "address": f"{REPLICAS[name]}:{PORT}"}


class Channel:
    """A client: one connection, and what is asked over it."""

    def __init__(self) -> None:
        self._channel = grpc.insecure_channel(f"{SERVER}:{PORT}", options=ALONE)
        self.streams: list[Stream] = []

    def name(self) -> str:
        """The replica that answers now."""
        call = self._channel.unary_unary(f"/{SERVICE}/Name")
        return bytes(call(b"", timeout=DEADLINE)).decode()

    def count(self, name: str) -> Stream:
        """Begin a stream of the server's."""
        stream = Stream(name, self._channel.unary_stream(f"/{SERVICE}/Count")(name.encode(), timeout=6 * DEADLINE))
        self.streams.append(stream)
        return stream

    def echo(self, name: str) -> Echo:
        """Begin a stream of both."""
        stream = Echo(name, self._channel.stream_stream(f"/{SERVICE}/Echo"))
        self.streams.append(stream)
        return stream

    def close(self) -> None:
        self._channel.close()


class Stream(threading.Thread):
    """Reads one stream to its end and refuses the first message that is not the expected one."""

    def __init__(self, name: str, call: grpc.Call) -> None:
        super().__init__()
        self.name = name
        self.replica: str | None = None
        self.count = 0
        self.whole = False
        self.wrong: bytes | None = None
        self.code: grpc.StatusCode | None = None
        self._call = call
        self.start()

    def run(self) -> None:
        try:
            self.replica = bytes(next(self._call)).decode()
            for received in self._call:
                if received == END:
                    self.whole = True
                elif received == message(self.name, self.count) and not self.whole:
                    self.count += 1
                    self.came()
                else:
                    self.wrong = received
        except grpc.RpcError as error:
            self.code = error.code()

    def came(self) -> None:
        """Another message came."""

    def end(self) -> None:
        """Nothing to do: the server ends it."""

    def wait_messages(self, more: int = 5) -> None:
        wanted = self.count + more
        wait_until(lambda: self.count >= wanted, what=lambda: (self.name, self.replica, self.code, self.count))

    def wait_whole(self) -> None:
        self.join(DEADLINE)
        assert (self.whole, self.wrong, self.code) == (True, None, None), (self.name, self.replica, self.count)

    def wait_cut(self) -> None:
        """Wait until it fails. Every message that came before was right."""
        self.join(DEADLINE)
        assert (self.whole, self.wrong, self.code) == (False, None, grpc.StatusCode.UNAVAILABLE)


class Echo(Stream):
    """Says the next message when the one before it has come back."""

    def __init__(self, name: str, method: grpc.StreamStreamMultiCallable) -> None:
        self._said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._said.put(message(name, 0))
        super().__init__(name, method(iter(self._said.get, None), timeout=6 * DEADLINE))

    def came(self) -> None:
        self._said.put(message(self.name, self.count))

    def end(self) -> None:
        self._said.put(None)


class Channels:
    """Those of a test."""

    def __init__(self) -> None:
        self.all: list[Channel] = []

    def open(self, number: int) -> list[Channel]:
        """So many more, each with a stream of either kind, once their first messages have come."""
        new = [Channel() for _ in range(number)]
        for channel in new:
            serial = len(self.all)
            self.all.append(channel)
            for stream in (channel.count(f"count-{serial}"), channel.echo(f"echo-{serial}")):
                stream.wait_messages()
        return new

    def of(self, *replicas: str) -> list[Channel]:
        return [channel for channel in self.all if channel.streams[0].replica in replicas]

    def streams(self, *replicas: str) -> list[Stream]:
        return [stream for channel in self.of(*replicas) for stream in channel.streams]

    def wait_more(self, *replicas: str) -> None:
        for stream in self.streams(*replicas):
            stream.wait_messages()

    def close(self) -> None:
        for channel in self.all:
            channel.close()
            for stream in channel.streams:
                stream.end()
                stream.join(DEADLINE)


class Servers(Fleet):
    """The replicas by name."""

    def start(self, name: str) -> subprocess.Popen[bytes]:
        return self.serve("counting", REPLICAS[name], PORT, name)


@pytest.fixture
def servers() -> Iterator[Servers]:
    with Servers(recipe("triton")) as servers:
        yield servers


@pytest.fixture
def channels() -> Iterator[Channels]:
    channels = Channels()
    yield channels
    channels.close()


def let_end(channels: Channels, *replicas: subprocess.Popen[bytes]) -> None:
    for stream in channels.streams(*REPLICAS):
        stream.end()
    for replica in replicas:
        os.kill(replica.pid, signal.SIGUSR1)


def test_streams_lose_no_message_across_reload_and_drain(servers: Servers, channels: Channels) -> None:
    replicas = [servers.start(name) for name in REPLICAS]
    with servers.balanced():
        channels.open(4)
        assert len(channels.of("triton-a")) == len(channels.of("triton-b")) == 2

        servers.change(grpc=[backend("triton-a"), backend("triton-c")])  # b leaves, c joins
        servers.wait_up("grpc", "triton-c")
        channels.open(4)
        assert len(channels.of("triton-b")) == 2
        assert channels.of("triton-c")
        channels.wait_more(*REPLICAS)

        servers.drain("grpc", "triton-a")
        assert {channel.streams[0].replica for channel in channels.open(2)} == {"triton-c"}
        channels.wait_more(*REPLICAS)

        let_end(channels, *replicas)
        for stream in channels.streams(*REPLICAS):
            stream.wait_whole()
        servers.wait_left("triton-a", "triton-b")
        channels.close()
        lines = servers.ended()
    left = len(channels.of("triton-a", "triton-b"))
    assert left >= 4
    assert endings(lines) == {DRAINED: left, NORMAL: len(channels.all) - left}


def test_lost_replica_costs_its_own_streams_only(servers: Servers, channels: Channels) -> None:
    a, b = servers.start("triton-a"), servers.start("triton-b")
    with servers.balanced():
        channels.open(4)
        lost = channels.of("triton-a")
        assert len(lost) == len(channels.of("triton-b")) == 2
        a.kill()
        for stream in channels.streams("triton-a"):
            stream.wait_cut()
        assert {channel.name() for channel in lost} == {"triton-b"}
        channels.wait_more("triton-b")
        assert {channel.streams[0].replica for channel in channels.open(2)} == {"triton-b"}
        let_end(channels, b)
        for stream in channels.streams("triton-b"):
            stream.wait_whole()
        channels.close()
        lines = servers.ended()
    assert endings(lines, "triton-a").keys() <= {NORMAL, CUT}
    assert endings(lines, "triton-b") == {NORMAL: len(channels.all)}  # those that had lost the other came here
