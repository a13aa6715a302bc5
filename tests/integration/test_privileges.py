"""Started as root with process.user: what is done again later works as that user, and nothing else is left of root."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.helpers.balancer import ROOT, Balancer, Json
from tests.helpers.network import isolated
from tests.helpers.peers import Served, address_of, ask, connect, listen, named, spelled
from tests.helpers.upgrades import taking_care_of_orphans, upgrade
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

USER = "nobody"
PACKAGES = os.pathsep.join((str(ROOT), sysconfig.get_path("purelib"), str(Path(aiohttp.__file__).parents[1])))
NET_BIND_SERVICE = 1 << 10
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")


def config(backend: object, bind: str = "127.0.0.1:0", **pool: object) -> Json:
    return {
        "process": {"user": USER},
        "listeners": {"main": {"bind": bind, "pool": "main"}},
        "pools": {"main": {"backends": [str(backend)], **pool}},
    }


def status_of(pid: int | str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


@pytest.fixture
def interpreter() -> str:
    """A Python that the user can start, too, and that finds everything here if PYTHONPATH has PACKAGES."""
    for path in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        command = [path, "-c", "import l4lb.process.daemon"]
        with contextlib.suppress(OSError):
            if subprocess.run(command, user=USER, env={"PYTHONPATH": PACKAGES}, capture_output=True).returncode == 0:
                return path
    pytest.skip(f"{USER} cannot run {sys.executable}")


def free_port() -> int:
    with listen() as sock:
        address = address_of(sock)
    assert isinstance(address, tuple)
    return address[1]


@pytest.mark.parametrize(
    ("first", "then"),
    [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "[::]"), ("[::1]", "[::]")],
)
def test_a_reload_may_bind_what_overlaps_with_what_root_has_bound(first: str, then: str) -> None:
    with isolated() as network, network.entered(), Served(named("only")) as served:
        port = free_port()
        with Balancer(config(served, f"{first}:{port}")) as lb:
            assert psutil.Process(lb.pid).uids().real != 0
            lb.reload(config(served, f"{then}:{port}"))
            assert ask(lb.address("main")) == "only"


def test_the_access_log_can_be_rotated() -> None:
    with Served(named("only")) as served, Balancer(config(served)) as lb:
        ask(lb.address("main"))
        wait_until(lambda: len(list(lb.access_lines())) == 1)
        assert lb.access_path.owner() == USER
        lb.access_path.rename(lb.directory / "rotated")
        lb.signal(signal.SIGUSR1)
        wait_until(lb.access_path.exists)
        ask(lb.address("main"))
        wait_until(lambda: len(list(lb.access_lines())) == 1)


def test_an_access_log_that_could_not_be_rotated_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    lb = Balancer(config("127.0.0.1:9") | {"log": {"access": {"to": str(tmp_path / "access.log")}}})
    try:
        lb.spawn()
        lb.wait_exit(1)
        assert f"Permission denied for user {USER}" in lb.log
    finally:
        lb.close()


def test_a_file_that_cannot_be_read_again_is_told_at_the_start() -> None:
    with Served(named("only")) as served:
        lb = Balancer(config(served))
        try:
            lb.file.chmod(0o600)
            lb.start()
            assert f"'{USER}' cannot read the configuration, so reloads will fail" in lb.log
            lb.stop()
        finally:
            lb.close()


def test_files_of_sockets_go_with_their_listeners() -> None:
    with Served(named("only")) as served:
        lb = Balancer()
        try:
            # As in /tmp, only the owner of a file may remove it.
            lb.directory.chmod(0o777 | stat.S_ISVTX)
            path = lb.directory / "listener"
            lb.write(config(served, f"unix:{path}"))
            lb.start()
            assert ask(str(path)) == "only"
            lb.reload(config(served))
            wait_until(lambda: not path.exists())
            lb.stop()
            assert not lb.socket_path.exists()
        finally:
            lb.close()


@pytest.mark.slow
def test_low_ports_can_be_bound_by_reloads_and_upgrades_and_nothing_else_is_left_of_root(interpreter: str) -> None:
    lb = Balancer(env={"PYTHONPATH": PACKAGES})
    lb.command = [interpreter, "-m", "l4lb"]
    seen, check = lb.directory / "seen", lb.directory / "check"
    check.write_text(f"#!/bin/sh\ncat /proc/$$/status > {seen}.new && mv {seen}.new {seen}\n")
    check.chmod(0o755)
    health = {"type": "exec", "command": [str(check)], "interval": "100ms"}

    def assert_only_low_ports(pid: int) -> None:
        fields = status_of(pid)
        assert [int(fields[name], 16) for name in CAPABILITIES] == [NET_BIND_SERVICE] * 3 + [0]
        assert fields["NoNewPrivs"] == "1"
        seen.unlink(missing_ok=True)
        wait_until(seen.exists)
        fields = dict(line.split(":\t", 1) for line in seen.read_text().splitlines())
        assert [int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")] == [0, 0, 0]
        assert fields["NoNewPrivs"] == "1"

    with isolated() as network, network.entered(), taking_care_of_orphans(), Served(named("only")) as served:
        lb.write(config(served, "127.0.0.1:80", health=health))
        with lb:
            assert_only_low_ports(lb.pid)
            lb.reload(config(served, "127.0.0.1:81", health=health))
            assert ask(("127.0.0.1", 81)) == "only"
            upgrade(lb)
            assert_only_low_ports(lb.popen.pid)
            lb.reload(config(served, "127.0.0.1:82", health=health))
            assert ask(("127.0.0.1", 82)) == "only"


NOTE_IMPORTS = """
import os, sys
def note(event, arguments):
    if event == "import" and os.geteuid() != 0:
        with open(os.environ["L4LB_TEST_IMPORTS"], "a") as file:
            print(arguments[0], file=file)
sys.addaudithook(note)
"""
"""Runs at the start of every interpreter: what is imported once it is no longer root."""


def test_nothing_is_imported_any_more(tmp_path: Path) -> None:
    """That user may not be able to read the files of the interpreter."""
    (tmp_path / "sitecustomize.py").write_text(NOTE_IMPORTS)
    health = [{"type": "http"}, {"type": "grpc"}, {"type": "send_expect", "script": [{"expect": "x"}]}]
    checks = [one | {"interval": "100ms", "timeout": "50ms"} for one in health]
    lb = Balancer()
    imports = lb.directory / "imports"
    lb.env["L4LB_TEST_IMPORTS"] = str(imports)
    lb.env["PYTHONPATH"] = os.pathsep.join((str(tmp_path), lb.env["PYTHONPATH"]))
    with Served(named("only")) as served, listen() as mute:
        port = spelled(address_of(mute)).rpartition(":")[2]
        pools: Json = {
            f"p{index}": {"backends": [f"localhost:{port}"], "health": one} for index, one in enumerate(checks)
        }
        pools["main"] = {"backends": [str(served)], "retries": 1}
        lb.write(config(served) | {"pools": pools})
        with lb:
            with connect(lb.address("main")):
                lb.sessions()
            lb.metric("l4lb_up")
            lb.reload(config(served) | {"pools": pools | {"main": {"backends": [f"localhost:{port}"]}}})
            assert lb.request("GET", "/nowhere")[0] == 404
            lb.signal(signal.SIGUSR1)
            wait_until(lambda: lb.status()["pools"]["p1"]["backends"][f"localhost:{port}"]["health"] == "down")
            assert not imports.exists(), imports.read_text()
