"""Server names of TLS clients, read without ending TLS: the backend each name reaches, and every byte unchanged."""

from __future__ import annotations

import random
import signal
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeScene
from tests.helpers import proxy_header
from tests.helpers.balancer import Balancer, merge
from tests.helpers.peers import Backend, Background, End, Peer, Served, connect, named, read_name
from tests.helpers.proxy_header import v2
from tests.helpers.scene import Scene, backend_entry
from tests.helpers.tls import VERSIONS, client_hello, over_tls, secure
from tests.helpers.waiting import observe, wait_until

NAMES = [f"model-{number}.llama.example" for number in range(24)]
SOURCES = [f"127.0.3.{number}" for number in range(1, 25)]
HELLO = client_hello("model.llama.example")

NEVER = {"timeouts": {"hello": "1h"}}
"""A client that waits for the deadline waits longer than a test runs."""

BY_NAME: dict[str, Any] = {"balance": "maglev", "hash": {"key": "sni"}} | NEVER
TRUSTED = {"proxy_protocol": {"from": ["127.0.0.0/8"]}}
PROXY_HEADER = v2(("192.0.2.33", 54321), ("198.51.100.44", 443))


@pytest.fixture
def plain() -> Iterator[list[Served]]:
    """Four backends that say their names: b0, b1, b2, b3."""
    with ExitStack() as stack:
        yield [stack.enter_context(Served(named(f"b{number}"))) for number in range(4)]


@pytest.fixture
def secured() -> Iterator[list[Served]]:
    """The same behind TLS."""
    with ExitStack() as stack:
        handlers = [over_tls(named(f"b{number}"), *NAMES) for number in range(4)]
        yield [stack.enter_context(Served(handler)) for handler in handlers]


def serving_backend(scene: Scene, first: bytes = b"", source: str | None = None) -> str:
    """The name of the `named` backend that a client reaches whose first bytes these are."""
    with scene.connect(source=source) as peer:
        peer.send(first)
        return read_name(peer)


def wait_state(scene: Scene, state: str, number: int = 1) -> None:
    wait_until(lambda: [session["state"] for session in scene.lb.sessions()] == [state] * number)


def hesitant(scene: Scene, first: bytes = HELLO[:100]) -> Peer:
    """A client that has sent these bytes and is waited for."""
    client = scene.connect()
    client.send(first)
    client.wait_acknowledged()
    wait_state(scene, "hello")
    return client


# -- hash: {key: sni} ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_name_is_served_by_one_backend_and_names_spread(
    balance: MakeScene, secured: list[Served], version: ssl.TLSVersion
) -> None:
    """From any client; and the handshake, which signs every byte of the hello, succeeds."""
    scene = balance(*secured, pool=BY_NAME)
    reached = {}
    for name in NAMES:
        servers = set()
        for source in SOURCES[:3]:
            with scene.connect(source=source) as peer:
                servers.add(read_name(secure(peer, name, version)))
        (reached[name],) = servers
    assert set(reached.values()) == {"b0", "b1", "b2", "b3"}


def test_case_makes_no_difference(balance: MakeScene, plain: list[Served]) -> None:
    scene = balance(*plain, pool=BY_NAME)
    for name in NAMES[:8]:
        assert serving_backend(scene, client_hello(name)) == serving_backend(scene, client_hello(name.upper()))


def test_a_client_without_a_server_name_is_bound_by_its_address(balance: MakeScene, plain: list[Served]) -> None:
    """TLS without a name, a plain protocol and something that only begins like TLS, all without waiting."""
    scene = balance(*plain, pool=BY_NAME)
    firsts = [client_hello(None), b"GET / HTTP/1.1\r\n\r\n", HELLO[:9] + b"\xff\xff" + HELLO[11:]]
    reached = {source: {serving_backend(scene, first, source) for first in firsts} for source in SOURCES}
    scene.reload(pool={"hash": {"key": "source_ip"}})
    assert reached == {source: {serving_backend(scene, source=source)} for source in SOURCES}
    assert len(set.union(*reached.values())) == 4


