"""PostgreSQL behind conf/postgres.yaml: failovers in which no transaction is lost, no answer is stale, and only one
server at a time is written to. A stand-in for Patroni answers the checks; the servers are real, and replicate."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.applications.conftest import PREFIX, daemon, example, program, run
from tests.applications.test_postgres import as_postgres, newest_server
from tests.applications.writers import Writer
from tests.helpers.balancer import Balancer
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.slow

LISTENER = f"{PREFIX}.5"
NODES = {f"node-{number}": f"{PREFIX}.2{number}" for number in (1, 2)}
ONE, TWO = NODES
TIME = 90.0
PATRONI = "type: http, path: /primary, port: 8008, status: [200]"
SERVER = "type: pgsql, role: primary, user: bench, database: postgres"
"""What the check of the primary asks: the file's way, and the one without Patroni."""


class Cluster:
    """Two servers, of which the first is the primary, and the balancer in front of them. The third node is not there.

    `leader` names the holder of the leader lock; the servers that are not it do not find out by themselves.
    """

    def __init__(self, directory: Path, stack: ExitStack, check: str) -> None:
        self.programs, self.prefix = newest_server(), as_postgres()
        if self.prefix:
            directory.chmod(0o755)
        self.directory = directory
        self.stack = stack
        self.leader = ONE
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        initdb = self.program("initdb")
        run(*self.prefix, initdb, "-D", str(self.data(ONE)), "-U", "bench", "-A", "trust", "--no-sync")
        with (self.data(ONE) / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 127.0.0.0/8 trust\nhost replication all 127.0.0.0/8 trust\n")
        self.start(ONE)
        self.ask(ONE, "create table numbers (number int primary key)")
        self.join(TWO, ONE)
        for name in NODES:
            stack.enter_context(self.patroni(name))
        self.balancer: Balancer = example("postgres")
        text = self.balancer.file.read_text()
        self.balancer.file.write_text(text.replace(PATRONI, check))
        assert PATRONI in text
        stack.enter_context(self.balancer)
        self.wait_primary(ONE)

    def program(self, name: str) -> str:
        return program(name, self.programs)

    def data(self, name: str) -> Path:
        """Where the server has its data: a directory that it owns."""
        path = self.directory / name
        if not path.exists():
            path.mkdir(mode=0o700)
            if self.prefix:
                shutil.chown(path, "postgres")
        return path

    def start(self, name: str) -> None:
        settings = {"listen_addresses": NODES[name], "unix_socket_directories": "", "fsync": "off"}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        command = (*self.prefix, self.program("postgres"), "-D", str(self.data(name)), *options)
        self.servers[name] = self.stack.enter_context(daemon(*command, log=self.directory / f"{name}.log"))
        ready = (self.program("pg_isready"), "-q", "-h", NODES[name])
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, TIME)

    def join(self, name: str, primary: str) -> None:
        """Begin as a replica, with a copy of all that the primary has."""
        if self.data(name).exists():
            shutil.rmtree(self.data(name))
        copy = (self.program("pg_basebackup"), "-h", NODES[primary], "-U", "bench", "-D", str(self.data(name)))
        run(*self.prefix, *copy, "-R", "-c", "fast", "--no-sync")
        self.start(name)

    def kill(self, name: str) -> None:
        """As a crash of its host does: all processes at once, without a last word."""
        postmaster = (self.data(name) / "postmaster.pid").read_text().split()[0]
        children = subprocess.run(
            ["ps", "--ppid", postmaster, "-o", "pid="], capture_output=True, text=True, check=True
        )
        subprocess.run(["kill", "-9", postmaster, *children.stdout.split()], check=False)
        self.servers[name].wait()
        (self.data(name) / "postmaster.pid").unlink(missing_ok=True)

    def promote(self, name: str) -> None:
        assert self.ask(name, "select pg_promote()") == "t"
        self.leader = name

    def ask(self, name: str, statement: str) -> str:
        client = (self.program("psql"), "-h", NODES[name], "-U", "bench", "-XqAt", "-c", statement, "postgres")
        return run(*client).strip()

    def numbers(self, name: str) -> set[int]:
        """What is stored there."""
        return {int(line) for line in self.ask(name, "select number from numbers").split()}

    def wait_in_step(self) -> None:
        wait_until(lambda: self.numbers(ONE) == self.numbers(TWO), TIME)

    def health(self, name: str) -> str:
        health: str = self.balancer.status()["pools"]["primary"]["backends"][name]["health"]
        return health

    def wait_primary(self, name: str) -> None:
        wait_until(lambda: self.health(name) == "up", TIME)

    def wait_no_primary(self, name: str) -> None:
        wait_until(lambda: self.health(name) == "down", TIME)

    def role(self, name: str) -> str | None:
        """What Patroni says that the server beside it is."""
        client = (self.program("psql"), "-h", NODES[name], "-U", "bench", "-XqAt", "-c", "select pg_is_in_recovery()")
        asked = subprocess.run([*client, "postgres"], capture_output=True, text=True, check=False, timeout=TIME)
        if asked.stdout.strip() == "t":
            return "/replica"
        return "/primary" if asked.stdout.strip() == "f" and self.leader in (name, "any") else None

    @contextlib.contextmanager
    def patroni(self, name: str) -> Iterator[None]:
        cluster = self

        class Patroni(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path.partition("?")[0] == cluster.role(name) else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        with ThreadingHTTPServer((NODES[name], 8008), Patroni) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


class Session:
    """One connection to the listener of the primary: psql, which ends when the server does."""

    def __init__(self, psql: str) -> None:
        command = (psql, "-h", LISTENER, "-p", "5432", "-U", "bench", "-XqAt", "-v", "ON_ERROR_STOP=1", "postgres")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def write(self, number: int) -> None:
        if self._ask(f"insert into numbers values ({number}) returning number;") != number:
            raise ConnectionError("another number came back")

    def newest(self) -> int:
        return self._ask("select coalesce(max(number), 0) from numbers;")

    def _ask(self, statement: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise ConnectionError("the session ended")
        return int(answer)

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="l4lb-test-") as directory, ExitStack() as stack:
        yield Cluster(Path(directory), stack, getattr(request, "param", PATRONI))


@pytest.mark.parametrize("cluster", [PATRONI, SERVER], ids=["patroni", "pgsql"], indirect=True)
def test_failovers_lose_no_transaction_and_answer_with_nothing_stale(cluster: Cluster) -> None:
    with Writer(lambda: Session(cluster.program("psql"))) as writer:
        writer.wait_for_more()
        # The primary dies, and the replica is promoted.
        cluster.kill(ONE)
        cluster.wait_no_primary(ONE)
        cluster.promote(TWO)
        writer.begin_anew()
        writer.wait_for_more()
        # The old primary comes back and takes itself for one; its Patroni believes it.
        before = set(writer.acknowledged)
        cluster.leader = "any"
        cluster.start(ONE)
        cluster.wait_primary(ONE)
        writer.wait_for_more()
        assert cluster.balancer.status()["pools"]["primary"]["failover"]["held"] == [ONE]
        assert not (set(writer.acknowledged) - before) & cluster.numbers(ONE)
        # It becomes a replica, gets everything, and is promoted in its turn when the other one dies.
        cluster.kill(ONE)
        cluster.leader = TWO
        cluster.join(ONE, TWO)
        cluster.wait_no_primary(ONE)
        writer.wait_for_more()
        with writer.held():
            cluster.wait_in_step()
            cluster.kill(TWO)
        cluster.wait_no_primary(TWO)
        cluster.promote(ONE)
        writer.wait_for_more()
        with writer.held():
            assert set(writer.acknowledged) <= cluster.numbers(ONE)
    assert writer.stale == []


def test_a_server_that_lost_its_role_is_written_to_no_more(cluster: Cluster) -> None:
    with Writer(lambda: Session(cluster.program("psql"))) as writer:
        writer.wait_for_more()
        # It lives on, cut off from the leader lock: only its sessions could still write to it.
        with writer.held():
            cluster.wait_in_step()
            cluster.leader = "none"
            cluster.wait_no_primary(ONE)
            written = cluster.numbers(ONE)
            cluster.promote(TWO)
        writer.wait_for_more()
        with writer.held():
            assert cluster.numbers(ONE) == written
            assert set(writer.acknowledged) <= cluster.numbers(TWO)
    assert writer.stale == []
