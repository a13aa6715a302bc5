"""The commands that work on a configuration file, and what all commands have in common."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from l4lb import __version__
from l4lb.cli import COMMANDS, main
from tests.helpers.balancer import Balancer

GOOD = "listeners: {web: {bind: '127.0.0.1:8080', pool: web}}\npools: {web: {backends: ['127.0.0.1:80']}}\n"
BAD = "listeners: {web: {bind: '127.0.0.1:8080', pool: wbe}}\npools:\n  web:\n    balance: best\n    backends: []\n"


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return str(path)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    return str(path)


def l4lb(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_valid_file_exits_with_0(good: str) -> None:
    result = l4lb("check", "-c", good)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{good}: valid\n", "")


def test_every_problem_of_a_file_is_a_line_and_exits_with_2(bad: str) -> None:
    result = l4lb("check", "-c", bad)
    assert (result.exit_code, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first == f"{bad}:1:49: error: listeners.web.pool: there is no pool 'wbe'"
    assert second.startswith(f"{bad}:4:14: error: pools.web.balance: 'best' is not known here")


def test_a_file_may_stand_alone_or_come_from_the_standard_input(good: str, bad: str) -> None:
    assert l4lb("check", good).stdout == f"{good}: valid\n"
    for arguments in (("-",), ("-c", "-")):
        result = CliRunner().invoke(main, ["check", *arguments], input=GOOD)
        assert (result.exit_code, result.stdout) == (0, "-: valid\n")
    result = CliRunner().invoke(main, ["check", "-"], input=BAD)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("-:1:49: error: listeners.web.pool: there is no pool 'wbe'")
    assert l4lb("check", good, "-c", bad).exit_code == 2
    assert "larger than" in CliRunner().invoke(main, ["check", "-"], input="#" * (17 << 20)).stderr


def test_problems_can_be_had_as_json(good: str, bad: str) -> None:
    assert json.loads(l4lb("check", good, "--json").stdout) == {"valid": True, "problems": []}
    result = l4lb("check", bad, "--json")
    assert (result.exit_code, result.stderr) == (2, "")
    answer = json.loads(result.stdout)
    assert answer["valid"] is False
    assert answer["problems"][0] == {
        "file": bad,
        "line": 1,
        "column": 49,
        "path": "listeners.web.pool",
        "message": "there is no pool 'wbe'",
    }


def test_a_file_that_is_not_there_exits_with_2(tmp_path: Path) -> None:
    result = l4lb("check", "-c", f"{tmp_path}/none.yaml")
    assert result.exit_code == 2
    assert result.stderr == (
        f"{tmp_path}/none.yaml:1:1: error: cannot read '{tmp_path}/none.yaml': No such file or directory\n"
    )


def test_a_clean_stop_exits_with_0_and_reload_tells_how_it_went() -> None:
    with Balancer() as lb:
        arguments = ("reload", "--socket", str(lb.socket_path))
        assert l4lb(*arguments).exit_code == 0
        lb.file.write_text(BAD)
        result = l4lb(*arguments)
        assert result.exit_code == 2
        assert f"{lb.file}:1:49: error: listeners.web.pool: there is no pool 'wbe'" in result.stderr
        lb.stop()


@pytest.mark.slow
def test_a_start_that_fails_is_one_sentence_and_exits_with_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        lb = Balancer(raw=GOOD.replace("8080", str(port)), env={"L4LB_SOCKET": f"{tmp_path}/admin.sock"})
        try:
            lb.spawn()
            lb.wait_exit(1)
            (sentence,) = [line for line in lb.log.splitlines() if line.startswith("Error: ")]
            assert f"listeners.web: cannot bind 127.0.0.1:{port}" in sentence
        finally:
            lb.close()


@pytest.mark.slow
def test_a_bad_file_is_not_run_and_exits_with_2() -> None:
    lb = Balancer(raw=BAD)
    try:
        lb.spawn()
        lb.wait_exit(2)
        assert f"{lb.file}:1:49: error: listeners.web.pool: there is no pool 'wbe'" in lb.log
    finally:
        lb.close()


def test_the_schema_is_json_for_editors() -> None:
    result = l4lb("schema")
    assert result.exit_code == 0
    assert {"listeners", "pools"} <= json.loads(result.stdout)["properties"].keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = l4lb(command, "--help")
    assert result.exit_code == 0
    assert f"\n    l4lb {command}" in result.stdout[result.stdout.index("Example") :].replace("\n      ", "\n    ")
    assert COMMANDS[command][1] in l4lb("--help").stdout


@pytest.mark.parametrize("arguments", [("nope",), ("check",), ("run",), ("drain",), ("kill",), ("status", "--nope")])
def test_a_wrong_command_line_exits_with_2(arguments: tuple[str, ...]) -> None:
    result = l4lb(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


@pytest.mark.slow
def test_python_m_l4lb_is_the_same_command(bad: str) -> None:
    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "l4lb", *arguments], capture_output=True, text=True, timeout=30, check=False
        )

    assert python("--version").stdout == f"l4lb {__version__}\n"
    assert python("check", "-c", bad).returncode == 2
    assert python("status", "--socket", f"{bad}.sock").returncode == 1
