"""The commands that ask or change a running l4lb, against a real admin server."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from l4lb.cli import main
from l4lb.errors import ControlError
from l4lb.status import (
    AdminState,
    DiscoveryStatus,
    EjectionStatus,
    FailoverStatus,
    LoadStatus,
    Origin,
    ReloadOutcome,
    ShutdownStatus,
    UpgradeOutcome,
    UpgradeStatus,
)
from tests.admin.fake_control import (
    FakeControl,
    backend_statistics,
    backend_status,
    make_session,
    make_status,
    pool_status,
)
from tests.cli.conftest import Run

UNIX_BACKEND = "unix:/run/b.sock"


def test_status_shows_listeners_and_backends_line_by_line(l4lb: Run, control: FakeControl) -> None:
    drained = backend_status(state=AdminState.DRAIN, weight=4, effective_weight=0)
    busy = backend_status(statistics=backend_statistics(connections=12, sent_bytes_total=1536))
    control.current = make_status({"llama": pool_status({"a": busy, "[red]b": drained})})
    result = l4lb("status")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0][:2] == ["l4lb", "1.2.3,"]
    assert ["front", "127.0.0.1:8000", "llama", "3", "9", "2"] in lines
    rows = {words[1]: " ".join(words) for words in lines if words[:1] == ["llama"]}
    assert rows.keys() == {"a", "[red]b"}
    assert " 12 " in rows["a"]
    assert "1.5 KiB" in rows["a"]
    assert "drain" in rows["[red]b"]
    assert "0 of 4" in rows["[red]b"]


def test_what_backends_and_sources_say_does_not_drive_the_terminal(l4lb: Run, control: FakeControl) -> None:
    evil = "\x1b[2J\x9b31m\u202e\r\n"
    backend = dataclasses.replace(backend_status(), health_message=f"said {evil}")
    found = DiscoveryStatus(
        source="dns", working=False, message=f"fails {evil}", age=None, endpoints=0, held=0, updates_total={}
    )
    control.current = make_status({"p": dataclasses.replace(pool_status({f"b{evil}": backend}), discovery=found)})
    result = l4lb("status")
    assert result.exit_code == 0, result.output
    assert all(line.isprintable() for line in result.output.split("\n"))
    assert r"said \x1b[2J" in result.output


@pytest.mark.parametrize(
    ("load", "shown"),
    [
        ({"utilisation": 0.42, "age": 0.1, "stale": False}, " 42% "),
        ({"utilisation": 0.42, "age": 12.0, "stale": True}, " 42%, 12.0s old "),
        ({"utilisation": None, "age": None, "stale": True}, " ? "),
    ],
)
def test_status_shows_the_load_and_its_age_once_it_is_old(
    l4lb: Run, control: FakeControl, load: dict[str, Any], shown: str
) -> None:
    known = LoadStatus(readings={}, factor=0.5, message="", scrapes_total={}, **load)
    control.current = make_status({"llama": pool_status({"a": backend_status(load=known, effective_weight=0.5)})})
    (line,) = [line for line in l4lb("status").output.splitlines() if "llama" in line and "8001" in line]
    assert shown in " ".join(line.split())
    assert " 0.5 of 1 " in " ".join(line.split())


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"working": True, "message": "3 endpoints", "age": 2.0},
            "pool llama: dns works: 3 endpoints; answered 2.0s ago",
        ),
        (
            {"working": False, "message": "SERVFAIL [x]", "age": 90.0},
            "pool llama: dns fails: SERVFAIL [x]; 3 kept, answered 1m 30s ago",
        ),
        (
            {"working": False, "message": "no answer", "age": None},
            "pool llama: dns fails: no answer; 3 kept, answered never",
        ),
    ],
)
def test_status_shows_how_a_source_does(l4lb: Run, control: FakeControl, values: dict[str, Any], line: str) -> None:
    discovery = DiscoveryStatus(source="dns", endpoints=3, held=0, updates_total={}, **values)
    pool = dataclasses.replace(pool_status({}), discovery=discovery)
    control.current = make_status({"llama": pool})
    assert line in [" ".join(shown.split()) for shown in l4lb("status").output.splitlines()]


def test_status_says_why_a_better_backend_is_not_used(l4lb: Run, control: FakeControl) -> None:
    failover = FailoverStatus(current="tier 1", held=("a",), message="stays at tier 1: failback is off")
    pool = dataclasses.replace(pool_status({"a": backend_status()}), failover=failover)
    control.current = make_status({"db": pool})
    assert "pool db stays at tier 1: failback is off" in l4lb("status").output
    assert json.loads(l4lb("status", "--json").output)["pools"]["db"]["failover"] == {
        "current": "tier 1",
        "held": ["a"],
        "message": "stays at tier 1: failback is off",
    }
    control.current = make_status({"db": dataclasses.replace(pool, failover=dataclasses.replace(failover, held=()))})
    assert "stays at" not in l4lb("status").output


def test_status_shows_places_where_there_are_any_and_panic(l4lb: Run, control: FakeControl) -> None:
    assert "zone" not in l4lb("status").output
    backends = {"a": backend_status(tier=1, zone="eu-1"), "b": backend_status()}
    control.current = make_status({"llama": pool_status(backends, panic=True)})
    output = l4lb("status").output
    rows = [line.split() for line in output.splitlines()]
    assert ["pool", "backend", "address", "tier", "zone", "state"] in [row[:6] for row in rows]
    assert ["llama", "a", "127.0.0.1:8001", "1", "eu-1", "ready"] in [row[:6] for row in rows]
    assert ["llama", "b", "127.0.0.1:8001", "0", "-", "ready"] in [row[:6] for row in rows]
    assert "pool llama panics: too few backends are usable, health is ignored" in output


def test_status_shows_cold_backends_and_limits_with_their_reason(l4lb: Run, control: FakeControl) -> None:
    learnt = backend_status(max_busy=17, max_busy_message="learnt: 16 run at once")
    drained = backend_status(cold_left=3, state=AdminState.DRAIN)
    backends = {"a": learnt, "b": backend_status(cold_left=2), "c": drained}
    control.current = make_status({"llama": pool_status(backends)})
    lines = l4lb("status").output.splitlines()
    rows = {line.split()[1]: line for line in lines if line.split()[:1] == ["llama"]}
    assert " of 17 " in rows["a"]
    assert [" cold " in rows[name] for name in "abc"] == [False, True, False]
    assert "pool llama, max_busy: a learnt: 16 run at once" in lines


def test_status_shows_ejected_backends(l4lb: Run, control: FakeControl) -> None:
    ejection = EjectionStatus(cause="failures", left=12.0, ejections_total={"failures": 1})
    control.current = make_status({"llama": pool_status({"a": backend_status(ejection=ejection, effective_weight=0)})})
    (line,) = [line for line in l4lb("status").output.splitlines() if "llama" in line and "8001" in line]
    assert " ready ejected 0 of 1 " in " ".join(line.split())


@pytest.mark.parametrize(
    ("left", "line"),
    [
        (582.4, "stopping for 12.0s: waiting for 3 sessions to end, 2 of them busy, 9m 42s left"),
        (None, "stopping for 12.0s: waiting for 3 sessions to end, 2 of them busy"),
    ],
)
def test_status_tells_how_far_a_stop_is(l4lb: Run, control: FakeControl, left: float | None, line: str) -> None:
    shutdown = ShutdownStatus(age=12.0, left=left, sessions=3, busy=2)
    control.current = make_status(stopping=True, shutdown=shutdown)
    assert line in l4lb("status").output.splitlines()


def test_status_tells_of_a_rejected_reload(l4lb: Run, control: FakeControl) -> None:
    config = dataclasses.replace(control.current.config, last_reload_ok=False, last_error="l4lb.yaml:3:1: error: no")
    control.current = dataclasses.replace(control.current, config=config)
    assert "last reload rejected: l4lb.yaml:3:1: error: no" in l4lb("status").output


def test_status_as_json_is_the_answer_of_the_api(l4lb: Run) -> None:
    result = l4lb("status", "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["pools"]["llama"]["backends"].keys() == {"a", UNIX_BACKEND}


def test_sessions_are_listed(l4lb: Run) -> None:
    result = l4lb("sessions")
    assert result.exit_code == 0
    (line,) = [line for line in result.output.splitlines() if "81604378625" in line]
    assert "192.0.2.7:40001" in line
    assert "4.0 KiB" in line


def test_sessions_show_moves_and_pins_if_there_are_any(l4lb: Run, control: FakeControl) -> None:
    assert "moves" not in l4lb("sessions").output
    control.live = [make_session(1, moves=12), make_session(2, pin="upgrade")]
    header, moved, pinned = (line.split() for line in l4lb("sessions").output.splitlines() if line.strip(" ─"))
    assert moved[header.index("moves")] == "12"
    assert pinned[header.index("pinned")] == "upgrade"


def test_status_shows_server_errors_where_statuses_are_known(l4lb: Run, control: FakeControl) -> None:
    statistics = backend_statistics(responses_total={"2xx": 5, "5xx": 4711})
    backends = {"a": backend_status(statistics=statistics)}
    for protocol, shown in (("http1", True), ("tcp", False)):
        control.current = make_status({"llama": pool_status(backends, protocol=protocol)})
        output = l4lb("status").output
        assert ("4711 " in output.partition("pid 4711")[2], " 5xx " in output) == (shown, shown)


@pytest.mark.parametrize("columns", [80, 90, 100])
@pytest.mark.parametrize("command", ["status", "sessions"])
def test_a_table_in_a_pipe_is_as_wide_as_columns_says(
    l4lb: Run, control: FakeControl, command: str, columns: int
) -> None:
    statistics = backend_statistics(busy=4)
    backends = {f"gpu-{n}": backend_status(statistics=statistics, max_busy=256) for n in range(3)}
    control.current = make_status({"llama": pool_status(backends, protocol="http1")}, uptime_seconds=1)
    control.live = [make_session(n, moves=3, pin="upgrade") for n in range(3)]
    whole = l4lb(command).output
    narrow = l4lb(command, columns=columns).output
    assert max(map(len, whole.splitlines())) > 100
    assert max(map(len, narrow.splitlines())) <= columns
    shown = {"status": ["gpu-2", "ready", "4 of 256"], "sessions": ["192.0.2.7:40001", "moves", "upgrade"]}
    assert [word for word in shown[command] if word not in narrow] == []


def test_status_says_how_many_clients_wait(l4lb: Run, control: FakeControl) -> None:
    for queued, line in ((7, ["pool llama, queue: 7 of 100 clients wait"]), (0, [])):
        pool = dataclasses.replace(pool_status({"a": backend_status()}, queued=queued), queue_size=100)
        control.current = make_status({"llama": pool})
        assert [one for one in l4lb("status").output.splitlines() if "queue" in one] == line


def test_no_sessions_are_said_to_be_none(l4lb: Run, control: FakeControl) -> None:
    control.live = []
    assert l4lb("sessions").output == "no sessions\n"
    assert json.loads(l4lb("sessions", "--json").output) == {"sessions": []}


@pytest.mark.parametrize("change", [("drain",), ("drain", "--wait"), ("ready",), ("maint",), ("weight", "7")])
def test_a_changed_backend_as_json_is_the_answer_of_the_api(l4lb: Run, change: tuple[str, ...]) -> None:
    command, *options = change
    result = l4lb(command, "llama/a", *options, "--json")
    assert result.exit_code == 0
    answer = json.loads(result.output)
    assert (answer["address"], answer["pid"]) == ("127.0.0.1:8001", 4711)


@pytest.mark.parametrize("command", ["drain", "ready", "maint"])
@pytest.mark.parametrize("backend", ["a", UNIX_BACKEND])
def test_the_state_of_a_backend_is_set(l4lb: Run, control: FakeControl, command: str, backend: str) -> None:
    result = l4lb(command, f"llama/{backend}")
    assert (result.exit_code, result.output) == (0, f"llama/{backend}: {command}, weight 1, 0 connections\n")
    assert control.changes == [("set", "llama", backend, AdminState(command), None)]


@pytest.mark.parametrize("backend", ["a", UNIX_BACKEND])
def test_the_weight_of_a_backend_is_set(l4lb: Run, control: FakeControl, backend: str) -> None:
    result = l4lb("weight", f"llama/{backend}", "7")
    assert (result.exit_code, result.output) == (0, f"llama/{backend}: ready, weight 7, 0 connections\n")
    assert control.changes == [("set", "llama", backend, None, 7)]


@pytest.mark.parametrize("weight", ["257", "-1", "1.5", "x", ""])
def test_a_weight_out_of_range_is_never_sent(l4lb: Run, control: FakeControl, weight: str) -> None:
    assert l4lb("weight", "llama/a", "--", weight).exit_code == 2
    assert control.changes == []


@pytest.mark.parametrize("target", ["llama", "/a", "llama/", "/", ""])
@pytest.mark.parametrize("command", [("drain",), ("ready",), ("maint",), ("weight",)])
def test_a_target_without_two_names_is_never_sent(
    l4lb: Run, control: FakeControl, command: tuple[str, ...], target: str
) -> None:
    result = l4lb(*command, target, *(["1"] if command == ("weight",) else []))
    assert result.exit_code == 2
    assert f"'{target}' is not POOL/BACKEND" in result.stderr
    assert control.changes == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("drain", "llama/nope"), "there is no backend 'nope' in pool 'llama'"),
        (("weight", "nope/a", "1"), "there is no backend 'a' in pool 'nope'"),
        (("kill", "5"), "there is no session 5"),
    ],
)
def test_what_is_not_there_is_one_sentence(l4lb: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = l4lb(*arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {sentence}\n")


def test_a_session_is_closed_by_its_number(l4lb: Run, control: FakeControl) -> None:
    result = l4lb("kill", "81604378625")
    assert (result.exit_code, result.output) == (0, "session 81604378625: closed\n")
    assert control.changes == [("kill", 81_604_378_625)]


@pytest.mark.parametrize("session", ["x", "-1", "1.5", ""])
def test_what_is_no_session_number_is_never_sent(l4lb: Run, control: FakeControl, session: str) -> None:
    assert l4lb("kill", "--", session).exit_code == 2
    assert control.changes == []


def test_a_reload_that_was_applied_exits_with_0(l4lb: Run, control: FakeControl) -> None:
    control.outcome = ReloadOutcome(applied=True, notes=("process.workers needs a restart",))
    result = l4lb("reload")
    assert (result.exit_code, result.stdout) == (0, "note: process.workers needs a restart\nreloaded\n")


def test_a_reload_that_was_rejected_exits_with_2_and_every_problem(l4lb: Run, control: FakeControl) -> None:
    control.outcome = ReloadOutcome(applied=False, problems=("f:1:2: error: one", "f:3:4: error: two"))
    result = l4lb("reload")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "f:1:2: error: one",
        "f:3:4: error: two",
        "Error: the reload was rejected; the running configuration is unchanged",
    ]


def test_a_finished_upgrade_names_the_process_that_serves_now(l4lb: Run, control: FakeControl) -> None:
    result = l4lb("upgrade")
    assert (result.exit_code, result.stdout) == (0, "upgraded: process 4712 serves with l4lb 1.2.4\n")
    assert control.changes == [("upgrade",)]


def test_an_upgrade_that_failed_exits_with_2_and_the_reason(l4lb: Run, control: FakeControl) -> None:
    control.upgraded = UpgradeOutcome(reason="cannot start /opt/l4lb/bin/l4lb: Permission denied")
    result = l4lb("upgrade")
    sentence = "the upgrade failed: cannot start /opt/l4lb/bin/l4lb: Permission denied; nothing has changed"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {sentence}\n")


def test_an_upgrade_that_cannot_begin_exits_with_2(l4lb: Run, control: FakeControl) -> None:
    control.failure = ControlError("an upgrade is under way already", 409)
    assert (l4lb("upgrade").exit_code, l4lb("upgrade").stderr) == (2, "Error: an upgrade is under way already\n")


def test_status_tells_of_a_failed_upgrade(l4lb: Run, control: FakeControl) -> None:
    control.current = dataclasses.replace(control.current, upgrade=UpgradeStatus(failed_total=1, last_error="no room"))
    assert "last upgrade failed: no room" in l4lb("status").output


# Every command says in one sentence why it cannot reach l4lb, and exits with 1.

COMMANDS = [
    ("status",),
    ("sessions",),
    ("drain", "p/b"),
    ("ready", "p/b"),
    ("maint", "p/b"),
    ("weight", "p/b", "1"),
    ("add", "p", "10.0.0.1:80"),
    ("set", "p/b", "--address", "10.0.0.1:80"),
    ("remove", "p/b"),
    ("kill", "1"),
    ("reload",),
    ("upgrade",),
]


def failure(path: str, *arguments: str) -> str:
    result = CliRunner().invoke(main, [*arguments, "--socket", path])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_a_missing_socket_is_one_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    sentence = f"Error: cannot reach l4lb at {path}: no such socket; is it running? (--socket or L4LB_SOCKET)\n"
    assert failure(path, *command) == sentence


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_a_dead_socket_is_one_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    path = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    assert "nothing listens on that socket any more" in failure(path, *command)


def test_a_path_too_long_for_a_socket_is_one_sentence(tmp_path: Path) -> None:
    assert "cannot reach l4lb" in failure(f"{tmp_path}/{'x' * 200}", "status")


def test_a_mistake_inside_l4lb_is_one_sentence(l4lb: Run, control: FakeControl) -> None:
    control.failure = RuntimeError("secret")
    result = l4lb("status")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "secret" not in result.stderr


# Backends that come, move and go.


def test_a_backend_is_added_with_the_keys_of_the_file(l4lb: Run, control: FakeControl) -> None:
    options = "--name c --weight 2 --max-connections 64 --max-busy 8 --zone z --tier 1"
    result = l4lb("add", "llama", "10.0.0.3:80", *options.split())
    assert (result.exit_code, result.output) == (0, "llama/c: ready, weight 1, 0 connections\n")
    settings = {"address": "10.0.0.3:80", "name": "c", "weight": 2, "max_connections": 64, "max_busy": 8}
    assert control.changes == [("add", "llama", settings | {"zone": "z", "tier": 1})]
    assert json.loads(l4lb("add", "llama", "10.0.0.4:80", "--json").output)["origin"] == "api"
    assert l4lb("add", "lama", "10.0.0.3:80").stderr == "Error: there is no pool 'lama'\n"


def test_the_limit_of_a_backend_may_be_learnt(l4lb: Run, control: FakeControl) -> None:
    assert l4lb("set", "llama/a", "--max-busy", "auto").exit_code == 0
    assert control.changes == [("change", "llama", "a", {"max_busy": "auto"}, None, None)]
    assert l4lb("set", "llama/a", "--max-busy", "some").exit_code == 2


def test_a_backend_is_given_another_address(l4lb: Run, control: FakeControl) -> None:
    assert l4lb("set", "llama/a", "--address", "10.0.0.3:80").exit_code == 0
    assert control.changes == [("change", "llama", "a", {"address": "10.0.0.3:80"}, None, None)]
    assert "nothing to set" in l4lb("set", "llama/a").stderr


def test_a_backend_is_removed_at_once_or_once_it_is_drained(l4lb: Run, control: FakeControl) -> None:
    assert l4lb("remove", "llama/a").output == "llama/a: removed, 0 connections left\n"
    assert l4lb("remove", "llama/a", "--kill").output == "llama/a: removed, 0 connections closed\n"
    assert control.changes == [("remove", "llama", "a", False), ("remove", "llama", "a", True)]
    control.changes.clear()
    control.connections_left = [2, 1, 0]
    result = l4lb("remove", "llama/a", "--wait")
    assert result.stdout == "llama/a: removed, 0 connections left\n"
    assert control.changes == [("set", "llama", "a", AdminState.DRAIN, None), ("remove", "llama", "a", False)]
    assert "--timeout needs --wait" in l4lb("remove", "llama/a", "--timeout", "1s").stderr


def test_what_a_source_found_is_not_drained_only_to_be_refused(l4lb: Run, control: FakeControl) -> None:
    control.current = make_status({"llama": pool_status({"a": backend_status(origin=Origin.DISCOVERY)})})
    l4lb("remove", "llama/a", "--wait")
    assert [change[0] for change in control.changes] == ["remove"]


def test_status_names_what_was_done_at_run_time(l4lb: Run, control: FakeControl) -> None:
    backends = {f"n{number}": backend_status(origin=Origin.API) for number in range(12)}
    backends["moved"] = backend_status(changed=("address",))
    pool = dataclasses.replace(pool_status(backends), removed=("gone",))
    control.current = make_status({"llama": pool, "calm": pool_status({})})
    (line,) = [line for line in l4lb("status").output.splitlines() if "at run time" in line]
    assert "added n0, n1, n2" in line
    assert "n9 and 2 more; changed moved; removed gone" in line


def test_status_writes_backends_out_as_yaml(l4lb: Run, control: FakeControl) -> None:
    control.current = make_status({"llama": pool_status({"a${b}": backend_status()})})
    assert yaml.safe_load(l4lb("status", "--yaml").output) == {
        "pools": {"llama": {"backends": [{"name": "a$${b}", "address": "127.0.0.1:8001"}]}}
    }
    assert l4lb("status", "--yaml", "--json").exit_code == 2


def test_outcomes_can_be_had_as_json(l4lb: Run, control: FakeControl) -> None:
    control.outcome = ReloadOutcome(applied=True, notes=["a note"])
    assert json.loads(l4lb("reload", "--json").stdout) == {"applied": True, "notes": ["a note"]}
    control.outcome = ReloadOutcome(applied=False, problems=["one", "two"])
    result = l4lb("reload", "--json")
    assert (result.exit_code, result.stderr) == (2, "")
    assert json.loads(result.stdout)["problems"] == ["one", "two"]
    assert json.loads(l4lb("upgrade", "--json").stdout)["pid"] == 4712
    control.upgraded = UpgradeOutcome(reason="no room")
    result = l4lb("upgrade", "--json")
    assert (result.exit_code, json.loads(result.stdout)["upgraded"]) == (2, False)
    session = control.live[0].record.id
    assert json.loads(l4lb("kill", str(session), "--json").stdout) == {"session": session, "killed": True}
