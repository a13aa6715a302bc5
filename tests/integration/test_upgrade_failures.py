"""Upgrades in place that fail, at whatever step: nothing changes, no client is cut off, and the reason is logged."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from l4lb.cli import main
from tests.helpers.balancer import Balancer, Json
from tests.helpers.leaks import holdings
from tests.helpers.load import Load
from tests.helpers.peers import Backend, Background, Served, ask, connect, echo, named
from tests.helpers.upgrades import Installed, failed_upgrade, follow, taking_care_of_orphans, upgrade
from tests.helpers.waiting import settled, wait_until

SUCCESSOR = "import os\nif 'L4LB_HANDOVER' in os.environ:\n"
"""What follows, indented, is only run by a new process."""

STEP = (
    SUCCESSOR
    + """
    from l4lb.process.upgrade import predecessor
    original = predecessor.Predecessor.{step}
    async def step(*arguments):
        {before}
        result = await original(*arguments)
        {after}
        return result
    predecessor.Predecessor.{step} = step
"""
)
"""A new process that does something before or after a step of the handover."""

KILL = "os.kill(os.getpid(), 9)"
HANG = "import asyncio; await asyncio.sleep(300)"
HANG_AT_ONCE = "import time; time.sleep(300)"
STEPS = [
    ("receive_all", "before"),
    ("receive_all", "after"),
    ("wait_released", "before"),
    ("wait_released", "after"),
    ("confirm", "before"),
]


@pytest.fixture(autouse=True)
def orphans() -> Iterator[None]:
    with taking_care_of_orphans():
        yield


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(echo) as served:
        yield served


def config(backend: Served, **sections: Any) -> Json:
    return {
        "process": {"workers": 2, "drain_timeout": "60s"},
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {"main": {"backends": [str(backend)]}},
    } | sections


def step(name: str, *, before: str = "pass", after: str = "pass") -> str:
    return STEP.format(step=name, before=before, after=after)


def children(lb: Balancer) -> list[psutil.Process]:
    return psutil.Process(lb.popen.pid).children(recursive=True)


def runs(lb: Balancer) -> list[int]:
    """The processes that run this balancer's file, but not its main one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(lb.file) in process.cmdline() and process.pid != lb.popen.pid:
                found.append(process.pid)
    return found


@contextlib.contextmanager
def unharmed(lb: Balancer) -> Iterator[None]:
    """The same process goes on; no client notices; nothing is left of the attempt."""
    pid, path = lb.popen.pid, lb.socket_path.stat().st_ino
    # The loop opens what it needs for streams with the first one.
    lb.status()
    before = settled(lambda: holdings(pid))
    load = Load(lb.address("main"))
    yield
    assert load.alive()
    seen = min(load.streamed)
    wait_until(lambda: min(load.streamed) > seen)
    load.stop()
    assert lb.status()["pid"] == pid
    assert not lb.status()["stopping"]
    assert lb.socket_path.stat().st_ino == path
    wait_until(lambda: not runs(lb), what=lambda: runs(lb))
    assert children(lb) == []

    def back() -> bool:
        now = holdings(pid)
        return (now.sockets, now.other) == (before.sockets, before.other)

    wait_until(back, what=lambda: f"{before}, {holdings(pid)}")


# ---- a new process that cannot -----------------------------------------------------------------------------------


def test_a_wrong_file_is_named_with_its_line(served: Served) -> None:
    with Balancer(config(served)) as lb:
        right = lb.file.read_text()
        with unharmed(lb):
            lb.file.write_text(right + "nonsense: 1\n")
            reason = failed_upgrade(lb)
            line = right.count("\n") + 1
            assert f"{lb.file}:{line}:1: error: nonsense: " in reason
            assert f"{lb.file}:{line}:1: error: nonsense: " in lb.log
        assert lb.metric("l4lb_upgrades_total", result="failed") == 1
        assert "the upgrade failed, and nothing has changed" in lb.log
        lb.file.write_text(right)
        assert upgrade(lb).wait(20) == 0
        assert lb.status()["upgrade"] == {"under_way": False, "done_total": 1, "failed_total": 1, "last_error": None}


