"""The one writer of the state, and those that hear of its changes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import l4lb
from l4lb.balancer.store import Change, Reason, StateStore
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.edits import NO_EDITS
from l4lb.state.state import State
from l4lb.status import AdminState, HealthState
from tests.helpers.build import config, merged
from tests.helpers.loops import run
from tests.helpers.stage import A, B, staged

KEY = ("app", A)


def running() -> tuple[StateStore, list[tuple[str, Change]]]:
    """A store with a state, and a list to which followers append what they hear."""
    store, wanted = StateStore(), config(A, B)
    store.install(wanted, NO_EDITS, merged(wanted))
    return store, []


def entry(store: StateStore, **values: object) -> BackendEntry:
    known = store.state.find(KEY)
    assert known is not None
    return replace(known, **values)  # type: ignore[arg-type]


def hearing(heard: list[tuple[str, Change]], name: str) -> Callable[[Change], None]:
    return lambda change: heard.append((name, change))


def test_followers_hear_of_a_change_in_the_order_in_which_they_were_registered() -> None:
    store, heard = running()
    for name in "cab":
        store.follow(name, hearing(heard, name))
    store.replace({KEY: entry(store, weight=7)}, Reason.OPERATOR)
    assert [name for name, _ in heard] == ["c", "a", "b"]


def test_the_difference_is_computed_once_for_all_followers(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = 0
    real = State.changed

    def counted(state: State, before: State) -> Iterator[tuple[str, str]]:
        nonlocal computed
        computed += 1
        return real(state, before)

    store, heard = running()
    for name in "abc":
        store.follow(name, hearing(heard, name))
    monkeypatch.setattr(State, "changed", counted)
    before = store.state
    store.change(before.with_backends({KEY: entry(store, weight=7)}), Reason.WEIGHT)
    (change,) = {id(change): change for _, change in heard}.values()
    assert computed == 1
    assert (change.before, change.after) == (before, store.state)
    assert KEY in change.backends
    # replace() names the backends, so nothing is compared.
    store.replace({KEY: entry(store, weight=8)}, Reason.OPERATOR)
    assert computed == 1
    assert tuple(heard[-1][1].backends) == (KEY,)


def test_what_changes_nothing_is_heard_by_nothing() -> None:
    store, heard = running()
    store.follow("a", hearing(heard, "a"))
    store.change(store.state, Reason.WEIGHT)
    store.replace({}, Reason.EJECTION)
    assert heard == []


def test_a_follower_that_fails_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_change: Change) -> None:
        raise RuntimeError("out of order")

    store, heard = running()
    store.follow("the first", hearing(heard, "a"))
    store.follow("the broken one", broken)
    store.follow("the one with a broken condition", hearing(heard, "never"), when=broken)  # type: ignore[arg-type]
    store.follow("the last", hearing(heard, "b"))
    store.replace({KEY: entry(store, weight=7)}, Reason.OPERATOR)
    assert [name for name, _ in heard] == ["a", "b"]
    assert caplog.messages == [
        "unexpected error in the broken one",
        "unexpected error in the one with a broken condition",
    ]
    assert "RuntimeError: out of order" in caplog.text


def test_a_follower_that_changes_the_state_is_heard_after_the_change_before() -> None:
    store, heard = running()
    depth = 0

    def correcting(change: Change) -> None:
        nonlocal depth
        depth += 1
        assert depth == 1, "calls are nested"
        if change.reason is Reason.HEALTH:
            store.replace({KEY: entry(store, ejected=True)}, Reason.EJECTION)
            # The new state is there at once.
            known = store.state.find(KEY)
            assert known is not None
            assert known.ejected
        depth -= 1

    store.follow("a", hearing(heard, "a"))
    store.follow("correcting", correcting)
    store.follow("b", hearing(heard, "b"))
    before = store.state
    store.replace({KEY: entry(store, health=HealthState.UP)}, Reason.HEALTH)
    assert [(name, change.reason) for name, change in heard] == [
        ("a", Reason.HEALTH),
        ("b", Reason.HEALTH),
        ("a", Reason.EJECTION),
        ("b", Reason.EJECTION),
    ]
    first, second = heard[0][1], heard[2][1]
    assert (first.before, first.after, second.after) == (before, second.before, store.state)


def test_a_follower_is_called_only_for_what_it_wants_to_hear() -> None:
    store, heard = running()
    store.follow("installs", hearing(heard, "installs"), when=Change.is_install)
    store.follow("checks", hearing(heard, "checks"), when=Change.changes_checks)
    store.replace({KEY: entry(store, weight=7)}, Reason.OPERATOR)
    store.replace({KEY: entry(store, health=HealthState.DOWN)}, Reason.HEALTH)
    assert heard == []
    store.replace({KEY: entry(store, state=AdminState.MAINT)}, Reason.OPERATOR)
    assert [name for name, _ in heard] == ["checks"]
    assert store.config is not None
    store.install(store.config, NO_EDITS, store.state)
    assert [name for name, _ in heard] == ["checks", "installs", "checks"]


def test_a_balancer_names_sessions_first_and_publishes_last() -> None:
    """The order that the parts rely on."""

    async def main() -> None:
        async with staged() as stage:
            assert [one.name for one in stage.balancer.parts.store._followers] == [
                "session names",
                "removed and drained backends",
                "alarms",
                "faults of discovery",
                "faults of changes",
                "options of sockets",
                "unused sockets",
                "scrapes and agents",
                "limits",
                "passive health",
                "health checks",
                "pool changes",
                "publication",
            ]

    run(main())


def test_only_the_store_writes_the_state() -> None:
    """No other module has an attribute to write it to, and the store shows its own as properties without setters."""
    package = Path(l4lb.__file__).parent
    modules = [path for folder in ("balancer", "process", "embedding") for path in (package / folder).rglob("*.py")]
    assert {path.name for path in modules for attribute in assigned(path) if attribute in ("state", "_state")} == {
        "store.py"
    }
    for name in ("state", "config", "edits"):
        assert getattr(StateStore, name).fset is None


def assigned(path: Path) -> Iterator[str]:
    """The attributes that a module assigns."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
