"""What the tree promises of itself: modules with tests of their own, layers in one direction, a map that is whole."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src_c"

TESTED_ELSEWHERE = {
    "session": "its life takes a whole worker: test_engine, test_closing and test_connect follow it from end to end",
}
"""Modules of the core without a `tests/c/test_NAME.c`, and why."""


def test_every_module_of_the_core_has_tests_of_its_own() -> None:
    modules = {file.stem for file in CORE.glob("*.c")}
    tested = {file.stem.removeprefix("test_") for file in (ROOT / "tests/c").glob("test_*.c")}
    assert modules - tested == set(TESTED_ELSEWHERE)


def test_headers_of_the_core_include_each_other_in_one_direction() -> None:
    includes = {
        file.name: re.findall(r'^#include "(\w+\.h)"', file.read_text(), re.MULTILINE) for file in CORE.glob("*.h")
    }
    assert list(TopologicalSorter(includes).static_order())


def test_the_core_knows_nothing_of_python() -> None:
    assert not [file.name for file in CORE.iterdir() if "Python.h" in file.read_text()]


def test_the_map_of_the_core_names_every_module() -> None:
    chapter = (ROOT / "docs/ARCHITECTURE.md").read_text().split("## Map")[1].split("`l4lb/`")[0]
    named = {Path(name).stem for name in re.findall(r"`([\w.]+)`", chapter)}
    assert {file.stem for file in CORE.glob("*.[ch]")} - named == set()
