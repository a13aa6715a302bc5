"""A file of targets, replaced in all the ways that programs replace files."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from l4lb.base.threads import SerialThread
from l4lb.config.sections.discover import FileDiscovery as Settings
from l4lb.discovery import file as module
from l4lb.discovery.file import FileSource, read
from l4lb.discovery.source import ANSWER_MAX, DiscoveryError
from tests.discovery.recorder import failure, watched
from tests.helpers.loops import eventually, run

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def groups(*targets: str) -> str:
    return json.dumps([{"targets": targets}])


def replace(path: Path, text: str) -> None:
    """As a careful program does it: whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)


def source(path: object) -> FileSource:
    return FileSource(Settings(path=str(path)))


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    path.write_text(groups(A))

    async def main() -> None:
        async with watched(source(path)) as recorder:
            await recorder.wait_names(A)
            replace(path, groups(A, B))
            await recorder.wait_names(A, B)
            path.write_text(groups(C))  # and one that is written over
            await recorder.wait_names(C)
            replace(path, "[]")
            await recorder.wait_names()

    run(main())


def test_yaml_works_too(tmp_path: Path) -> None:
    path = tmp_path / "targets.yml"
    path.write_text(f"- targets: ['{A}']\n")

    async def main() -> None:
        async with watched(source(path)) as recorder:
            await recorder.wait_names(A)

    run(main())


def test_a_volume_of_a_config_map_is_followed(tmp_path: Path) -> None:
    """The kubelet writes a directory of its own for each version and turns the link `..data` round."""
    for version, target in (("..1", A), ("..2", B), ("..3", C)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "targets.json").write_text(groups(target))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "targets.json").symlink_to("..data/targets.json")

    def turn(version: str) -> None:
        (tmp_path / "..data_tmp").symlink_to(version)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    async def main() -> None:
        async with watched(source(tmp_path / "targets.json")) as recorder:
            await recorder.wait_names(A)
            turn("..2")
            await recorder.wait_names(B)
            turn("..3")
            await recorder.wait_names(C)

    run(main())


def test_what_inotify_does_not_see_is_found_by_reading_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REREAD", 0.05)
    for name, target in (("one", A), ("two", B)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "targets.json").write_text(groups(target))
    (tmp_path / "current").symlink_to("one")

    async def main() -> None:
        async with watched(source(tmp_path / "current" / "targets.json")) as recorder:
            await recorder.wait_names(A)
            (tmp_path / "next").symlink_to("two")
            (tmp_path / "next").replace(tmp_path / "current")
            await recorder.wait_names(B)

    run(main())


def test_all_files_of_a_pattern_are_one_answer(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(groups(A))

    async def main() -> None:
        async with watched(source(tmp_path / "*.json")) as recorder:
            await recorder.wait_names(A)
            (tmp_path / "b.json").write_text("[]")
            replace(tmp_path / "b.json", groups(B, C))
            await recorder.wait_names(A, B, C)
            (tmp_path / "a.json").unlink()
            await recorder.wait_names(B, C)
            (tmp_path / "b.json").unlink()
            await recorder.wait_names()

    run(main())


@pytest.mark.parametrize("text", ["", "[", "{}", '[{"targets": "nonsense"}]'])
def test_a_file_that_becomes_wrong_is_a_failure(tmp_path: Path, text: str) -> None:
    path = tmp_path / "targets.json"
    path.write_text(groups(A))

    async def main() -> None:
        async with watched(source(path)) as recorder:
            await recorder.wait_names(A)
            replace(path, text)
            assert str(path) in await recorder.wait_error()
            assert recorder.names == [A]

    run(main())


def test_one_wrong_file_of_a_pattern_spoils_the_answer(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(groups(A))
    (tmp_path / "b.json").write_text("nonsense")
    with pytest.raises(DiscoveryError, match=r"b\.json: not valid JSON"):
        read(str(tmp_path / "*.json"))


def test_a_file_or_directory_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    async def main() -> None:
        assert "No such file" in await failure(source(tmp_path / "no.json"))
        assert "No such file" in await failure(source(tmp_path / "no" / "no.json"))

    run(main())


def test_a_file_that_goes_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    path.write_text(groups(A))

    async def main() -> None:
        async with watched(source(path)) as recorder:
            await recorder.wait_names(A)
            path.unlink()
            await recorder.wait_error()

    run(main())


def test_a_file_that_is_mended_is_read_at_once_however_often_it_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 3600)
    path = tmp_path / "targets.json"
    path.write_text(groups(A))

    async def main() -> None:
        async with watched(source(path)) as recorder:
            await recorder.wait_names(A)
            for wrong in ("[", "{}", '[{"targets": 1}]'):
                recorder.error = None
                replace(path, wrong)
                assert str(path) in await recorder.wait_error()
            recorder.error = None
            replace(path, groups(A, B))
            await recorder.wait_names(A, B)

    run(main())


def test_a_directory_that_is_not_there_yet_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)
    path = tmp_path / "sub" / "targets.json"

    async def main() -> None:
        async with watched(source(path)) as recorder:
            assert "No such file" in await recorder.wait_error()
            path.parent.mkdir()
            path.write_text(groups(A))
            await eventually(lambda: recorder.names == [A])

    run(main())