def test_a_silent_client_is_served_after_the_deadline(balance: MakeScene, plain: list[Served]) -> None:
    """Protocols whose server speaks first, and clients that stop in the middle of a hello."""
    scene = balance(*plain, pool=BY_NAME | {"timeouts": {"hello": "100ms"}})
    reached = {source: {serving_backend(scene, first, source) for first in (b"", HELLO[:-1])} for source in SOURCES[:4]}
    scene.reload(pool={"hash": {"key": "source_ip"}})
    assert reached == {source: {serving_backend(scene, source=source)} for source in SOURCES[:4]}


def test_byte_by_byte_is_the_same_name_and_the_same_bytes(balance: MakeScene, plain: list[Served]) -> None:
    scene = balance(*plain, pool=BY_NAME)
    for name in NAMES[:4]:
        hello = client_hello(name)
        expected = serving_backend(scene, hello)
        with scene.connect() as peer:
            for byte in hello[:-1]:
                peer.send(bytes([byte]))
            peer.wait_acknowledged()
            wait_state(scene, "hello")
            peer.send(hello[-1:] + b"more")
            assert read_name(peer) == expected
            assert peer.receive(len(hello) + 4) == hello + b"more"


def test_the_deadline_is_for_the_whole_hello(balance: MakeScene, backend: Backend) -> None:
    """Bytes that trickle in do not extend it, and all of them are passed on."""
    scene = balance(backend, pool=BY_NAME | {"timeouts": {"hello": "300ms"}})
    client = scene.connect()
    sent = 0
    while not backend.pending() and sent < len(HELLO) - 1:
        client.send(HELLO[sent : sent + 1])
        sent += 1
        observe(0.02)
    assert sent < len(HELLO) - 1
    with backend.accept() as server:
        assert server.receive(sent) == HELLO[:sent]
        client.send(HELLO[sent:])
        assert server.receive(len(HELLO) - sent) == HELLO[sent:]


def test_a_hello_too_long_to_read_is_served_all_the_same(balance: MakeScene, plain: list[Served]) -> None:
    scene = balance(*plain, pool=BY_NAME)
    long, too_long = client_hello(NAMES[0], protocols=60), client_hello(NAMES[0], protocols=100)
    assert len(long) < 16384 < len(too_long)
    assert serving_backend(scene, long) == serving_backend(scene, client_hello(NAMES[0]))
    with scene.connect() as peer:
        peer.send(too_long)
        read_name(peer)
        assert peer.receive(len(too_long)) == too_long


def test_a_hello_in_too_many_records_is_served_all_the_same(balance: MakeScene, plain: list[Served]) -> None:
    """More than is looked at, and still not whole: the rest is not waited for."""
    scene = balance(*plain, pool=BY_NAME)
    whole = client_hello(NAMES[0], protocols=24)
    split = b"".join(whole[:3] + b"\x00\x01" + whole[at : at + 1] for at in range(5, len(whole)))
    assert len(split) > 32768
    with scene.connect() as peer:
        peer.send(split[:-1])
        read_name(peer)
        assert peer.receive(len(split) - 1) == split[:-1]


def test_a_hello_behind_a_proxy_header(balance: MakeScene, plain: list[Served]) -> None:
    """In the same segment, in the next one, and in two halves."""
    scene = balance(*plain, pool=BY_NAME, listener=TRUSTED)
    for name in NAMES[:8]:
        hello = client_hello(name)
        expected = serving_backend(scene, PROXY_HEADER + hello)
        for parts in ((PROXY_HEADER, hello), (PROXY_HEADER + hello[:50], hello[50:])):
            with scene.connect() as peer:
                peer.send(parts[0])
                wait_state(scene, "hello")
                assert scene.lb.sessions()[0]["client"] == "192.0.2.33:54321"
                peer.send(parts[1])
                assert read_name(peer) == expected
                assert peer.receive(len(hello)) == hello
    spread = {serving_backend(scene, PROXY_HEADER + client_hello(name)) for name in NAMES}
    assert spread == {"b0", "b1", "b2", "b3"}


