"""PostgreSQL behind conf/postgres.yaml: pgbench loses no transaction on the replicas, whether sessions are long or
short."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.applications.conftest import COMMAND_DEADLINE, PREFIX, daemon, example, program, run, wait_all_closed
from tests.helpers.balancer import Balancer
from tests.helpers.waiting import wait_until

LISTENER = f"{PREFIX}.5"
REPLICAS = tuple(f"{PREFIX}.{host}" for host in (21, 22, 23))
CLIENTS = 8
EACH = 100
"""Transactions of each client."""


class Patroni(BaseHTTPRequestHandler):
    """Says that this host is a replica that may serve."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path.startswith("/replica?") else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


def newest_server() -> Path | None:
    """Where the newest server of this machine has its programs; None is the PATH."""
    found = Path("/usr/lib/postgresql").glob("*/bin")
    return max(found, key=lambda path: int(path.parent.name), default=None)


def as_postgres() -> tuple[str, ...]:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return ()
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return (program("runuser"), "-u", "postgres", "--")


class Postgres:
    """One server that stands for all three replicas, and the balancer in front of it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        programs, prefix = newest_server(), as_postgres()
        self.pgbench = program("pgbench", programs)
        data = directory / "data"
        data.mkdir(mode=0o700)
        if prefix:
            directory.chmod(0o755)
            shutil.chown(data, "postgres")
        run(*prefix, program("initdb", programs), "-D", str(data), "-U", "bench", "-A", "trust", "--no-sync")
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 127.0.0.0/8 trust\n")
        settings = {"listen_addresses": ",".join(REPLICAS), "unix_socket_directories": "", "fsync": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = daemon(*prefix, program("postgres", programs), "-D", str(data), *options, log=directory / "log")
        stack.enter_context(server)
        ready = program("pg_isready", programs)
        wait_until(lambda: subprocess.run([ready, "-q", "-h", REPLICAS[-1]]).returncode == 0, COMMAND_DEADLINE)
        for replica in REPLICAS:
            stack.enter_context(patroni(replica))
        self.balancer: Balancer = stack.enter_context(example("postgres"))
        wait_until(lambda: self.health() == {"up"})

    def health(self) -> set[str]:
        backends = self.balancer.status()["pools"]["replicas"]["backends"]
        return {backend["health"] for backend in backends.values()}

    def bench(self, *options: str) -> str:
        return run(self.pgbench, "-h", LISTENER, "-p", "5433", "-U", "bench", *options, "postgres")


@contextlib.contextmanager
def patroni(host: str) -> Iterator[None]:
    with ThreadingHTTPServer((host, 8008), Patroni) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="l4lb-test-") as directory, ExitStack() as stack:
        postgres = Postgres(Path(directory), stack)
        postgres.bench("-i", "-q", "-s", "1")
        yield postgres


def processed(report: str) -> int:
    """How many transactions pgbench counts; none may have failed."""
    assert "number of failed transactions: 0 (" in report, report
    found = re.search(r"number of transactions actually processed: (\d+)", report)
    assert found, report
    return int(found[1])


def connections(postgres: Postgres) -> int:
    total: int = postgres.balancer.status()["listeners"]["postgres-read"]["connections_total"]
    return total


def test_long_sessions_lose_no_transaction(postgres: Postgres) -> None:
    before = connections(postgres)
    transactions = processed(postgres.bench("-n", "-c", str(CLIENTS), "-j", "2", "-t", str(EACH)))
    assert transactions == CLIENTS * EACH
    status = wait_all_closed(postgres.balancer, "postgres-read")
    assert connections(postgres) - before >= CLIENTS
    backends = status["pools"]["replicas"]["backends"]
    assert all(backend["connections_total"] > 0 for backend in backends.values())


def test_a_session_for_each_transaction_loses_none(postgres: Postgres) -> None:
    before = connections(postgres)
    transactions = processed(postgres.bench("-n", "-S", "-C", "-c", str(CLIENTS), "-j", "2", "-t", str(EACH)))
    assert transactions == CLIENTS * EACH
    wait_all_closed(postgres.balancer, "postgres-read")
    assert connections(postgres) - before >= transactions
