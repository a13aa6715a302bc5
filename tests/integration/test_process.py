"""The process as it is started: what its parent closed, blocked, ignored or removed, and signals that come early."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers.balancer import START_DEADLINE, Balancer, Json, child_environment
from tests.helpers.peers import Backend, Served, ask, connect, echo, named, refused, spelled
from tests.helpers.upgrades import Installed, taking_care_of_orphans, upgrade
from tests.helpers.waiting import wait_until

FIRST_IMPORT = """
import os, sys
open(os.environ["L4LB_TEST_REACHED"], "w").close()
open(os.environ["L4LB_TEST_GATE"]).close()
sys.path.remove(os.path.dirname(__file__))
del sys.modules["click"]
import click
"""
"""Stands in for the first large import, and goes on to it once the gate is opened."""

UNKIND_PARENT = """
import os, resource, signal, sys
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGTERM, signal.SIGALRM):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.umask(0o777)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.execv(sys.argv[1], sys.argv[1:])
"""

CLOSE = """
import os, sys
for descriptor in map(int, sys.argv[1].split(",")):
    os.close(descriptor)
os.execv(sys.argv[2], sys.argv[2:])
"""


AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")

LEAVE = """
import os, sys
os.chdir(sys.argv[1])
os.rmdir(sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""


def config(backend: object, **pool: object) -> Json:
    return {
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {"main": {"backends": [str(backend)], **pool}},
    }


def command(*arguments: str, cwd: Path | None = None, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    words = [*prefix, sys.executable, "-m", "l4lb", *arguments]
    return subprocess.run(words, env=child_environment(), cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.fixture
def own_processes() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("to be process 1 takes root and unshare(1)")


class Gate:
    """Where a balancer waits before its first large import."""

    def __init__(self, directory: Path) -> None:
        self._fifo, self._reached = directory / "gate", directory / "reached"
        os.mkfifo(self._fifo)
        (directory / "click.py").write_text(FIRST_IMPORT)
        self.env = {
            "PYTHONPATH": os.pathsep.join((str(directory), child_environment()["PYTHONPATH"])),
            "L4LB_TEST_GATE": str(self._fifo),
            "L4LB_TEST_REACHED": str(self._reached),
        }

    def wait_reached(self) -> None:
        wait_until(self._reached.exists, START_DEADLINE)

    def open(self) -> None:
        os.close(os.open(self._fifo, os.O_WRONLY))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def only_child(pid: int) -> psutil.Process:
    child: psutil.Process = wait_until(lambda: psutil.Process(pid).children())[0]
    return child


# ---- signals while it starts -----------------------------------------------------------------------------------------


def test_signals_that_come_early_are_acted_on_once_it_is_up(gate: Gate) -> None:
    with Served(named("only")) as served:
        lb = Balancer(config(served), env=gate.env)
        try:
            lb.spawn()
            gate.wait_reached()
            lb.signal(signal.SIGHUP)
            lb.signal(signal.SIGUSR1)
            gate.open()
            lb.wait_notified("READY=1", START_DEADLINE)
            lb.wait_log("reloaded")
            lb.wait_log("log files are opened again")
            assert ask(lb.address("main")) == "only"
            lb.stop()
        finally:
            lb.close()


def test_a_restart_that_is_asked_for_early_happens_once_it_is_up(gate: Gate) -> None:
    lb = Balancer(config("127.0.0.1:9"), env=gate.env)
    try:
        lb.spawn()
        gate.wait_reached()
        lb.signal(signal.SIGQUIT)
        gate.open()
        lb.wait_exit(deadline=START_DEADLINE)
        assert "told to while it started" in lb.log
    finally:
        lb.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_before_anything_is_loaded_is_a_clean_end(gate: Gate, number: signal.Signals) -> None:
    lb = Balancer(config("127.0.0.1:9"), env=gate.env)
    try:
        lb.spawn()
        gate.wait_reached()
        lb.signal(number)
        lb.wait_exit()
        assert lb.log == ""
    finally:
        lb.close()


def test_process_1_is_stopped_before_anything_is_loaded(gate: Gate, own_processes: None) -> None:
    lb = Balancer(config("127.0.0.1:9"), env=gate.env, prefix=AS_PROCESS_1)
    try:
        lb.spawn()
        gate.wait_reached()
        only_child(lb.popen.pid).send_signal(signal.SIGTERM)
        lb.wait_exit()
    finally:
        lb.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_backends_are_checked_is_a_clean_end(number: signal.Signals) -> None:
    health = {"type": "http", "interval": "30s", "timeout": "30s"}
    with Backend() as backend:
        lb = Balancer()
        try:
            path = lb.directory / "listener"
            lb.write(config(backend, health=health) | {"listeners": {"main": {"bind": f"unix:{path}", "pool": "main"}}})
            lb.spawn()
            with backend.accept(START_DEADLINE):
                assert path.exists()
                lb.signal(number)
                lb.wait_exit()
            assert not path.exists()
            assert not lb.socket_path.exists()
            assert "told to while it started" in lb.log
        finally:
            lb.close()


def test_a_start_that_fails_does_not_say_that_it_stopped() -> None:
    with Backend() as occupant:
        lb = Balancer(
            {"listeners": {"main": {"bind": str(occupant), "pool": "main"}}} | {"pools": config("[::1]:9")["pools"]}
        )
        try:
            lb.spawn()
            lb.wait_exit(1)
            assert "cannot bind" in lb.log
            assert "stopped" not in lb.log
        finally:
            lb.close()


def test_a_start_tells_how_many_backends_are_usable_if_some_are_not() -> None:
    with Served(echo) as served, refused() as other:
        settings = config(served, health={"type": "tcp"})
        settings["pools"]["main"]["backends"].append(spelled(other))
        with Balancer(settings) as lb:
            lb.wait_log("1 pool, 2 backends with ")
            lb.wait_log("; 1 of 2 backends usable so far")


HUNG_UP = """
import os, signal
from l4lb.process.daemon import Daemon
start = Daemon.start
async def hung_up(self):
    os.kill(os.getpid(), signal.SIGHUP)
    await start(self)
Daemon.start = hung_up
"""
"""Makes a program that gets SIGHUP while it starts."""


def test_a_successor_that_is_told_to_reload_while_it_starts_does_so_once_it_serves() -> None:
    with taking_care_of_orphans(), Served(named("only")) as served, Installed(config(served)) as lb:
        lb.program.install(HUNG_UP)
        upgrade(lb)
        lb.wait_log("reloaded")
        assert ask(lb.address("main")) == "only"


def test_a_terminal_is_told_that_a_second_interrupt_waits_for_nothing() -> None:
    terminal, end = os.openpty()
    with Served(echo) as served:
        lb = Balancer(config(served))
        lb.write(config(served) | {"process": {"drain_timeout": "1h"}})
        try:
            lb.spawn(stderr=end)
            lb.wait_notified("READY=1", START_DEADLINE)
            with connect(lb.address("main")) as client:
                client.send(b"question")
                assert client.receive(8) == b"question"
                client.send(b"x" * 1000)
                lb.signal(signal.SIGINT)
                said = b""
                while b"press Ctrl-C again to close them now" not in said:
                    said += os.read(terminal, 4096)
                lb.signal(signal.SIGINT)
                lb.wait_exit()
        finally:
            lb.close()
            os.close(terminal)
            os.close(end)


# ---- what the parent left --------------------------------------------------------------------------------------------


def test_nothing_of_an_unkind_parent_matters(tmp_path: Path) -> None:
    """Signals ignored and blocked, no rights for files, few descriptors: it works, and so do its checks."""
    masks = tmp_path / "masks"
    check = tmp_path / "check"
    check.write_text(f"#!/bin/sh\nexec grep -E 'Sig(Blk|Ign)' /proc/self/status > {masks}\n")
    check.chmod(0o755)
    health = {"type": "exec", "command": [str(check)], "interval": "10s"}
    prefix = (sys.executable, "-c", UNKIND_PARENT)
    with Served(named("only")) as served, Balancer(config(served, health=health), prefix=prefix) as lb:
        assert lb.status()["pools"]["main"]["backends"][str(served)]["health"] == "up"
        assert ask(lb.address("main")) == "only"
        fields = dict(line.split(":\t") for line in masks.read_text().splitlines())
        # Two signals are kept by the C library to itself: none of its processes can change what they inherit there.
        left = ~(1 << 31 | 1 << 32)
        assert (int(fields["SigBlk"], 16) & left, int(fields["SigIgn"], 16) & left) == (0, 0)
        wait_until(lambda: list(lb.access_lines()))
        lb.access_path.rename(tmp_path / "rotated")
        lb.signal(signal.SIGUSR1)
        wait_until(lb.access_path.exists)
        assert lb.access_path.stat().st_mode & 0o700 == 0o600
        lb.signal(signal.SIGHUP)
        lb.wait_log("reloaded")


@pytest.mark.parametrize("closed", ["2", "1", "0", "0,1,2"])
def test_closed_standard_streams_are_no_matter(closed: str, tmp_path: Path) -> None:
    prefix = (sys.executable, "-c", CLOSE, closed)
    with Served(echo) as served, Balancer(config(served), prefix=prefix) as lb:
        lb.write(config(served) | {"log": {"access": {"to": "-"}}})
        lb.reload()
        descriptors = Path(f"/proc/{lb.popen.pid}/fd")
        for descriptor in closed.split(","):
            assert os.readlink(descriptors / descriptor) == os.devnull


@pytest.mark.parametrize("closed", ["1", "0,1,2"])
def test_closed_standard_streams_are_no_matter_to_other_commands(closed: str, tmp_path: Path) -> None:
    file = tmp_path / "l4lb.yaml"
    file.write_text(json.dumps(config("127.0.0.1:9")))
    prefix = (sys.executable, "-c", CLOSE, closed)
    assert command("check", "-c", str(file), prefix=prefix).returncode == 0
    assert command("schema", prefix=prefix).returncode == 0
    assert command("status", "--socket", str(tmp_path / "none"), prefix=prefix).returncode == 1


# ---- the working directory -------------------------------------------------------------------------------------------


@pytest.fixture
def gone(tmp_path: Path) -> tuple[str, ...]:
    """What runs a command in a directory that is gone."""
    directory = tmp_path / "gone"
    directory.mkdir()
    return (sys.executable, "-c", LEAVE, str(directory))


def test_a_relative_path_in_a_directory_that_is_gone_is_refused_in_one_sentence(gone: tuple[str, ...]) -> None:
    result = command("run", "-c", "l4lb.yaml", prefix=gone)
    assert result.returncode == 2
    assert "the working directory is gone, so 'l4lb.yaml' leads nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_absolute_path_works_in_a_directory_that_is_gone(gone: tuple[str, ...]) -> None:
    with taking_care_of_orphans(), Served(named("only")) as served, Balancer(config(served), prefix=gone) as lb:
        lb.reload()
        lb.prefix = ()
        upgrade(lb)
        assert ask(lb.address("main")) == "only"


def test_a_relative_path_that_is_gone_later_rejects_reloads_and_changes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "release"
    directory.mkdir()
    with Served(named("only")) as served:
        lb = Balancer(config(served))
        try:
            (directory / "l4lb.yaml").write_bytes(lb.file.read_bytes())
            environment = lb.env | {"NOTIFY_SOCKET": str(lb.directory / "notify")}
            words = [*lb.command, "run", "-c", "l4lb.yaml"]
            with lb.log_path.open("ab") as log:
                lb.process = subprocess.Popen(words, env=environment, cwd=directory, stderr=log)
            lb.wait_notified("READY=1", START_DEADLINE)
            shutil.rmtree(directory)
            status, answer = lb.request("POST", "/api/v1/reload")
            assert (status, len(answer["problems"])) == (422, 1)
            assert f"cannot read '{directory}/l4lb.yaml'" in answer["problems"][0]
            assert ask(lb.address("main")) == "only"
            lb.stop()
        finally:
            lb.close()


# ---- process 1 -------------------------------------------------------------------------------------------------------


def test_process_1_reaps_orphans(tmp_path: Path, own_processes: None) -> None:
    check = tmp_path / "check"
    check.write_text("#!/bin/sh\nsetsid -f true\n")
    check.chmod(0o755)
    health = {"type": "exec", "command": [str(check)], "interval": "100ms"}
    with Served(named("only")) as served, Balancer(config(served, health=health), prefix=AS_PROCESS_1) as lb:
        balancer = only_child(lb.popen.pid)

        def zombies() -> set[psutil.Process]:
            found = set()
            # Some are gone before they are looked at.
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in balancer.children():
                    if child.status() == psutil.STATUS_ZOMBIE:
                        found.add(child)
            return found

        for _ in range(3):
            some = wait_until(zombies)
            wait_until(lambda seen=some: not seen & zombies())
        balancer.send_signal(signal.SIGTERM)
        lb.wait_exit()