@pytest.mark.parametrize("sent", [0, 1, 200], ids=["nothing", "a byte", "a part"])
def test_a_client_that_ends_early_has_all_it_sent_passed_on(balance: MakeScene, backend: Backend, sent: int) -> None:
    """Without waiting for the rest: there will be none."""
    scene = balance(backend, pool=BY_NAME)
    client = scene.connect()
    if sent:
        client.send(HELLO[:sent])
    client.finish()
    with backend.accept() as server:
        assert server.receive(sent) == HELLO[:sent]
        assert server.ended() is End.FIN
        server.send(b"answer")
        assert client.receive(6) == b"answer"
    scene.wait_closed("-- normal")


def test_a_client_that_finishes_behind_its_hello(balance: MakeScene, plain: list[Served]) -> None:
    scene = balance(*plain, pool=BY_NAME)
    expected = serving_backend(scene, HELLO)
    with scene.connect() as peer:
        peer.send(HELLO)
        peer.finish()
        assert read_name(peer) == expected
        assert peer.read_all() == HELLO


def test_a_client_that_breaks_off_before_its_name_reaches_no_backend(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool=BY_NAME)
    hesitant(scene).reset()
    scene.wait_closed("CC client_abort")
    scene.wait_connections(0)
    assert scene.backend_status()["connections_total"] == 0
    assert not backend.pending()


def test_a_backend_is_told_the_client_before_the_hello(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool=BY_NAME | {"send_proxy": "v2"})
    client = scene.connect()
    client.send(HELLO)
    with backend.accept() as server:
        assert proxy_header.receive(server.sock).source == client.local
        assert server.receive(len(HELLO)) == HELLO


def test_clients_of_a_unix_socket_have_names_too(balance: MakeScene, plain: list[Served], tmp_path: Path) -> None:
    scene = balance(*plain, pool=BY_NAME, listener={"bind": f"unix:{tmp_path}/l"})
    reached = {name: serving_backend(scene, client_hello(name)) for name in NAMES}
    assert set(reached.values()) == {"b0", "b1", "b2", "b3"}
    assert reached == {name: serving_backend(scene, client_hello(name)) for name in NAMES}


def test_a_name_that_decides_nothing_is_not_waited_for(balance: MakeScene, plain: list[Served]) -> None:
    scene = balance(*plain, pool=BY_NAME | {"balance": "round_robin"})
    assert {serving_backend(scene) for _ in range(4)} == {"b0", "b1", "b2", "b3"}


# -- reload, kill and stop while a name is waited for ----------------------------------------------------------------


def test_a_reload_while_a_name_is_waited_for(balance: MakeScene, plain: list[Served]) -> None:
    """Where the client goes is decided when its name is known, by the configuration of that moment."""
    scene = balance(*plain[:3], pool=BY_NAME)
    client = hesitant(scene)
    scene.reload(backends=plain[3:])
    client.send(HELLO[100:])
    assert read_name(client) == "b3"
    assert client.receive(len(HELLO)) == HELLO


def test_a_reload_after_which_no_name_matters(balance: MakeScene, plain: list[Served]) -> None:
    scene = balance(*plain, pool=BY_NAME)
    client = hesitant(scene)
    scene.reload(pool={"balance": "first"})
    assert serving_backend(scene) == "b0"
    client.send(HELLO[100:])
    assert read_name(client) == "b0"


def test_a_reload_that_takes_the_listener_away(balance: MakeScene, backend: Backend) -> None:
    """As with a PROXY header that is waited for: the client belongs to no listener any more."""
    scene = balance(backend, pool=BY_NAME)
    client = hesitant(scene)
    config = scene.config
    config["listeners"] = {"other": {"bind": "127.0.0.1:0", "pool": scene.pool}}
    scene.lb.reload(config)
    client.send(HELLO[100:])
    assert client.read_all() == b""
    wait_until(lambda: scene.lb.session_count() == 0)
    assert not backend.pending()


