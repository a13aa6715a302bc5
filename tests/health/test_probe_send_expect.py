"""send_expect against servers that answer whole, in pieces, wrongly, endlessly or not at all, and against Redis."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from l4lb.health.probes import Outcome, Result, Subject, failure, success
from l4lb.health.probes.dialogue import Dialogue
from l4lb.net.connection import Connection, ReplyError, new_socket
from tests.applications.conftest import daemon, program
from tests.health.probing import SHORT, check, target
from tests.helpers.loops import eventually, run
from tests.helpers.peers import Address, Backend, Peer, Served, refused
from tests.helpers.proxy_header import LOCAL, UNSPECIFIED, v2_raw
from tests.helpers.waiting import wait_until

PING = {"type": "send_expect", "script": {"send": "PING\r\n", "expect": "+PONG\r\n"}}
GOOD = success("answered as expected")


def answering(*pieces: bytes) -> Callable[[Peer], None]:
    """Read a line, then send the pieces, each in a segment of its own, and hold the connection."""

    def handle(peer: Peer) -> None:
        assert peer.receive(6) == b"PING\r\n"
        for piece in pieces:
            peer.send(piece)
            peer.wait_acknowledged()
        peer.drain()

    return handle


def test_whole_answer() -> None:
    with Served(answering(b"+PONG\r\n")) as server:
        assert check(server.address, **PING) == GOOD


def test_answer_that_comes_byte_by_byte_behind_other_bytes() -> None:
    pieces = [bytes([byte]) for byte in b"+PING +PON +PONG\r\n"]
    with Served(answering(*pieces)) as server:
        assert check(server.address, **PING) == GOOD


def test_what_came_before_a_reset_counts() -> None:
    def handle(peer: Peer) -> None:
        peer.receive(6)
        peer.send(b"+PONG\r\n")
        peer.wait_acknowledged()
        peer.reset()

    with Served(handle) as server:
        assert check(server.address, **PING) == GOOD


def test_hex_is_bytes() -> None:
    script = {"send": "hex:50494e470d0a", "expect": "hex:00ff"}
    with Served(answering(b"\x01\x00", b"\xff\x02")) as server:
        assert check(server.address, type="send_expect", script=script) == GOOD


def test_steps_are_taken_in_order_and_one_answer_is_not_found_twice() -> None:
    def smtp(peer: Peer) -> None:
        peer.send(b"220 ready 250\r\n")
        assert peer.receive(6) == b"HELO\r\n"
        peer.send(b"250 hello\r\n")
        peer.drain()

    script = [{"expect": "220 "}, {"send": "HELO\r\n", "expect": "250 hello"}]
    with Served(smtp) as server:
        assert check(server.address, type="send_expect", script=script) == GOOD
        again = [*script, {"expect": "250 hello"}]
        assert check(server.address, type="send_expect", script=again, timeout=SHORT) == Result(
            Outcome.TIMEOUT, "no complete response to step 3: expected '250 hello', but '\\r\\n' came within 0.2s"
        )


def test_wrong_answer_is_quoted_when_the_stream_ends() -> None:
    def handle(peer: Peer) -> None:
        peer.receive(6)
        peer.send(b"-ERR\x00 unknown")

    with Served(handle) as server:
        waited = r"no complete response to step 1 ('PING\r\n'): expected '+PONG\r\n', but '-ERR\x00 unknown' came"
        assert check(server.address, **PING) == failure(f"the connection ended, {waited}")


@pytest.mark.parametrize("match", [r"^\+PONG\r\n$", ["PONG", "!ERR"], "!^-", "(?i)pong"])
def test_patterns_are_looked_for_in_the_whole_answer(match: object) -> None:
    script = {"send": "PING\r\n", "match": match}
    for pieces in ([b"+PONG\r\n"], [bytes([byte]) for byte in b"+PONG\r\n"]):
        with Served(answering(*pieces)) as server:
            assert check(server.address, type="send_expect", script=script) == GOOD


def test_what_must_not_come_ends_the_check_at_once() -> None:
    script = {"send": "PING\r\n", "match": ["!^-", "never"], "expect": "never"}
    with Served(answering(b"-LOADING\r\n")) as server:
        expected = r"step 1 ('PING\r\n'): the answer matches '!^-': '-LOADING\r\n'"
        assert check(server.address, type="send_expect", script=script) == failure(expected)


def test_pattern_that_would_take_for_ever_is_given_up() -> None:
    with Served(answering(b"a" * 40 + b"!")) as server:
        result = check(server.address, type="send_expect", script={"send": "PING\r\n", "match": "^(a|a)*$"})
        assert result.message == r"step 1 ('PING\r\n'): the pattern '^(a|a)*$' took longer than 50 ms"


def test_silence_is_a_timeout() -> None:
    with Backend() as backend:
        silence = Result(Outcome.TIMEOUT, r"no answer to step 1 ('PING\r\n') within 0.2s")
        assert check(backend.address, **PING, timeout=SHORT) == silence


def test_what_came_before_something_was_sent_is_no_answer_to_it() -> None:
    told = threading.Event()

    def chatty(peer: Peer) -> None:
        peer.send(b"hello +PONG\r\n")
        peer.wait_acknowledged()
        told.set()
        peer.receive(6)
        peer.drain()

    script = [{"expect": "hello"}, {"send": "PING\r\n", "expect": "+PONG"}]
    with Served(chatty) as server:
        result = check(server.address, type="send_expect", script=script, timeout=SHORT)
        assert told.is_set()
        assert result == Result(Outcome.TIMEOUT, r"no answer to step 2 ('PING\r\n') within 0.2s")


def test_steps_in_a_row_that_only_send_are_one_question() -> None:
    def handle(peer: Peer) -> None:
        assert peer.receive(1) == b"a"
        peer.send(b"one")
        assert peer.receive(1) == b"b"
        peer.send(b"two")
        peer.drain()

    script = [{"send": "a"}, {"send": "b"}, {"expect": "one"}, {"expect": "two"}]
    with Served(handle) as server:
        for _ in range(20):
            assert check(server.address, type="send_expect", script=script) == GOOD


def test_what_the_kernel_still_has_when_something_is_sent_is_no_answer_to_it() -> None:
    def chatty(peer: Peer) -> None:
        peer.send(b"+PONG\r\n")
        peer.finish()
        peer.drain()

    async def main(address: Address) -> str:
        with new_socket(target(address)) as sock:
            connection = Connection(sock)
            await connection.open(address, "off")
            await eventually(lambda: readable(sock))
            dialogue = Dialogue(connection)
            await dialogue.ask("PING", b"PING\r\n", "+PONG")
            with pytest.raises(ReplyError) as error:
                await dialogue.line()
            return str(error.value)

    with Served(chatty) as server:
        assert run(main(server.address)) == "the connection ended, no answer to PING"


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def test_endless_answer_is_cut_off() -> None:
    def flood(peer: Peer) -> None:
        peer.receive(6)
        while True:
            peer.send(b"x" * 65536)

    with Served(flood) as server:
        result = check(server.address, **PING)
        assert not result.ok
        assert "not in the first 64 KiB" in result.message


def test_redis(tmp_path: Path) -> None:
    with refused() as (_, port):
        pass  # Redis takes no socket that is open already
    command = [
        program("redis-server"),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    with daemon(*command, log=tmp_path / "log"):

        def connects() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        wait_until(connects)
        assert check(("127.0.0.1", port), **PING) == GOOD
        wrong = {"type": "send_expect", "script": {"send": "NONSENSE\r\n", "expect": "+PONG"}, "timeout": SHORT}
        result = check(("127.0.0.1", port), **wrong)
        assert result.outcome is Outcome.TIMEOUT
        assert "expected '+PONG', but '-ERR unknown command" in result.message


@pytest.mark.parametrize(("version", "header"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", None)])
def test_proxy_header_of_the_balancer_itself_comes_first(version: str, header: bytes | None) -> None:
    wanted = header or v2_raw(LOCAL, UNSPECIFIED, b"")

    def handle(peer: Peer) -> None:
        assert peer.receive(len(wanted)) == wanted
        answering(b"+PONG\r\n")(peer)

    with Served(handle) as server:
        assert check(server.address, subject=Subject(send_proxy=version), **PING) == GOOD  # type: ignore[arg-type]
