"""What was found becomes backends beside those of the file, and readiness is a matter of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from l4lb.balancer.compose import Composer
from l4lb.config import Address, model
from l4lb.discovery.source import Endpoint, Readiness
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.discovered import expand, mark, place
from l4lb.state.merge import merge
from l4lb.state.state import State
from l4lb.state.zones import Zones
from l4lb.status import AdminState, HealthState
from tests.helpers.build import Slots, config, targets

FILE = {"discover": {"file": {"path": "x.json"}}}
A, B = "127.0.0.1:9001", "127.0.0.1:9002"


def endpoint(name: str, address: str = A, **values: object) -> Endpoint:
    return Endpoint(name, Address.parse(address), **values)  # type: ignore[arg-type]


def state_of(
    *endpoints: Endpoint,
    before: State | None = None,
    backends: tuple[object, ...] = (),
    zones: tuple[str, ...] = (),
    pool: Mapping[str, object] = FILE,
) -> State:
    networks = {zone: f"10.{number}.0.0/16" for number, zone in enumerate(zones)}
    wanted, found = config(*backends, pool=pool, zones=networks), {"app": endpoints}
    expanded = expand(wanted, found)
    placed = place(before or State(), wanted, found)
    return mark(merge(placed, expanded, targets(expanded), Slots()), wanted, found)


def entry(state: State, name: str) -> BackendEntry:
    found = state.find(("app", name))
    assert found is not None
    return found


def test_endpoints_are_backends_beside_those_of_the_file() -> None:
    state = state_of(endpoint("b", B, weight=3), endpoint("c", "gpu.test:80"), backends=(A,))
    assert list(state.pools["app"].backends) == [A, "b", "c"]
    assert (entry(state, "b").config.weight, entry(state, "b").accepts_new) == (3, True)
    assert (entry(state, "c").target, entry(state, "c").accepts_new) == (None, False)


def test_a_backend_of_the_file_keeps_its_name_for_itself() -> None:
    state = state_of(endpoint("a", B, readiness=Readiness.DRAINING), backends=({"name": "a", "address": A},))
    assert list(state.pools["app"].backends) == ["a"]
    assert (str(entry(state, "a").config.address), entry(state, "a").readiness) == (A, Readiness.READY)


def test_a_configuration_without_sources_is_as_it_was() -> None:
    wanted = config(A)
    assert expand(wanted, {}) == wanted
    assert expand(wanted, {"other": [endpoint("b")]}) == wanted


def test_readiness_decides_which_backends_get_sessions_and_which_are_drained() -> None:
    said = {
        readiness: entry(state_of(endpoint("a", readiness=readiness)), "a")
        for readiness in (Readiness.READY, Readiness.NOT_READY, Readiness.DRAINING)
    }
    shown = {
        readiness: (entry.accepts_new, entry.being_drained, entry.agreed_state, entry.agreed_health)
        for readiness, entry in said.items()
    }
    assert shown == {
        Readiness.READY: (True, False, AdminState.READY, HealthState.NONE),
        Readiness.NOT_READY: (False, False, AdminState.READY, HealthState.DOWN),
        Readiness.DRAINING: (False, True, AdminState.DRAIN, HealthState.NONE),
    }


def test_a_change_of_readiness_keeps_everything_else() -> None:
    state = state_of(endpoint("a"), endpoint("b", B))
    known = replace(entry(state, "a"), weight=7, state=AdminState.READY)
    state = state.with_backends({("app", "a"): known})
    drained = state_of(endpoint("a", readiness=Readiness.DRAINING), endpoint("b", B), before=state)
    assert entry(drained, "a") == replace(known, readiness=Readiness.DRAINING)
    back = state_of(endpoint("a"), endpoint("b", B), before=drained)
    assert entry(back, "a") == known
    assert entry(back, "b").slot == entry(state, "b").slot


def test_a_change_of_weight_is_as_one_of_the_file() -> None:
    state = state_of(endpoint("a"))
    state = state.with_backends({("app", "a"): replace(entry(state, "a"), weight=7)})
    assert entry(state_of(endpoint("a"), before=state), "a").current_weight == 7
    assert entry(state_of(endpoint("a", weight=2), before=state), "a").current_weight == 2


def test_a_found_backend_that_moves_into_the_file_stays_and_is_ready() -> None:
    state = state_of(endpoint("a", readiness=Readiness.NOT_READY))
    after = state_of(before=state, backends=({"name": "a", "address": A},))
    assert entry(after, "a").slot == entry(state, "a").slot
    assert entry(after, "a").readiness is Readiness.READY


def place_of(state: State, name: str) -> tuple[int, str | None]:
    backend = entry(state, name).config
    return backend.tier, backend.zone


def test_tiers_and_zones_come_from_the_source_and_zones_that_the_file_lacks_do_not() -> None:
    endpoints = (endpoint("a", tier=15, zone="eu-1a"), endpoint("b", B, zone="eu-1b"))
    state = state_of(*endpoints, zones=("eu-1a",))
    assert (place_of(state, "a"), place_of(state, "b")) == ((15, "eu-1a"), (0, None))
    snapshot = Composer().compose(replace(state, listeners={}, zones=Zones({"eu-1a": 1})), {}, model.Log())
    assert [(backend.tier, backend.zone) for backend in snapshot.pools[0].backends] == [(15, 1), (0, 0)]


def test_a_zone_that_the_file_gains_or_loses_is_gained_or_lost() -> None:
    found = endpoint("a", zone="eu-1a")
    without = state_of(found)
    with_zone = state_of(found, before=without, zones=("eu-1a",))
    assert (place_of(without, "a"), place_of(with_zone, "a")) == ((0, None), (0, "eu-1a"))
    assert place_of(state_of(found, before=with_zone), "a") == (0, None)


def test_a_change_of_place_keeps_what_an_operator_did_to_a_found_backend() -> None:
    state = state_of(endpoint("a"), endpoint("b", B))
    known = replace(entry(state, "a"), weight=7, state=AdminState.DRAIN)
    state = state.with_backends({("app", "a"): known})
    moved = entry(state_of(endpoint("a", tier=1, zone="x"), endpoint("b", B), before=state, zones=("x",)), "a")
    assert (moved.config.tier, moved.config.zone) == (1, "x")
    assert replace(moved, config=known.config) == known


def test_a_change_of_place_in_the_file_is_one_of_the_backend() -> None:
    listed = {"name": "a", "address": A}
    state = state_of(endpoint("a"), backends=(listed,))
    state = state.with_backends({("app", "a"): replace(entry(state, "a"), state=AdminState.DRAIN)})
    after = state_of(endpoint("a", tier=1), before=state, backends=({**listed, "tier": 1},))
    assert entry(after, "a").state is AdminState.READY


def test_a_last_resort_is_drained_where_clients_may_wait_for_a_backend() -> None:
    going = endpoint("a", readiness=Readiness.LAST_RESORT)
    assert entry(state_of(going), "a").accepts_new
    waiting = entry(state_of(going, pool=FILE | {"scale_to_zero": True, "queue": {}}), "a")
    assert (waiting.accepts_new, waiting.being_drained) == (False, True)


def test_backends_that_are_found_have_the_limits_that_their_section_gives() -> None:
    limited = {"discover": FILE["discover"] | {"max_connections": 7, "max_busy": 5}}
    state = state_of(endpoint("a"), backends=({"name": "b", "address": B},), pool=limited)
    assert [(entry(state, name).config.max_connections, entry(state, name).config.max_busy) for name in "ab"] == [
        (7, 5),
        (0, 0),
    ]
