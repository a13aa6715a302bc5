"""The demo shows which backend serves what, and leaves nothing behind however it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from l4lb.config import load_config
from l4lb.demo import QUICKSTART
from tests.demo.conftest import HOST, DemoRun
from tests.helpers.balancer import ROOT

StartDemo = Callable[..., DemoRun]

BACKENDS = ("llama-1", "llama-2", "llama-3")
PID, STATE, HEALTH, SERVED = 1, 2, 3, 7


@pytest.mark.slow
def test_demo_ends_by_itself_and_every_stand_in_has_served(demo: StartDemo) -> None:
    run = demo("--duration", "5s")
    run.wait_row("llama-1")
    run.family()
    assert run.wait_end() == 0, run.output
    for backend in BACKENDS:
        row = run.rows(backend)[-1]
        assert (row[STATE], row[HEALTH]) == ("ready", "up")
        assert int(row[SERVED]) > 0, run.output
    assert "requests that failed: 0" in run.output.splitlines()
    run.assert_none_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_demo_ends_cleanly_when_asked(demo: StartDemo, number: signal.Signals) -> None:
    run = demo()
    run.wait_row("llama-1")
    assert len(run.family()) == len(BACKENDS) + 1
    run.signal(number)
    assert run.wait_end() == 0, run.output
    assert "Traceback" not in run.output
    run.assert_none_left()


def test_second_interrupt_does_not_disturb_the_end(demo: StartDemo) -> None:
    run = demo()
    run.wait_row("llama-1")
    run.family()
    run.signal(signal.SIGINT)
    run.signal(signal.SIGINT)
    assert run.wait_end() == 0, run.output
    assert "Traceback" not in run.output
    run.assert_none_left()


def test_children_of_a_killed_demo_die(demo: StartDemo) -> None:
    run = demo()
    run.wait_row("llama-1")
    run.family()
    run.signal(signal.SIGKILL)
    run.wait_end()
    run.assert_none_left()


@pytest.mark.slow
def test_killed_stand_in_shows_as_down(demo: StartDemo) -> None:
    run = demo()
    pid = int(run.wait_row("llama-2")[PID])
    next(process for process in run.family() if process.pid == pid).kill()
    run.wait_row("llama-2", lambda row: row[PID] == "ended" and row[HEALTH] == "down")
    assert run.rows("llama-1")[-1][HEALTH] == "up"


def test_without_load_no_client_is_served(demo: StartDemo) -> None:
    run = demo("--no-load", "--duration", "1s")
    assert run.wait_end() == 0, run.output
    assert [run.rows(backend)[-1][SERVED] for backend in BACKENDS] == ["0"] * len(BACKENDS)


@pytest.mark.parametrize(
    ("port", "sentence"),
    [
        (9002, "cannot start a stand-in for llama/llama-2 at {host}:9002: Address already in use; "),
        (8000, "the balancer cannot start: listeners.llama: cannot bind {host}:8000: Address already in use; "),
    ],
)
def test_taken_address_is_one_clear_sentence(demo: StartDemo, port: int, sentence: str) -> None:
    with socket.create_server((HOST, port)):
        run = demo()
        assert run.wait_end() == 1
    assert len(run.output.splitlines()) == 1
    assert run.output.startswith(f"Error: {sentence.format(host=HOST)}")


def test_demo_ends_quietly_when_its_output_has_no_reader(demo: StartDemo) -> None:
    run = demo(stdout=subprocess.PIPE)
    assert run.process.stdout is not None
    with run.process.stdout as reader:
        assert reader.readline()
        run.family()
    assert run.wait_end() == 1
    assert run.output == ""
    run.assert_none_left()


def test_ended_balancer_ends_the_demo(demo: StartDemo) -> None:
    run = demo()
    run.wait_row("llama-1")
    next(process for process in run.family() if "run" in process.cmdline()).kill()
    assert run.wait_end() == 1
    assert "Error: the balancer ended with status -9; its last line: " in run.output
    run.assert_none_left()


def test_bad_configuration_is_reported_as_by_check(demo: StartDemo, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("listeners: {}\npools: 3\n")
    run = demo("-c", str(bad))
    assert run.wait_end() == 2
    assert f"{bad}:2:8: error: pools: " in run.output


def test_built_in_configuration_is_the_one_among_the_examples() -> None:
    assert (ROOT / "conf" / "quickstart.yaml").samefile(QUICKSTART)
    assert len(load_config(QUICKSTART).pools["llama"].backends) == len(BACKENDS)
