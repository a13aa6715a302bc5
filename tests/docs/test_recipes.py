"""The recipes name only what there is, and every file for a server has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from l4lb.cli import COMMANDS
from l4lb.config import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/guides/recipes.md").read_text()
FILES = re.findall(r"\]\(\.\./\.\./(conf/[\w-]+\.yaml)\)", PAGE)


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_balances_two_servers_and_checks_each(name: str) -> None:
    for pool in load_config(ROOT / name, {}).pools.values():
        assert len(pool.backends) == 2
        assert pool.health is not None
        assert pool.health.type != "none"


def test_every_command_every_program_and_every_backend_exists() -> None:
    commands = set(re.findall(r"^\$ l4lb ([a-z]\w*)", PAGE, re.MULTILINE))
    assert commands
    assert commands <= COMMANDS.keys()
    modules = set(re.findall(r"python -m ([\w.]+)", PAGE))
    assert modules
    assert all((ROOT / module.replace(".", "/")).with_suffix(".py").is_file() for module in modules)
    named = set(re.findall(r"^\$ l4lb \w+ ([a-z]+/[\w-]+)", PAGE, re.MULTILINE))
    pools = {name: pool for file in FILES for name, pool in load_config(ROOT / file, {}).pools.items()}
    known = {f"{name}/{backend.name}" for name, pool in pools.items() for backend in pool.backends}
    assert named
    assert named <= known


def test_every_try_of_a_recipe_is_of_a_file() -> None:
    tried = {f"conf/{name}.yaml" for name in re.findall(r"^\$ recipe ([\w-]+)", PAGE, re.MULTILINE)}
    assert tried == set(FILES)
