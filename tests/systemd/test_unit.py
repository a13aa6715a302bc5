"""The unit as users run it: started, reloaded, stopped, killed and restarted by a real systemd."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.peers import Served, echo, named, read_name
from tests.helpers.waiting import observe, wait_until
from tests.systemd.conftest import PORT, Service

EXPOSURE_MAX = 2.0
"""Of `systemd-analyze security`: 10 is unprotected. docs/guides/systemd.md tells the exact value."""

CAP_NET_BIND_SERVICE = 1 << 10
CAP_SYS_RESOURCE = 1 << 24
WRONG = "listeners: {main: {bind: 127.0.0.1:80, pool: nowhere}}\npools: {main: {backends: [127.0.0.1:81]}}\n"


@pytest.fixture
def first(service: Service) -> Iterator[Served]:
    with service.world.network.entered(), Served(named("first")) as served:
        yield served


@pytest.fixture
def second(service: Service) -> Iterator[Served]:
    with service.world.network.entered(), Served(named("second")) as served:
        yield served


def served_by(service: Service) -> str:
    with service.connect() as client:
        return read_name(client)


def refused(service: Service) -> bool:
    try:
        service.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def status_fields(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines())


def test_systemd_finds_nothing_wrong_with_the_unit(service: Service) -> None:
    result = service.world.run("systemd-analyze", "verify", "/etc/systemd/system/l4lb.service")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_unit_is_locked_up_well(service: Service) -> None:
    service.command(
        "systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX * 10:g}",
        "/etc/systemd/system/l4lb.service",
    )  # fmt: skip


def test_start_returns_once_clients_are_served(service: Service, first: Served) -> None:
    service.configure(first)
    service.start()
    assert served_by(service) == "first"
    assert service.shown("ActiveState") == "active"
    assert service.shown("StatusText").startswith("serving 1 listener")


def test_it_has_no_privilege_but_that_of_low_ports(service: Service, first: Served) -> None:
    service.configure(first)
    service.start()
    assert PORT < 1024
    fields = status_fields(service.proc("status"))
    assert "0" not in fields["Uid"].split()
    assert {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {CAP_NET_BIND_SERVICE}
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


def test_it_may_open_as_many_files_as_the_unit_says(service: Service, first: Served) -> None:
    service.configure(first)
    service.start()
    limit = next(line.split() for line in service.proc("limits").splitlines() if line.startswith("Max open files"))
    wanted = int(service.shown("LimitNOFILE"))
    assert wanted == 1 << 20
    if not int(status_fields(Path("/proc/self/status").read_text())["CapEff"], 16) & CAP_SYS_RESOURCE:
        # This systemd may not raise the limit either, so it does what it can.
        wanted = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert limit[3:5] == [str(wanted)] * 2


def test_the_commands_of_an_operator_work_without_options(service: Service, first: Served) -> None:
    service.configure(first)
    service.start()
    assert "first" not in service.command("/opt/l4lb/bin/l4lb", "drain", "main/b0")
    assert service.status()["pools"]["main"]["backends"]["b0"]["state"] == "drain"
    assert service.world.path("/run/l4lb/admin.sock").stat().st_mode & 0o777 == 0o660


def test_names_are_resolved_within_the_sandbox(service: Service, first: Served) -> None:
    service.configure(f"localhost:{str(first).rpartition(':')[2]}")
    service.start()
    assert served_by(service) == "first"


def test_a_reload_applies_the_file_and_keeps_sessions(service: Service, first: Served, second: Served) -> None:
    service.configure(first)
    service.start()
    pid = service.pid
    with service.connect() as client:
        assert read_name(client) == "first"
        service.configure(second)
        service.command("systemctl", "reload", "l4lb")
        wait_until(lambda: served_by(service) == "second")
        client.send(b"still here")
        assert client.receive(10) == b"still here"
    assert service.shown("ActiveState") == "active"
    assert service.pid == pid


def test_a_reload_of_a_wrong_file_fails_and_changes_nothing(service: Service, first: Served) -> None:
    service.configure(first)
    service.start()
    pid = service.pid
    with service.connect() as client:
        assert read_name(client) == "first"
        service.put("/etc/l4lb/l4lb.yaml", WRONG)
        assert service.systemctl("reload", "l4lb").returncode != 0
        wait_until(lambda: not service.status()["config"]["last_reload_ok"])
        assert "nowhere" in service.status()["config"]["last_error"]
        assert "nowhere" in service.shown("StatusText")
        assert "/etc/l4lb/l4lb.yaml:1:" in service.journal()
        client.send(b"still here")
        assert client.receive(10) == b"still here"
    assert served_by(service) == "first"
    assert (service.shown("ActiveState"), service.pid) == ("active", pid)
    service.configure(first)
    service.command("systemctl", "reload", "l4lb")
    wait_until(lambda: service.status()["config"]["last_reload_ok"])


def test_stop_lets_sessions_end_and_leaves_nothing(service: Service, first: Served) -> None:
    service.configure(first)
    service.start()
    assert service.listens()
    with service.connect() as client:
        assert read_name(client) == "first"
        service.command("systemctl", "stop", "--no-block", "l4lb")
        wait_until(lambda: not service.listens())
        assert refused(service)
        client.send(b"still here")
        assert client.receive(10) == b"still here"
        assert service.shown("ActiveState") == "deactivating"
        assert service.shown("StatusText").startswith("waiting for 1 session")
    service.wait_shown("ActiveState", "inactive")
    assert service.shown("Result") == "success"
    assert service.shown("ExecMainStatus") == "0"
    assert not service.world.path("/run/l4lb").exists()
    assert refused(service)


def test_stop_takes_no_longer_than_the_drain_timeout_allows(service: Service, first: Served) -> None:
    service.configure(first, drain_timeout="200ms")
    service.start()
    with service.connect() as client:
        assert read_name(client) == "first"
        service.command("systemctl", "stop", "l4lb")
        assert client.drain().count == 0
    assert (service.shown("ActiveState"), service.shown("Result")) == ("inactive", "success")


@pytest.mark.slow
def test_systemd_has_as_much_patience_as_l4lb_asks_for(service: Service, first: Served) -> None:
    service.put("/etc/systemd/system/l4lb.service.d/stop.conf", "[Service]\nTimeoutStopSec=2s\n")
    service.command("systemctl", "daemon-reload")
    service.configure(first, drain_timeout="1h")
    service.start()
    with service.connect() as client:
        assert read_name(client) == "first"
        service.command("systemctl", "stop", "--no-block", "l4lb")
        for _ in range(25):
            client.send(b"question")
            assert client.receive(8) == b"question"
            observe(0.2)
    service.wait_shown("ActiveState", "inactive")
    assert service.shown("Result") == "success"


def test_a_killed_process_is_replaced(service: Service, first: Served) -> None:
    service.configure(first)
    service.start()
    service.command("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "l4lb")
    service.wait_shown("NRestarts", "1")
    service.wait_shown("ActiveState", "active")
    assert served_by(service) == "first"


@pytest.mark.slow
def test_a_process_that_hangs_is_replaced_and_one_that_lives_is_not(service: Service, first: Served) -> None:
    service.put("/etc/systemd/system/l4lb.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
    service.command("systemctl", "daemon-reload")
    service.configure(first)
    service.start()
    pid = service.pid
    observe(3)
    assert service.pid == pid
    service.command("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "l4lb")
    service.wait_shown("NRestarts", "1")
    service.wait_shown("ActiveState", "active")
    assert "Watchdog timeout" in service.journal()
    assert served_by(service) == "first"


def test_a_wrong_file_fails_the_start_once_and_says_why(service: Service) -> None:
    service.put("/etc/l4lb/l4lb.yaml", WRONG)
    assert service.systemctl("start", "l4lb").returncode != 0
    assert service.shown("ActiveState") == "failed"
    assert (service.shown("ExecMainStatus"), service.shown("NRestarts")) == ("2", "0")
    assert "/etc/l4lb/l4lb.yaml:1:" in service.journal()


def test_an_address_that_is_taken_is_tried_until_it_is_free(service: Service, first: Served) -> None:
    service.configure(first)
    with service.world.network.entered():
        occupant = Served(echo, port=PORT)
    with occupant:
        assert service.systemctl("start", "l4lb").returncode != 0
        wait_until(lambda: int(service.shown("NRestarts")) > 0)
    service.wait_shown("ActiveState", "active")
    assert served_by(service) == "first"