def test_an_address_that_is_taken_leaves_the_files_of_sockets_alone(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    only = {"main": {"bind": ["127.0.0.1:0", f"unix:{path}"], "pool": "main"}}
    with Backend() as other, Balancer(config(served, listeners=only)) as lb:
        taken = str(other)
        listeners = {
            "main": {"bind": ["127.0.0.1:0", f"unix:{path}"], "pool": "main"},
            "other": {"bind": taken, "pool": "main"},
        }
        lb.write(config(served, listeners=listeners))
        with unharmed(lb):
            assert f"cannot bind {taken}: Address already in use" in failed_upgrade(lb)
        with connect(str(path)) as client:
            client.send(b"hello")
            assert client.receive(5) == b"hello"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise SystemExit(7)", "ended with status 7"),
        ("import os\nos.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("raise SystemExit(0)", "ended with status 0"),
        (SUCCESSOR + "    os.write(int(os.environ['L4LB_HANDOVER']), b'x' * 100)", "is not from l4lb"),
        (
            SUCCESSOR + "    from l4lb.process.upgrade import predecessor\n    predecessor.PROTOCOL = 2",
            "restart instead",
        ),
    ],
    ids=["exits", "is killed", "does nothing", "says nonsense", "speaks another protocol"],
)
def test_a_program_that_cannot_take_over_is_ended_and_can_be_made_good(served: Served, body: str, reason: str) -> None:
    with Installed(config(served)) as lb:
        lb.program.install(body)
        with unharmed(lb):
            assert reason in failed_upgrade(lb)
        lb.program.install()
        assert upgrade(lb).wait(20) == 0


@pytest.mark.parametrize(
    ("body", "timeout", "reason"),
    [
        (SUCCESSOR + f"    {HANG_AT_ONCE}", "READY", "was not ready within 2 s"),
        (step("receive_all", before=HANG), "READY", "was not ready within 2 s"),
        (step("wait_released", after=HANG), "TAKEN", "did not take over within 2 s"),
        (step("confirm", before=HANG), "TAKEN", "did not take over within 2 s"),
    ],
    ids=["at once", "while it is told", "when it is its turn", "before it says that it has all"],
)
def test_a_program_that_hangs_is_ended(served: Served, body: str, timeout: str, reason: str) -> None:
    with Installed(config(served), f"from l4lb.process.upgrade import upgrade\nupgrade.{timeout}_TIMEOUT = 2.0") as lb:
        lb.program.install(body)
        with unharmed(lb):
            assert reason in failed_upgrade(lb)


def test_a_program_that_is_gone_is_named(served: Served) -> None:
    with Installed(config(served)) as lb:
        lb.program.path.unlink()
        with unharmed(lb):
            assert f"cannot start {lb.program.path}" in failed_upgrade(lb)


@pytest.mark.parametrize(("name", "when"), STEPS)
def test_a_new_process_that_is_killed_at_any_step_changes_nothing(served: Served, name: str, when: str) -> None:
    with Installed(config(served)) as lb:
        lb.program.install(step(name, **{when: KILL}))
        with unharmed(lb):
            assert "ended without a word" in failed_upgrade(lb)


def test_a_new_process_that_is_told_to_stop_before_it_has_taken_over_leaves_the_old_one(served: Served) -> None:
    with Installed(config(served)) as lb:
        lb.program.install(step("wait_released", before="os.kill(os.getpid(), 15)"))
        with unharmed(lb):
            assert "told to stop" in failed_upgrade(lb)


# ---- an old process that is told something, or dies ------------------------------------------------------------------


class Held(Installed):
    """A balancer whose successor waits at a step until the test lets it go on."""

    def __init__(self, served: Served, name: str) -> None:
        super().__init__(config(served))
        self.waiting, self.go = self.directory / "waiting", self.directory / "go"
        os.mkfifo(self.waiting)
        os.mkfifo(self.go)
        say = f"open({str(self.waiting)!r}, 'w').write(str(os.getpid()))"
        self.body = step(name, before=f"{say}; import asyncio; await asyncio.to_thread(open, {str(self.go)!r})")

    def begin(self) -> tuple[Background, int]:
        """Ask for an upgrade, and wait until the new process waits; its number."""
        self.program.install(self.body)
        asking = Background(lambda: self.request("POST", "/api/v1/upgrade", deadline=60))
        return asking, int(self.waiting.read_text())

    def go_on(self) -> None:
        self.go.open("w").close()


