"""Upgrades in place under a real systemd: the unit goes on with another main process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.helpers.peers import Backend, Served, named, read_name
from tests.helpers.waiting import observe, wait_until
from tests.systemd.conftest import Service


@pytest.fixture
def served(service: Service) -> Iterator[Served]:
    with service.world.network.entered(), Served(named("b0")) as served:
        yield served


@pytest.fixture
def backend(service: Service) -> Iterator[Backend]:
    """One whose connections the test accepts itself."""
    with service.world.network.entered(), Backend() as backend:
        yield backend


@contextlib.contextmanager
def in_a_turn(service: Service, backend: Backend) -> Iterator[Callable[[], None]]:
    """A client that has asked; the backend owes it the answer until the function is called."""
    with service.connect() as client, backend.accept() as server:
        client.send(b"question")
        assert server.receive(8) == b"question"

        def answer() -> None:
            server.send(b"answer")
            assert client.receive(6) == b"answer"
            client.finish()
            assert server.read_all() == b""
            server.finish()
            assert client.read_all() == b""

        yield answer


def served_by(service: Service) -> str:
    with service.connect() as client:
        return read_name(client)


def processes(service: Service) -> list[str]:
    return service.command("cat", "/sys/fs/cgroup/system.slice/l4lb.service/cgroup.procs").split()


def upgrade(service: Service) -> int:
    """Upgrade as an operator does; the main process before."""
    before = service.pid
    assert "upgraded: process" in service.command("/opt/l4lb/bin/l4lb", "upgrade")
    wait_until(lambda: service.pid != before, what=lambda: service.journal())
    return before


def test_the_unit_stays_active_with_another_main_process(service: Service, backend: Backend) -> None:
    service.configure(backend)
    service.start()
    before, stored = service.pid, service.shown("NFileDescriptorStore")
    with in_a_turn(service, backend) as answer:
        service.command("systemctl", "kill", "--kill-whom=main", "--signal=USR2", "l4lb")
        wait_until(lambda: service.pid != before, what=lambda: service.journal())
        service.wait_shown("ActiveState", "active")
        wait_until(lambda: service.shown("StatusText").startswith("serving 1 listener"))
        assert service.status()["pid"] == service.pid
        assert processes(service) == [str(before), str(service.pid)]
        with in_a_turn(service, backend):
            answer()
    wait_until(lambda: processes(service) == [str(service.pid)])
    assert service.shown("ActiveState") == "active"
    assert service.shown("NRestarts") == "0"
    assert service.shown("NFileDescriptorStore") == stored == "2"
    # The old process has nothing to tell systemd any more, and the new one nothing before it is the main one.
    assert "reception only permitted" not in service.world.run("journalctl", "--no-pager").stdout


def test_a_stop_waits_for_both_processes(service: Service, backend: Backend) -> None:
    service.configure(backend)
    service.start()
    with in_a_turn(service, backend) as answer:
        upgrade(service)
        service.command("systemctl", "stop", "--no-block", "l4lb")
        service.wait_shown("ActiveState", "deactivating")
        wait_until(lambda: not service.listens())
        answer()
    service.wait_shown("ActiveState", "inactive")
    assert service.shown("Result") == "success"


def test_it_is_reloaded_upgraded_again_and_stopped_as_ever(service: Service, served: Served) -> None:
    service.configure(served)
    service.start()
    for _ in range(2):
        upgrade(service)
        service.command("systemctl", "reload", "l4lb")
        assert served_by(service) == "b0"
    service.command("systemctl", "stop", "l4lb")
    assert (service.shown("ActiveState"), service.shown("Result")) == ("inactive", "success")
    assert service.shown("ExecMainStatus") == "0"
    assert not service.world.path("/run/l4lb").exists()


def test_a_new_process_that_is_killed_while_the_old_one_drains_is_replaced_at_once(
    service: Service, backend: Backend
) -> None:
    service.configure(backend)
    service.start()
    with in_a_turn(service, backend):
        upgrade(service)
        service.command("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "l4lb")
        service.wait_shown("NRestarts", "1")
        service.wait_shown("ActiveState", "active")
    with in_a_turn(service, backend) as answer:
        service.command("systemctl", "stop", "--no-block", "l4lb")
        answer()


def test_a_failed_upgrade_leaves_the_unit_as_it_was(service: Service, served: Served) -> None:
    service.configure(served)
    service.start()
    before = service.pid
    service.put("/etc/l4lb/l4lb.yaml", "listeners: {}\n")
    result = service.world.run("/opt/l4lb/bin/l4lb", "upgrade")
    assert result.returncode == 2
    assert "/etc/l4lb/l4lb.yaml:1:" in result.stderr
    assert (service.pid, service.shown("ActiveState")) == (before, "active")
    assert processes(service) == [str(before)]
    assert served_by(service) == "b0"


@pytest.mark.slow
def test_the_watchdog_looks_after_the_new_process(service: Service, backend: Backend) -> None:
    service.put("/etc/systemd/system/l4lb.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
    service.command("systemctl", "daemon-reload")
    service.configure(backend)
    service.start()
    with in_a_turn(service, backend) as answer:
        # The old one drains for longer than the watchdog waits.
        upgrade(service)
        pid = service.pid
        observe(3)
        assert service.pid == pid
        answer()
    service.command("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "l4lb")
    service.wait_shown("NRestarts", "1")
    service.wait_shown("ActiveState", "active")
    assert "Watchdog timeout" in service.journal()
