"""The writer keeps whole lines in order, never makes the caller wait, and counts every line it loses."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from l4lb.errors import StartError
from l4lb.observe import writer as writer_module
from l4lb.observe.writer import Writer
from tests.helpers.waiting import wait_until

LINE = b"x" * 99 + b"\n"
PIPE_LINES = 65_536 // len(LINE)


def encode(number: int) -> bytes:
    return f"{number:099}\n".encode()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):  # the test closed it
            os.close(descriptor)


def numbers(data: bytes) -> list[int]:
    return [int(line) for line in data.splitlines()]


def read_some(descriptor: int) -> bytes:
    assert select.select([descriptor], [], [], 10)[0], "nothing to read in time"
    return os.read(descriptor, 1 << 20)


def test_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = Writer(str(path), encode, capacity=100_000, name="test")
    for start in range(0, 20_000, 1000):
        writer.put(range(start, start + 1000))
    writer.close()
    assert numbers(path.read_bytes()) == list(range(20_000))
    assert writer.dropped_total == 0


def test_an_existing_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(encode(1))
    writer = Writer(str(path), encode, capacity=10, name="test")
    writer.put([2])
    writer.close()
    assert numbers(path.read_bytes()) == [1, 2]


def test_a_reader_that_stopped_costs_lines_but_no_time(pipe: tuple[int, int]) -> None:
    """The queue and the pipe fill up, put() goes on returning, and what the reader finds later has whole lines."""
    reading, writing = pipe
    capacity = 1000
    writer = Writer(writing, encode, capacity=capacity, name="test")
    total = 10 * PIPE_LINES
    writer.put(range(total))
    wait_until(lambda: writer.dropped_total > 0)
    writer.put(range(total, 2 * total))
    assert writer.dropped_total >= 2 * total - capacity - PIPE_LINES - writer_module.BATCH
    got = b""
    while got.count(b"\n") + writer.dropped_total < 2 * total:
        got += read_some(reading)
    found = numbers(got)
    assert found == sorted(found)
    assert len(found) + writer.dropped_total == 2 * total
    writer.close()


def test_closing_gives_up_on_a_blocked_pipe_and_counts_the_rest(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    writer = Writer(writing, encode, capacity=100_000, name="test")
    writer.put(range(5000))
    writer.close(timeout=0.1)
    assert "test" not in {thread.name for thread in threading.enumerate()}
    assert writer.dropped_total >= 5000 - PIPE_LINES


def test_closing_writes_what_is_queued_when_the_reader_goes_on(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = Writer(writing, encode, capacity=100_000, name="test")
    writer.put(range(5000))
    got: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reading, 1 << 16):
            got.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    writer.close(timeout=10)
    os.close(writing)
    thread.join(10)
    assert numbers(b"".join(got)) == list(range(5000))


def test_what_is_put_after_closing_is_counted_as_lost(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path / "log"), encode, capacity=10, name="test")
    writer.close()
    writer.close()
    writer.put([1, 2, 3])
    assert writer.dropped_total == 3


def test_a_rotated_file_is_left_for_a_new_one(tmp_path: Path) -> None:
    path, rotated = tmp_path / "log", tmp_path / "log.1"
    writer = Writer(str(path), encode, capacity=10, name="test")
    writer.put([1])
    wait_until(lambda: path.read_bytes())
    path.rename(rotated)
    writer.put([2])
    wait_until(lambda: rotated.read_bytes().count(b"\n") == 2)
    writer.reopen()
    wait_until(path.exists)
    writer.put([3])
    writer.close()
    assert numbers(rotated.read_bytes()) == [1, 2]
    assert numbers(path.read_bytes()) == [3]


def test_a_failed_reopen_keeps_the_old_file_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "log"
    said: list[str] = []
    writer = Writer(str(path), encode, capacity=10, name="test", on_trouble=said.append)
    moved = folder.rename(tmp_path / "moved")
    writer.reopen()
    wait_until(lambda: said)
    writer.put([1])
    writer.close()
    assert "cannot reopen" in said[0]
    assert numbers((moved / "log").read_bytes()) == [1]


def test_a_fifo_without_reader_loses_lines_until_one_comes(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    said: list[str] = []
    writer = Writer(str(path), encode, capacity=10, name="test", on_trouble=said.append)
    writer.put([1])
    wait_until(lambda: writer.dropped_total == 1)
    assert "No such device" in said[0]
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.put([2])
    assert numbers(read_some(reading)) == [2]
    os.close(reading)
    writer.put([3])
    wait_until(lambda: writer.dropped_total == 2)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.put([4])
    assert numbers(read_some(reading)) == [4]
    writer.close()
    os.close(reading)
    assert "can be written again" in said[1]


def test_a_full_fifo_does_not_stop_a_reopen(tmp_path: Path) -> None:
    path = tmp_path / "log"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = Writer(str(path), encode, capacity=10, name="test")
    while writer.dropped_total == 0:
        writer.put(range(10))
    path.rename(tmp_path / "old")
    writer.reopen()
    wait_until(path.exists)
    before = path.stat().st_size
    writer.put([77])
    wait_until(lambda: path.stat().st_size > before)
    writer.close()
    assert numbers(path.read_bytes())[-1] == 77
    os.close(reading)


def test_a_full_disk_is_survived_and_reported_once() -> None:
    said: list[str] = []
    writer = Writer("/dev/full", encode, capacity=10, name="test", on_trouble=said.append)
    for count in range(1, 4):
        writer.put([count])
        wait_until(lambda: writer.dropped_total == count)  # noqa: B023 - called before count moves on
    writer.close()
    assert said == ["cannot write /dev/full: No space left on device; lines are dropped until it works again"]


def test_a_line_that_was_cut_short_does_not_spoil_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "log"
    room = [150]

    def write(descriptor: int, data: memoryview) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        size = min(room[0], len(data))
        room[0] -= size
        return real_write(descriptor, data[:size])

    real_write = os.write
    monkeypatch.setattr(writer_module.os, "write", write)
    writer = Writer(str(path), encode, capacity=10, name="test")
    writer.put([1, 2, 3])
    wait_until(lambda: writer.dropped_total == 2)
    room[0] = 1 << 20
    writer.put([4])
    writer.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3
    assert (int(lines[0]), int(lines[2])) == (1, 4)


def test_a_closed_descriptor_is_survived(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = Writer(writing, encode, capacity=10, name="test")
    os.close(reading)
    writer.put([1, 2])
    wait_until(lambda: writer.dropped_total == 2)
    writer.close()


def test_a_bad_path_is_a_start_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot open log file .*/nowhere/log: No such file or directory"):
        Writer(str(tmp_path / "nowhere" / "log"), encode, capacity=10, name="test")


def test_an_item_that_cannot_be_encoded_costs_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def encode_some(number: int) -> bytes:
        if number == 3:
            raise ValueError("no line for it")
        return encode(number)

    path = tmp_path / "log"
    writer = Writer(str(path), encode_some, capacity=100, name="test", on_trouble=str)
    for number in range(6):
        writer.put([number])
    writer.close()
    assert numbers(path.read_bytes()) == [0, 1, 2, 4, 5]
    assert writer.dropped_total == 1
    assert caplog.messages == [f"unexpected error in writing to {path}; lines are lost"]


def test_an_unexpected_error_costs_lines_and_not_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    writer = Writer(str(path), encode, capacity=100, name="test")
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_write", lambda *_: 1 / 0)
        writer.put([1, 2])
        wait_until(lambda: writer.dropped_total == 2)
    writer.put([3])
    writer.close()
    assert numbers(path.read_bytes()) == [3]