def test_a_client_killed_before_its_name_is_counted(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool=BY_NAME)
    client = hesitant(scene)
    (session,) = scene.lb.sessions()
    assert (session["pool"], session["backend"]) == ("", None)
    scene.lb.request("DELETE", f"/api/v1/sessions/{session['session']}")
    assert client.read_all() == b""
    wait_until(lambda: scene.listener_status()["rejected_total"]["closed"] == 1)
    assert scene.listener_status()["connections_total"] == 1
    assert (scene.closed(), scene.listener_status()["connections"]) == ({}, 0)


def test_draining_a_backend_leaves_those_alone_that_have_none_yet(balance: MakeScene, plain: list[Served]) -> None:
    scene = balance(*plain, pool=BY_NAME)
    expected = serving_backend(scene, HELLO)
    client = hesitant(scene)
    scene.lb.request("PATCH", f"/api/v1/pools/{scene.pool}/backends/{expected}", {"state": "drain"})
    client.send(HELLO[100:])
    assert read_name(client) != expected


@pytest.mark.parametrize("hello", [HELLO[100:], b""], ids=["that comes", "that does not come"])
def test_a_stop_waits_for_a_hello(backend: Backend, hello: bytes) -> None:
    """As long as for any session; then the process ends cleanly."""
    config = {
        "process": {"drain_timeout": "1h" if hello else "200ms"},
        "listeners": {"web": {"bind": "127.0.0.1:0", "pool": "web"}},
        "pools": {"web": BY_NAME | {"backends": [backend_entry(backend, "b0")]}},
    }
    with Balancer(config) as lb, connect(lb.address("web")) as client:
        client.send(HELLO[:100])
        wait_until(lambda: [session["state"] for session in lb.sessions()] == ["hello"])
        lb.signal(signal.SIGTERM)
        lb.wait_notified("STOPPING=1")
        if hello:
            client.send(hello)
            with backend.accept() as server:
                assert server.receive(len(HELLO)) == HELLO
        else:
            assert client.read_all() == b""
        client.close()
        lb.wait_exit()


def test_every_client_is_accounted_for_whatever_happens_before_its_name(
    balance: MakeScene, plain: list[Served]
) -> None:
    scene = balance(*plain, pool=BY_NAME | {"timeouts": {"hello": "200ms"}})
    chance = random.Random(1)

    def come_and_go() -> None:
        for _ in range(30):
            peer = scene.connect()
            with suppress(OSError):  # it may be killed before
                peer.send(client_hello(chance.choice(NAMES))[: chance.choice((0, 1, 100, None))])
            match chance.randrange(4):
                case 0:
                    peer.reset()
                case 1:
                    with suppress(OSError):
                        peer.finish()
                    peer.read_all()
                case 2:
                    peer.read_first()
            peer.close()

    def kill() -> None:
        while any(client.running() for client in clients):
            for session in scene.lb.sessions()[:3]:
                scene.lb.request("DELETE", f"/api/v1/sessions/{session['session']}")
            scene.reload(pool={"retries": chance.randrange(3)})

    clients = [Background(come_and_go) for _ in range(4)]
    killing = Background(kill)
    for client in clients:
        client.result()
    killing.result()
    scene.wait_connections(0)
    status = scene.listener_status()
    assert status["connections_total"] == 120
    assert sum(status["rejected_total"].values()) + sum(scene.closed().values()) == 120
    assert {backend["connections"] for backend in scene.pool_status()["backends"].values()} == {0}


# -- listeners.NAME.sni ----------------------------------------------------------------------------------------------


class Routed:
    """A scene whose listener routes by name to pools of one backend each, besides its own pool."""

    def __init__(self, scene: Scene, routes: dict[str, str], **backends: Served) -> None:
        self.scene = scene
        self.backends = backends
        self.reload(routes)

    def reload(self, routes: dict[str, str]) -> None:
        pools = {name: {"backends": [backend_entry(server, "b0")]} for name, server in self.backends.items()}
        listeners = {self.scene.listener: {"sni": routes}}
        self.scene.lb.reload(merge(self.scene.config, {"listeners": listeners, "pools": pools}))

    def reached(self, *names: str | None) -> list[str]:
        return [serving_backend(self.scene, client_hello(name)) for name in names]


ROUTES = {
    "emb.example": "embed",
    "*.llama.example": "llama",
    "*.big.llama.example": "embed",
    "X.Llama.Example": "embed",
}


