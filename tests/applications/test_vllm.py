"""Token streams behind conf/vllm.yaml: whole and byte for byte across changes; a lost replica costs its own only."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.applications.clients import Load, client, lost
from tests.applications.fleet import SERVER, A, B, C, Fleet, endings, recipe
from tests.applications.servers.tokens import END, token
from tests.helpers.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.slow

ORIGIN = f"http://{SERVER}:8000"
REPLICAS = {"gpu-a": A, "gpu-b": B, "gpu-c": C}
NORMAL, CUT = ("--", "normal"), ("SD", "server_abort")


def backend(name: str) -> dict[str, str | int]:
    return {"name": name, "address": f"{REPLICAS[name]}:8000", "max_busy": 256}


class Stream(threading.Thread):
    """A client that reads one stream to its end, and keeps its connection until it is closed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.replica: str | None = None
        self.body = b""
        self.error: httpx.HTTPError | None = None
        self._client = client(ORIGIN)
        self.start()

    def run(self) -> None:
        try:
            with self._client.stream("POST", "/v1/completions", json={"prompt": self.name, "stream": True}) as answer:
                answer.raise_for_status()
                self.replica = answer.headers["X-Replica"]
                for piece in answer.iter_raw():
                    self.body += piece
        except httpx.HTTPError as error:
            self.error = error

    @property
    def tokens(self) -> int:
        return self.body.count(b"\n\n")

    def wait_tokens(self, more: int = 5) -> None:
        """Wait until so many more have come."""
        wanted = self.tokens + more
        wait_until(lambda: self.tokens >= wanted, what=lambda: (self.name, self.replica, self.error, self.tokens))

    def wait_whole(self) -> None:
        """Wait for the end of it; every byte is the expected one."""
        self.join(DEADLINE)
        assert not self.is_alive(), self.name
        assert self.error is None
        tokens = self.body.count(b"\n\n") - 1
        assert self.body == b"".join(token(self.name, index) for index in range(tokens)) + END

    def wait_cut(self) -> None:
        """Wait until it is cut off. What came before is right."""
        self.join(DEADLINE)
        assert isinstance(self.error, httpx.TransportError), self.error
        expected = b"".join(token(self.name, index) for index in range(self.tokens + 1))
        assert expected.startswith(self.body)

    def close(self) -> None:
        self._client.close()
        self.join(DEADLINE)


class Streams:
    """Those of a test, by name."""

    def __init__(self) -> None:
        self._all: list[Stream] = []

    def begin(self, *names: str) -> None:
        """Begin these and wait for their first tokens."""
        new = [Stream(name) for name in names]
        self._all += new
        for stream in new:
            stream.wait_tokens()

    def of(self, *replicas: str) -> list[Stream]:
        return [stream for stream in self._all if stream.replica in replicas]

    def last(self, number: int) -> list[Stream]:
        return self._all[-number:]

    def wait_more(self, *replicas: str) -> None:
        for stream in self.of(*replicas):
            stream.wait_tokens()

    def close(self) -> None:
        for stream in self._all:
            stream.close()


class Servers(Fleet):
    """The replicas by name."""

    def start(self, name: str) -> subprocess.Popen[bytes]:
        return self.serve("tokens", REPLICAS[name], 8000, name)


def ask(http: httpx.Client, number: int) -> str:
    answer = http.post("/v1/completions", json={"prompt": f"request {number}", "stream": False})
    assert answer.json() == {"text": f"REQUEST {number}"}
    replica: str = answer.headers["X-Replica"]
    return replica


@pytest.fixture
def streams() -> Iterator[Streams]:
    streams = Streams()
    yield streams
    streams.close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    with Servers(recipe("vllm")) as servers:
        yield servers


def let_end(*replicas: subprocess.Popen[bytes]) -> None:
    for replica in replicas:
        os.kill(replica.pid, signal.SIGUSR1)


def test_streams_come_whole_across_reload_and_drain(servers: Servers, streams: Streams) -> None:
    replicas = [servers.start(name) for name in REPLICAS]
    with servers.balanced():
        streams.begin("s0", "s1", "s2", "s3")
        assert len(streams.of("gpu-a")) == len(streams.of("gpu-b")) == 2
        with client(ORIGIN) as kept, Load(ORIGIN, ask) as load:
            load.wait_answers("gpu-a", 100)
            first = ask(kept, 0)

            servers.change(llama=[backend("gpu-a"), backend("gpu-c")])  # b leaves, c joins
            servers.wait_up("llama", "gpu-c")
            streams.begin("s4", "s5", "s6", "s7")
            assert len(streams.of("gpu-b")) == 2
            streams.wait_more("gpu-a", "gpu-b", "gpu-c")

            servers.drain("llama", "gpu-a")
            streams.begin("s8", "s9")
            assert {stream.replica for stream in streams.last(2)} == {"gpu-c"}
            load.wait_answers("gpu-c")
            streams.wait_more("gpu-a", "gpu-b", "gpu-c")

            let_end(*replicas)
            for stream in streams.of(*REPLICAS):
                stream.wait_whole()
            streams.close()
            servers.wait_left("gpu-a", "gpu-b")
            # A client keeps its connection, and its next request goes elsewhere.
            assert first != ask(kept, 1) == "gpu-c"
        assert load.failures == []
        assert len(streams.of(*REPLICAS)) == 10
        lines = servers.ended()
    assert endings(lines).keys() == {NORMAL}
    assert any(line["moves"] for line in lines)


def test_lost_replica_costs_its_own_streams_only(servers: Servers, streams: Streams) -> None:
    a, b = servers.start("gpu-a"), servers.start("gpu-b")
    with servers.balanced():
        streams.begin("s0", "s1", "s2", "s3")
        assert len(streams.of("gpu-a")) == len(streams.of("gpu-b")) == 2
        with Load(ORIGIN, ask) as load:
            load.wait_answers("gpu-a")
            a.kill()
            for stream in streams.of("gpu-a"):
                stream.wait_cut()
            streams.wait_more("gpu-b")
            load.wait_answers("gpu-b")
            streams.begin("s4", "s5")
            assert {stream.replica for stream in streams.last(2)} == {"gpu-b"}
            let_end(b)
            for stream in streams.of("gpu-b"):
                stream.wait_whole()
        streams.close()
        lines = servers.ended()
    # The kernel ends the connections of a process that is gone as that process would have: only one with a question
    # that was not read yet is reset.
    assert endings(lines, "gpu-a").keys() <= {NORMAL, CUT}
    assert endings(lines, "gpu-b").keys() == {NORMAL}
    assert lost(lines, load.failures) <= {"gpu-a"}
