"""The commands that work on a configuration file, and what all commands have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from l4lb import __version__
from l4lb.cli import COMMANDS, main
from l4lb.config import load_config
from l4lb.errors import StartError

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


@pytest.mark.parametrize("command", ["check", "run"])
def test_every_problem_of_a_file_is_a_line_and_exits_with_2(
    bad: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_daemon(monkeypatch)
    result = l4lb(command, "-c", bad)
    assert (result.exit_code, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first == f"{bad}:1:49: error: listeners.web.pool: there is no pool 'wbe'"
    assert second.startswith(f"{bad}:4:14: error: pools.web.balance: 'best' is not known here")


def test_a_file_that_is_not_there_exits_with_2(tmp_path: Path) -> None:
    result = l4lb("check", "-c", f"{tmp_path}/none.yaml")
    assert result.exit_code == 2
    assert result.stderr == (
        f"{tmp_path}/none.yaml:1:1: error: cannot read '{tmp_path}/none.yaml': No such file or directory\n"
    )


def stand_in_daemon(monkeypatch: pytest.MonkeyPatch, failure: Exception | None = None) -> None:
    """A daemon that reads its file and then fails, or stops cleanly at once."""

    async def run(path: str) -> int:
        load_config(path)
        if failure is not None:
            raise failure
        return 0

    monkeypatch.setattr("l4lb.control.daemon", SimpleNamespace(run=run), raising=False)


def test_a_clean_stop_exits_with_0(good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_daemon(monkeypatch)
    assert l4lb("run", "-c", good).exit_code == 0


def test_a_start_that_fails_is_one_sentence_and_exits_with_1(good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_daemon(monkeypatch, StartError("cannot listen on 127.0.0.1:8080: it is taken"))
    result = l4lb("run", "-c", good)
    assert (result.exit_code, result.stderr) == (1, "Error: cannot listen on 127.0.0.1:8080: it is taken\n")


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


def test_python_m_l4lb_is_the_same_command(bad: str) -> None:
    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "l4lb", *arguments], capture_output=True, text=True, timeout=30, check=False
        )

    assert python("--version").stdout == f"l4lb {__version__}\n"
    assert python("check", "-c", bad).returncode == 2
    assert python("status", "--socket", f"{bad}.sock").returncode == 1
