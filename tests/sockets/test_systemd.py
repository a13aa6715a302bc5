"""What the service manager hears, and that nothing breaks when there is none."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from l4lb.sockets import systemd
from l4lb.sockets.systemd import Notifier
from tests.helpers.peers import listen
from tests.helpers.waiting import DEADLINE, wait_until


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
        # Another main process: whatever this one says now would be about that one.
        notifier.main_pid(4712)
        notifier.stopping("waiting")
        Notifier({"NOTIFY_SOCKET": path}).notify(STATUS="hello")
        assert [listening.recv(4096), listening.recv(4096)] == [b"MAINPID=4712", b"STATUS=hello"]


def test_abstract_socket() -> None:
    name = f"l4lb-test-{uuid.uuid4()}"
    with manager(f"\0{name}") as listening:
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).notify(STATUS="hello")
        assert listening.recv(4096) == b"STATUS=hello"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).ready("serving")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("serving")


def fill(path: str) -> int:
    """Leave the queue of a manager without room; how many messages are in it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        for count in itertools.count():
            try:
                sock.sendto(b"x", path)
            except BlockingIOError:
                return count
    raise AssertionError


def test_manager_that_does_not_read_blocks_no_caller_and_gets_the_newest_in_order_later(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with manager(path) as listening:
        notifier = Notifier({"NOTIFY_SOCKET": path})
        before = fill(path)
        threads = threading.active_count()
        for number in range(1000):
            notifier.notify(STATUS=number)
        assert threading.active_count() == threads + 1
        assert [listening.recv(4096) for _ in range(before)] == [b"x"] * before
        heard = [-1]
        while heard[-1] < 999:
            heard.append(int(listening.recv(4096).removeprefix(b"STATUS=")))
        assert sorted(set(heard)) == heard
        assert heard[-systemd.WAITING_MAX :] == list(range(1000 - systemd.WAITING_MAX, 1000))
        wait_until(lambda: threading.active_count() == threads)


@pytest.mark.parametrize(
    "say",
    [
        lambda notifier: notifier.ready("serving"),
        lambda notifier: notifier.reloading(),
        lambda notifier: notifier.stopping("waiting"),
        lambda notifier: notifier.main_pid(4712),
    ],
)
def test_no_message_is_lost_while_the_manager_is_busy(tmp_path: Path, say: Callable[[Notifier], None]) -> None:
    path = str(tmp_path / "notify")
    with manager(path) as listening:
        notifier = Notifier({"NOTIFY_SOCKET": path})
        before = fill(path)
        say(notifier)
        for _ in range(before):
            assert listening.recv(4096) == b"x"
        assert listening.recv(4096).startswith((b"READY=1", b"RELOADING=1", b"STOPPING=1", b"MAINPID=4712"))
        notifier.close()


def test_an_end_waits_for_what_the_manager_has_not_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with manager(path) as listening:
        notifier = Notifier({"NOTIFY_SOCKET": path})
        before = fill(path)
        notifier.main_pid(4712)
        reader = threading.Thread(target=lambda: [listening.recv(4096) for _ in range(before)])
        reader.start()
        notifier.close()
        reader.join()
        assert listening.recv(4096, socket.MSG_DONTWAIT) == b"MAINPID=4712"


def test_an_end_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "CLOSE_TIMEOUT", 0.01)
    path = str(tmp_path / "notify")
    with manager(path):
        notifier = Notifier({"NOTIFY_SOCKET": path})
        fill(path)
        notifier.ready("serving")
        notifier.close()
    # The manager is gone: nothing waits for it any more.
    wait_until(lambda: all(thread.name != "l4lb-notify" for thread in threading.enumerate()))


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
