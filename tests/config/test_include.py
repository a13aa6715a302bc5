from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from l4lb.config import files, load_config
from l4lb.errors import ConfigError
from tests.config.conftest import Problems, Write

MAIN = """
include: conf.d/*.yaml
listeners:
  web: {bind: "127.0.0.1:8080", pool: web}
"""
NOBODY = 65534
POOL = "pools: {%s: {backends: ['127.0.0.1:80']}}\n"


def test_included_files_add_their_keys_to_each_section(write: Write) -> None:
    write("process: {workers: 2}\npools: {api: {backends: []}}\n", "conf.d/a.yaml")
    write("process: {drain_timeout: 1s}\n" + POOL % "web", "conf.d/b.yaml")
    write("# nothing in here\n", "conf.d/c.yaml")
    write("not even YAML: [", "conf.d/.hidden.yaml")
    config = load_config(write(MAIN))
    assert sorted(config.pools) == ["api", "web"]
    assert (config.process.workers, config.process.drain_timeout) == (2, 1.0)


def test_patterns_are_relative_to_the_file_that_has_them(write: Write) -> None:
    write("include: [deeper/pool.yaml]\n", "conf.d/a.yaml")
    write(POOL % "web", "conf.d/deeper/pool.yaml")
    assert "web" in load_config(write(MAIN)).pools


