"""State in, snapshot out: every field."""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import ip_network

import pytest

from l4lb.balancer.compose import Composer
from l4lb.config import Address
from l4lb.config.model import Log
from l4lb.engine.api import (
    BackendSpec,
    Balance,
    EventKind,
    ListenerSpec,
    PoolProtocol,
    PoolSpec,
    ProxyMode,
    Resend,
    SendProxy,
    Snapshot,
    TcpSpec,
)
from l4lb.engine.packing import pack_networks
from l4lb.state.access import compile_access
from l4lb.state.containment import PoolFaults
from l4lb.state.merge import merge
from l4lb.state.state import State
from l4lb.state.zones import NO_ZONES, compile_zones
from l4lb.status import AdminState, HealthState
from tests.helpers.build import Slots, config, merged, targets
from tests.helpers.fake_engine import FakeTable

A, B = "127.0.0.1:9001", "[::1]:9002"
FDS = {("web", Address.parse("127.0.0.1:0")): [[3, 4]]}
QUIET = Log()


def test_defaults() -> None:
    state = merged(config(A))
    assert Composer().compose(state, FDS, QUIET) == Snapshot(
        listeners=(ListenerSpec(slot=state.listeners["web"].slot, pool=0, fds=((3, 4),), proxy_timeout_ms=0),),
        pools=(
            PoolSpec(
                slot=state.pools["app"].slot,
                backends=(
                    BackendSpec(
                        slot=state.pools["app"].backends[A].slot,
                        name=A,
                        family=socket.AF_INET,
                        address=("127.0.0.1", 9001),
                    ),
                ),
            ),
        ),
    )


def test_every_setting_reaches_the_data_plane() -> None:
    wanted = config(
        {"name": "six", "address": B, "weight": 7, "max_connections": 11, "tier": 3, "zone": "far"},
        {"name": "local", "address": "unix:/run/app.sock"},
        {"name": "abstract", "address": "unix:@app"},
        bind=["127.0.0.1:80", "unix:/run/web.sock"],
        listener={
            "max_connections": 5,
            "allow": ["10.0.0.0/8"],
            "deny": ["10.9.0.0/16", "::1"],
            "proxy_protocol": {"from": ["127.0.0.0/8"], "mode": "optional", "timeout": 2.5},
        },
        pool={
            "balance": "source_hash",
            "hash": {"table_size": 251},
            "retries": 1,
            "send_proxy": "v2",
            "protocol": "http1",
            "resend": "all",
            "timeouts": {"connect": 0.25, "idle": 60, "half_close": 5, "lifetime": 3600, "first_byte": 30}
            | {"backend_keepalive": "off"},
            "tcp": {"keepalive": 20, "keepalive_interval": 4, "keepalive_probes": 3, "user_timeout": 1.25},
        },
        zones={"near": ["10.1.0.0/16"], "far": ["10.2.0.0/16"]},
    )
    zones = compile_zones(wanted, NO_ZONES, FakeTable)
    access = compile_access(wanted, {}, FakeTable)
    state = merge(State(), wanted, targets(wanted), Slots(), zones, access=access)
    slots = [backend.slot for _, backend in state.backends()]
    fds = {("", Address.parse("127.0.0.1:80")): [[5, 6]], ("", Address.parse("unix:/run/web.sock")): [[7, 7]]}
    assert Composer().compose(state, fds, QUIET) == Snapshot(
        listeners=(
            ListenerSpec(
                slot=state.listeners["web"].slot,
                pool=0,
                fds=((5, 6), (7, 7)),
                max_connections=5,
                allow=FakeTable(pack_networks([ip_network("10.0.0.0/8")])),
                deny=FakeTable(pack_networks([ip_network("10.9.0.0/16"), ip_network("::1")])),
                proxy_mode=ProxyMode.OPTIONAL,
                proxy_from=FakeTable(pack_networks([ip_network("127.0.0.0/8")])),
                proxy_timeout_ms=2500,
            ),
        ),
        pools=(
            PoolSpec(
                slot=state.pools["app"].slot,
                balance=Balance.MAGLEV,
                table_size=251,
                retries=1,
                send_proxy=SendProxy.V2,
                protocol=PoolProtocol.HTTP1,
                resend=Resend.ALL,
                connect_ms=250,
                idle_ms=60_000,
                half_close_ms=5_000,
                lifetime_ms=3_600_000,
                first_byte_ms=30_000,
                backend_keepalive_ms=0,
                tcp=TcpSpec(keepalive_s=20, interval_s=4, probes=3, user_timeout_ms=1250),
                backends=(
                    BackendSpec(
                        slot=slots[0],
                        name="six",
                        family=socket.AF_INET6,
                        address=("::1", 9002),
                        weight=7,
                        max_connections=11,
                        tier=3,
                        zone=2,
                    ),
                    BackendSpec(slot=slots[1], name="local", family=socket.AF_UNIX, address="/run/app.sock"),
                    BackendSpec(slot=slots[2], name="abstract", family=socket.AF_UNIX, address="\0app"),
                ),
            ),
        ),
        zones=zones.table,
    )


