"""TLS of checks: trusted authorities, server names, client certificates, and the messages of failures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from l4lb.config.model import Health
from l4lb.health.probes import NO_SUBJECT, Outcome, Result, Subject, failure, probe, success, tls
from tests.health.certificates import Authority, SecureServer, authority
from tests.health.probing import check, target
from tests.helpers.loops import run
from tests.helpers.peers import Backend, Peer, Served

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(peer: Peer) -> None:
    peer.read_first()
    peer.send(OK)
    peer.drain()


def pong(peer: Peer) -> None:
    if peer.receive(6) == b"PING\r\n":
        peer.send(b"+PONG\r\n")
    peer.drain()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def secure(server: SecureServer, subject: Subject = NO_SUBJECT, **settings: Any) -> Result:
    return check(server.address, type="https", tls=settings, subject=subject)


def test_certificate_of_the_address(ca: Authority) -> None:
    with SecureServer(ca.server_context("127.0.0.1"), answer) as server:
        assert secure(server, ca=ca.file) == success("HTTP 200")


def test_certificate_of_another_server(ca: Authority) -> None:
    with SecureServer(ca.server_context("other.example"), answer) as server:
        result = secure(server, ca=ca.file)
        assert not result.ok
        assert "IP address mismatch" in result.message
        assert secure(server, ca=ca.file, server_name="other.example") == success("HTTP 200")
        assert server.names[-1] == "other.example"
        assert secure(server, ca=ca.file, verify=False) == success("HTTP 200")


def test_name_is_that_of_the_address_in_the_file_unless_host_says_otherwise(ca: Authority) -> None:
    with SecureServer(ca.server_context("a.example", "b.example"), answer) as server:
        named = Subject(host="a.example")
        assert check(server.address, type="https", tls={"ca": ca.file}, subject=named).ok
        assert check(server.address, type="https", tls={"ca": ca.file}, host="b.example:8443", subject=named).ok
        assert server.names == ["a.example", "b.example"]


def test_certificate_of_an_unknown_authority(ca: Authority, tmp_path: Path) -> None:
    with SecureServer(ca.server_context("127.0.0.1"), answer) as server:
        result = secure(server, ca=authority(tmp_path, "strangers.pem").file)
        assert result == failure("TLS: unable to get local issuer certificate")
        assert not check(server.address, type="https").ok
        assert secure(server, verify=False) == success("HTTP 200")


def test_client_certificate_is_shown(ca: Authority) -> None:
    with SecureServer(ca.server_context("127.0.0.1", asks_for_client=True), answer) as server:
        _, file = ca.issue("client.example")
        assert secure(server, ca=ca.file, certificate=file) == success("HTTP 200")
        assert not secure(server, ca=ca.file).ok


def test_oldest_version(ca: Authority) -> None:
    context = ca.server_context("127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with SecureServer(context, answer) as server:
        assert secure(server, ca=ca.file) == success("HTTP 200")
        assert secure(server, ca=ca.file, min_version="1.3") == failure("TLS: tlsv1 alert protocol version")


def test_server_that_does_not_speak_tls() -> None:
    with Served(answer) as server:
        result = check(server.address, type="https", tls={"verify": False})
        assert result == failure("TLS: record layer failure") or "wrong version number" in result.message


def test_server_that_hangs_up_in_the_handshake() -> None:
    with Served(lambda peer: peer.read_first() and None) as server:
        result = check(server.address, type="https", tls={"verify": False})
        assert result == failure("the connection ended during the TLS handshake")


def test_tcp_check_with_tls_shakes_hands(ca: Authority) -> None:
    with SecureServer(ca.server_context("127.0.0.1"), lambda peer: None) as server:
        assert check(server.address, type="tcp", tls={"ca": ca.file}) == success("connected")
        assert not check(server.address, type="tcp", tls={}).ok


def test_send_expect_through_tls(ca: Authority) -> None:
    with SecureServer(ca.server_context("127.0.0.1"), pong) as server:
        script = {"send": "PING\r\n", "expect": "+PONG"}
        assert check(server.address, type="send_expect", script=script, tls={"ca": ca.file}).ok


def hindered(message: str) -> Result:
    return Result(Outcome.HINDERED, message)


def test_file_that_cannot_be_used_is_named_and_no_fault_of_the_backend(ca: Authority, tmp_path: Path) -> None:
    with SecureServer(ca.server_context("127.0.0.1"), answer) as server:
        gone, text = str(tmp_path / "gone.pem"), tmp_path / "text.pem"
        text.write_text("no certificate")
        assert secure(server, ca=gone) == hindered(f"health.tls: {gone}: No such file or directory")
        assert secure(server, ca=str(text)) == hindered(f"health.tls: {text}: no certificate in PEM")
        result = secure(server, ca=ca.file, certificate=ca.file)
        assert result == hindered(f"health.tls: {ca.file}: no certificate in PEM with the key that belongs to it")


def test_file_that_was_replaced_counts_from_the_next_check(ca: Authority, tmp_path: Path) -> None:
    with SecureServer(ca.server_context("127.0.0.1"), answer) as server:
        file = tmp_path / "rotated.pem"
        authority(tmp_path, "rotated.pem")
        assert not secure(server, ca=str(file)).ok
        file.write_bytes(Path(ca.file).read_bytes())
        os.utime(file, ns=(1, 1))
        assert secure(server, ca=str(file)).ok


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    """Opening it takes until the end of the test."""
    path = tmp_path / "hung.pem"
    os.mkfifo(path)
    yield path
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def test_file_that_hangs_hinders_its_own_checks_and_no_other(
    ca: Authority, hung: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "PATIENCE", 0.2)
    with SecureServer(ca.server_context("127.0.0.1"), answer) as server:

        async def both() -> tuple[Result, Result, bool]:
            stuck = asyncio.ensure_future(probe_with(server, str(hung)))
            other = await probe_with(server, ca.file)
            was_first = not stuck.done()
            return await stuck, other, was_first

        of_hung, other, was_first = run(both())
        assert (other, was_first) == (success("HTTP 200"), True)
        assert of_hung == hindered(f"health.tls: reading {hung} takes longer than 0.2s")


def test_file_that_begins_to_hang_leaves_checks_what_it_held(
    ca: Authority, hung: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "PATIENCE", 0.2)
    file = hung.with_name("moved.pem")
    file.write_bytes(Path(ca.file).read_bytes())
    with SecureServer(ca.server_context("127.0.0.1"), answer) as server:
        assert secure(server, ca=str(file)).ok
        hung.rename(file)
        file.with_name(hung.name).symlink_to(file)
        assert secure(server, ca=str(file)).ok


def probe_with(server: SecureServer, file: str) -> Coroutine[Any, Any, Result]:
    settings = Health.model_validate({"type": "https", "timeout": 10, "tls": {"ca": file}})
    return probe(target(server.address), settings)


def test_proxy_header_comes_before_the_handshake(ca: Authority) -> None:
    context = ca.server_context("127.0.0.1")

    def handle(peer: Peer) -> None:
        assert peer.receive(15) == b"PROXY UNKNOWN\r\n"
        with context.wrap_socket(peer.sock, server_side=True) as inner:
            answer(Peer(inner))

    with Served(handle) as server:
        assert check(server.address, type="https", tls={"ca": ca.file}, subject=Subject(send_proxy="v1")).ok


def test_stream_that_ends_without_a_word_of_tls_is_at_its_end(ca: Authority) -> None:
    """Many servers close without close_notify."""

    def handle(peer: Peer) -> None:
        peer.read_first()
        peer.send(b"HTTP/1.0 200 OK\r\n\r\nready")

    with SecureServer(ca.server_context("127.0.0.1"), handle) as server:
        assert check(server.address, type="https", tls={"ca": ca.file}, body="^ready$") == success("HTTP 200")


def test_handshake_that_does_not_come_is_named(ca: Authority) -> None:
    with Backend() as backend:
        result = check(backend.address, type="tcp", tls={"ca": ca.file}, timeout=0.2)
        assert result == Result(Outcome.TIMEOUT, "no answer to the TLS handshake within 0.2s")