def test_a_relative_path_works_from_the_current_directory(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(POOL % "web", "conf.d/a.yaml")
    write(MAIN)
    monkeypatch.chdir(tmp_path)
    assert "web" in load_config("l4lb.yaml").pools


def test_include_reads_the_environment(write: Write) -> None:
    write(POOL % "web", "conf.d/a.yaml")
    path = write(MAIN.replace("conf.d", "${DIR}"))
    assert "web" in load_config(path, {"DIR": "conf.d"}).pools


def test_a_key_in_two_files_names_both_places(write: Write, problems: Problems) -> None:
    write(POOL % "web", "conf.d/a.yaml")
    write("process: {workers: 1}\n" + POOL % "web", "conf.d/b.yaml")
    assert problems("process: {workers: 2}" + MAIN) == [
        "conf.d/b.yaml:1:11: error: process.workers: two files say this; the other is l4lb.yaml:1:11",
        "conf.d/b.yaml:2:9: error: pools.web: two files say this; the other is conf.d/a.yaml:1:9",
    ]


def test_a_section_that_is_none_in_one_file_clashes_as_a_whole(write: Write, problems: Problems) -> None:
    write("pools: 5\n", "conf.d/a.yaml")
    assert any("pools: two files say this" in line for line in problems(MAIN + POOL % "web"))


def test_problems_of_an_included_file_are_at_their_own_place(write: Write, problems: Problems) -> None:
    write("pools:\n  web:\n    balance: best\n    backends: []\n", "conf.d/a.yaml")
    (problem,) = problems(MAIN)
    assert problem.startswith("conf.d/a.yaml:3:14: error: pools.web.balance: 'best' is not known here")


def test_problems_come_in_the_order_the_files_are_read(write: Write, problems: Problems) -> None:
    write("pools: {web: {backends: [], x: 1}}\n", "a/a.yaml")
    write("pools: {api: {backends: [], x: 1}}\n", "z.yaml")
    found = problems("include: [z.yaml, a/a.yaml]\nlog: {x: 1}\nlisteners: {w: {bind: 'unix:/w', pool: web}}\n")
    assert [line.split(":")[0] for line in found] == ["l4lb.yaml", "z.yaml", "a/a.yaml"]


def test_a_pattern_may_match_nothing_but_a_name_must_be_there(write: Write, problems: Problems) -> None:
    assert "web" in load_config(write(MAIN + POOL % "web")).pools
    assert problems("include: conf.d/pools.yaml\n") == [
        "l4lb.yaml:1:10: error: cannot read 'conf.d/pools.yaml': No such file or directory"
    ]


@pytest.mark.parametrize("value", ["5", "{a: b}", "[[a]]", "''", "[null]"])
def test_include_takes_names_and_patterns_only(problems: Problems, value: str) -> None:
    assert any("include: a file name or pattern is expected" in line for line in problems(f"include: {value}\n"))


def test_a_file_that_includes_itself_is_refused(write: Write, problems: Problems) -> None:
    write("include: ../l4lb.yaml\n", "conf.d/a.yaml")
    (problem,) = problems(MAIN)
    assert problem.startswith("conf.d/a.yaml:1:10: error: include: ")
    assert problem.endswith("would include itself")


def test_a_cycle_through_a_symbolic_link_is_seen(write: Write, tmp_path: Path, problems: Problems) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.yaml").symlink_to("../l4lb.yaml")
    assert len(problems(MAIN)) == 1


def test_a_file_included_twice_is_refused(write: Write, problems: Problems) -> None:
    write(POOL % "web", "conf.d/a.yaml")
    (problem,) = problems(MAIN.replace("conf.d/*.yaml", "[conf.d/*.yaml, conf.d/a.yaml]"))
    assert problem == "l4lb.yaml:1:26: error: include: 'conf.d/a.yaml' is included twice"


def test_includes_go_only_so_deep(write: Write, problems: Problems) -> None:
    for depth in range(files.DEPTH_MAX + 1):
        write(f"include: {depth + 1}.yaml\n", f"{depth}.yaml")
    write("", f"{files.DEPTH_MAX + 1}.yaml")
    (problem,) = problems("include: 0.yaml\n")
    assert f"more than {files.DEPTH_MAX} levels deep" in problem


def test_only_so_many_files_are_included(write: Write, problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILES_MAX", 5)
    for number in range(6):
        write("", f"conf.d/{number}.yaml")
    (problem,) = problems(MAIN)
    assert "more than 5 files are included" in problem


def test_all_files_together_are_only_so_large(write: Write) -> None:
    for name in ("a", "b"):
        write("#" * 1500, f"conf.d/{name}.yaml")
    path = write(MAIN)
    read = files.FileReader({}, _bytes_left=2000)
    read.read(path)
    (problem,) = read.problems
    assert str(problem) == f"{path}:1:10: error: the configuration is larger than 16 MiB"


@pytest.mark.slow
def test_a_long_list_of_networks_can_be_a_file_of_its_own(write: Write) -> None:
    lines = "".join(f"      - {n >> 16}.{n >> 8 & 255}.{n & 255}.0/24\n" for n in range(100_000))
    write(f"listeners:\n  web:\n    bind: 127.0.0.1:8080\n    pool: web\n    deny:\n{lines}", "deny.yaml")
    config = load_config(write("include: deny.yaml\n" + POOL % "web"))
    assert len(config.listeners["web"].deny) == 100_000


@pytest.mark.parametrize("kind", ["directory", "fifo", "missing", "device"])
def test_what_is_no_file_is_one_problem(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "l4lb.yaml"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (1, 1)
    assert "cannot read" in problem.message


def test_an_included_path_that_cannot_be_one_is_one_problem(problems: Problems) -> None:
    (problem,) = problems('include: "a\\0b"\n')
    assert "cannot read" in problem


def test_a_path_that_cannot_be_one_is_one_problem() -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config("a\0b")


def test_bytes_that_are_no_utf8_are_one_problem_at_their_place(tmp_path: Path) -> None:
    path = tmp_path / "l4lb.yaml"
    path.write_bytes("a: 1\né: ".encode() + b"\xff\n")
    with pytest.raises(ConfigError, match=r"l4lb.yaml:2:4: error: these bytes are not UTF-8"):
        load_config(path)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root reads everything, so root steps down for the test."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(before)


@pytest.mark.usefixtures("ordinary_user")
def test_an_unreadable_file_is_one_problem() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "l4lb.yaml")
        path.touch(mode=0)
        with pytest.raises(ConfigError, match="Permission denied"):
            load_config(path)
