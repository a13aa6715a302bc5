"""Redis behind conf/redis.yaml: the protocol of a real server and its own benchmark, with nothing lost or broken; and
failovers in which no write is lost, no answer is stale, and one server at a time is written to."""

from __future__ import annotations

import contextlib
import csv
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.applications.conftest import PREFIX, daemon, example, program, run, wait_all_closed
from tests.applications.writers import Writer
from tests.helpers.balancer import Balancer
from tests.helpers.peers import Peer, connect
from tests.helpers.waiting import wait_until

LISTENER, ONE, TWO = (f"{PREFIX}.{host}" for host in (5, 11, 12))
NAMES = {ONE: "one", TWO: "two"}
PORT = 6379
TIME = 60.0


class Redis:
    """A primary, its replica, and the balancer in front of them."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.start(ONE)
        self.start(TWO, "--replicaof", ONE, str(PORT))
        self.wait_replicates(TWO)
        self.balancer: Balancer = stack.enter_context(example("redis"))
        self.wait_health(redis={"one": "up"}, **{"redis-read": {"two": "up"}})

    def start(self, host: str, *options: str) -> None:
        """Start the server at `host` without data, a primary unless the options say otherwise."""
        directory = self._directory / f"{NAMES[host]}-{len(list(self._directory.iterdir()))}"
        directory.mkdir()
        common = ("--port", str(PORT), "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
        server = (program("redis-server"), "--bind", host, *common, *options)
        self.servers[host] = self._stack.enter_context(daemon(*server, log=directory / "log"))
        wait_until(lambda: self.ask(host, "ping") == "PONG", TIME)

    def kill(self, host: str) -> None:
        self.servers[host].kill()
        self.servers[host].wait()

    def wait_replicates(self, host: str) -> None:
        wait_until(lambda: "master_link_status:up" in self.ask(host, "info", "replication"), TIME)

    def wait_in_step(self) -> None:
        """Until the replica has everything. Nothing may be written meanwhile."""
        wait_until(lambda: self.ask(ONE, "get", "newest") == self.ask(TWO, "get", "newest"), TIME)

    def health(self, pool: str) -> dict[str, str]:
        backends = self.balancer.status()["pools"][pool]["backends"]
        return {name: backend["health"] for name, backend in backends.items()}

    def wait_health(self, **pools: dict[str, str]) -> None:
        for pool, expected in pools.items():
            wait_until(
                lambda pool=pool, expected=expected: expected.items() <= self.health(pool).items(),  # type: ignore[misc]
                TIME,
                what=lambda pool=pool: self.health(pool),  # type: ignore[misc]
            )

    def ask(self, host: str, *command: str, port: int = PORT) -> str:
        """What the server at `host` says, or what went wrong."""
        client = (program("redis-cli"), "-h", host, "-p", str(port))
        asked = subprocess.run([*client, *command], capture_output=True, text=True, timeout=TIME)
        return (asked.stdout + asked.stderr).strip()

    def numbers(self, host: str) -> set[int]:
        """What is stored there."""
        return {int(line) for line in self.ask(host, "lrange", "numbers", "0", "-1").split()}


class Session:
    """One connection to the listener of the primary."""

    def __init__(self) -> None:
        self._peer: Peer = connect((LISTENER, PORT))

    def write(self, number: int) -> None:
        self._say(f"RPUSH numbers {number}", b":")
        self._say(f"SET newest {number}", b"+OK")

    def newest(self) -> int:
        self._say("GET newest", b"$")
        return int(self._line())

    def wait_end(self) -> None:
        """Until it is ended, without a word."""
        assert self._peer.read_all() == b""

    def close(self) -> None:
        self._peer.close()

    def _say(self, command: str, expected: bytes) -> None:
        self._peer.send(f"{command}\r\n".encode())
        if not (answer := self._line()).startswith(expected):
            raise ConnectionError(answer)

    def _line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\r\n"):
            if not (byte := self._peer.sock.recv(1)):
                raise ConnectionError("the session ended")
            line += byte
        return bytes(line)


@pytest.fixture
def redis() -> Iterator[Redis]:
    with tempfile.TemporaryDirectory(prefix="l4lb-test-") as directory, ExitStack() as stack:
        yield Redis(Path(directory), stack)


# The benchmark leaves as soon as it has its answers: a multiple of the pipeline leaves none behind, which would be an
# abort rather than a normal end.
@pytest.mark.parametrize(
    ("requests", "pipeline", "size"),
    [(20_000, 1, 3), (20_000, 16, 3), (1_024, 1, 65_536), (1_024, 16, 65_536)],
)
def test_its_benchmark_finds_no_difference(redis: Redis, requests: int, pipeline: int, size: int) -> None:
    options = ("-n", str(requests), "-c", "50", "-P", str(pipeline), "-d", str(size), "-t", "set,get", "--csv")
    report = run(program("redis-benchmark"), "-h", LISTENER, *options)
    rates = {row["test"]: float(row["rps"]) for row in csv.DictReader(report.splitlines())}
    assert rates.keys() == {"SET", "GET"}
    assert all(rate > 0 for rate in rates.values())

    status = wait_all_closed(redis.balancer, "redis")
    backends = status["pools"]["redis"]["backends"]
    assert backends["one"]["bytes_in"] >= requests * size
    assert backends["one"]["bytes_out"] >= requests * size
    assert backends["two"]["connections_total"] == 0


@pytest.mark.slow
def test_failovers_lose_no_write_and_answer_with_nothing_stale(redis: Redis) -> None:
    with Writer(Session) as writer:
        writer.wait_for_more()
        # The primary dies, and the replica is promoted.
        redis.kill(ONE)
        redis.wait_health(redis={"one": "down"})
        assert redis.ask(TWO, "replicaof", "no", "one") == "OK"
        writer.begin_anew()
        writer.wait_for_more()
        # The old primary comes back and takes itself for one, without data.
        redis.start(ONE)
        redis.wait_health(redis={"one": "up", "two": "up"})
        writer.wait_for_more()
        assert redis.balancer.status()["pools"]["redis"]["failover"]["held"] == ["one"]
        assert redis.numbers(ONE) == set()
        # It is made a replica, gets everything, and is promoted in its turn when the other one dies.
        assert redis.ask(ONE, "replicaof", TWO, str(PORT)) == "OK"
        redis.wait_replicates(ONE)
        redis.wait_health(redis={"one": "down", "two": "up"}, **{"redis-read": {"one": "up"}})
        writer.wait_for_more()
        with writer.held():
            redis.wait_in_step()
            redis.kill(TWO)
        redis.wait_health(redis={"two": "down"})
        assert redis.ask(ONE, "replicaof", "no", "one") == "OK"
        writer.wait_for_more()
        redis.start(TWO)
        redis.wait_health(redis={"one": "up", "two": "up"})
        writer.wait_for_more()
        with writer.held():
            assert set(writer.acknowledged) <= redis.numbers(ONE)
            assert redis.numbers(TWO) == set()
    assert writer.stale == []


@pytest.mark.slow
def test_a_switch_over_ends_the_sessions_of_the_old_primary(redis: Redis) -> None:
    with contextlib.closing(Session()) as session:
        session.write(1)
        redis.wait_in_step()
        assert redis.ask(TWO, "replicaof", "no", "one") == "OK"
        redis.wait_health(redis={"two": "up"})
        # Two primaries: everybody stays with the first one.
        session.write(2)
        assert redis.numbers(TWO) == {1}
        assert redis.ask(ONE, "replicaof", TWO, str(PORT)) == "OK"
        session.wait_end()
    redis.wait_health(redis={"one": "down"})
    with contextlib.closing(Session()) as session:
        session.write(4)
    assert 4 in redis.numbers(TWO)


@pytest.mark.slow
def test_reads_go_to_replicas(redis: Redis) -> None:
    with contextlib.closing(Session()) as session:
        session.write(1)
    redis.wait_in_step()
    assert redis.ask(LISTENER, "get", "newest", port=6380) == "1"
    assert redis.ask(LISTENER, "set", "newest", "2", port=6380).startswith("READONLY")
    assert redis.balancer.status()["pools"]["redis-read"]["backends"]["one"]["connections_total"] == 0
