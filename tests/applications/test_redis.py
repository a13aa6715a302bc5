"""Redis behind conf/redis.yaml: the protocol of a real server and its own benchmark, with nothing lost or broken."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.applications.conftest import PREFIX, daemon, example, program, run, wait_all_closed
from tests.helpers.balancer import Balancer
from tests.helpers.waiting import wait_until

LISTENER, PRIMARY, REPLICA = (f"{PREFIX}.{host}" for host in (5, 11, 12))


class Redis:
    """A primary, its replica, and the balancer in front of them."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        server = program("redis-server")
        common = ("--port", "6379", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
        self.primary = self._serve(stack, directory / "primary", server, "--bind", PRIMARY, *common)
        self.replica = self._serve(
            stack, directory / "replica", server, "--bind", REPLICA, *common, "--replicaof", PRIMARY, "6379"
        )
        wait_until(lambda: "master_link_status:up" in self.ask(REPLICA, "info", "replication"))
        self.balancer: Balancer = stack.enter_context(example("redis"))
        wait_until(lambda: self.health() == {"up"})

    def _serve(self, stack: ExitStack, directory: Path, *command: str) -> subprocess.Popen[bytes]:
        directory.mkdir()
        return stack.enter_context(daemon(*command, log=directory / "log"))

    def health(self) -> set[str]:
        backends = self.balancer.status()["pools"]["redis"]["backends"]
        return {backend["health"] for backend in backends.values()}

    def ask(self, host: str, *command: str) -> str:
        """What the server at `host` says, or what went wrong."""
        asked = subprocess.run([program("redis-cli"), "-h", host, *command], capture_output=True, text=True, timeout=10)
        return (asked.stdout + asked.stderr).strip()


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
    assert backends["primary"]["bytes_in"] >= requests * size
    assert backends["primary"]["bytes_out"] >= requests * size
    assert backends["replica"]["connections_total"] == 0


def test_the_replica_steps_in_at_once(redis: Redis) -> None:
    assert redis.ask(LISTENER, "set", "key", "value") == "OK"
    wait_until(lambda: redis.ask(REPLICA, "get", "key") == "value")
    redis.primary.terminate()
    redis.primary.wait()
    # The first client after it need not wait for a check to fail.
    assert redis.ask(LISTENER, "get", "key") == "value"
    assert redis.ask(LISTENER, "set", "key", "other").startswith("READONLY")
