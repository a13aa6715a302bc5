"""The PROXY protocol in and out: addresses are believed only from whom they should be, and payload is never touched."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeScene
from tests.helpers import proxy_header
from tests.helpers.peers import Backend, Background, End, Ended, Peer, Served, named, read_name, refused
from tests.helpers.proxy_header import Header, extension, v1, v2, v2_raw
from tests.helpers.scene import Scene
from tests.helpers.waiting import observe, wait_until

SOURCE, DESTINATION = ("192.0.2.77", 43210), ("198.51.100.9", 8000)
SOURCE6, DESTINATION6 = ("2001:db8::77", 43210), ("2001:db8::9", 8000)
TRUSTED = {"from": ["127.0.0.0/8"], "mode": "require", "timeout": "5s"}

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


def text(address: tuple[str, int]) -> str:
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def finish(client: Peer, server: Peer, scene: Scene) -> dict[str, Any]:
    """End the session both ways; its line in the access log."""
    client.close()
    assert server.drain().end is End.FIN
    server.close()
    return scene.access()[0]


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


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_backend_is_told_the_client_and_the_listener(
    balance: MakeScene, backend: Backend, version: int, host: str
) -> None:
    scene = balance(backend, listener={"bind": f"{host}:0"}, pool={"send_proxy": f"v{version}"})
    client, server = scene.pair(backend)
    local, remote = client.local, client.remote
    assert isinstance(local, tuple)
    assert isinstance(remote, tuple)
    assert proxy_header.receive(server.sock) == Header(version, local, remote)
    client.send(b"payload")
    assert server.receive(7) == b"payload"
    server.send(b"answer")
    assert client.receive(6) == b"answer"
    assert finish(client, server, scene)["bytes_in"] == 7


@pytest.mark.parametrize("version", [1, 2])
def test_header_comes_first_though_the_client_says_nothing(balance: MakeScene, backend: Backend, version: int) -> None:
    """Protocols whose server speaks first."""
    scene = balance(backend, pool={"send_proxy": f"v{version}"})
    client, server = scene.pair(backend)
    assert proxy_header.receive(server.sock).version == version
    server.send(b"220 ready")
    assert client.receive(9) == b"220 ready"


@pytest.mark.parametrize("version", [1, 2])
def test_announced_address_is_passed_on(balance: MakeScene, backend: Backend, version: int) -> None:
    scene = balance(backend, listener={"proxy_protocol": TRUSTED}, pool={"send_proxy": f"v{version}"})
    for source, destination in ((SOURCE, DESTINATION), (SOURCE6, DESTINATION6)):
        client = scene.connect()
        client.send(v2(source, destination) + b"payload")
        server = backend.accept()
        assert proxy_header.receive(server.sock) == Header(version, source, destination)
        assert server.receive(7) == b"payload"
        server.close()


# A server name, what a cloud says of the way, and padding.
EXTENSIONS = extension(0x02, b"model.example") + extension(0xEA, b"\x01vpce-1")
PADDED = extension(0x04, b"\x00" * 9) + EXTENSIONS


@pytest.mark.parametrize(("version", "expected"), [(2, EXTENSIONS), (1, b"")])
def test_what_a_trusted_header_says_beside_addresses_is_passed_on(
    balance: MakeScene, backend: Backend, version: int, expected: bytes
) -> None:
    with refused() as dead:
        # The first attempt of some fails; the header of the next one is whole, too.
        pool = {"send_proxy": f"v{version}"}
        scene = balance(dead, backend, listener={"proxy_protocol": TRUSTED}, pool=pool)
        for source, destination in ((SOURCE, DESTINATION), (SOURCE6, DESTINATION6)) * 2:
            client = scene.connect()
            client.send(v2(source, destination, PADDED) + b"payload")
            server = backend.accept()
            assert proxy_header.receive(server.sock) == Header(version, source, destination, expected)
            assert server.receive(7) == b"payload"
            server.close()


def test_a_checksum_is_of_the_header_that_carries_it(balance: MakeScene, backend: Backend) -> None:
    door = {"inner": {"bind": "127.0.0.1:0", "pool": "inner", "proxy_protocol": TRUSTED}}
    inner = {"inner": {"backends": [str(backend)], "send_proxy": "v2"}}
    scene = balance(backend, sections={"listeners": door, "pools": inner})
    # What l4lb sends, l4lb reads: a checksum that is wrong is refused.
    chained = {"proxy_protocol": TRUSTED}
    scene.reload([scene.lb.address("inner")], listener=chained, pool={"send_proxy": "v2"})
    client = scene.connect()
    client.send(with_checksum(SOURCE, DESTINATION, EXTENSIONS) + b"payload")
    with backend.accept() as server:
        header = proxy_header.receive(server.sock)
        assert server.receive(7) == b"payload"
    assert (header.source, header.destination) == (SOURCE, DESTINATION)
    assert header.extensions[: len(EXTENSIONS)] == EXTENSIONS
    assert header.extensions[len(EXTENSIONS) : -4] == extension(0x03, b"1234")[:-4]


def with_checksum(source: tuple[str, int], destination: tuple[str, int], extensions: bytes) -> bytes:
    """A header of version 2 that ends with its checksum, CRC32c."""
    header = v2(source, destination, extensions + extension(0x03, bytes(4)))
    crc = 0xFFFFFFFF
    for byte in header:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return header[:-4] + (crc ^ 0xFFFFFFFF).to_bytes(4)


def test_a_client_that_is_not_trusted_adds_nothing_to_the_header(balance: MakeScene, backend: Backend) -> None:
    listener = {"proxy_protocol": TRUSTED | {"from": ["10.0.0.0/8"], "mode": "optional"}}
    scene = balance(backend, listener=listener, pool={"send_proxy": "v2"})
    forged = v2(SOURCE, DESTINATION, EXTENSIONS)
    client, server = scene.pair(backend)
    client.send(forged)
    assert proxy_header.receive(server.sock) == Header(2, client.local, scene.address)  # type: ignore[arg-type]
    assert server.receive(len(forged)) == forged


def test_a_client_that_waits_keeps_what_its_header_says(balance: MakeScene, backend: Backend) -> None:
    pool = {"send_proxy": "v2", "queue": {"size": 10, "timeout": "60s"}}
    entry = {"address": backend, "max_connections": 1}
    scene = balance(entry, listener={"proxy_protocol": TRUSTED}, pool=pool)
    clients = [scene.connect() for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(v2(SOURCE, DESTINATION, extension(0xE0, bytes([number]))))
        wait_until(lambda: scene.backend_status()["connections"] == 1)
        wait_until(lambda number=number: scene.pool_status()["queued"] == number)  # type: ignore[misc]
    clients[1].reset()
    wait_until(lambda: scene.pool_status()["queued"] == 1)
    for expected in (0, 2):
        with backend.accept() as server:
            assert proxy_header.receive(server.sock).extensions == extension(0xE0, bytes([expected]))
        clients[expected].close()


@pytest.mark.parametrize("version", [1, 2])
def test_unix_client_is_announced_as_unknown(
    balance: MakeScene, backend: Backend, version: int, tmp_path: Path
) -> None:
    scene = balance(backend, listener={"bind": f"unix:{tmp_path}/l"}, pool={"send_proxy": f"v{version}"})
    client, server = scene.pair(backend)
    assert proxy_header.receive(server.sock) == Header(version, None, None)
    client.send(b"payload")
    assert server.receive(7) == b"payload"


def test_backend_is_told_the_way_it_was_chosen(balance: MakeScene) -> None:
    """A reload while the connection is made must not take the header away: what the client says would be believed."""
    with Backend(backlog=0) as backend, contextlib.ExitStack() as stack:
        fillers = [stack.enter_context(socket.socket()) for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(backend.address)
        scene = balance(backend, pool={"send_proxy": "v1"})
        client = scene.connect()
        client.send(b"PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n")
        wait_until(lambda: [session["state"] for session in scene.lb.sessions()] == ["connect"])
        scene.reload(pool={"send_proxy": "off"})
        for filler in fillers:
            filler.close()
        first = wait_until(lambda: stack.enter_context(backend.accept()).read_first())
        assert first.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 "), first


def test_refused_attempt_does_not_repeat_the_header(balance: MakeScene, backend: Backend) -> None:
    with refused() as dead:
        scene = balance(dead, backend, pool={"send_proxy": "v1"})
        for _ in range(4):
            client = scene.connect()
            client.send(b"payload")
            server = backend.accept()
            assert proxy_header.receive(server.sock).source == client.local
            assert server.receive(7) == b"payload"
            server.close()
            client.close()


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
