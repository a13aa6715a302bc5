"""What the tree promises: each module has tests, layers include only downwards, the map names everything."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src_c"

LAYERS = ("base", "structures", "protocol", "kernel", "shared", "config", "relay", "session", "worker")
"""Folders of the core. A file includes `l4lb.h`, files of its own folder and files of folders before it."""

TESTED_ELSEWHERE = {
    "forward": "it takes two connected peers: test_closing, test_connect and test_relay follow each end",
    "http1_field": "it takes a reader: test_http1 reads every kind of field in whole messages",
    "session_end": "it takes whole sessions: test_closing, test_kill and test_linger end them in each way",
    "session_run": "it takes a whole worker: test_engine, test_closing and test_connect follow whole sessions",
    "command": "it takes workers that run: test_engine and test_request send every request",
    "statistics": "it takes sessions to count: test_engine reads all of them",
    "stick_entries": "it takes clients to remember: test_session_sticky reads and restores entries",
}
"""Modules of the core without a `tests/c/test_NAME.c`, and why."""


def core_files() -> list[Path]:
    return sorted(CORE.rglob("*.[ch]"))


def includes(file: Path) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', file.read_text(), re.MULTILINE)


def map_of_the_core() -> str:
    return (ROOT / "docs/internals/architecture.md").read_text().split("## Map")[1].split("`l4lb/`")[0]


def test_every_module_of_the_core_has_tests_of_its_own() -> None:
    modules = {file.stem for file in CORE.rglob("*.c")}
    tested = {file.stem.removeprefix("test_") for file in (ROOT / "tests/c").glob("test_*.c")}
    assert modules - tested == set(TESTED_ELSEWHERE)


def test_every_file_of_the_core_is_in_a_layer() -> None:
    assert {str(file.parent.relative_to(CORE)) for file in core_files() if file.name != "l4lb.h"} == set(LAYERS)


def test_layers_of_the_core_include_only_downwards() -> None:
    upwards = [
        f"{file.relative_to(CORE)} includes {name}"
        for file in core_files()
        for name in includes(file)
        if name != "l4lb.h" and LAYERS.index(name.split("/")[0]) > LAYERS.index(file.parent.name)
    ]
    assert upwards == []


def test_modules_of_the_core_include_each_other_in_no_circle() -> None:
    """A module is a header with its source."""
    modules: dict[str, set[str]] = {}
    for file in core_files():
        modules.setdefault(file.stem, set()).update({Path(name).stem for name in includes(file)} - {file.stem})
    assert list(TopologicalSorter(modules).static_order())


def code(file: Path) -> str:
    """The file without its comments."""
    return re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)


def test_sockets_of_sessions_are_touched_only_by_the_kernel_layer_and_by_paths() -> None:
    """Everything else goes through a transport. The watchdog has a socket of its own."""
    calls = re.compile(r"\b(?:recv|recvfrom|recvmsg|send|sendto|sendmsg|splice|tee|shutdown|ioctl|[gs]etsockopt)\(")
    direct = [
        f"{file.relative_to(CORE)} calls {found}"
        for file in core_files()
        if file.parent.name != "kernel" and not file.name.startswith("path_") and file.name != "watchdog.c"
        for found in calls.findall(code(file))
    ]
    assert direct == []


def test_the_core_knows_nothing_of_python() -> None:
    assert not [file.name for file in core_files() if "Python.h" in file.read_text()]


def test_the_map_of_the_core_shows_the_layers_in_order() -> None:
    assert tuple(re.findall(r"^\| `(\w+)/` \|", map_of_the_core(), re.MULTILINE)) == LAYERS


def test_the_map_of_the_core_names_every_module_in_its_layer() -> None:
    rows = dict(re.findall(r"^\| `(\w+)/` \| ([^|]+) \|", map_of_the_core(), re.MULTILINE))
    named = {layer: {Path(name).stem for name in re.findall(r"`([\w.]+)`", files)} for layer, files in rows.items()}
    assert named == {layer: {file.stem for file in (CORE / layer).iterdir()} for layer in LAYERS}
