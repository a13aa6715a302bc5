"""mysql: against a real MariaDB, and against scripted servers that speak as MySQL does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from l4lb.health.probes import Outcome, Result, failure, success
from tests.applications.conftest import COMMAND_DEADLINE, daemon, program
from tests.health.databases import accepts, free_address
from tests.health.probing import SHORT, check
from tests.helpers.build import config
from tests.helpers.peers import Backend, End, Peer, Served
from tests.helpers.waiting import wait_until

VERSION = b"8.0.36"
SALT = bytes(range(1, 21))


class MariaDb:
    def __init__(self, directory: Path) -> None:
        self.socket = directory / "sock"
        self.log = directory / "log"
        self.address = free_address()
        data = directory / "data"
        user = f"--user={'mysql' if os.geteuid() == 0 else os.environ.get('USER', 'nobody')}"
        install = [
            program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
        ]
        directory.chmod(0o777)
        subprocess.run([*install, user, "--skip-test-db"], check=True, capture_output=True, timeout=COMMAND_DEADLINE)
        host, port = self.address
        self.command = [program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--socket={self.socket}", user]
        self.command += [f"--bind-address={host}", f"--port={port}", f"--pid-file={directory}/pid", "--log-warnings=9"]

    def sql(self, text: str) -> str:
        command = [program("mariadb"), "--no-defaults", f"--socket={self.socket}", "-u", "root", "-Ne", text]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMMAND_DEADLINE).stdout


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDb]:
    with tempfile.TemporaryDirectory(prefix="l4lb-test-") as directory:
        server = MariaDb(Path(directory))
        with daemon(*server.command, log=server.log):
            wait_until(lambda: accepts(server.address), COMMAND_DEADLINE)
            server.sql("CREATE USER watch@'127.0.0.1'; CREATE USER known@'127.0.0.1' IDENTIFIED BY 's3cret'")
            yield server


@pytest.mark.slow
@pytest.mark.parametrize("account", [{"user": "watch"}, {"user": "known", "password": "s3cret"}])
def test_the_user_is_let_in_and_the_role_decides(mariadb: MariaDb, account: dict[str, str]) -> None:
    assert check(mariadb.address, type="mysql", **account).message.startswith("logged in, ")
    assert check(mariadb.address, type="mysql", role="primary", **account).ok
    assert (
        "expected a replica, but read_only" in check(mariadb.address, type="mysql", role="replica", **account).message
    )
    mariadb.sql("SET GLOBAL read_only = ON")
    try:
        assert check(mariadb.address, type="mysql", role="replica", **account).ok
        assert not check(mariadb.address, type="mysql", role="primary", **account).ok
    finally:
        mariadb.sql("SET GLOBAL read_only = OFF")


@pytest.mark.slow
def test_the_greeting_is_enough_without_a_user(mariadb: MariaDb) -> None:
    result = check(mariadb.address, type="mysql")
    assert result.ok
    assert "MariaDB" in result.message


@pytest.mark.slow
def test_a_wrong_password_is_said(mariadb: MariaDb) -> None:
    result = check(mariadb.address, type="mysql", user="known", password="else")
    assert result.message.startswith("error 1045: 'Access denied for user ")
    assert not result.ok


@pytest.mark.slow
def test_checks_abort_no_connection(mariadb: MariaDb) -> None:
    def aborted() -> str:
        return mariadb.sql("SHOW GLOBAL STATUS LIKE 'Aborted_c%'")

    before = aborted()
    for _ in range(3):
        assert check(mariadb.address, type="mysql", user="watch", role="primary").ok
    wait_until(lambda: "watch" not in mariadb.sql("SELECT user FROM information_schema.processlist"))
    assert aborted() == before


# ---- scripted --------------------------------------------------------------------------------------------------------


def packet(sequence: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([sequence]) + body


def greeting(plugin: bytes) -> bytes:
    fixed = bytes(4) + SALT[:8] + b"\0" + b"\xff\xff" + b"\x21" + b"\2\0" + b"\xff\xff" + bytes([21]) + bytes(10)
    return packet(0, b"\x0a" + VERSION + b"\0" + fixed + SALT[8:] + b"\0" + plugin + b"\0")


def received(peer: Peer) -> bytes:
    head = peer.receive(4)
    return peer.receive(int.from_bytes(head[:3], "little"))


def sha2_proof(password: bytes) -> bytes:
    def sha(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    inner = sha(password)
    return bytes(a ^ b for a, b in zip(inner, sha(sha(inner) + SALT), strict=True))


@pytest.mark.parametrize("switched", [False, True])
def test_caching_sha2_password_from_the_cache(switched: bool) -> None:
    ends: list[End] = []

    def handle(peer: Peer) -> None:
        peer.send(greeting(b"mysql_native_password" if switched else b"caching_sha2_password"))
        login = received(peer)
        number = 2
        if switched:
            peer.send(packet(2, b"\xfecaching_sha2_password\0" + SALT + b"\0"))
            login, number = received(peer), 4
        assert sha2_proof(b"pass") in login
        peer.send(packet(number, b"\1\3") + packet(number + 1, b"\0\0\0\2\0\0\0"))
        assert received(peer) == b"\1"
        peer.finish()
        ends.append(peer.ended())

    with Served(handle) as server:
        result = check(server.address, type="mysql", user="u", password="pass")
        assert result == success("logged in, 8.0.36")
        wait_until(lambda: ends)
    assert ends == [End.FIN]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (packet(2, b"\1\4"), "the server wants to see the password itself (caching_sha2_password); log in once by TLS"),
        (
            packet(2, b"\xfeauth_gssapi_client\0x"),
            "the server authenticates the user by 'auth_gssapi_client', for which there is no support",
        ),
        (packet(2, b"\xff\x15\x04#28000no"), "error 1045: 'no'"),
        (packet(2, b"\xfe"), r"the login: expected OK, but '\xfe' came"),
    ],
)
def test_a_login_that_fails_says_why(answer: bytes, message: str) -> None:
    def handle(peer: Peer) -> None:
        peer.send(greeting(b"caching_sha2_password"))
        received(peer)
        peer.send(answer)
        peer.drain()

    with Served(handle) as server:
        assert check(server.address, type="mysql", user="u", password="p") == failure(message)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (packet(0, b"\xff\x10\x04Too many connections"), "error 1040: 'Too many connections'"),
        (b"SSH-2.0-x\r\n", "the greeting: expected a version, but 'SSH-' came"),
        (b"\0\0\0\0", r"the greeting: expected a version, but '\x00\x00\x00\x00' came"),
        (packet(0, b"\x09x\0"), r"the greeting: expected a version, but '\tx\x00' came"),
    ],
)
def test_a_server_that_does_not_greet_well(said: bytes, message: str) -> None:
    def handle(peer: Peer) -> None:
        peer.send(said)
        peer.drain()

    with Served(handle) as server:
        assert check(server.address, type="mysql") == failure(message)


def test_silence_names_the_greeting() -> None:
    with Backend() as backend:
        result = check(backend.address, type="mysql", timeout=SHORT)
        assert result == Result(Outcome.TIMEOUT, "no answer to the greeting within 0.2s")


@pytest.mark.parametrize("settings", [{"role": "primary"}, {"password": "x"}])
def test_a_role_and_a_password_need_a_user(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="mysql needs the key 'user'"):
        config("127.0.0.1:1", pool={"health": {"type": "mysql", **settings}})
