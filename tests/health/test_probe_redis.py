"""redis: against real servers, a primary and its replica, and against scripted ones that cannot serve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from l4lb.health.probes import Outcome, Result, failure, success
from tests.health.databases import redis_server
from tests.health.probing import SHORT, check
from tests.helpers.peers import Address, Backend, End, Peer, Served
from tests.helpers.waiting import wait_until

PING = b"*1\r\n$4\r\nPING\r\n"
ROLE = b"*1\r\n$4\r\nROLE\r\n"
QUIT = b"*1\r\n$4\r\nQUIT\r\n"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Address, Address]]:
    """A primary and its replica, which ask for a password of the one user that they have."""
    users = ("--user", "watch", "on", ">secret", "+@connection", "+role", "--requirepass", "word")
    directory = tmp_path_factory.mktemp("redis")
    with redis_server(directory / "primary", *users) as primary:
        follow = ("--replicaof", primary[0], str(primary[1]), "--masterauth", "word")
        with redis_server(directory / "replica", *users, *follow) as replica:
            wait_until(lambda: check(replica, type="redis", password="word", role="replica").ok)
            yield primary, replica


def test_any_server_that_answers_will_do(servers: tuple[Address, Address]) -> None:
    for server in servers:
        assert check(server, type="redis", password="word") == success("PONG")


@pytest.mark.parametrize("account", [{"password": "word"}, {"user": "watch", "password": "secret"}])
def test_the_role_decides(servers: tuple[Address, Address], account: dict[str, str]) -> None:
    primary, replica = servers
    assert check(primary, type="redis", role="master", **account) == success("PONG, primary")
    assert check(replica, type="redis", role="replica", **account) == success("PONG, replica (connected)")
    wrong = check(replica, type="redis", role="primary", **account)
    assert wrong == failure("ROLE: expected a primary, but 'slave' came")
    wrong = check(primary, type="redis", role="replica", **account)
    assert wrong == failure("ROLE: expected a replica, but 'master' came")


def test_a_password_that_is_missing_or_wrong_is_said(servers: tuple[Address, Address]) -> None:
    assert check(servers[0], type="redis") == failure(
        "PING: expected +PONG, but '-NOAUTH Authentication required.' came; "
        "give health.password, and health.user where the server has users"
    )
    wrong = check(servers[0], type="redis", user="watch", password="else")
    assert wrong.message.startswith("AUTH: expected +OK, but '-WRONGPASS ")


def test_the_server_closes_first_and_logs_nothing(tmp_path: Path) -> None:
    with redis_server(tmp_path / "one", "--loglevel", "verbose") as server:
        for _ in range(3):
            assert check(server, type="redis").ok
        log = tmp_path / "one" / "log"
        wait_until(lambda: log.read_text().count("Accepted") >= 3)
        assert "error" not in log.read_text().lower()


# ---- scripted --------------------------------------------------------------------------------------------------------


def answering(**answers: bytes) -> Callable[[Peer], None]:
    commands = {b"PING": PING, b"ROLE": ROLE}

    def handle(peer: Peer) -> None:
        for name, answer in answers.items():
            wanted = commands[name.encode()]
            assert peer.receive(len(wanted)) == wanted
            for byte in answer:
                peer.send(bytes([byte]))
        peer.drain()

    return handle


@pytest.mark.parametrize(
    "line",
    [
        b"-LOADING Redis is loading the dataset in memory",
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to no.",
        b"-MISCONF Errors writing to the AOF file",
        b"+OK",
        b"HTTP/1.1 400 Bad Request",
    ],
)
def test_a_server_that_cannot_serve_is_quoted_at_once(line: bytes) -> None:
    with Served(answering(PING=line + b"\r\n")) as server:
        result = check(server.address, type="redis")
        assert result.message.startswith(f"PING: expected +PONG, but '{line.decode()[:30]}")
        assert not result.ok


@pytest.mark.parametrize(
    ("answer", "role", "expected"),
    [
        (b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n", "primary", success("PONG, primary")),
        (
            b"*5\r\n+slave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n",
            "replica",
            success("PONG, replica (connected)"),
        ),
        (b"*5\r\n+slave\r\n$1\r\nh\r\n:1\r\n$7\r\nconnect\r\n:0\r\n", "replica", success("PONG, replica (connect)")),
        (
            b"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$4\r\nsync\r\n:-1\r\n",
            "replica",
            failure("PONG, a replica that is still copying the data of its primary (sync)"),
        ),
        (b"*2\r\n$8\r\nsentinel\r\n*0\r\n", "primary", failure("ROLE: expected a primary, but 'sentinel' came")),
        (b"-NOPERM no\r\n", "primary", failure("ROLE: expected a primary, but '-NOPERM no' came")),
        (b"*3\r\n$999999999\r\n", "primary", failure("ROLE: expected a primary, but '$999999999' came")),
    ],
)
def test_role_of_scripted_servers(answer: bytes, role: str, expected: Result) -> None:
    with Served(answering(PING=b"+PONG\r\n", ROLE=answer)) as server:
        assert check(server.address, type="redis", role=role) == expected


def test_an_answer_without_end_is_cut_off() -> None:
    def flood(peer: Peer) -> None:
        while True:
            peer.send(b"x" * 65536)

    with Served(flood) as server:
        result = check(server.address, type="redis")
        assert not result.ok
        assert result.outcome is Outcome.FAILURE


def test_silence_names_the_question() -> None:
    with Backend() as backend:
        result = check(backend.address, type="redis", timeout=SHORT)
        assert result == Result(Outcome.TIMEOUT, "no answer to PING within 0.2s")


def test_what_came_before_a_reset_counts() -> None:
    def handle(peer: Peer) -> None:
        peer.receive(len(PING))
        peer.send(b"+PONG\r\n")
        peer.reset()

    with Served(handle) as server:
        assert check(server.address, type="redis") == success("PONG")


def test_an_answer_that_came_before_the_question_is_none() -> None:
    def handle(peer: Peer) -> None:
        peer.send(b"+PONG\r\n")
        peer.wait_acknowledged()
        peer.receive(len(PING))
        peer.drain()

    with Served(handle) as server:
        # It may come while PING is on its way, but never counts for ROLE.
        assert not check(server.address, type="redis", role="primary", timeout=SHORT).ok


def test_the_end_is_polite() -> None:
    ends: list[End] = []

    def handle(peer: Peer) -> None:
        peer.receive(len(PING))
        peer.send(b"+PONG\r\n")
        assert peer.receive(len(QUIT)) == QUIT
        peer.send(b"+OK\r\n")
        peer.finish()
        ends.append(peer.ended())

    with Served(handle) as server:
        assert check(server.address, type="redis").ok
        wait_until(lambda: ends)
    assert ends == [End.FIN]
