"""What survives a change of configuration: slots, what an operator did, health; and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from l4lb.agent.protocol import NO_REPORT
from l4lb.config import Address
from l4lb.engine.api import SlotKind
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.merge import merge
from l4lb.state.state import State
from l4lb.status import AdminState, HealthState
from tests.helpers.build import Slots, config, merged, slots_of, targets

A, B, C = "127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"
CHECKED = {"health": {"type": "tcp"}}
KEY = ("app", "a")


def named(address: str = A, **values: object) -> dict[str, object]:
    return {"name": "a", "address": address} | values


def with_backend(state: State, /, **values: object) -> State:
    """The state with its backend `a` changed, as an operator or a check does."""
    entry = state.find(KEY)
    assert entry is not None
    return state.with_backends({KEY: replace(entry, **values)})  # type: ignore[arg-type]


def backend(state: State) -> BackendEntry:
    entry = state.find(KEY)
    assert entry is not None
    return entry


def effective_weight(entry: BackendEntry) -> float:
    """Of a backend that has its pool for itself."""
    pool = merged(config(named())).pools["app"]
    return replace(pool, backends={"a": entry}).effective_weights()["a"]


def next_state(state: State, *backends: object, **pool: object) -> State:
    wanted = config(*backends, pool=pool)
    return merge(state, wanted, targets(wanted), Slots())


def test_everything_new_gets_a_slot_of_its_own() -> None:
    slots = Slots()
    wanted = config(A, B)
    state = merge(State(), wanted, targets(wanted), slots)
    assert sorted(slots.taken) == sorted(slots_of(state))
    kinds = [kind for kind, _ in slots.taken]
    assert (kinds.count(SlotKind.LISTENER), kinds.count(SlotKind.POOL), kinds.count(SlotKind.BACKEND)) == (1, 1, 2)


def test_a_backend_that_stays_keeps_its_slot_whatever_changes_about_it() -> None:
    before = merged(config(named(), B))
    slots = Slots()
    wanted = config(
        named(C, weight=9),
        B,
        bind="127.0.0.1:9999",
        pool={"balance": "maglev", "retries": 0} | CHECKED,
        listener={"max_connections": 7},
    )
    after = merge(before, wanted, targets(wanted), slots)
    assert slots.taken == []
    assert slots_of(after) == slots_of(before)
    assert after.listeners["web"].config == wanted.listeners["web"]
    assert after.pools["app"].config == wanted.pools["app"]


def test_only_what_is_new_takes_a_slot() -> None:
    slots = Slots()
    wanted = config(A, C)
    after = merge(merged(config(A, B)), wanted, targets(wanted), slots)
    assert [kind for kind, _ in slots.taken] == [SlotKind.BACKEND]
    assert list(after.pools["app"].backends) == [A, C]


def test_same_backend_name_in_another_pool_is_another_backend() -> None:
    def two_pools(first: list[object], second: list[object]) -> State:
        pools = {"app": {"backends": first}, "other": {"backends": second}}
        return merged(config(pools=pools))

    state = two_pools([named()], [named()])
    assert state.pools["app"].backends["a"].slot != state.pools["other"].backends["a"].slot


def test_runtime_weight_and_state_stay_while_the_file_says_the_same_of_that_backend() -> None:
    changed = with_backend(merged(config(named(weight=3), B)), weight=7, state=AdminState.DRAIN)
    after = next_state(changed, C, named(weight=3), retries=0, balance="random")
    assert (backend(after).weight, backend(after).current_weight, backend(after).state) == (7, 7, AdminState.DRAIN)


@pytest.mark.parametrize("change", [{"weight": 4}, {"max_connections": 5}, {"address": B}])
def test_file_that_changes_a_backend_ends_what_an_operator_did_to_it(change: dict[str, object]) -> None:
    changed = with_backend(merged(config(named(weight=3))), weight=7, state=AdminState.DRAIN)
    after = next_state(changed, named() | {"weight": 3} | change)
    assert (backend(after).weight, backend(after).state) == (None, AdminState.READY)
    assert backend(after).current_weight == change.get("weight", 3)


def test_backend_that_left_and_came_back_is_new() -> None:
    changed = with_backend(merged(config(named(), B)), weight=7)
    slots = Slots()
    wanted = config(named(), B)
    after = merge(next_state(changed, B), wanted, targets(wanted), slots)
    assert len(slots.taken) == 1
    assert backend(after).weight is None


@pytest.mark.parametrize("health", [HealthState.UP, HealthState.DOWN, HealthState.PENDING])
def test_health_carries_over(health: HealthState) -> None:
    known = with_backend(merged(config(named(), pool=CHECKED)), health=health)
    assert backend(next_state(known, named(), **CHECKED)).health is health
    assert backend(next_state(known, named(weight=9), health={"type": "http"})).health is health


def test_new_backend_of_a_checked_pool_is_pending() -> None:
    assert backend(merged(config(named(), pool=CHECKED))).health is HealthState.PENDING


def test_new_backend_of_an_unchecked_pool_has_no_health_and_is_usable() -> None:
    for pool in ({}, {"health": {"type": "none"}}):
        entry = backend(merged(config(named(), pool=pool)))
        assert (entry.health, entry.accepts_new) == (HealthState.NONE, True)


def test_backend_that_moves_is_pending_until_checked() -> None:
    known = with_backend(merged(config(named(), pool=CHECKED)), health=HealthState.UP)
    assert backend(next_state(known, named(B), **CHECKED)).health is HealthState.PENDING


def test_checks_that_begin_take_no_backend_out_of_service() -> None:
    assert backend(next_state(merged(config(named())), named(), **CHECKED)).health is HealthState.UP


def test_checks_that_end_leave_no_health_behind() -> None:
    known = with_backend(merged(config(named(), pool=CHECKED)), health=HealthState.DOWN)
    entry = backend(next_state(known, named()))
    assert (entry.health, entry.accepts_new) == (HealthState.NONE, True)


def test_name_that_no_longer_resolves_keeps_its_address() -> None:
    wanted = config({"name": "a", "address": "somewhere:80"})
    target = targets(config(A))[Address.parse(A)]
    known = merge(State(), wanted, {Address.parse("somewhere:80"): target}, Slots())
    assert backend(merge(known, wanted, {}, Slots())).target == target


def test_backend_without_an_address_is_not_usable() -> None:
    wanted = config({"name": "a", "address": "somewhere:80"})
    entry = backend(merge(State(), wanted, {}, Slots()))
    assert (entry.accepts_new, effective_weight(entry), entry.current_weight) == (False, 0, 1)


@pytest.mark.parametrize(
    ("values", "usable"),
    [
        ({}, True),
        ({"health": HealthState.UP}, True),
        ({"health": HealthState.DOWN}, False),
        ({"health": HealthState.PENDING}, False),
        ({"state": AdminState.DRAIN}, False),
        ({"state": AdminState.MAINT}, False),
        ({"weight": 0}, False),
        ({"weight": 256}, True),
    ],
)
def test_effective_weight_is_zero_exactly_when_not_usable(values: dict[str, object], usable: bool) -> None:
    entry = backend(with_backend(merged(config(named(weight=5))), **values))
    assert entry.accepts_new is usable
    assert effective_weight(entry) == (entry.current_weight if usable else 0)
    assert entry.current_weight == values.get("weight", 5)


def test_merging_changes_no_state_that_is_already_there() -> None:
    before = merged(config(named(), B))
    pools, listeners = dict(before.pools), dict(before.listeners)
    next_state(before, C)
    with_backend(before, weight=3)
    assert (before.pools, before.listeners) == (pools, listeners)


def test_weights_that_are_not_whole_are_told_to_the_data_plane_in_finer_parts() -> None:
    pool = merged(config(named(A, name="a"), named(B, name="b", weight=3))).pools["app"]
    assert (pool.weights(), pool.effective_weights()) == ({"a": 1, "b": 3}, {"a": 1, "b": 3})
    backends = {**pool.backends, "b": replace(pool.backends["b"], load_factor=0.25)}
    pool = replace(pool, backends=backends)
    assert (pool.weights(), pool.effective_weights()) == ({"a": 16, "b": 12}, {"a": 1, "b": 0.75})


def test_lasting_weights_leave_load_aside_but_not_slow_start() -> None:
    pool = merged(config(named(A, name="a"), named(B, name="b", weight=4))).pools["app"]
    backends = {
        "a": replace(pool.backends["a"], load_factor=0.1),
        "b": replace(pool.backends["b"], load_factor=0.5, slow_start_factor=0.25),
    }
    pool = replace(pool, backends=backends)
    assert pool.steady_weights() == {"a": 1, "b": 1}


def test_backend_with_any_weight_keeps_some_of_it() -> None:
    pool = merged(config(named(A, name="a"))).pools["app"]
    pool = replace(pool, backends={"a": replace(pool.backends["a"], load_factor=0.02)})
    assert pool.weights() == {"a": 1}


def test_a_panic_takes_backends_that_are_ready_and_have_an_address() -> None:
    wanted = config(named(), B, "nowhere:1", {"name": "off", "address": C, "weight": 0}, pool=CHECKED)
    state = merged(wanted)
    down = {key: replace(entry, health=HealthState.DOWN) for key, entry in state.backends()}
    pool = state.with_backends(down).pools["app"]
    assert (pool.panic, pool.accepting(), set(pool.effective_weights().values())) == (False, set(), {0})
    pool = replace(pool, config=pool.config.model_copy(update={"panic_threshold": 0.01}))
    assert (pool.panic, pool.accepting()) == (True, {"a", B})
    assert pool.effective_weights() == {"a": 1, B: 1, "nowhere:1": 0, "off": 0}
    agents = replace(pool.backends[B], agent=NO_REPORT.with_line("drain"))
    assert replace(pool, backends=pool.backends | {B: agents}).accepting() == {"a"}


def test_places_are_tiers_and_zones() -> None:
    zoned = [named(zone="z"), named(B) | {"name": "b", "zone": "z"}, named(C) | {"name": "c", "zone": "z", "tier": 1}]
    state = merged(config(*zoned, A, zones={"z": []}))
    assert state.pools["app"].groups() == {(0, "z"): ["a", "b"], (1, "z"): ["c"], (0, None): [A]}


def test_agent_and_operator_both_have_a_say() -> None:
    entry = backend(merged(config(named(weight=4))))
    said = replace(entry, agent=NO_REPORT.with_line("drain 50%"))
    assert (said.agreed_state, said.accepts_new, said.full_weight) == (AdminState.DRAIN, False, 2)
    said = replace(entry, state=AdminState.MAINT, agent=NO_REPORT.with_line("ready up"))
    assert (said.agreed_state, said.accepts_new) == (AdminState.MAINT, False)
    said = replace(entry, agent=NO_REPORT.with_line("down maxconn:7"))
    assert (said.agreed_health, said.accepts_new, said.max_connections) == (HealthState.DOWN, False, 7)
    assert replace(entry, agent=NO_REPORT.with_line("0%")).accepts_new is False


def test_what_an_agent_said_stays_until_the_file_changes_the_backend_or_asks_no_agent() -> None:
    agent = {"port": 9401}
    state = merged(config(named(), pool={"agent": agent}))
    state = with_backend(state, agent=NO_REPORT.with_line("drain"))
    assert backend(next_state(state, named(), agent=agent)).agreed_state is AdminState.DRAIN
    assert backend(next_state(state, named(weight=2), agent=agent)).agreed_state is AdminState.READY
    assert backend(next_state(state, named())).agreed_state is AdminState.READY


def test_pools_that_stay_as_they_were_are_the_same_objects() -> None:
    pools = {"one": {"backends": [A]} | CHECKED, "two": {"backends": [A, B]} | CHECKED}
    listeners = {"web": {"bind": "127.0.0.1:0", "pool": "one"}}
    before = merged(config(listeners=listeners, pools=pools))
    same = config(listeners=listeners, pools=pools)
    after = merge(before, same, targets(same), Slots())
    assert all(after.pools[name] is pool for name, pool in before.pools.items())
    pools["two"] = {"backends": [A, B], "retries": 7} | CHECKED
    other = config(listeners=listeners, pools=pools)
    after = merge(before, other, targets(other), Slots())
    assert after.pools["one"] is before.pools["one"]
    assert after.pools["two"].config == other.pools["two"]
    # Of what changed, the rest is the same: checks of thousands of backends need not be compared one by one.
    assert after.pools["two"].backends[B] is before.pools["two"].backends[B]
    assert after.pools["two"].config.health is before.pools["two"].config.health


def test_backends_in_another_order_are_a_change() -> None:
    before = merged(config(A, B))
    turned = config(B, A)
    assert list(merge(before, turned, targets(turned), Slots()).pools["app"].backends) == [B, A]
