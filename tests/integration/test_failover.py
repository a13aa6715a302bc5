"""Backends that go down and come up, as the clients that are connected see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import MakeScene
from tests.helpers.balancer import Balancer, Json
from tests.helpers.peers import (
    Address,
    Backend,
    Peer,
    Served,
    ask,
    blackhole,
    connect,
    listen,
    named,
    read_name,
    spelled,
)
from tests.helpers.scene import Scene
from tests.helpers.upgrades import taking_care_of_orphans, upgrade
from tests.helpers.waiting import wait_until

CHECKED: Json = {"health": {"interval": "50ms", "timeout": "2s", "rise": 1, "fall": 1}}


class Judged:
    """A backend whose checks go to another port, which a test opens and closes."""

    def __init__(self, name: str, stack: ExitStack, server: Backend | None = None, **settings: Any) -> None:
        self.name = name
        self.server = server or stack.enter_context(Served(named(name)))
        self._sock = listen()
        self._check = self._sock.getsockname()
        self._settings = settings
        stack.callback(lambda: self._sock.close())

    @property
    def entry(self) -> Json:
        health = {"port": self._check[1]}
        return {"name": self.name, "address": str(self.server), "health": health} | self._settings

    def down(self) -> None:
        self._sock.close()

    def up(self) -> None:
        self._sock = listen(*self._check)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def wait_health(scene: Scene, **expected: str) -> None:
    def seen() -> dict[str, str]:
        backends = scene.pool_status()["backends"]
        return {name: backends[name]["health"] for name in expected}

    wait_until(lambda: seen() == expected, what=seen)


def client_of(scene: Scene, name: str) -> Peer:
    """A client that this backend serves. What is known of health reaches the workers a moment later."""

    def connected() -> Peer | None:
        client = scene.connect()
        if client.read_first() == f"{name}\n".encode():
            return client
        client.close()
        return None

    return wait_until(connected)


def connecting_to(scene: Scene, name: str) -> Peer:
    """A client that waits for a connection to this backend."""

    def connecting() -> Peer | None:
        client = scene.connect()
        wait_until(lambda: client.readable() or scene.backend_status(name)["connections"] == 1)
        return None if client.readable() else client

    return wait_until(connecting)


def set_state(scene: Scene, name: str, state: str) -> None:
    path = f"/api/v1/pools/{scene.pool}/backends/{name}"
    assert scene.lb.request("PATCH", path, {"state": state})[0] == 200


def still_works(client: Peer) -> None:
    client.send(b"hello")
    assert client.receive(5) == b"hello"


# ---- on_down ---------------------------------------------------------------------------------------------------------


def test_sessions_of_a_backend_that_goes_down_end_at_once_where_the_pool_says_so(
    balance: MakeScene, stack: ExitStack
) -> None:
    a, b = Judged("a", stack), Judged("b", stack, weight=0)
    scene = balance(a.entry, b.entry, pool=CHECKED | {"on_down": "close"})
    wait_health(scene, a="up", b="up")
    client = client_of(scene, "a")
    scene.reload([a.entry, b.entry | {"weight": 1}, {"name": "c", "address": str(b.server), "weight": 0}])
    still_works(client)
    a.down()
    assert client.read_all() == b""
    wait_until(lambda: scene.closed().get("DD backend_down") == 1)
    assert ask(scene.address) == "b"
    wait_until(lambda: ("backend_down", "DD") in {(line["reason"], line["code"]) for line in scene.access()})
    wait_until(lambda: "a: 1 session closed, as it is down (on_down: close)" in scene.lb.log)


def test_sessions_stay_where_the_pool_keeps_them_until_the_file_says_otherwise(
    balance: MakeScene, stack: ExitStack
) -> None:
    a, b = Judged("a", stack), Judged("b", stack, weight=0)
    scene = balance(a.entry, b.entry, pool=CHECKED)
    wait_health(scene, a="up", b="up")
    client = client_of(scene, "a")
    a.down()
    wait_health(scene, a="down")
    still_works(client)
    scene.reload(pool={"on_down": "close"})
    assert client.read_all() == b""
    wait_until(lambda: scene.closed().get("DD backend_down") == 1)


def test_maintenance_ends_sessions_as_a_check_does_and_a_drain_lets_them_finish(
    balance: MakeScene, stack: ExitStack
) -> None:
    a = Judged("a", stack)
    scene = balance(a.entry, pool=CHECKED | {"on_down": "close", "drain_quiet": "keep"})
    wait_health(scene, a="up")
    client = client_of(scene, "a")
    set_state(scene, "a", "drain")
    still_works(client)
    set_state(scene, "a", "maint")
    assert client.read_all() == b""
    wait_until(lambda: scene.closed().get("DD backend_down") == 1)


def test_a_drained_backend_that_goes_down_ends_its_sessions(balance: MakeScene, stack: ExitStack) -> None:
    a = Judged("a", stack)
    scene = balance(a.entry, pool=CHECKED | {"on_down": "close", "drain_quiet": "keep"})
    wait_health(scene, a="up")
    client = client_of(scene, "a")
    set_state(scene, "a", "drain")
    a.down()
    assert client.read_all() == b""
    wait_until(lambda: scene.closed().get("DD backend_down") == 1)


def test_the_same_server_in_two_pools_ends_the_sessions_of_the_one_that_says_so(
    balance: MakeScene, stack: ExitStack
) -> None:
    a = Judged("a", stack)
    other = {"other": {"backends": [a.entry], "on_down": "close"} | CHECKED}
    door = {"other": {"bind": "127.0.0.1:0", "pool": "other"}}
    scene = balance(a.entry, pool=CHECKED, sections={"pools": other, "listeners": door})
    wait_health(scene, a="up")
    wait_until(lambda: scene.lb.status()["pools"]["other"]["backends"]["a"]["health"] == "up")
    kept = client_of(scene, "a")
    with connect(scene.lb.address("other")) as cut:
        assert read_name(cut) == "a"
        a.down()
        assert cut.read_all() == b""
    still_works(kept)


def test_a_client_that_is_not_connected_yet_goes_elsewhere(balance: MakeScene, stack: ExitStack) -> None:
    with blackhole() as nowhere:
        a, b = Judged("a", stack), Judged("b", stack, weight=0)
        entry = a.entry | {"address": spelled(nowhere)}
        scene = balance(entry, b.entry, pool=CHECKED | {"on_down": "close", "timeouts": {"connect": "60s"}})
        wait_health(scene, a="up", b="up")
        client = connecting_to(scene, "a")
        scene.reload([entry, b.entry | {"weight": 1}])
        a.down()
        assert read_name(client) == "b"
        client.finish()
        assert client.read_all() == b""
        wait_until(lambda: scene.closed().get("-- normal") == 1)
        assert not scene.closed().keys() & {"DC backend_down", "SC connect_failed"}


def test_a_client_that_can_go_nowhere_else_is_told_that_its_backend_is_down(
    balance: MakeScene, stack: ExitStack
) -> None:
    with blackhole() as nowhere:
        a = Judged("a", stack)
        entry = a.entry | {"address": spelled(nowhere)}
        scene = balance(entry, pool=CHECKED | {"on_down": "close", "timeouts": {"connect": "60s"}})
        wait_health(scene, a="up")
        client = connecting_to(scene, "a")
        a.down()
        assert client.read_all() == b""
        wait_until(lambda: scene.closed().get("DC backend_down") == 1)


def test_clients_in_the_queue_wait_on(balance: MakeScene, stack: ExitStack) -> None:
    a, b = Judged("a", stack, max_connections=1), Judged("b", stack, weight=0)
    pool = {"on_down": "close", "queue": {"size": 10, "timeout": "60s"}}
    scene = balance(a.entry, b.entry, pool=CHECKED | pool)
    wait_health(scene, a="up", b="up")
    served = client_of(scene, "a")
    waiting = scene.connect()
    wait_until(lambda: scene.pool_status()["queued"] == 1)
    a.down()
    assert served.read_all() == b""
    scene.reload([a.entry, b.entry | {"weight": 1}])
    assert read_name(waiting) == "b"


# ---- on_up, failback, spill ------------------------------------------------------------------------------------------


def test_sessions_of_a_lower_tier_end_when_a_better_one_comes_up(balance: MakeScene, stack: ExitStack) -> None:
    a, b = Judged("a", stack), Judged("b", stack, tier=1)
    scene = balance(a.entry, b.entry, pool=CHECKED | {"on_up": "close_lower"})
    wait_health(scene, a="up", b="up")
    a.down()
    wait_health(scene, a="down")
    wait_until(lambda: ask(scene.address) == "b")
    client = client_of(scene, "b")
    a.up()
    assert client.read_all() == b""
    wait_until(lambda: scene.closed().get("UD better_up") == 1)
    assert ask(scene.address) == "a"


def test_a_pool_that_does_not_go_back_serves_from_where_it_went(balance: MakeScene, stack: ExitStack) -> None:
    servers = [Judged(name, stack) for name in ("a", "b", "c")]
    entries = [one.entry for one in servers]
    a, b, _ = servers
    scene = balance(*entries, pool=CHECKED | {"balance": "first", "failback": "off", "on_down": "close"})
    wait_health(scene, a="up", b="up", c="up")
    client = client_of(scene, "a")
    a.down()
    assert client.read_all() == b""
    assert ask(scene.address) == "b"
    a.up()
    wait_health(scene, a="up")
    scene.reload(entries, pool={"retries": 2})
    assert {ask(scene.address) for _ in range(10)} == {"b"}
    failover = scene.pool_status()["failover"]
    assert (failover["current"], failover["held"]) == ("b", ["a"])
    assert scene.lb.metric("l4lb_pool_held_backends", pool=scene.pool) == 1
    b.down()
    wait_until(lambda: scene.pool_status()["failover"]["current"] == "a")
    assert ask(scene.address) == "a"


def test_a_full_tier_has_clients_wait_where_lower_ones_are_for_failures(balance: MakeScene, stack: ExitStack) -> None:
    a, b = Judged("a", stack, max_connections=1), Judged("b", stack, tier=1)
    pool = {"spill": "off", "queue": {"size": 10, "timeout": "60s"}, "on_down": "close"}
    scene = balance(a.entry, b.entry, pool=CHECKED | pool)
    wait_health(scene, a="up", b="up")
    first = client_of(scene, "a")
    second = scene.connect()
    wait_until(lambda: scene.pool_status()["queued"] == 1)
    first.finish()
    assert first.read_all() == b""
    assert read_name(second) == "a"
    third = scene.connect()
    wait_until(lambda: scene.pool_status()["queued"] == 1)
    a.down()
    assert second.read_all() == b""
    assert read_name(third) == "b"


# ---- upgrades --------------------------------------------------------------------------------------------------------


def config(*backends: Judged, **pool: Any) -> Json:
    return {
        "process": {"workers": 2, "drain_timeout": "60s"},
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {"main": {"backends": [one.entry for one in backends]} | CHECKED | pool},
    }


def current(lb: Balancer) -> str:
    found: str = lb.status()["pools"]["main"]["failover"]["current"]
    return found


@pytest.mark.slow
def test_an_upgrade_stays_where_the_pool_stayed_and_sessions_of_the_process_before_end_too(stack: ExitStack) -> None:
    a, b = Judged("a", stack, tier=0), Judged("b", stack, tier=1)
    stack.enter_context(taking_care_of_orphans())
    settings = config(a, b, failback="off", on_down="close", spill="off", drain_quiet="keep")
    lb = stack.enter_context(Balancer(settings))
    address: Address = lb.address("main")
    wait_until(lambda: current(lb) == "tier 0")
    a.down()
    wait_until(lambda: current(lb) == "tier 1")
    a.up()
    wait_until(lambda: lb.status()["pools"]["main"]["failover"]["held"] == ["a"])
    client = stack.enter_context(connect(address))
    assert read_name(client) == "b"
    old = upgrade(lb)
    assert current(lb) == "tier 1"
    assert ask(address) == "b"
    still_works(client)
    b.down()
    assert client.read_all() == b""
    assert old.wait(20) == 0
    wait_until(lambda: current(lb) == "tier 0")
    assert ask(address) == "a"
