"""PROXY headers of clients: only trusted peers are believed, and payload is never touched."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import MakeScene
from tests.helpers import proxy_header
from tests.helpers.peers import Backend, Background, End, Ended, Served, named, read_name
from tests.helpers.proxy_header import extension, v1, v2, v2_raw
from tests.helpers.waiting import observe, wait_until
from tests.integration.announced import DESTINATION, DESTINATION6, SOURCE, SOURCE6, TRUSTED, finish, text

HEADERS = {
    "v1-ipv4": v1(SOURCE, DESTINATION),
    "v1-ipv6": v1(SOURCE6, DESTINATION6),
    "v2-ipv4": v2(SOURCE, DESTINATION),
    "v2-ipv6": v2(SOURCE6, DESTINATION6),
    "v2-extensions": v2(SOURCE, DESTINATION, extension(0x02, b"model.example") + extension(0x04, b"\x00" * 9)),
}

VALID_WITHOUT_ADDRESS = {
    "v1-unknown": b"PROXY UNKNOWN\r\n",
    "v1-unknown-with-junk": b"PROXY UNKNOWN ffff:f...f:ffff nonsense 1 2\r\n",
    "v2-local": v2_raw(proxy_header.LOCAL, proxy_header.UNSPECIFIED, b""),
    "v2-local-with-addresses": v2_raw(proxy_header.LOCAL, proxy_header.TCP4, v2(SOURCE, DESTINATION)[16:]),
    "v2-unspecified": v2_raw(proxy_header.PROXY, proxy_header.UNSPECIFIED, b""),
    "v2-unix": v2_raw(proxy_header.PROXY, proxy_header.UNIX_STREAM, b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0")),
}

_ADDRESSES = v2(SOURCE, DESTINATION)[16:]

INVALID = {
    "not-a-header": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "v1-port-too-large": b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n",
    "v1-negative-port": b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 80\r\n",
    "v1-port-with-leading-zero": b"PROXY TCP4 192.0.2.1 192.0.2.2 080 80\r\n",
    "v1-no-digits": b"PROXY TCP4 192.0.2.1 192.0.2.2 http 80\r\n",
    "v1-wrong-family": b"PROXY TCP6 192.0.2.1 192.0.2.2 1 80\r\n",
    "v1-double-space": b"PROXY TCP4  192.0.2.1 192.0.2.2 1 80\r\n",
    "v1-missing-field": b"PROXY TCP4 192.0.2.1 192.0.2.2 80\r\n",
    "v1-extra-field": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80 9\r\n",
    "v1-bare-newline": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\n" + b"x" * 107,
    "v1-too-long": b"PROXY UNKNOWN " + b"x" * 107 + b"\r\n",
    "v1-bad-address": b"PROXY TCP4 192.0.2.999 192.0.2.2 1 80\r\n",
    "v2-wrong-version": v2_raw(0x11, proxy_header.TCP4, _ADDRESSES),
    "v2-wrong-command": v2_raw(0x22, proxy_header.TCP4, _ADDRESSES),
    "v2-wrong-family": v2_raw(proxy_header.PROXY, 0x41, _ADDRESSES),
    "v2-wrong-protocol": v2_raw(proxy_header.PROXY, 0x13, _ADDRESSES),
    "v2-short-addresses": v2_raw(proxy_header.PROXY, proxy_header.TCP4, _ADDRESSES[:-1]),
    "v2-extension-overruns": v2_raw(
        proxy_header.PROXY, proxy_header.TCP4, _ADDRESSES + struct.pack("!BH", 2, 9) + b"x"
    ),
    "v2-stray-byte": v2_raw(proxy_header.PROXY, proxy_header.TCP4, _ADDRESSES + b"\x02"),
    "v2-wrong-checksum": v2(SOURCE, DESTINATION, extension(0x03, b"\x01\x02\x03\x04")),
}


@pytest.mark.parametrize("name", HEADERS)
def test_announced_address_is_the_client(balance: MakeScene, backend: Backend, name: str) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    client = scene.connect()
    client.send(HEADERS[name] + b"payload")
    server = backend.accept()
    assert server.receive(7) == b"payload"
    assert scene.lb.sessions()[0]["client"] == text(SOURCE6 if name.endswith("ipv6") else SOURCE)
    line = finish(client, server, scene)
    assert line["client"] == text(SOURCE6 if name.endswith("ipv6") else SOURCE)
    assert line["bytes_in"] == 7, "the header is no byte of the client"


@pytest.mark.parametrize("name", VALID_WITHOUT_ADDRESS)
def test_header_without_an_address_leaves_the_real_one(balance: MakeScene, backend: Backend, name: str) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    client = scene.connect()
    client.send(VALID_WITHOUT_ADDRESS[name] + b"payload")
    real = client.local
    assert isinstance(real, tuple)
    server = backend.accept()
    assert server.receive(7) == b"payload"
    assert finish(client, server, scene)["client"] == text(real)


@pytest.mark.parametrize("name", HEADERS)
def test_header_may_be_split_anywhere(balance: MakeScene, backend: Backend, name: str) -> None:
    """The payload comes in the same segment as the end of the header."""
    header = HEADERS[name]
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    for split in range(1, len(header)):
        client = scene.connect()
        client.send(header[:split])
        client.wait_acknowledged()
        client.send(header[split:] + b"payload")
        server = backend.accept()
        assert server.receive(7) == b"payload"
        client.finish()
        assert server.ended() is End.FIN
        client.close()
        server.close()
    assert {line["client"] for line in scene.access(len(header) - 1)} == {
        text(SOURCE6 if name.endswith("ipv6") else SOURCE)
    }


def test_header_byte_by_byte(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    client = scene.connect()
    for byte in HEADERS["v2-extensions"] + b"p":
        client.send(bytes([byte]))
    server = backend.accept()
    assert server.receive(1) == b"p"
    finish(client, server, scene)


def test_bulk_right_behind_the_header_is_exact(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    client = scene.connect()
    client.send(HEADERS["v2-ipv4"])
    sending = Background(lambda: (client.send_pattern(1, 5_000_000), client.finish()))
    server = backend.accept()
    assert server.drain(1) == Ended(5_000_000, End.FIN)
    sending.result()
    server.close()


def test_header_and_fin_together_make_an_empty_session(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    client = scene.connect()
    client.send(HEADERS["v1-ipv4"])
    client.finish()
    server = backend.accept()
    assert server.ended() is End.FIN
    server.close()
    scene.wait_closed("-- normal")


@pytest.mark.parametrize("name", INVALID)
def test_invalid_header_is_refused_before_any_backend(balance: MakeScene, backend: Backend, name: str) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    client = scene.connect()
    client.send(INVALID[name])
    assert client.read_all() == b""
    assert not backend.pending()
    assert scene.listener_status()["rejected_total"]["proxy_invalid"] == 1
    assert scene.backend_status()["connections_total"] == 0


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_end_inside_the_header_is_no_session(balance: MakeScene, backend: Backend, end: str) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    client = scene.connect()
    client.send(HEADERS["v2-ipv4"][:13])
    getattr(client, end)()
    scene.wait_connections(0)
    assert not backend.pending()
    rejected = scene.listener_status()["rejected_total"]
    assert {reason: n for reason, n in rejected.items() if n} == {
        "finish": {"proxy_invalid": 1},
        "reset": {"closed": 1},
    }[end]


@pytest.mark.parametrize("end", ["finish", "reset"])
def test_a_client_that_leaves_without_a_word_sent_no_bad_header(balance: MakeScene, backend: Backend, end: str) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    getattr(scene.connect(), end)()
    wait_until(lambda: scene.listener_status()["rejected_total"]["closed"] == 1)
    assert scene.listener_status()["rejected_total"]["proxy_invalid"] == 0


def test_header_that_does_not_come_in_time_is_refused(balance: MakeScene, backend: Backend) -> None:
    """The time counts from the accept: bytes that trickle in do not extend it."""
    scene = balance(backend, listener={"proxy_protocol": TRUSTED | {"timeout": "600ms"}})
    silent, slow = scene.connect(), scene.connect()

    def trickle() -> None:
        for byte in b"PROXY UNKNOWN " + b"x" * 80:
            if slow.broken():
                return
            slow.sock.send(bytes([byte]))
            wait_until(lambda: slow.unsent() == 0 or slow.broken())
            observe(0.05)

    trickling = Background(trickle)
    assert silent.read_all() == b""
    wait_until(slow.broken)
    trickling.result()
    assert scene.listener_status()["rejected_total"]["proxy_timeout"] == 2
    assert not backend.pending()


def test_client_killed_before_its_header_is_counted(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED})
    status = scene.listener_status
    killed = scene.connect()
    scene.wait_connections(1)
    (session,) = scene.lb.sessions()
    scene.lb.request("DELETE", f"/api/v1/sessions/{session['session']}")
    assert killed.read_all() == b""
    wait_until(lambda: status()["rejected_total"]["closed"] == 1)
    assert status()["connections_total"] == sum(status()["rejected_total"].values())


def test_untrusted_peer_is_refused_when_headers_are_required(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED | {"from": ["10.0.0.0/8"]}})
    client = scene.connect()
    assert client.read_all() == b""
    assert not backend.pending()
    assert scene.listener_status()["rejected_total"]["proxy_untrusted"] == 1


def test_header_of_an_untrusted_peer_is_payload_when_optional(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED | {"from": ["10.0.0.0/8"], "mode": "optional"}})
    client, server = scene.pair(backend)
    real = client.local
    assert isinstance(real, tuple)
    header = HEADERS["v1-ipv4"]
    client.send(header)
    assert server.receive(len(header)) == header
    assert finish(client, server, scene)["client"] == text(real)


def test_trusted_peer_may_announce_when_optional(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED | {"mode": "optional"}})
    client = scene.connect()
    client.send(HEADERS["v2-ipv4"] + b"payload")
    server = backend.accept()
    assert server.receive(7) == b"payload"
    assert finish(client, server, scene)["client"] == text(SOURCE)


def test_header_is_payload_where_none_is_configured(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    client.send(HEADERS["v1-ipv4"])
    assert server.receive(len(HEADERS["v1-ipv4"])) == HEADERS["v1-ipv4"]


def test_access_lists_see_the_announced_address(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED, "deny": ["192.0.2.0/24"]})
    client = scene.connect()
    client.send(HEADERS["v1-ipv4"])
    assert client.read_all() == b""
    assert scene.listener_status()["rejected_total"]["denied"] == 1
    other = scene.connect()
    other.send(v1(("192.0.3.1", 5), DESTINATION) + b"x")
    with backend.accept() as server:
        assert server.receive(1) == b"x"


def test_balancing_by_source_uses_the_announced_address(
    balance: MakeScene, backends: Callable[[int], list[Backend]]
) -> None:
    first, second = backends(2)
    scene = balance(first, second, listener={"proxy_protocol": TRUSTED}, pool={"balance": "maglev"})
    reached = []
    for number in range(40):
        client = scene.connect()
        client.send(v1((f"192.0.2.{number}", 1000), DESTINATION))
        wait_until(lambda: first.pending() or second.pending())
        chosen = first if first.pending() else second
        reached.append(chosen)
        chosen.accept().close()
        client.close()
    assert {id(chosen) for chosen in reached} == {id(first), id(second)}


# -- one client, one address -----------------------------------------------------------------------------------------

MAPPED, MAPPED_DESTINATION = (f"::ffff:{SOURCE[0]}", SOURCE[1]), (f"::ffff:{DESTINATION[0]}", DESTINATION[1])
SPELLINGS = {
    "v1": v1(SOURCE, DESTINATION),
    "v1-mapped": v1(MAPPED, MAPPED_DESTINATION),
    "v1-mapped-in-hex": b"PROXY TCP6 ::FFFF:c000:24d 0:0:0:0:0:ffff:c633:6409 43210 8000\r\n",
    "v2": v2(SOURCE, DESTINATION),
    "v2-mapped": v2(MAPPED, MAPPED_DESTINATION),
}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("header", SPELLINGS.values(), ids=SPELLINGS)
def test_a_mapped_address_is_passed_on_and_logged_as_what_it_is(
    balance: MakeScene, backend: Backend, header: bytes, version: str
) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED}, pool={"send_proxy": version})
    client = scene.connect()
    client.send(header)
    with backend.accept() as server:
        shown = proxy_header.receive(server.sock)
        assert (shown.source, shown.destination) == (SOURCE, DESTINATION)
        assert finish(client, server, scene)["client"] == text(SOURCE)


@pytest.mark.parametrize("balance_by", [{"balance": "maglev"}, {"sticky": {"ttl": "1h"}}], ids=["hash", "sticky"])
def test_one_client_is_one_however_its_address_is_spelled(balance: MakeScene, balance_by: dict[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Served(named(f"b{number}"))) for number in range(7)]
        scene = balance(*servers, listener={"proxy_protocol": TRUSTED}, pool=balance_by)
        reached = set()
        for header in [*SPELLINGS.values()] * 2:
            client = scene.connect()
            client.send(header)
            reached.add(read_name(client))
    assert len(reached) == 1


@pytest.mark.parametrize("network", ["192.0.2.0/24", "::ffff:192.0.2.0/120"])
@pytest.mark.parametrize("header", SPELLINGS.values(), ids=SPELLINGS)
def test_lists_have_a_client_however_it_is_spelled(
    balance: MakeScene, backend: Backend, header: bytes, network: str
) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED, "deny": [network]})
    client = scene.connect()
    client.send(header)
    assert client.drain().count == 0
    assert scene.listener_status()["rejected_total"]["denied"] == 1
