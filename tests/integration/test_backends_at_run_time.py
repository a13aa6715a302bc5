"""Backends are added, removed and moved while clients come, and that lasts until the file says something else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from click.testing import CliRunner

from l4lb.cli import main
from tests.helpers.balancer import Balancer, Json
from tests.helpers.callers import Callers
from tests.helpers.leaks import holdings, resident_bytes
from tests.helpers.peers import Backend, Served, ask, connect, echo, named
from tests.helpers.upgrades import taking_care_of_orphans, upgrade
from tests.helpers.waiting import wait_until

BACKENDS = "/api/v1/pools/main/backends"


def path(name: str) -> str:
    return f"{BACKENDS}/{quote(name, safe='')}"


def config(*backends: object, pool: Json | None = None, **sections: Any) -> Json:
    return {
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {"main": {"backends": list(backends)} | (pool or {})},
    } | sections


def entry(name: str, backend: object, **values: object) -> Json:
    return {"name": name, "address": str(backend)} | values


def made(lb: Balancer, method: str, target: str, body: object = None) -> Json:
    """Have a change made; the answer."""
    status, answer = lb.request(method, target, body)
    assert status in (200, 201), answer
    return answer


def refused(lb: Balancer, code: int, method: str, target: str, body: object = None) -> str:
    """Ask for a change that is refused and changes nothing; the sentence."""
    before = backends(lb)
    status, answer = lb.request(method, target, body)
    assert status == code, answer
    assert backends(lb) == before
    error: str = answer["error"]
    assert len(error) < 1024
    return error


def pool(lb: Balancer) -> Json:
    status: Json = lb.status()["pools"]["main"]
    return status


def backends(lb: Balancer) -> dict[str, str]:
    """The addresses by name."""
    return {name: backend["address"] for name, backend in pool(lb)["backends"].items()}


def answers(lb: Balancer, times: int = 12) -> set[str]:
    address = lb.address("main")
    return {ask(address) for _ in range(times)}


@pytest.fixture
def servers() -> Iterator[list[Served]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Served(named(name))) for name in "abc"]


# ---- adding ----------------------------------------------------------------------------------------------------------


def test_a_backend_that_is_added_gets_clients_and_is_shown_as_added(servers: list[Served]) -> None:
    a, b, _ = servers
    with Balancer(config(entry("a", a))) as lb:
        answer = made(lb, "POST", BACKENDS, entry("b", b, weight=3, max_connections=40, max_busy=9, tier=0))
        assert (answer["name"], answer["origin"], answer["weight"]) == ("b", "api", 3)
        assert (answer["max_connections"], answer["max_busy"]) == (40, 9)
        assert answers(lb) == {"a", "b"}
        assert pool(lb)["backends"]["a"]["origin"] == "file"


def test_a_backend_without_a_name_has_that_of_its_address(servers: list[Served]) -> None:
    a, b, _ = servers
    with Balancer(config(entry("a", a))) as lb:
        assert made(lb, "POST", BACKENDS, {"address": str(b)})["name"] == str(b)
        made(lb, "DELETE", path(str(b)))
        assert backends(lb) == {"a": str(a)}


def test_an_added_backend_is_checked_before_it_gets_clients(servers: list[Served]) -> None:
    a, b, _ = servers
    checked = {"health": {"type": "tcp", "interval": "100ms", "rise": 1}}
    with Balancer(config(entry("a", a), pool=checked)) as lb:
        made(lb, "POST", BACKENDS, entry("b", b))
        wait_until(lambda: pool(lb)["backends"]["b"]["health"] == "up")
        wait_until(lambda: answers(lb) == {"a", "b"})


def test_a_name_is_looked_up(servers: list[Served]) -> None:
    a, b, _ = servers
    with Balancer(config(entry("a", a))) as lb:
        made(lb, "POST", BACKENDS, {"name": "b", "address": f"localhost:{b.address[1]}"})
        assert answers(lb) == {"a", "b"}


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (400, {}, "address: the key 'address' is missing"),
        (400, {"address": "10.0.0.1"}, "has no port"),
        (400, {"address": "10.0.0.1:0"}, "bad port"),
        (400, {"address": "0.0.0.0:80"}, "every address"),
        (400, {"address": "10.0.0.1:80", "weight": 257}, "too large"),
        (400, {"address": "10.0.0.1:80", "max_connections": -1}, "max_connections: -1 is too small"),
        (400, {"address": "10.0.0.1:80", "max_busy": True}, "max_busy: a whole number"),
        (400, {"address": "10.0.0.1:80", "wieght": 1}, "did you mean 'weight'?"),
        (400, {"address": "10.0.0.1:80", "name": "a b"}, "without spaces"),
        (400, {"address": "10.0.0.1:80", "state": "drain"}, "unknown key 'state'"),
        (400, {"address": "10.0.0.1:80", **{f"k{n}": n for n in range(2000)}}, "unknown key 'k0'"),
        (409, {"address": "10.0.0.1:80", "zone": "moon"}, "there is no zone 'moon'"),
        (409, {"address": "10.0.0.1:80", "name": "a"}, "has a backend 'a' already"),
        (400, [], "an object is expected"),
        (400, "x" * 9, "an object is expected"),
    ],
)
def test_what_the_file_could_not_have_cannot_be_added(lasting: Balancer, code: int, body: object, words: str) -> None:
    assert words in refused(lasting, code, "POST", BACKENDS, body)


@pytest.fixture(scope="module")
def lasting() -> Iterator[Balancer]:
    """For changes that are refused."""
    with Balancer(config(entry("a", "127.0.0.1:9"), entry("unix:/run/x/sessions", "unix:/run/x/sessions"))) as lb:
        yield lb


@pytest.mark.parametrize(
    ("code", "method", "target", "body", "words"),
    [
        (404, "POST", "/api/v1/pools/other/backends", {"address": "10.0.0.1:80"}, "no pool 'other'"),
        (404, "DELETE", path("zzz"), None, "no backend 'zzz'"),
        (404, "PATCH", path("zzz"), {"address": "10.0.0.1:80"}, "no backend 'zzz'"),
        (400, "PATCH", path("a"), {"address": "10.0.0.1"}, "has no port"),
        (400, "PATCH", path("a"), {"name": "b", "address": "10.0.0.1:80"}, "keeps its name"),
        (400, "PATCH", path("a"), {"address": "10.0.0.1:80", "weight": 300}, "weight"),
        (400, "PATCH", path("a"), {"address": "10.0.0.1:80", "colour": "red"}, "unknown key 'colour'"),
        (400, "PATCH", path("a"), {"address": None}, "address"),
        (409, "PATCH", path("a"), {"zone": "moon"}, "there is no zone 'moon'"),
        (400, "DELETE", f"{path('a')}?force=perhaps", None, "force is true or false"),
    ],
)
def test_what_cannot_be_changed_says_why(
    lasting: Balancer, code: int, method: str, target: str, body: object, words: str
) -> None:
    assert words in refused(lasting, code, method, target, body)


def test_a_table_that_is_too_small_takes_no_more_backends(servers: list[Served]) -> None:
    settings = {"balance": "maglev", "hash": {"table_size": 3}}
    with Balancer(config(*(entry(f"b{one}", one) for one in servers), pool=settings)) as lb:
        assert "too few for 4 backends" in refused(lb, 409, "POST", BACKENDS, entry("d", servers[0]))


def test_a_backend_whose_name_ends_like_another_path_is_removed_by_its_name() -> None:
    name = "unix:/run/x/sessions"
    with Balancer(config(entry("a", "127.0.0.1:9"), entry(name, name))) as lb:
        made(lb, "DELETE", path(name))
        assert backends(lb) == {"a": "127.0.0.1:9"}


# ---- removing --------------------------------------------------------------------------------------------------------


def test_a_removed_backend_drains_as_one_that_left_the_file() -> None:
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(Backend()) for _ in "ab")
        settings = {"balance": "first", "drain_timeout": "60s"}
        lb = stack.enter_context(Balancer(config(entry("a", a), entry("b", b), pool=settings)))
        quiet = stack.enter_context(connect(lb.address("main"))), stack.enter_context(a.accept())
        client, server = stack.enter_context(connect(lb.address("main"))), stack.enter_context(a.accept())
        client.send(b"question")
        assert server.receive(8) == b"question"
        assert made(lb, "DELETE", path("a")) == {"removed": True, "connections": 2}
        with connect(lb.address("main")), b.accept():
            pass
        assert [one.read_all() for one in quiet] == [b"", b""], "closed, as it was quiet"
        server.send(b"answer")
        assert client.receive(6) == b"answer"


def test_with_force_its_sessions_are_closed_at_once() -> None:
    with contextlib.ExitStack() as stack:
        a = stack.enter_context(Backend())
        lb = stack.enter_context(Balancer(config(entry("a", a), pool={"drain_timeout": "off"})))
        client, server = stack.enter_context(connect(lb.address("main"))), stack.enter_context(a.accept())
        client.send(b"question")
        assert server.receive(8) == b"question"
        assert made(lb, "DELETE", f"{path('a')}?force")["connections"] == 1
        wait_until(lambda: lb.session_count() == 0)
        assert client.read_all() == b""


def test_a_pool_may_lose_its_last_backend_and_get_one_again(servers: list[Served]) -> None:
    a, b, _ = servers
    with Balancer(config(entry("a", a))) as lb:
        made(lb, "DELETE", path("a"))
        assert lb.request("GET", "/readyz")[0] in (200, 503)
        made(lb, "POST", BACKENDS, entry("b", b))
        assert answers(lb) == {"b"}


# ---- another address -------------------------------------------------------------------------------------------------


def test_a_backend_at_another_address_is_the_same_backend() -> None:
    with Served(echo) as old, Served(named("new")) as new:
        backend = entry("a", old)
        with Balancer(config(backend)) as lb:
            address = lb.address("main")
            made(lb, "PATCH", path("a"), {"weight": 7})
            with connect(address) as client:
                client.send(b"before")
                assert client.receive(6) == b"before"
                answer = made(lb, "PATCH", path("a"), {"address": str(new)})
                assert (answer["address"], answer["weight"], answer["connections_total"]) == (str(new), 7, 1)
                assert (answer["origin"], answer["changed"]) == ("file", ["address"])
                assert ask(address) == "new"
                client.send(b"still there")
                assert client.receive(11) == b"still there", "sessions at the old address go on"
            assert made(lb, "PATCH", path("a"), {"address": str(old)})["changed"] == []


def test_address_limits_state_and_weight_change_together_or_not_at_all(servers: list[Served]) -> None:
    a, b, _ = servers
    with Balancer(config(entry("a", a))) as lb:
        refused(lb, 400, "PATCH", path("a"), {"address": str(b), "max_busy": -1, "state": "drain"})
        assert pool(lb)["backends"]["a"]["state"] == "ready"
        change = {"address": str(b), "max_connections": 3, "max_busy": 2, "state": "drain", "weight": 5}
        answer = made(lb, "PATCH", path("a"), change)
        assert {key: answer[key] for key in change} == change
        assert answer["changed"] == ["address", "max_connections", "max_busy"]


def test_with_maglev_an_address_moves_no_client_of_another_backend() -> None:
    sources = [f"127.0.8.{number}" for number in range(1, 25)]
    with contextlib.ExitStack() as stack:
        a, b, c, moved = (stack.enter_context(Served(named(name))) for name in ("a", "b", "c", "c"))
        lb = stack.enter_context(
            Balancer(config(entry("a", a), entry("b", b), entry("c", c), pool={"balance": "source_hash"}))
        )
        address = lb.address("main")
        before = {source: ask(address, source=source) for source in sources}
        made(lb, "PATCH", path("c"), {"address": str(moved)})
        c.close()
        assert {source: ask(address, source=source) for source in sources} == before


# ---- the file --------------------------------------------------------------------------------------------------------


def test_a_reload_of_the_same_file_changes_nothing_of_it(servers: list[Served]) -> None:
    a, b, c = servers
    with Balancer(config(entry("a", a), entry("b", b))) as lb:
        made(lb, "POST", BACKENDS, entry("c", c))
        made(lb, "DELETE", path("b"))
        made(lb, "PATCH", path("a"), {"max_connections": 9})
        made(lb, "PATCH", path("c"), {"state": "drain"})
        lb.reload()
        lb.reload(config(entry("a", a), entry("b", b), pool={"retries": 1}))
        assert backends(lb) == {"a": str(a), "c": str(c)}
        shown = pool(lb)
        assert (shown["removed"], shown["backends"]["a"]["changed"]) == (["b"], ["max_connections"])
        assert shown["backends"]["c"]["state"] == "drain"
        assert answers(lb) == {"a"}


@pytest.mark.parametrize("rejected", ["pools: [", "{}"])
def test_a_reload_that_is_rejected_changes_nothing_of_it(servers: list[Served], rejected: str) -> None:
    a, b, _ = servers
    with Balancer(config(entry("a", a))) as lb:
        made(lb, "POST", BACKENDS, entry("b", b))
        lb.file.write_text(rejected)
        assert lb.request("POST", "/api/v1/reload")[0] == 422
        assert answers(lb) == {"a", "b"}


def test_the_file_counts_where_it_says_something_new(servers: list[Served]) -> None:
    a, b, c = servers
    with Balancer(config(entry("a", a), entry("b", b))) as lb:
        made(lb, "PATCH", path("a"), {"address": str(c)})
        made(lb, "DELETE", path("b"))
        made(lb, "POST", BACKENDS, entry("c", a))
        lb.reload(config(entry("a", a, weight=2), entry("b", b, weight=2), entry("c", c)))
        assert backends(lb) == {"a": str(a), "b": str(b), "c": str(c)}
        shown = pool(lb)
        assert shown["removed"] == []
        assert [(one["origin"], one["changed"]) for one in shown["backends"].values()] == [("file", [])] * 3


def test_what_leaves_the_file_takes_its_changes_along(servers: list[Served]) -> None:
    a, b, c = servers
    with Balancer(config(entry("a", a), entry("b", b))) as lb:
        made(lb, "PATCH", path("a"), {"address": str(c)})
        made(lb, "DELETE", path("b"))
        made(lb, "POST", BACKENDS, entry("c", c))
        lb.reload(config())
        assert backends(lb) == {"c": str(c)}
        lb.reload(config(entry("a", a), entry("b", b)))
        assert backends(lb) == {"a": str(a), "b": str(b), "c": str(c)}


def test_what_was_removed_can_be_added_again_and_is_the_files_if_it_is_the_same(servers: list[Served]) -> None:
    a, b, c = servers
    with Balancer(config(entry("a", a), entry("b", b))) as lb:
        made(lb, "DELETE", path("b"))
        assert made(lb, "POST", BACKENDS, entry("b", c))["changed"] == ["address"]
        made(lb, "DELETE", path("b"))
        assert made(lb, "POST", BACKENDS, entry("b", b))["changed"] == []
        assert pool(lb)["removed"] == []


def test_a_pool_that_goes_and_comes_back_is_as_the_file_has_it(servers: list[Served]) -> None:
    a, b, _ = servers
    with Balancer(config(entry("a", a))) as lb:
        made(lb, "POST", BACKENDS, entry("b", b))
        other = {"listeners": {"main": {"bind": "127.0.0.1:0", "pool": "other"}}, "pools": {"other": {"backends": []}}}
        lb.reload(other)
        lb.reload(config(entry("a", a)))
        assert backends(lb) == {"a": str(a)}


def test_what_is_written_out_is_what_runs(servers: list[Served]) -> None:
    a, b, c = servers
    odd = entry("${odd}", b, tier=1, zone="z", health={"port": 1234})
    zones = {"z": ["127.0.9.0/24"]}
    original = config(entry("a", a), entry("gone", b), zones=zones)
    with Balancer(original) as lb:
        made(lb, "POST", BACKENDS, odd)
        made(lb, "DELETE", path("gone"))
        made(lb, "PATCH", path("a"), {"address": str(c), "max_busy": 4})
        made(lb, "PATCH", path("a"), {"weight": 9})
        result = CliRunner().invoke(main, ["status", "--yaml", "--socket", str(lb.socket_path)])
        assert result.exit_code == 0, result.output
        written = yaml.safe_load(result.stdout)["pools"]
        lb.reload(original | {"pools": written})
        shown = pool(lb)["backends"]
        assert [(one["origin"], one["changed"], one["weight"]) for one in shown.values()] == [
            ("file", [], 9),
            ("file", [], 1),
        ]
        assert backends(lb) == {"a": str(c), "${odd}": str(b)}


# ---- discovery -------------------------------------------------------------------------------------------------------


def test_beside_a_source_backends_are_added_and_what_it_found_is_left_to_it(
    servers: list[Served], tmp_path: Any
) -> None:
    a, b, c = servers
    file = tmp_path / "targets.json"
    file.write_text(f'[{{"targets": ["{a}"]}}]')
    with Balancer(config(pool={"discover": {"file": {"path": str(file)}}})) as lb:
        made(lb, "POST", BACKENDS, entry("b", b))
        assert pool(lb)["backends"][str(a)]["origin"] == "discovery"
        assert answers(lb) == {"a", "b"}
        for method, body in (("PATCH", {"address": str(c)}), ("DELETE", None)):
            assert "the source of pool 'main' found" in refused(lb, 409, method, path(str(a)), body)
        assert "already" in refused(lb, 409, "POST", BACKENDS, {"address": str(a)})
        made(lb, "PATCH", path(str(a)), {"weight": 3})
        file.write_text(f'[{{"targets": ["{c}"]}}]')
        wait_until(lambda: backends(lb).keys() == {"b", str(c)})
        lb.reload()
        assert answers(lb) == {"b", "c"}


# ---- upgrades and load -----------------------------------------------------------------------------------------------


def test_a_successor_goes_on_with_it(servers: list[Served]) -> None:
    a, b, c = servers
    with taking_care_of_orphans(), Balancer(config(entry("a", a), entry("b", b))) as lb:
        made(lb, "POST", BACKENDS, {"name": "c", "address": f"localhost:{c.address[1]}", "weight": 2})
        made(lb, "DELETE", path("b"))
        made(lb, "PATCH", path("a"), {"max_connections": 5})
        made(lb, "PATCH", path("c"), {"weight": 6})
        upgrade(lb)
        shown = pool(lb)
        assert shown["removed"] == ["b"]
        assert {name: (one["origin"], one["changed"], one["weight"]) for name, one in shown["backends"].items()} == {
            "a": ("file", ["max_connections"], 1),
            "c": ("api", [], 6),
        }
        assert answers(lb) == {"a", "c"}
        lb.reload()
        assert backends(lb).keys() == {"a", "c"}


def test_no_client_fails_while_backends_come_move_and_go() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Served(named(str(number)))) for number in range(4)]
        lb = stack.enter_context(Balancer(config(entry("stays", servers[0]))))
        with Callers(lb.address("main")) as callers:
            for number in range(12):
                made(lb, "POST", BACKENDS, entry("comes", servers[1 + number % 2]))
                callers.wait_served(5)
                made(lb, "PATCH", path("comes"), {"address": str(servers[3])})
                callers.wait_served(5)
                made(lb, "PATCH", path("stays"), {"address": str(servers[number % 2])})
                made(lb, "DELETE", path("comes"))
        assert callers.outcomes.keys() == {"served"}, callers.outcomes


@pytest.mark.slow
def test_a_thousand_backends_that_came_and_went_leave_nothing_behind() -> None:
    with Served(named("a")) as server, Balancer(config(entry("a", server))) as lb:

        def come_and_go(times: int) -> None:
            for number in range(times):
                made(lb, "POST", BACKENDS, entry(f"n{number}", server))
                made(lb, "DELETE", path(f"n{number}"))

        come_and_go(200)
        before, memory = holdings(lb.pid), resident_bytes(lb.pid)
        come_and_go(1000)
        wait_until(lambda: holdings(lb.pid).sockets <= before.sockets + 1, what=lambda: holdings(lb.pid))
        assert resident_bytes(lb.pid) - memory < 8 << 20
        assert answers(lb, 3) == {"a"}


def test_a_session_never_sees_two_servers(servers: list[Served]) -> None:
    """A client that is in the middle of something stays with the server that it has, wherever its backend is now."""
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(Backend())
        lb = stack.enter_context(Balancer(config(entry("a", old))))
        client, server = stack.enter_context(connect(lb.address("main"))), stack.enter_context(old.accept())
        made(lb, "PATCH", path("a"), {"address": str(servers[0])})
        assert ask(lb.address("main")) == "a"
        client.send(b"question")
        assert server.receive(8) == b"question"