def test_a_directory_that_goes_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "targets.json"
    path.parent.mkdir()
    path.write_text(groups(A))

    async def main() -> None:
        async with watched(source(path)) as recorder:
            await recorder.wait_names(A)
            path.unlink()
            path.parent.rmdir()
            await recorder.wait_error()

    run(main())


def test_reading_waits_for_no_writer_and_reads_no_giant(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    with pytest.raises(DiscoveryError):
        read(str(tmp_path / "fifo.json"))
    with (tmp_path / "giant.json").open("wb") as file:
        file.truncate(ANSWER_MAX + 1)
    with pytest.raises(DiscoveryError, match="larger than"):
        read(str(tmp_path / "giant.json"))
    (tmp_path / "a.txt").write_text(groups(A))
    with pytest.raises(DiscoveryError, match=r"ends in none of \.json"):
        read(str(tmp_path / "a.txt"))


def test_the_files_of_a_pattern_are_one_answer_in_size_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(groups(A))
    size = len(groups(A))
    monkeypatch.setattr(module, "ANSWER_MAX", 3 * size)
    assert len(read(str(tmp_path / "*.json")).endpoints) == 3
    monkeypatch.setattr(module, "ANSWER_MAX", 3 * size - 1)
    with pytest.raises(DiscoveryError, match=r"2\.json, with the files before it, is larger than"):
        read(str(tmp_path / "*.json"))
    monkeypatch.setattr(module, "FILES_MAX", 2)
    with pytest.raises(DiscoveryError, match="more than the 2 files"):
        read(str(tmp_path / "*.json"))


def test_nothing_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    path.write_text(groups(A))

    async def main() -> None:
        async with watched(source(path)) as recorder:
            await recorder.wait_names(A)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            async with watched(source(path)) as recorder:
                await recorder.wait_names(A)
            await failure(source(tmp_path / "no.json"))
        assert len(os.listdir("/proc/self/fd")) == before

    run(main())


def test_a_file_system_that_hangs_holds_one_thread_and_is_read_once_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "targets.json"
    path.write_text(groups(A))
    hanging, release, reading = threading.Event(), threading.Event(), module.read

    def read(given: str) -> Any:
        if hanging.is_set():
            release.wait()
        return reading(given)

    monkeypatch.setattr(module, "read", read)

    async def main() -> None:
        one = source(path)
        one._files = SerialThread("reading", timeout=0.02)
        async with watched(one) as recorder:
            await recorder.wait_names(A)
            before = threading.active_count()
            hanging.set()
            replace(path, groups(A, B))
            assert "takes longer" in await recorder.wait_error()
            for _ in range(3):
                assert "takes longer" in await failure(one)
            assert threading.active_count() == before + 1
            hanging.clear()
            release.set()
        one._files = SerialThread("reading")
        async with watched(one) as recorder:
            await recorder.wait_names(A, B)

    run(main())
