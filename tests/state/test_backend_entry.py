"""Every state that a backend may have: the predicates agree with the table in the module's docstring."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from l4lb.agent.protocol import AgentReport
from l4lb.config import Address, model
from l4lb.discovery.source import Readiness
from l4lb.net.target import Target
from l4lb.state import backend_entry
from l4lb.state.backend_entry import BackendEntry
from l4lb.status import AdminState, HealthState

READY, DRAIN, MAINT = AdminState.READY, AdminState.DRAIN, AdminState.MAINT

CONDITIONS: dict[str, Callable[[BackendEntry], bool]] = {
    "operator: maint": lambda entry: entry.state is MAINT,
    "agent: maint, also drained": lambda entry: entry.agent.state is MAINT and _drained(entry),
    "agent: maint": lambda entry: entry.agent.state is MAINT,
    "operator: drain": lambda entry: entry.state is DRAIN,
    "source: draining": lambda entry: entry.readiness is Readiness.DRAINING,
    "agent: drain": lambda entry: entry.agent.state is DRAIN,
    "weight: 0": lambda entry: entry.weight == 0,
    "address: unknown": lambda entry: entry.target is None,
    "ejected": lambda entry: entry.ejected,
    "health: down": lambda entry: _health(entry) is HealthState.DOWN,
    "health: pending": lambda entry: _health(entry) is HealthState.PENDING,
    "health: up or none": lambda _: True,
}

COLUMNS = ["state", "shown as", "in service", "new clients", "in a panic", "checked", "drained"]


def _drained(entry: BackendEntry) -> bool:
    return entry.state is DRAIN or entry.readiness is Readiness.DRAINING


def _health(entry: BackendEntry) -> HealthState:
    stands_still = entry.stalled is not None
    down = entry.agent.down or stands_still or entry.readiness is Readiness.NOT_READY
    return HealthState.DOWN if down else entry.health


def table() -> dict[str, dict[str, str]]:
    """The rows of the docstring by their first cell."""
    lines = [line.strip() for line in (backend_entry.__doc__ or "").splitlines() if line.startswith("    ")]
    head, *rows = (re.split(r" {2,}", line) for line in lines)
    assert head == COLUMNS
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def every_state() -> Iterator[BackendEntry]:
    config = model.Backend(name="a", address=Address.parse("127.0.0.1:80"))
    for operator, agent, down, readiness, weight, target, health, stalled, ejected in itertools.product(
        AdminState,
        AdminState,
        (False, True),
        Readiness,
        (None, 0, 3),
        (None, Target(socket.AF_INET, ("127.0.0.1", 80))),
        HealthState,
        (None, "no answer for 10s"),
        (False, True),
    ):
        yield BackendEntry(
            slot=0,
            config=config,
            target=target,
            state=operator,
            weight=weight,
            health=health,
            agent=AgentReport(state=agent, down=down),
            readiness=readiness,
            ejected=ejected,
            stalled=stalled,
        )


def test_every_row_of_the_table_has_its_condition_in_the_same_order() -> None:
    assert list(table()) == list(CONDITIONS)


def test_the_predicates_agree_with_the_table_in_every_state() -> None:
    rows, seen = table(), set()
    for entry in every_state():
        name = next(name for name, applies in CONDITIONS.items() if applies(entry))
        seen.add(name)
        found = {
            "state": name,
            "shown as": entry.agreed_state.value,
            "in service": _yes(entry.in_service),
            "new clients": _yes(entry.accepts_new),
            "in a panic": _yes(entry.accepts_in_panic),
            "checked": _yes(entry.worth_checking),
            "drained": _yes(entry.being_drained),
        }
        expected = rows[name] if entry.target is not None else rows[name] | {"checked": "no"}
        assert found == expected, entry
    assert seen == set(rows)


def test_the_other_predicates_follow_from_those_of_the_table() -> None:
    for entry in every_state():
        assert entry.agreed_health is _health(entry)
        assert entry.healthy_enough is replace(entry, ejected=False).accepts_new
        would_be_up = replace(entry, ejected=False, health=HealthState.UP).accepts_new
        assert entry.awaits_first_check is (would_be_up and entry.health is HealthState.PENDING)
        assert entry.worth_asking is (entry.target is not None and entry.state is not MAINT)
        standing = entry.standing
        assert (standing.in_service, standing.healthy) == (entry.in_service, entry.healthy_enough)
        assert standing.known is (_health(entry) is not HealthState.PENDING)


@pytest.mark.parametrize(("report", "weight"), [(AgentReport(), 4), (AgentReport(max_connections=7), 4)])
def test_a_weight_of_the_operator_goes_before_that_of_the_file(report: AgentReport, weight: int) -> None:
    entry = replace(next(every_state()), agent=report, weight=weight)
    assert (entry.current_weight, entry.full_weight) == (weight, weight)
    assert entry.max_connections == (report.max_connections or 0)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
