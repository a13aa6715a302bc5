"""What the service manager hears, and that nothing breaks when there is none."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

import pytest

from l4lb.control import systemd
from l4lb.control.systemd import Notifier
from tests.helpers.peers import listen
from tests.helpers.waiting import DEADLINE


def manager(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(name)
    sock.settimeout(DEADLINE)
    return sock


def test_state_changes_are_told(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with manager(path) as listening:
        notifier = Notifier({"NOTIFY_SOCKET": path})
        notifier.ready("serving")
        assert listening.recv(4096) == b"READY=1\nSTATUS=serving"
        notifier.reloading()
        lines = dict(line.split("=") for line in listening.recv(4096).decode().splitlines())
        assert lines["RELOADING"] == "1"
        assert int(lines["MONOTONIC_USEC"]) > 0
        notifier.stopping("waiting for 3 sessions to end")
        words = b"STOPPING=1\nSTATUS=waiting for 3 sessions to end\nEXTEND_TIMEOUT_USEC=10000000"
        assert listening.recv(4096) == words
        notifier.alive()
        assert listening.recv(4096) == b"WATCHDOG=1"
        # Another main process: whatever this one says now would be about that one.
        notifier.main_pid(4712)
        notifier.stopping("waiting")
        Notifier({"NOTIFY_SOCKET": path}).alive()
        assert [listening.recv(4096), listening.recv(4096)] == [b"MAINPID=4712", b"WATCHDOG=1"]


def test_abstract_socket() -> None:
    name = f"l4lb-test-{uuid.uuid4()}"
    with manager(f"\0{name}") as listening:
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert listening.recv(4096) == b"WATCHDOG=1"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).ready("serving")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("serving")


def test_manager_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with manager(path):
        notifier = Notifier({"NOTIFY_SOCKET": path})
        for _ in range(10_000):
            notifier.alive()


def test_descriptors_are_stored_under_a_name_and_removed_by_it(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with manager(path) as listening, listen() as one, listen() as other:
        notifier = Notifier({"NOTIFY_SOCKET": path})
        assert notifier.store("web", [one.fileno(), other.fileno()])
        message, fds, _, _ = socket.recv_fds(listening, 4096, 10)
        assert message == b"FDSTORE=1\nFDNAME=web\nFDPOLL=0"
        assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(sock.fileno()).st_ino for sock in (one, other)]
        for fd in fds:
            os.close(fd)
        assert notifier.remove_stored("web")
        assert listening.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=web"


def test_a_manager_that_takes_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "STORE_TIMEOUT", 0.01)
    path = str(tmp_path / "notify")
    assert not Notifier({"NOTIFY_SOCKET": path}).remove_stored("web")
    with manager(path):
        notifier = Notifier({"NOTIFY_SOCKET": path})
        while notifier.remove_stored("web"):
            pass
        assert not notifier.store("web", [0])


@pytest.mark.parametrize(
    ("environment", "room"),
    [
        ({}, 0),
        ({"FDSTORE": "512"}, 0),
        ({"FDSTORE": "512", "NOTIFY_SOCKET": "@l4lb"}, 512),
        ({"FDSTORE": "-1", "NOTIFY_SOCKET": "@l4lb"}, 0),
        ({"FDSTORE": "many", "NOTIFY_SOCKET": "@l4lb"}, 0),
        ({"NOTIFY_SOCKET": "@l4lb"}, 0),
    ],
)
def test_room_of_the_store_is_what_the_environment_says(environment: dict[str, str], room: int) -> None:
    assert Notifier(environment).store_room == room


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval_is_a_third_of_what_is_allowed(environment: dict[str, str], interval: float | None) -> None:
    assert Notifier(environment).watchdog_interval == interval