@pytest.fixture
def routed(balance: MakeScene, plain: list[Served]) -> Routed:
    """b1 is pool `llama`, b2 is pool `embed`, b0 is for everybody else."""
    return Routed(balance(plain[0], pool=NEVER), ROUTES, llama=plain[1], embed=plain[2])


def test_names_are_routed_to_their_pools(routed: Routed) -> None:
    assert routed.reached("emb.example", "x.llama.example") == ["b2", "b2"]
    assert routed.reached("a.llama.example", "A.LLAMA.EXAMPLE", "b.a.llama.example") == ["b1", "b1", "b1"]
    assert routed.reached("a.big.llama.example", "b.a.big.llama.example", "big.llama.example") == ["b2", "b2", "b1"]


def test_other_names_and_none_go_to_the_pool_of_the_listener(routed: Routed) -> None:
    assert routed.reached("llama.example", "other.example", "a.emb.example", "example", None) == ["b0"] * 5
    assert serving_backend(routed.scene, b"GET / HTTP/1.1\r\n\r\n") == "b0"


def test_routing_does_not_end_tls(balance: MakeScene, plain: list[Served]) -> None:
    """Each pool shows the certificate of its own backend."""
    with ExitStack() as stack:
        llama = stack.enter_context(Served(over_tls(named("llama"), "a.llama.example")))
        embed = stack.enter_context(Served(over_tls(named("embed"), "emb.example")))
        routed = Routed(balance(plain[0], pool=NEVER), ROUTES, llama=llama, embed=embed)
        for version in VERSIONS:
            for name, expected in (("a.llama.example", "llama"), ("emb.example", "embed")):
                with routed.scene.connect() as peer:
                    assert read_name(secure(peer, name, version)) == expected


def test_the_session_counts_for_the_pool_it_was_routed_to(routed: Routed) -> None:
    routed.reached("emb.example", "a.llama.example", "a.llama.example", None)
    lines = routed.scene.access(4)
    assert sorted(line["pool"] for line in lines) == sorted(["embed", "llama", "llama", routed.scene.pool])
    assert {line["bytes_in"] > 100 for line in lines} == {True}


def test_a_reload_changes_the_routes_of_new_clients_and_of_waiting_ones(routed: Routed) -> None:
    hello = client_hello("emb.example")
    with routed.scene.connect() as waiting:
        waiting.send(hello[:100])
        wait_state(routed.scene, "hello")
        routed.reload({"emb.example": "llama"})
        assert routed.reached("emb.example", "a.llama.example") == ["b1", "b0"]
        waiting.send(hello[100:])
        assert read_name(waiting) == "b1"
    routed.reload({})
    assert routed.reached("emb.example", "a.llama.example") == ["b0", "b0"]
    assert serving_backend(routed.scene) == "b0"


def test_the_pool_of_the_listener_says_how_long_a_name_is_waited_for(balance: MakeScene, plain: list[Served]) -> None:
    scene = balance(plain[0], pool={"timeouts": {"hello": "100ms"}})
    routed = Routed(scene, ROUTES, llama=plain[1], embed=plain[2])
    assert serving_backend(routed.scene) == "b0"


@pytest.mark.parametrize("key", ["sni", "source_ip"])
def test_a_routed_pool_binds_by_its_own_key(balance: MakeScene, plain: list[Served], key: str) -> None:
    scene = balance(plain[0], pool=NEVER)
    config = scene.config
    config["listeners"][scene.listener]["sni"] = {"*.llama.example": "bound"}
    entries = [backend_entry(server, str(server)) for server in plain[1:]]
    config["pools"]["bound"] = BY_NAME | {"hash": {"key": key}, "backends": entries}
    scene.lb.reload(config)
    by_name = {serving_backend(scene, client_hello(name), SOURCES[0]) for name in NAMES}
    by_source = {serving_backend(scene, client_hello(NAMES[0]), source) for source in SOURCES}
    assert (by_name if key == "sni" else by_source) == {"b1", "b2", "b3"}
    assert len(by_source if key == "sni" else by_name) == 1
