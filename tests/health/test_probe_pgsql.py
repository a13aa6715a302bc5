"""pgsql: against a real primary and its replica, and against scripted servers."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from l4lb.health.probes import Outcome, Result, failure, success
from tests.health.certificates import Authority, authority
from tests.health.databases import Postgres, certify, new_primary, new_replica
from tests.health.probing import SHORT, check
from tests.helpers.peers import Peer, Served
from tests.helpers.waiting import wait_until

SECRETS = {"scram": "s3cret, ü", "md5": "m", "plain": "p w"}


@pytest.fixture(scope="module")
def servers(ca: Authority) -> Iterator[tuple[Postgres, Postgres]]:
    with tempfile.TemporaryDirectory(prefix="l4lb-test-") as directory:
        primary = new_primary(Path(directory))
        certify(primary, ca.issue("db.example")[0])
        with primary.running():
            for user, password in SECRETS.items():
                method = "md5" if user == "md5" else "scram-sha-256"
                primary.sql(f"SET password_encryption = '{method}'; CREATE USER {user} PASSWORD '{password}'")
            with new_replica(primary).running() as replica:
                yield primary, replica


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


def ask(server: Postgres, **settings: Any) -> Result:
    return check(server.address, type="pgsql", **({"user": "boss", "database": "postgres"} | settings))


@pytest.mark.slow
def test_a_server_that_lets_the_user_in_will_do(servers: tuple[Postgres, Postgres]) -> None:
    for server in servers:
        assert ask(server) == success("logged in")


@pytest.mark.slow
def test_the_role_decides(servers: tuple[Postgres, Postgres]) -> None:
    primary, replica = servers
    assert ask(primary, role="primary") == success("primary")
    assert ask(replica, role="replica") == success("replica")
    assert ask(primary, role="replica") == failure("expected a replica, but it is a primary")
    assert ask(replica, role="master") == failure("expected a primary, but it is a replica")


@pytest.mark.slow
@pytest.mark.parametrize("user", SECRETS)
def test_a_password_is_given_where_it_is_asked_for(servers: tuple[Postgres, Postgres], user: str) -> None:
    primary, _ = servers
    known = {"user": user, "password": SECRETS[user]}
    assert ask(primary, **known) == success("logged in")
    assert ask(primary, role="primary", **known) == success("primary")
    wrong = ask(primary, user=user, password="wrong")
    assert wrong == failure(f"'FATAL: password authentication failed for user \"{user}\" (28P01)'")


@pytest.mark.slow
@pytest.mark.parametrize(("user", "method"), [("scram", "SCRAM"), ("md5", "md5"), ("plain", "password")])
def test_a_server_that_asks_for_a_password_lives(servers: tuple[Postgres, Postgres], user: str, method: str) -> None:
    primary, _ = servers
    assert ask(primary, user=user) == success(f"asks for a password ({method})")
    assert not ask(primary, user=user, role="primary").ok
    assert "give health.password, or trust the user" in ask(primary, user=user, role="primary").message


@pytest.mark.slow
@pytest.mark.parametrize("account", [{}, {"user": "scram", "password": SECRETS["scram"]}])
def test_through_tls(servers: tuple[Postgres, Postgres], ca: Authority, account: dict[str, str]) -> None:
    primary, _ = servers
    tls = {"ca": ca.file, "server_name": "db.example"}
    assert ask(primary, role="primary", tls=tls, **account) == success("primary")
    assert ask(primary, tls={"ca": ca.file}, **account).message.startswith("TLS: ")
    assert ask(primary, tls={"verify": False}, **account) == success("logged in")


@pytest.mark.parametrize(("answer", "came"), [(b"N", "'N'"), (b"Sx", "'Sx'"), (b"E\0\0\0\4", r"'E\x00\x00\x00\x04'")])
def test_a_server_without_tls_is_told(answer: bytes, came: str) -> None:
    def handle(peer: Peer) -> None:
        assert peer.receive(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"
        peer.send(answer)
        peer.drain()

    with Served(handle) as server:
        assert check(server.address, type="pgsql", user="u", tls={}) == failure(
            f"SSLRequest: expected S, but {came} came"
        )


@pytest.mark.slow
def test_what_the_server_objects_to_is_shown(servers: tuple[Postgres, Postgres]) -> None:
    result = ask(servers[0], database="nowhere")
    assert result == failure("'FATAL: database \"nowhere\" does not exist (3D000)'")


@pytest.mark.slow
def test_checks_leave_no_complaint_in_the_log(servers: tuple[Postgres, Postgres]) -> None:
    primary, _ = servers
    before = len(primary.log.read_text())
    for settings in ({}, {"role": "primary"}, {"user": "scram"}, {"user": "scram", "password": SECRETS["scram"]}):
        assert ask(primary, **settings).ok
    assert check(primary.address, type="tcp").ok
    # Each connection has a process of its own, whose last words come before a marker that is written behind its end.
    wait_until(lambda: primary.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'l4lb'") == "0\n")
    primary.sql("DO $$ BEGIN RAISE LOG 'marker'; END $$")
    wait_until(lambda: "marker" in primary.log.read_text()[before:])
    said = primary.log.read_text()[before:].partition("marker")[0]
    assert "reset" not in said
    assert "could not" not in said
    assert "unexpected EOF" not in said


# ---- scripted --------------------------------------------------------------------------------------------------------


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def scripted(*answers: bytes) -> Any:
    def handle(peer: Peer) -> None:
        (length,) = struct.unpack("!I", peer.receive(4))
        peer.receive(length - 4)
        for answer in answers:
            peer.send(answer)
        peer.drain()

    return handle


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            message(b"E", b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"),
            "'FATAL: the database system is starting up (57P03)'",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "the startup message: expected a request to authenticate, but 'HTTP/' came",
        ),
        (
            b"R\x7f\xff\xff\xff",
            r"the startup message: expected a request to authenticate, but 'R\x7f\xff\xff\xff' came",
        ),
        (message(b"R", b"\0"), r"the startup message: expected a request to authenticate, but '\x00' came"),
    ],
)
def test_no_server_that_serves(answer: bytes, expected: str) -> None:
    with Served(scripted(answer)) as server:
        assert check(server.address, type="pgsql", user="u") == failure(expected)


def test_messages_may_come_in_pieces_and_between_others() -> None:
    parts = message(b"N", b"Snotice\0\0") + message(b"R", bytes(4)) + message(b"S", b"a\0b\0") + message(b"Z", b"I")
    with Served(scripted(*[bytes([byte]) for byte in parts])) as server:
        assert check(server.address, type="pgsql", user="u") == success("logged in")


def test_what_came_before_a_reset_counts() -> None:
    def handle(peer: Peer) -> None:
        (length,) = struct.unpack("!I", peer.receive(4))
        peer.receive(length - 4)
        peer.send(message(b"R", b"\0\0\0\3"))
        peer.wait_acknowledged()
        peer.reset()

    with Served(handle) as server:
        assert check(server.address, type="pgsql", user="u") == success("asks for a password (password)")


def test_what_is_missing_is_said_when_time_is_over() -> None:
    with Served(scripted(message(b"R", bytes(4)))) as server:
        result = check(server.address, type="pgsql", user="u", timeout=SHORT)
        assert result == Result(Outcome.TIMEOUT, "no answer to the startup message within 0.2s")


def test_a_server_that_makes_the_password_too_dear_is_refused() -> None:
    def handle(peer: Peer) -> None:
        (length,) = struct.unpack("!I", peer.receive(4))
        peer.receive(length - 4)
        peer.send(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
        peer.receive(1)
        (length,) = struct.unpack("!I", peer.receive(4))
        nonce = peer.receive(length - 4).partition(b"r=")[2]
        peer.send(message(b"R", struct.pack("!I", 11) + b"r=" + nonce + b"x,s=AAAA,i=999999999"))
        peer.drain()

    with Served(handle) as server:
        result = check(server.address, type="pgsql", user="u", password="p")
        assert "the challenge of SCRAM-SHA-256 cannot be used" in result.message
