"""Upgrades of the balancer in place: the program it is started from can be replaced, and its successor is watched.

A successor is an orphan from its first word on, so the tests have to adopt orphans.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.helpers.balancer import Balancer, Json

UPGRADE_DEADLINE = 90.0

_PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def taking_care_of_orphans() -> Iterator[None]:
    """Descendants whose parent has left become children of this process; none outlives the block."""
    before = set(psutil.Process().children())
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    try:
        yield
    finally:
        for orphan in set(psutil.Process().children()) - before:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.kill()
                orphan.wait()
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Orphan(subprocess.Popen[bytes]):
    """A child that another process has started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(pid)

    def __del__(self) -> None:
        os.close(self._pidfd)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._pidfd], [], [], 0)[0]:
            self._reap()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._pidfd], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("l4lb", timeout or 0.0)
            self._reap()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _reap(self) -> None:
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def follow(lb: Balancer) -> subprocess.Popen[bytes]:
    """Have `lb` stand for the process that answers now; the one before it."""
    old, pid = lb.popen, int(lb.status()["pid"])
    assert pid != old.pid
    lb.process = Orphan(pid)
    lb.replaced.append(old)
    return old


def upgrade(lb: Balancer) -> subprocess.Popen[bytes]:
    """Upgrade and follow; the process that leaves."""
    status, answer = lb.request("POST", "/api/v1/upgrade", deadline=UPGRADE_DEADLINE)
    assert status == 200, f"{answer}; log:\n{lb.log}"
    old = follow(lb)
    assert answer["pid"] == lb.popen.pid
    return old


def failed_upgrade(lb: Balancer) -> str:
    """Upgrade in vain; the reason."""
    status, answer = lb.request("POST", "/api/v1/upgrade", deadline=UPGRADE_DEADLINE)
    assert status == 422, answer
    reason: str = answer["error"]
    assert lb.status()["upgrade"]["last_error"] in reason
    return reason


class Program:
    """A program in a directory for each version, and a link to the one that is installed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._versions = 0
        self.path = directory / "current" / "bin" / "l4lb"
        self.install()

    def install(self, body: str = "") -> None:
        """Install a version that runs `body` before anything else."""
        self._versions += 1
        program = self._directory / f"version-{self._versions}" / "bin" / "l4lb"
        program.parent.mkdir(parents=True)
        program.write_text(
            f"#!{sys.executable}\n{body}\nfrom l4lb.__main__ import main\nmain()\n",
        )
        program.chmod(0o755)
        link = self._directory / "new"
        link.symlink_to(program.parents[1].name)
        link.replace(self._directory / "current")


class Installed(Balancer):
    """A balancer that runs an installed program."""

    def __init__(self, config: Json, body: str = "") -> None:
        super().__init__(config)
        self.program = Program(self.directory)
        if body:
            self.program.install(body)
        self.command = [str(self.program.path)]
