"""l4lb as it is installed: its unit, its account and its program, untouched, under a systemd of their own."""

from __future__ import annotations

import contextlib
import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.helpers.balancer import ROOT, Json, UnixConnection
from tests.helpers.peers import Peer, connect
from tests.helpers.systemd import World, booted
from tests.helpers.waiting import DEADLINE, wait_until

PROGRAM = """\
#!/bin/sh
export PYTHONHOME=/opt/l4lb/python PYTHONPATH=/opt/l4lb/source:/opt/l4lb/packages PYTHONDONTWRITEBYTECODE=1
export LD_LIBRARY_PATH=/opt/l4lb/python/lib
exec /opt/l4lb/python/bin/{python} -m l4lb "$@"
"""
"""Stands in for the console script of an installation: the Python that runs the tests, and this checkout."""

SHOWN = {
    ROOT / "l4lb": "/opt/l4lb/source/l4lb",
    Path(sys.base_prefix): "/opt/l4lb/python",
    Path(sysconfig.get_path("purelib")): "/opt/l4lb/packages",
}

PORT = 80
"""Below 1024: only a capability opens it."""

LISTEN = "0A"
"""The state in /proc/net/tcp."""


class Service:
    """The installed unit."""

    def __init__(self, world: World) -> None:
        self.world = world

    def install(self) -> None:
        self.install_program()
        self.put("/etc/systemd/system/l4lb.service", (ROOT / "conf/l4lb.service").read_text())
        self.put("/usr/lib/sysusers.d/l4lb.conf", (ROOT / "conf/l4lb.sysusers").read_text())
        self.command("systemd-sysusers", "l4lb.conf")
        self.command("systemctl", "daemon-reload")

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the world, through the world: this side may not see it any more when it is done."""
        self.command("install", "-D", f"--mode={mode:o}", "/dev/stdin", path, text=text)

    def read(self, path: str) -> str:
        """A file of the world."""
        return self.command("cat", path)

    def command(self, *command: str, text: str | None = None) -> str:
        """The output of a command that has to succeed."""
        result = self.world.run(*command, text=text)
        assert result.returncode == 0, f"{command}: {result.stderr}{result.stdout}\n{self.journal()}"
        return result.stdout

    def systemctl(self, *arguments: str) -> CompletedProcess[str]:
        return self.world.run("systemctl", *arguments)

    def replace_program(self, text: str) -> None:
        """Put another program in the place of the installed one."""
        self.put("/opt/l4lb/bin/l4lb", text, mode=0o755)

    def install_program(self) -> None:
        self.replace_program(PROGRAM.format(python=f"python3.{sys.version_info.minor}"))

    def configure(self, *backends: object, **process: Any) -> None:
        """One listener in front of the backends, and the admin socket where it is by default."""
        config = {
            "process": {"workers": 2, "drain_timeout": "30s"} | process,
            "listeners": {"main": {"bind": f"127.0.0.1:{PORT}", "pool": "main"}},
            "pools": {"main": {"backends": [{"name": f"b{i}", "address": str(b)} for i, b in enumerate(backends)]}},
        }
        self.put("/etc/l4lb/l4lb.yaml", json.dumps(config))

    def start(self) -> None:
        self.command("systemctl", "start", "l4lb")

    def shown(self, name: str) -> str:
        return self.command("systemctl", "show", "--value", f"--property={name}", "l4lb").strip()

    def wait_shown(self, name: str, value: str) -> None:
        wait_until(lambda: self.shown(name) == value, what=lambda: f"{name}={self.shown(name)}; {self.journal()}")

    @property
    def pid(self) -> int:
        """Its main process, as it is numbered inside."""
        return int(self.shown("MainPID"))

    @property
    def outer_pid(self) -> int:
        """Its main process, as the machine numbers it."""
        return self.world.outer_pid(self.pid)

    def proc(self, name: str) -> str:
        """A file about its main process."""
        return self.world.path(f"/proc/{self.pid}/{name}").read_text()

    def status(self) -> Json:
        """What it says of itself on the admin socket."""
        with contextlib.closing(UnixConnection(str(self.world.path("/run/l4lb/admin.sock")), DEADLINE)) as connection:
            connection.request("GET", "/api/v1/status")
            answer: Json = json.loads(connection.getresponse().read())
            return answer

    def connect(self) -> Peer:
        with self.world.network.entered():
            return connect(("127.0.0.1", PORT))

    def listens(self, port: int = PORT) -> bool:
        """Whether anyone listens on the port; to try it would make a session."""
        tables = (self.world.path(f"/proc/1/net/{name}").read_text() for name in ("tcp", "tcp6"))
        rows = [row for table in tables for row in table.splitlines()[1:]]
        return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == LISTEN for row in rows)

    def journal(self) -> str:
        return self.world.run("journalctl", "--no-pager", "--output=cat", "--unit=l4lb").stdout


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with booted(SHOWN) as world:
        Service(world).install()
        yield world


@pytest.fixture
def service(world: World) -> Iterator[Service]:
    """The unit, stopped and without a memory of earlier tests."""
    service = Service(world)
    service.command("journalctl", "--rotate", "--vacuum-time=1ms")
    yield service
    service.systemctl("kill", "--signal=KILL", "l4lb")
    service.systemctl("revert", "l4lb")
    service.systemctl("stop", "l4lb")
    service.systemctl("reset-failed", "l4lb")
