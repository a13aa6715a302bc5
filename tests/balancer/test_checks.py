"""Where and how each backend is checked, and in what state it begins."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from l4lb.balancer.checks import checks_of, require_tls
from l4lb.bounded.url import Url
from l4lb.config import Config
from l4lb.config.model import Health
from l4lb.errors import StartError
from l4lb.health.probes.base import Subject
from l4lb.health.probes.http import authority
from l4lb.health.probes.tls import server_name
from l4lb.health.scheduler import Check
from l4lb.net.target import Target
from l4lb.state.merge import merge
from l4lb.state.state import State
from l4lb.status import AdminState, HealthState
from tests.helpers.build import Slots, config, merged, targets

BACKEND = "127.0.0.1:8080"


def check(backend: object = BACKEND, pool: dict[str, Any] | None = None, **health: Any) -> Check:
    (found,) = checks_of(merged(config(backend, pool={"health": health} | (pool or {})))).values()
    return found


def inet(host: str, port: int) -> Target:
    return Target(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))


def test_backend_is_checked_where_it_serves() -> None:
    found = check()
    assert found.target == inet("127.0.0.1", 8080)
    assert (found.subject.pool, found.subject.backend, found.subject.host) == ("app", BACKEND, "127.0.0.1")


@pytest.mark.parametrize(
    ("own", "pool", "expected"),
    [
        ({}, {"port": 9}, inet("127.0.0.1", 9)),
        ({}, {"address": "10.1.0.1"}, inet("10.1.0.1", 8080)),
        ({}, {"address": "::1", "port": 9}, inet("::1", 9)),
        ({"port": 7}, {"port": 9}, inet("127.0.0.1", 7)),
        ({"address": "10.2.0.1"}, {"address": "10.1.0.1", "port": 9}, inet("10.2.0.1", 9)),
        ({"address": "2001:db8::1", "port": 7}, {}, inet("2001:db8::1", 7)),
    ],
)
def test_backend_may_be_checked_elsewhere(own: dict[str, Any], pool: dict[str, Any], expected: Target) -> None:
    assert check({"address": BACKEND, "health": own}, **pool).target == expected


def test_backend_on_a_unix_socket_is_checked_there_or_at_another_address_and_port() -> None:
    assert check("unix:/run/a.sock").target == Target(socket.AF_UNIX, "/run/a.sock")
    assert check("unix:/run/a.sock", port=9).target == Target(socket.AF_UNIX, "/run/a.sock")
    assert check("unix:/run/a.sock", address="10.1.0.1", port=9).target == inet("10.1.0.1", 9)


def test_name_for_tls_and_host_is_that_of_the_place_that_is_checked() -> None:
    assert check(address="10.1.0.1").subject.host == "10.1.0.1"
    assert check("unix:/run/a.sock").subject.host is None


@pytest.mark.parametrize(
    ("pool", "health", "expected"),
    [
        ({}, {}, "off"),
        ({"send_proxy": "v2"}, {}, "v2"),
        ({"send_proxy": "v2"}, {"port": 9}, "off"),
        ({"send_proxy": "v2"}, {"send_proxy": "off"}, "off"),
        ({}, {"port": 9, "send_proxy": "v1"}, "v1"),
    ],
)
def test_proxy_header_of_checks(pool: dict[str, Any], health: dict[str, Any], expected: str) -> None:
    assert check(BACKEND, pool, **health).subject.send_proxy == expected


@pytest.mark.parametrize("start", HealthState)
def test_state_before_the_first_check(start: HealthState) -> None:
    if start is not HealthState.NONE:
        assert check(start=start.value).state is start


def test_backends_without_checks() -> None:
    assert checks_of(merged(config(BACKEND))) == {}
    assert checks_of(merged(config(BACKEND, pool={"health": {"type": "none"}}))) == {}
    assert checks_of(merged(config("name.example:1", pool={"health": {}}))) == {}
    state = merged(config(BACKEND, pool={"health": {}}))
    (key, entry) = next(state.backends())
    assert checks_of(state.with_backends({key: replace(entry, state=AdminState.MAINT)})) == {}
    assert len(checks_of(state.with_backends({key: replace(entry, state=AdminState.DRAIN)}))) == 1


def test_a_single_backend_may_go_unchecked() -> None:
    state = merged(
        config(BACKEND, {"name": "b", "address": "127.0.0.1:8081", "health": {"type": "none"}}, pool={"health": {}})
    )
    assert list(checks_of(state)) == [("app", BACKEND)]
    pool = state.pools["app"]
    assert {name: entry.health for name, entry in pool.backends.items()} == {
        BACKEND: HealthState.PENDING,
        "b": HealthState.NONE,
    }
    assert pool.accepting() == {"b"}


def test_checks_that_end_and_begin_again_for_a_backend_take_nothing_out_of_service() -> None:
    checked, unchecked = ({"name": "b", "address": BACKEND} | more for more in ({}, {"health": {"type": "none"}}))
    before = merged(config(checked, pool={"health": {}}))
    (key, entry) = next(before.backends())
    down = before.with_backends({key: replace(entry, health=HealthState.DOWN)})
    without = after(down, config(unchecked, pool={"health": {}}))
    assert next(without.backends())[1].health is HealthState.NONE
    again = after(without, config(checked, pool={"health": {}}))
    assert next(again.backends())[1].health is HealthState.UP


def after(state: State, one: Config) -> State:
    return merge(state, one, targets(one), Slots())


def test_file_of_tls_that_is_not_there_is_no_configuration_to_run(tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    with pytest.raises(StartError, match=r"^pools\.app\.health\.tls: cannot use .*gone\.pem: No such file"):
        require_tls(config(BACKEND, pool={"health": {"type": "https", "tls": {"ca": str(gone)}}}))
    require_tls(config(BACKEND, pool={"health": {"type": "https"}}))


@pytest.mark.parametrize(
    ("host", "shown"),
    [("app.example.", "app.example"), ("fe80::1%eth0", "[fe80::1]"), ("2001:db8::1", "[2001:db8::1]")],
)
def test_peers_are_told_neither_the_last_dot_of_a_name_nor_an_interface(host: str, shown: str) -> None:
    subject, target = Subject(host=host), Target(socket.AF_INET, ("127.0.0.1", 8443))
    assert authority(target, subject, https=True) == f"{shown}:8443"
    health = Health.model_validate({"type": "https"})
    assert server_name(health, subject, target) == shown.strip("[]")
    url = Url.parse(f"https://[{host}]:8443/x" if ":" in host else f"https://{host}:8443/x")
    assert url.authority == f"{shown}:8443"
