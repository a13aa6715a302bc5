"""A checkout that was not built says what to do, whether an import or the command line finds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.balancer import ROOT, child_environment


@pytest.fixture
def unbuilt(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "l4lb", tmp_path / "l4lb", ignore=shutil.ignore_patterns("*.so", "_native.c", "__pycache__"))
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**child_environment(), "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_an_import_says_how_to_build_it(unbuilt: Path) -> None:
    done = python(unbuilt, "-c", "from l4lb import Balancer")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"l4lb.errors.NotBuiltError: {unbuilt} holds the sources of l4lb")
    assert "pip install --editable ." in done.stderr


def test_an_import_may_be_caught_as_an_import_error(unbuilt: Path) -> None:
    program = "try:\n    from l4lb import Balancer\nexcept ImportError:\n    print('no l4lb')"
    assert python(unbuilt, "-c", program).stdout == "no l4lb\n"


def test_the_command_line_says_it_in_one_sentence(unbuilt: Path) -> None:
    config = unbuilt / "l4lb.yaml"
    config.write_text((ROOT / "conf" / "minimal.yaml").read_text())
    done = python(unbuilt, "-m", "l4lb", "run", "-c", str(config))
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {unbuilt} holds the sources of l4lb")
    assert len(done.stderr.splitlines()) == 1