def test_pace_of_probes_that_are_off_does_not_count() -> None:
    tcp = {"keepalive": "off", "keepalive_interval": 4, "user_timeout": 1}
    snapshot = Composer().compose(merged(config(A, pool={"tcp": tcp})), FDS, QUIET)
    assert snapshot.pools[0].tcp == TcpSpec(user_timeout_ms=1000)


def test_sticky_pools() -> None:
    wanted = config(
        listener={"pool": "plain"},
        pools={
            "plain": {"backends": [A]},
            "usual": {"backends": [A], "sticky": {}},
            "own": {"backends": [A], "sticky": {"key": "source_ip", "ttl": 0.5, "entries": 7}},
        },
    )
    pools = Composer().compose(merged(wanted), FDS, QUIET).pools
    assert [(pool.sticky_entries, pool.sticky_ttl_ms) for pool in pools] == [(0, 0), (100_000, 1_800_000), (7, 500)]


@pytest.mark.parametrize(
    ("word", "balance"),
    [
        ("round_robin", Balance.ROUND_ROBIN),
        ("least_connections", Balance.LEAST_CONNECTIONS),
        ("power_of_two", Balance.POWER_OF_TWO),
        ("random", Balance.RANDOM),
        ("maglev", Balance.MAGLEV),
        ("source_hash", Balance.MAGLEV),
        ("first", Balance.FIRST),
    ],
)
def test_balance_words(word: str, balance: Balance) -> None:
    snapshot = Composer().compose(merged(config(A, pool={"balance": word})), FDS, QUIET)
    assert snapshot.pools[0].balance is balance


def test_listeners_point_at_their_pools() -> None:
    wanted = config(
        pools={name: {"backends": [A]} for name in ("one", "two", "three")},
        listeners={
            "x": {"bind": "127.0.0.1:81", "pool": "three"},
            "y": {"bind": "127.0.0.1:82", "pool": "one"},
        },
    )
    state = merged(wanted)
    fds = {("", Address.parse(f"127.0.0.1:{port}")): [[port]] for port in (81, 82)}
    snapshot = Composer().compose(state, fds, QUIET)
    found = [(listener.fds, snapshot.pools[listener.pool].slot) for listener in snapshot.listeners]
    assert found == [(((81,),), state.pools["three"].slot), (((82,),), state.pools["one"].slot)]


def test_routes_point_at_their_pools() -> None:
    wanted = config(
        pools={name: {"backends": [A], "timeouts": {"hello": 2}} for name in ("one", "two", "three")},
        listeners={
            "x": {"bind": "127.0.0.1:81", "pool": "two", "sni": {"a.example": "three", "*.B.example": "one"}},
        },
    )
    snapshot = Composer().compose(merged(wanted), {("", Address.parse("127.0.0.1:81")): [[81]]}, QUIET)
    assert snapshot.listeners[0].routes == (("a.example", 2), ("*.B.example", 0))
    assert snapshot.pools[1].hello_ms == 2000


@pytest.mark.parametrize("word", ["source_ip", "source_ip_port", "sni"])
def test_hash_key_words(word: str) -> None:
    snapshot = Composer().compose(merged(config(A, pool={"hash": {"key": word}})), FDS, QUIET)
    assert snapshot.pools[0].hash_key.name.lower() == word


def test_without_accepting_listeners_have_no_sockets() -> None:
    state = merged(config(A))
    snapshot = Composer().compose(state, {}, QUIET, accepting=False)
    assert [listener.fds for listener in snapshot.listeners] == [()]
    assert snapshot.pools == Composer().compose(state, FDS, QUIET).pools


def test_backend_that_takes_no_session_keeps_its_weight_and_is_not_usable() -> None:
    state = merged(config({"name": "a", "address": A, "weight": 3}))
    entry = state.find(("app", "a"))
    assert entry is not None
    for change in ({"state": AdminState.DRAIN}, {"health": HealthState.DOWN}):
        drained = state.with_backends({("app", "a"): replace(entry, **change)})
        spec = Composer().compose(drained, FDS, QUIET).pools[0].backends[0]
        assert (spec.weight, spec.usable) == (3, False)


def test_in_a_panic_all_that_are_ready_are_usable() -> None:
    state = merged(config(A, B, {"name": "c", "address": A}, pool={"health": {}, "panic_threshold": 0.5}))
    health = {A: HealthState.UP, B: HealthState.DOWN, "c": HealthState.DOWN}
    changed = {key: replace(entry, health=health[key[1]]) for key, entry in state.backends()}
    state = state.with_backends(changed)
    assert [spec.usable for spec in Composer().compose(state, FDS, QUIET).pools[0].backends] == [True, True, True]
    key = ("app", "c")
    state = state.with_backends({key: replace(changed[key], state=AdminState.DRAIN)})
    assert [spec.usable for spec in Composer().compose(state, FDS, QUIET).pools[0].backends] == [True, False, False]


