"""What a program that imports l4lb gets: types, little to wait for, and nothing of its own changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import l4lb
from l4lb import types
from tests.helpers.balancer import ROOT, child_environment

USER = Path(__file__).with_name("user.py")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=child_environment(), cwd=ROOT, capture_output=True, text=True, timeout=100
    )


@pytest.mark.slow
def test_types_hold_in_strict_mode(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="types are checked by mypy: pip install '.[dev]'")
    program = tmp_path / "user.py"
    program.write_text(USER.read_text())
    done = python("-m", "mypy", "--strict", "--no-error-summary", "--config-file=", str(program))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_types_are_told_of() -> None:
    assert (Path(l4lb.__file__).parent / "py.typed").exists()


def test_every_name_is_there() -> None:
    for name in l4lb.__all__:
        assert getattr(l4lb, name) is not None
        assert name in dir(l4lb)
    assert {name for names in l4lb._HOMES.values() for name in names} == {*l4lb.__all__} - {"__version__"}
    assert l4lb.Status is types.Status
    with pytest.raises(AttributeError, match="has no attribute 'Balncer'"):
        l4lb.Balncer  # type: ignore[attr-defined]  # noqa: B018


def test_importing_it_loads_nothing_that_takes_time() -> None:
    program = "import sys; before = set(sys.modules); import l4lb; print(*sorted(set(sys.modules) - before))"
    loaded = python("-c", program).stdout.split()
    assert [name for name in loaded if not name.startswith(("l4lb", "importlib", "warnings", "_"))] == []
    assert [name for name in loaded if name.startswith("l4lb")] == ["l4lb", "l4lb._version"]


def test_embedding_needs_neither_commands_nor_uvloop() -> None:
    done = python("-c", "import sys, l4lb; l4lb.Balancer, l4lb.AsyncBalancer; print(*sys.modules)")
    assert "l4lb.embedding" in done.stdout.split()
    assert {"uvloop", "click", "rich", "l4lb.process.daemon"} & set(done.stdout.split()) == set()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_nothing_that_belongs_to_the_whole_process_changes(loop: str, tmp_path: Path) -> None:
    done = python("-m", "tests.embedding.unchanged", loop, str(tmp_path))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
