"""`l4lb drain --wait`: its progress, its outcomes, and the ways to end it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from l4lb.cli import draining
from l4lb.errors import ControlError
from l4lb.status import AdminState
from tests.admin.fake_control import FakeControl, backend_statistics, make_status
from tests.cli.conftest import Run

DRAINED = "llama/a: drained, no connections left\n"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "POLL_INTERVAL", 0.0)
    monkeypatch.setattr(draining, "LINE_INTERVAL", 0.0)


def when_looked_at(control: FakeControl, monkeypatch: pytest.MonkeyPatch, *happenings: Callable[[], object]) -> None:
    """Let one of these happen before each look at the backend, once it has been told to drain."""
    left, real = list(happenings), control.status

    def status() -> Any:
        if ("set", "llama", "a", AdminState.DRAIN, None) in control.changes and left:
            left.pop(0)()
        return real()

    monkeypatch.setattr(control, "status", status)


def nothing() -> None:
    """What happens when nothing does."""


def test_waits_until_no_connection_is_left(l4lb: Run, control: FakeControl) -> None:
    control.connections_left = [2, 2, 2, 1, 0]
    result = l4lb("drain", "llama/a", "--wait")
    assert (result.exit_code, result.stdout) == (0, DRAINED)
    assert result.stderr.splitlines() == [
        "llama/a: draining, 2 connections left, 0 busy",
        "llama/a: draining, 1 connection left, 0 busy",
    ]
    assert control.connections_left == []


def test_a_session_that_was_on_its_way_is_waited_for(l4lb: Run, control: FakeControl) -> None:
    control.connections_left = [0, 1, 0]
    assert l4lb("drain", "llama/a", "--wait").stdout == DRAINED
    assert control.connections_left == []


def test_progress_says_what_is_busy_and_how_long_there_is_to_go(
    l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = backend_statistics(connections=3, busy=2)
    when_looked_at(
        control,
        monkeypatch,
        lambda: control._set("llama", "a", statistics=working),
        lambda: control._set("llama", "a", statistics=backend_statistics()),
    )
    result = l4lb("drain", "llama/a", "--wait", "--timeout", "1h")
    assert result.exit_code == 0
    assert result.stderr == "llama/a: draining, 3 connections left, 2 busy, 59m 59s to go\n"


def test_what_takes_long_is_named_by_cause(l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "EXPLAIN_INTERVAL", 0.0)
    control.connections_left = [1, 1, 0]
    l4lb_says = l4lb("drain", "llama/a", "--wait").stderr
    sessions = json.loads(l4lb("sessions", "--json").stdout)["sessions"]
    said = draining.causes(sessions, "llama", "a")
    assert said
    assert l4lb_says.splitlines()[0].endswith(f"busy ({said}; --timeout and --kill close them)")


def test_causes_are_counted_for_the_backend_alone() -> None:
    def session(**changed: object) -> dict[str, object]:
        usual = {"pool": "llama", "backend": "a", "state": "relay", "phase": "quiet", "idle_s": 0.2}
        return usual | changed

    sessions = [
        session(),
        session(),
        session(phase="wait"),
        session(phase="stream", idle_s=70),
        session(phase="new", idle_s=3.5),
        session(state="connect", phase="new"),
        session(state="closing"),
        session(backend="b"),
        session(pool="other"),
    ]
    assert draining.causes(sessions, "llama", "a") == (
        "1 connecting, 2 in a request, 2 never idle for 1 s, 1 idle (response unread or in doubt, or drain_spread)"
    )
    assert draining.causes([], "llama", "a") == ""


def test_progress_is_not_written_more_often_than_every_second(
    l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "LINE_INTERVAL", 3600.0)
    control.connections_left = [3, 2, 1, 0]
    assert l4lb("drain", "llama/a", "--wait").stderr == "llama/a: draining, 3 connections left, 0 busy\n"


def test_progress_on_a_terminal_is_one_line(l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "_is_terminal", lambda: True)
    control.connections_left = [2, 1, 0]
    result = l4lb("drain", "llama/a", "--wait")
    assert (result.exit_code, result.stdout) == (0, DRAINED)
    shown = [f"\rllama/a: draining, {left} left, 0 busy\x1b[K" for left in ("2 connections", "1 connection")]
    assert result.stderr == "".join(shown) + "\n"


def test_gives_up_at_its_timeout(l4lb: Run, control: FakeControl) -> None:
    control.connections_left = [3] * 10
    result = l4lb("drain", "llama/a", "--wait", "--timeout", "0s")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: llama/a still has 3 connections after 0 s" in result.stderr
    assert control.changes == [("set", "llama", "a", AdminState.DRAIN, None)]


def test_what_is_left_at_the_timeout_is_closed_where_that_is_wanted(l4lb: Run, control: FakeControl) -> None:
    control.connections_left = [3] * 10
    result = l4lb("drain", "llama/a", "--wait", "--timeout", "0s", "--kill")
    assert (result.exit_code, result.stdout) == (0, DRAINED)
    assert result.stderr.splitlines()[-1] == "llama/a: 3 connections closed after 0 s"
    assert control.changes[1:] == [("kill all", "llama", "a")]


@pytest.mark.parametrize(
    "arguments", [("--timeout", "5s"), ("--wait", "--timeout", "5parsecs"), ("--wait", "--kill"), ("--kill",)]
)
def test_options_that_make_no_sense_are_never_sent(l4lb: Run, control: FakeControl, arguments: tuple[str, ...]) -> None:
    assert l4lb("drain", "llama/a", *arguments).exit_code == 2
    assert control.changes == []


def test_interrupt_ends_the_wait_and_not_the_draining(
    l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    control.connections_left = [3] * 10
    result = l4lb("drain", "llama/a", "--wait")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "llama/a goes on draining, 3 connections left; `l4lb ready llama/a` ends that" in result.stderr
    assert control.changes == [("set", "llama", "a", AdminState.DRAIN, None)]


def test_a_backend_that_is_set_back_to_ready_is_not_waited_for(
    l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.connections_left = [3] * 10
    when_looked_at(control, monkeypatch, nothing, lambda: control._set("llama", "a", state=AdminState.READY))
    result = l4lb("drain", "llama/a", "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: llama/a was set back to ready meanwhile and has 3 connections" in result.stderr


def test_a_backend_that_is_put_into_maintenance_is_still_waited_for(
    l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.connections_left = [3, 3, 0]
    when_looked_at(control, monkeypatch, nothing, lambda: control._set("llama", "a", state=AdminState.MAINT))
    assert l4lb("drain", "llama/a", "--wait").stdout == DRAINED


def test_a_backend_that_leaves_the_configuration_is_not_waited_for(
    l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave() -> None:
        control.connections_left = []
        control.current = make_status({})

    control.connections_left = [3] * 10
    when_looked_at(control, monkeypatch, nothing, leave)
    result = l4lb("drain", "llama/a", "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: llama/a is gone from the configuration; the 3 connections it had go on" in result.stderr


def test_what_another_process_counts_is_not_taken_for_the_end(
    l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace() -> None:
        control.connections_left = []
        control.current = make_status(pid=4712)

    control.connections_left = [3] * 10
    when_looked_at(control, monkeypatch, nothing, replace)
    result = l4lb("drain", "llama/a", "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "another l4lb process answers now, where llama/a is set to ready; the one before it had 3" in result.stderr


def test_a_moment_without_an_answer_is_borne(l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    away = [True, True, False]
    monkeypatch.setattr(draining.AdminClient, "backend", absent(draining.AdminClient.backend, away))
    control.connections_left = [3, 1, 0]
    assert l4lb("drain", "llama/a", "--wait").stdout == DRAINED
    assert away == []


def test_l4lb_that_stays_away_is_not_waited_for(
    l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "AWAY_MAX", 0.0)
    monkeypatch.setattr(draining.AdminClient, "backend", absent(draining.AdminClient.backend, [True] * 10))
    control.connections_left = [3] * 10
    result = l4lb("drain", "llama/a", "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: cannot reach l4lb" in result.stderr


def absent(real: Callable[..., Any], away: list[bool]) -> Callable[..., Any]:
    """As `real`, but that there is no answer while `away` says so."""

    def backend(self: draining.AdminClient, *names: str) -> Any:
        if away and away.pop(0):
            raise draining.ClientError("cannot reach l4lb at the moment")
        return real(self, *names)

    return backend


def test_a_refusal_is_no_moment_without_an_answer(
    l4lb: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ControlError("no", 503)

    control.connections_left = [3] * 10
    when_looked_at(control, monkeypatch, nothing, refuse)
    result = l4lb("drain", "llama/a", "--wait")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "Error: no")


def test_json_is_all_that_goes_to_stdout(l4lb: Run, control: FakeControl) -> None:
    control.connections_left = [1, 0]
    result = l4lb("drain", "llama/a", "--wait", "--json")
    assert json.loads(result.stdout)["state"] == "drain"
    assert result.stderr == "llama/a: draining, 1 connection left, 0 busy\n"