def outcome(asking: Background) -> tuple[int, Json]:
    status, body = asking.result(60)  # type: ignore[misc]
    return status, body


def test_while_an_upgrade_is_under_way_other_changes_are_refused(served: Served) -> None:
    with Held(served, "receive_all") as lb:
        asking, _ = lb.begin()
        assert lb.status()["upgrade"]["under_way"]
        assert lb.request("POST", "/api/v1/upgrade") == (409, {"error": "an upgrade is under way already"})
        lb.signal(signal.SIGUSR2)
        lb.wait_log("SIGUSR2: an upgrade is under way already")
        status, body = lb.request("POST", "/api/v1/reload")
        assert (status, body["problems"]) == (422, ["an upgrade is under way; reload once it is done"])
        lb.go_on()
        assert outcome(asking)[0] == 200
        assert follow(lb).wait(20) == 0


def test_a_stop_ends_the_upgrade_and_then_the_process(served: Served) -> None:
    with Held(served, "wait_released") as lb, connect(lb.address("main")) as client:
        client.send(b"hello")
        assert client.receive(5) == b"hello"
        asking, _ = lb.begin()
        lb.signal(signal.SIGTERM)
        status, body = outcome(asking)
        assert (status, body["upgraded"]) == (422, False)
        assert "told to stop" in body["error"]
        assert lb.request("POST", "/api/v1/upgrade")[0] == 409
        client.send(b"hello")
        assert client.receive(5) == b"hello"
        client.finish()
        assert client.read_all() == b""
        lb.wait_exit()
        assert runs(lb) == []


def test_an_old_process_that_dies_before_it_has_told_everything_has_no_successor(served: Served) -> None:
    body = """
from l4lb.process.upgrade import upgrade
async def tell(*arguments):
    import os
    os.kill(os.getpid(), 9)
upgrade.Upgrades._send_changes = tell
"""
    with contextlib.closing(Installed(config(served), body)) as lb:
        lb.start()
        lb.signal(signal.SIGUSR2)
        assert lb.popen.wait(20) == -signal.SIGKILL
        lb.wait_log("Error: the process to be replaced ended before it had handed everything over")
        wait_until(lambda: not runs(lb))


def test_an_old_process_that_dies_after_it_has_told_everything_is_replaced(served: Served) -> None:
    with Held(served, "wait_released") as lb:
        address, inode = lb.address("main"), lb.socket_path.stat().st_ino
        _, pid = lb.begin()
        lb.popen.kill()
        lb.popen.wait(20)
        lb.go_on()
        # The listening socket was never closed, so this client waits for the new process.
        with connect(address) as client:
            client.send(b"hello")
            assert client.receive(5) == b"hello"
        follow(lb)
        assert lb.popen.pid == pid
        assert lb.socket_path.stat().st_ino == inode


def test_what_an_operator_does_meanwhile_is_not_lost(served: Served) -> None:
    with Served(named("b")) as other:
        entries = [{"name": "a", "address": str(served)}, {"name": "b", "address": str(other)}]
        with Held(served, "wait_released") as lb:
            lb.reload(config(served, pools={"main": {"backends": entries}}))
            asking, _ = lb.begin()
            assert lb.request("PATCH", "/api/v1/pools/main/backends/a", {"state": "maint"})[0] == 200
            lb.go_on()
            assert outcome(asking)[0] == 200
            assert follow(lb).wait(20) == 0
            assert lb.status()["pools"]["main"]["backends"]["a"]["state"] == "maint"
            assert {ask(lb.address("main")) for _ in range(4)} == {"b"}


# ---- the command -----------------------------------------------------------------------------------------------------


def command(lb: Balancer) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["upgrade", "--socket", str(lb.socket_path)])
    return result.exit_code, result.output


def test_the_command_says_how_it_went(served: Served) -> None:
    with Balancer(config(served)) as lb:
        right = lb.file.read_text()
        lb.file.write_text(right + "nonsense: 1\n")
        code, output = command(lb)
        assert code == 2
        assert "error: nonsense: " in output
        lb.file.write_text(right)
        code, output = command(lb)
        assert follow(lb).wait(20) == 0
        assert (code, output) == (0, f"upgraded: process {lb.popen.pid} serves with l4lb {lb.status()['version']}\n")
    assert command(lb)[0] == 1