def test_unresolved_backend_stands_for_nowhere() -> None:
    wanted = config({"name": "a", "address": "somewhere:80"})
    spec = Composer().compose(merge(State(), wanted, {}, Slots()), FDS, QUIET).pools[0].backends[0]
    assert (spec.family, spec.address, spec.usable) == (socket.AF_INET, ("0.0.0.0", 0), False)


def test_access_log_says_which_events_are_wanted() -> None:
    state = merged(config(A))
    log = Log.model_validate({"access": {"to": "-", "events": ["open", "interval", "close"], "interval": 5}})
    snapshot = Composer().compose(state, FDS, log)
    assert snapshot.events == EventKind.OPEN | EventKind.INTERVAL | EventKind.CLOSE
    assert snapshot.interval_ms == 5000
    assert Composer().compose(state, FDS, QUIET).events == EventKind(0)


def test_targets_of_names_are_used() -> None:
    wanted = config({"name": "a", "address": "somewhere:80"})
    target = targets(config(B))[Address.parse(B)]
    state = merge(State(), wanted, {Address.parse("somewhere:80"): target}, Slots())
    spec = Composer().compose(state, FDS, QUIET).pools[0].backends[0]
    assert (spec.family, spec.address, spec.usable) == (socket.AF_INET6, ("::1", 9002), True)


def test_only_pools_that_changed_are_composed_again() -> None:
    pools = {"one": {"backends": [A]}, "two": {"backends": [A, B]}}
    listeners = {"web": {"bind": "127.0.0.1:0", "pool": "one"}}
    before = merged(config(listeners=listeners, pools=pools))
    composer = Composer()
    first = composer.compose(before, FDS, QUIET)
    composer.settle(before, first)
    (entry,) = before.pools["one"].backends.values()
    down = before.with_backends({("one", A): replace(entry, health=HealthState.DOWN)})
    second = composer.compose(down, FDS, QUIET)
    composer.settle(down, second)
    assert second.pools[1] is first.pools[1]
    assert [backend.usable for backend in second.pools[0].backends] == [False]
    assert second == Composer().compose(down, FDS, QUIET)
    gone = replace(down, pools={"two": down.pools["two"]}, listeners={})
    assert composer.compose(gone, FDS, QUIET).pools == (first.pools[1],)
    assert composer.compose(down, FDS, QUIET) == second


def test_zones_with_other_numbers_are_in_every_pool_at_once() -> None:
    wanted = config({"address": A, "zone": "eu"}, zones={"eu": ["10.0.0.0/8"], "us": ["11.0.0.0/8"]})
    state = replace(merged(wanted), zones=replace(NO_ZONES, numbers={"eu": 1, "us": 2}))
    composer = Composer()
    first = composer.compose(state, FDS, QUIET)
    assert first.pools[0].backends[0].zone == 1
    composer.settle(state, first)
    moved = replace(state, zones=replace(NO_ZONES, numbers={"us": 1, "eu": 2}))
    assert composer.compose(moved, FDS, QUIET).pools[0].backends[0].zone == 2


def test_pools_that_cannot_be_composed_are_named_and_can_stay_as_they_were() -> None:
    pools = {name: {"backends": [A]} for name in ("one", "two", "three")}
    before = merged(config(listeners={"web": {"bind": "127.0.0.1:0", "pool": "one"}}, pools=pools))
    composer = Composer()
    first = composer.compose(before, FDS, QUIET)
    composer.settle(before, first)
    broken = {}
    for name in ("one", "two"):
        (entry,) = before.pools[name].backends.values()
        nowhere = entry.config.model_copy(update={"zone": "nowhere"})
        broken[name, A] = replace(entry, config=nowhere)
    state = before.with_backends(broken)
    with pytest.raises(PoolFaults) as caught:
        composer.compose(state, FDS, QUIET)
    assert set(caught.value.faults) == {"one", "two"}
    kept = composer.compose(state, FDS, QUIET, kept={"one", "two"})
    assert kept.pools == first.pools
    composer.settle(state, kept)
    # They are tried again, for they are not what the state has.
    with pytest.raises(PoolFaults):
        composer.compose(state, FDS, QUIET)


def test_events_are_those_of_the_log_and_those_of_other_consumers() -> None:
    state = merged(config(A))
    logged = config(A, log={"access": {"events": ["open", "interval"]}}).log
    assert Composer(EventKind.CLOSE).compose(state, FDS, QUIET).events == EventKind.CLOSE
    assert Composer().compose(state, FDS, logged).events == EventKind.OPEN | EventKind.INTERVAL
    everything = EventKind.OPEN | EventKind.INTERVAL | EventKind.CLOSE
    assert Composer(EventKind.CLOSE).compose(state, FDS, logged).events == everything
