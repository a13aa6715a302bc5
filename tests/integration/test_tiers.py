"""Tiers and zones, as clients see them: at home while home can bear them, elsewhere when not, and home again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeScene
from tests.helpers.mmdb import write_database
from tests.helpers.peers import End, Peer, Served, ask, named, read_name
from tests.helpers.proxy_header import v2
from tests.helpers.scene import BackendLike, Scene
from tests.helpers.waiting import wait_until

EU, US, UNKNOWN = "127.0.1.7", "127.0.2.7", "127.0.3.7"
ZONES = {"zones": {"eu": ["127.0.1.0/24"], "us": ["127.0.2.0/24"]}}
CHECKED = {"health": {"interval": "50ms", "timeout": "500ms", "rise": 1, "fall": 2}}

MakeServers = Callable[..., dict[str, Served]]


@pytest.fixture
def serve() -> Iterator[MakeServers]:
    """Backends that say their names."""
    with ExitStack() as stack:
        yield lambda *names: {name: stack.enter_context(Served(named(name))) for name in names}


def entries(servers: dict[str, Served], **settings: dict[str, Any]) -> list[BackendLike]:
    """The place of a backend is in its name: a letter for the zone (e, u; r is none), then a number, then its tier."""
    zones = {"e": {"zone": "eu"}, "u": {"zone": "us"}, "r": {}}
    return [
        {"name": name, "address": server, "tier": int(name[2])} | zones[name[0]] | settings.get(name, {})
        for name, server in servers.items()
    ]


def served_by(scene: Scene, source: str, times: int = 12) -> set[str]:
    return {ask(scene.address, source=source) for _ in range(times)}


def wait_served_by(scene: Scene, source: str, *names: str) -> None:
    """Results of health checks reach the workers a moment later. At first they know no healthy backend."""

    def served() -> bool:
        with scene.connect(source=source) as client:
            return client.read_first() != b""

    wait_until(served)
    wait_until(lambda: served_by(scene, source, 30) == set(names), what=lambda: f"served by {served_by(scene, source)}")


def wait_health(scene: Scene, name: str, health: str) -> None:
    wait_until(lambda: scene.backend_status(name)["health"] == health)


def test_clients_stay_in_their_zone(balance: MakeScene, serve: MakeServers) -> None:
    servers = serve("e10", "e20", "u10", "u20", "r11")
    scene = balance(*entries(servers), sections=ZONES)
    for _ in range(2):
        assert served_by(scene, EU) == {"e10", "e20"}
        assert served_by(scene, US) == {"u10", "u20"}
        assert served_by(scene, UNKNOWN) == {"e10", "e20", "u10", "u20"}
        scene.reload(pool={"retries": 2})
    status = scene.backend_status("u10")
    assert (status["zone"], status["tier"]) == ("us", 0)
    labels = {"pool": scene.pool, "backend": "r11", "tier": "1", "zone": ""}
    assert scene.lb.metric("l4lb_backend_info", **labels) == 1


def test_zones_that_take_turns_each_use_all_of_their_backends(balance: MakeScene, serve: MakeServers) -> None:
    scene = balance(*entries(serve("e10", "e20", "u10", "u20")), sections=ZONES)
    counted = Counter(ask(scene.address, source=source) for _ in range(10) for source in (EU, US))
    assert counted == dict.fromkeys(("e10", "e20", "u10", "u20"), 5)


def test_the_client_of_the_proxy_header_has_the_zone(balance: MakeScene, serve: MakeServers) -> None:
    scene = balance(
        *entries(serve("e10", "u10")),
        listener={"proxy_protocol": {"from": ["127.0.0.0/8"]}},
        sections={"zones": {"eu": ["192.0.2.0/24"], "us": ["2001:db8::/32", "127.0.0.0/8"]}},
    )

    def ask_as(source: str) -> str:
        peer = scene.connect()
        peer.send(v2((source, 4711), ("::1" if ":" in source else "192.0.2.1", 80)))
        return read_name(peer)

    for _ in range(4):
        assert ask_as("192.0.2.9") == "e10"
        assert ask_as("2001:db8::9") == "u10"


def test_without_its_zone_a_client_goes_to_the_others_and_then_to_the_next_tier(
    balance: MakeScene, serve: MakeServers
) -> None:
    local, other, reserve = serve("e10", "e20"), serve("u10"), serve("r11")
    scene = balance(*entries(local | other | reserve), pool=CHECKED, sections=ZONES)
    wait_served_by(scene, EU, "e10", "e20")
    ports = {name: server.address[1] for name, server in local.items()}
    for name, server in local.items():
        server.close()
        wait_health(scene, name, "down")
    # A third of tier 0 is left, which keeps 47 % of the clients; none of the own zone is.
    wait_served_by(scene, EU, "u10", "r11")
    assert served_by(scene, US) == {"u10"}
    for name, port in ports.items():
        local[name] = Served(named(name), port=int(port))
    wait_served_by(scene, EU, "e10", "e20")
    for server in local.values():
        server.close()


def test_what_is_full_spills_and_fills_again(balance: MakeScene, serve: MakeServers) -> None:
    full = {"max_connections": 2}
    servers = serve("e10", "u10", "r11", "r21")
    scene = balance(*entries(servers, e10=full, u10=full, r11=full, r21=full), sections=ZONES)
    held: list[tuple[str, Peer]] = []
    for _ in range(8):
        peer = scene.connect(source=EU)
        held.append((read_name(peer), peer))
    names = [name for name, _ in held]
    assert names[:4] == ["e10", "e10", "u10", "u10"]
    assert set(names[4:]) == {"r11", "r21"}
    assert scene.connect(source=EU).ended() is End.FIN
    for place in ("r11", "u10", "e10"):
        name, peer = next(item for item in held if item[0] == place)
        peer.close()
        wait_until(lambda name=name: scene.backend_status(name)["connections"] == 1)  # type: ignore[misc]
        assert read_name(scene.connect(source=EU)) == place


def test_waiting_begins_when_every_tier_is_full_and_ends_with_any_place(balance: MakeScene, serve: MakeServers) -> None:
    full = {"max_connections": 1}
    servers = serve("e10", "u10", "r11")
    scene = balance(
        *entries(servers, e10=full, u10=full, r11=full),
        pool={"queue": {"size": 10, "timeout": "30s"}},
        sections=ZONES,
    )
    held = {}
    for source in (EU, US, EU):
        peer = scene.connect(source=source)
        held[read_name(peer)] = peer
    assert held.keys() == {"e10", "u10", "r11"}
    waiting = []
    for number in range(3):
        waiting.append(scene.connect(source=US))
        wait_until(lambda number=number: scene.pool_status()["queued"] == number + 1)  # type: ignore[misc]
    for name, peer in zip(("r11", "e10", "u10"), waiting, strict=True):
        held[name].close()
        assert read_name(peer) == name
    assert scene.pool_status()["queued"] == 0


def test_a_zone_that_is_too_small_keeps_its_share(balance: MakeScene, serve: MakeServers) -> None:
    """One of four is left: 35 % stay, 65 % go to the next tier."""
    scene = balance(*entries(serve("r10", "r20", "r30", "r40", "r11")), pool={"balance": "maglev"})
    for name in ("r10", "r20", "r30"):
        scene.lb.request("PATCH", f"/api/v1/pools/{scene.pool}/backends/{name}", {"state": "drain"})
    sources = [f"127.0.{third}.{fourth}" for third in (4, 5) for fourth in range(1, 61)]
    answers = {source: ask(scene.address, source=source) for source in sources}
    assert set(answers.values()) == {"r40", "r11"}
    assert 20 <= Counter(answers.values())["r40"] <= 65
    assert {source: ask(scene.address, source=source) for source in sources} == answers
    scene.reload(pool={"retries": 2})
    assert {source: ask(scene.address, source=source) for source in sources} == answers
    scene.lb.request("PATCH", f"/api/v1/pools/{scene.pool}/backends/r30", {"state": "ready"})
    again = {source: ask(scene.address, source=source) for source in sources}
    assert all(again[source] != "r11" for source in sources if answers[source] == "r40")


def test_a_refused_connection_goes_on_along_the_way(balance: MakeScene, serve: MakeServers) -> None:
    servers = serve("e10", "u10", "r11")
    scene = balance(*entries(servers), sections=ZONES)
    servers["e10"].close()
    assert ask(scene.address, source=EU) == "u10"
    servers["u10"].close()
    assert ask(scene.address, source=EU) == "r11"


def test_a_reload_that_moves_everything_keeps_the_sessions(balance: MakeScene, serve: MakeServers) -> None:
    servers = serve("e10", "u10", "r11")
    scene = balance(*entries(servers), sections=ZONES)
    held = {source: scene.connect(source=source) for source in (EU, US)}
    assert [read_name(peer) for peer in held.values()] == ["e10", "u10"]
    swapped = {"zones": {"us": ["127.0.1.0/24"], "eu": ["127.0.2.0/24"], "new": []}}
    scene.reload(sections=swapped)
    assert (served_by(scene, EU), served_by(scene, US)) == ({"u10"}, {"e10"})
    scene.reload(backends=entries(servers, e10={"tier": 2, "zone": "new"}, u10={"tier": 2}))
    assert served_by(scene, EU) == {"r11"}
    scene.reload(
        backends=[{"name": name, "address": server} for name, server in servers.items()], sections={"zones": {}}
    )
    assert served_by(scene, EU) == set(servers)
    for peer in held.values():
        peer.send(b"still here")
        assert peer.receive(10) == b"still here"
    assert scene.backend_status("e10")["connections"] == 1


def test_zones_come_from_a_database(balance: MakeScene, serve: MakeServers, tmp_path: Path) -> None:
    path = tmp_path / "geo.mmdb"
    germany, brazil = {"country": {"iso_code": "DE"}}, {"continent": {"code": "SA"}}
    write_database(path, {"127.0.1.0/24": germany, "127.0.2.0/23": brazil})
    sections = {
        "geo": {"database": str(path)},
        "zones": {"eu": ["country:DE"], "us": ["continent:SA", "127.0.1.128/25"]},
    }
    scene = balance(*entries(serve("e10", "u10")), sections=sections)
    assert (served_by(scene, EU, 4), served_by(scene, US, 4)) == ({"e10"}, {"u10"})
    assert (served_by(scene, UNKNOWN, 4), served_by(scene, "127.0.1.130", 4)) == ({"u10"}, {"u10"})
    write_database(path, {"127.0.1.0/24": brazil, "127.0.2.0/23": germany, "127.9.0.0/16": germany})
    assert served_by(scene, EU, 4) == {"e10"}
    scene.reload()
    assert (served_by(scene, EU, 4), served_by(scene, US, 4)) == ({"u10"}, {"e10"})
    path.write_bytes(b"torn")
    status, body = scene.lb.request("POST", "/api/v1/reload")
    assert status == 422
    assert "not a complete database in the MaxMind DB format" in body["problems"][0]
    assert served_by(scene, EU, 4) == {"u10"}
    write_database(path, {})


def test_a_panic_uses_everybody_until_it_is_over(balance: MakeScene, serve: MakeServers) -> None:
    """Checks that ask the wrong port fail for all."""
    servers = serve("r10", "r20")
    with Served(named("check")) as checked:
        port = int(checked.address[1])
        health = CHECKED["health"] | {"port": port}
        scene = balance(*entries(servers), pool={"health": health, "panic_threshold": "50%"})
        for name in servers:
            wait_health(scene, name, "up")
        assert scene.pool_status()["panic"] is False
    wait_until(lambda: scene.pool_status()["panic"])
    assert [scene.backend_status(name)["effective_weight"] for name in servers] == [1, 1]
    assert scene.lb.metric("l4lb_pool_panic", pool=scene.pool) == 1
    scene.lb.wait_log(f"pool {scene.pool} panics: less than 50% of its backends are usable")
    wait_served_by(scene, EU, "r10", "r20")
    with Served(named("check"), port=port):
        for name in servers:
            wait_health(scene, name, "up")
        scene.lb.wait_log(f"pool {scene.pool}: panic is over")
        assert scene.lb.metric("l4lb_pool_panic", pool=scene.pool) == 0
