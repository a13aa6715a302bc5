"""Listeners outlive the process: killed, hanging, failing to start or restarted, it refuses no client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.balancer import ROOT
from tests.helpers.callers import Callers
from tests.helpers.peers import Served, named, read_name
from tests.helpers.stuck import stuck
from tests.helpers.waiting import wait_until
from tests.systemd.conftest import PORT, Service

WORKERS = 2
CALLERS = 4


@pytest.fixture
def served(service: Service) -> Iterator[Served]:
    with service.world.network.entered(), Served(named("first")) as served:
        yield served


def configure(service: Service, backend: object, *binds: str, **listener: Any) -> None:
    config = {
        "process": {"workers": WORKERS, "drain_timeout": "30s"},
        "listeners": {"main": {"bind": list(binds) or [f"127.0.0.1:{PORT}"], "pool": "main"} | listener},
        "pools": {"main": {"backends": [{"name": "b0", "address": str(backend)}]}},
    }
    service.put("/etc/l4lb/l4lb.yaml", json.dumps(config))


def stored(service: Service) -> int:
    return int(service.shown("NFileDescriptorStore"))


def binds(service: Service) -> list[str]:
    found: list[str] = service.status()["listeners"]["main"]["bind"]
    return found


def kill(service: Service, restarts: int = 1) -> None:
    """The process dies, and the next one is there."""
    service.command("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "l4lb")
    service.wait_shown("NRestarts", str(restarts))
    service.wait_shown("ActiveState", "active")


def calling(service: Service) -> Callers:
    return Callers(("127.0.0.1", PORT), CALLERS, service.world.network)


def test_a_killed_process_leaves_its_listeners_and_no_client_is_refused(service: Service, served: Served) -> None:
    configure(service, served)
    service.start()
    assert stored(service) == WORKERS
    with calling(service) as callers:
        for restarts in (1, 2):
            kill(service, restarts)
            callers.wait_served()
            assert stored(service) == WORKERS
    assert callers.outcomes["refused"] == callers.outcomes["late"] == 0
    # Those that the dead process had: at most one for each caller, each time.
    assert callers.outcomes["unanswered"] + callers.outcomes["cut"] <= 2 * CALLERS
    assert "not used" not in service.journal()


def test_the_steps_of_the_documentation_work(service: Service, served: Served) -> None:
    page = (ROOT / "docs/guides/systemd.md").read_text().partition("## When it crashes")[2]
    steps = re.findall(r"```console\n(.*?)```", page, re.DOTALL)[0].strip("# \n").split("\n# ")
    configure(service, served, *(f"127.0.0.1:{port}" for port in range(81, 85)))
    service.start()
    with service.world.network.entered(), Callers(("127.0.0.1", 81), CALLERS) as callers:
        for step in steps:
            command, _, answer = step.partition("\n")
            # To see what it says, a reader looks again.
            wait_until(lambda: service.command(*command.split()).strip() == answer, what=service.journal)  # noqa: B023
        service.wait_shown("ActiveState", "active")
    assert callers.outcomes["refused"] == callers.outcomes["late"] == 0


def test_ports_chosen_by_the_kernel_and_unix_sockets_stay_the_same(service: Service, served: Served) -> None:
    configure(service, served, "127.0.0.1:0", "unix:/run/l4lb/app.sock", "unix:@app", f"127.0.0.1:{PORT}")
    service.start()
    before = binds(service)
    assert stored(service) == 2 * WORKERS + 2
    kill(service)
    assert binds(service) == before
    assert stored(service) == 2 * WORKERS + 2
    assert service.world.path("/run/l4lb/app.sock").exists()
    port = int(before[0].rpartition(":")[2])
    with service.world.network.entered(), Callers(("127.0.0.1", port), 1) as callers:
        pass
    assert callers.outcomes.keys() == {"served"}


def test_a_restart_refuses_no_client(service: Service, served: Served) -> None:
    configure(service, served)
    service.start()
    before = service.pid
    with calling(service) as callers:
        service.command("systemctl", "restart", "l4lb")
        callers.wait_served()
    assert service.pid != before
    assert set(callers.outcomes) == {"served"}
    assert stored(service) == WORKERS


def test_a_restart_waits_for_sessions_and_clients_wait_for_it(service: Service, served: Served) -> None:
    configure(service, served)
    service.start()
    with service.connect() as first:
        assert read_name(first) == "first"
        service.command("systemctl", "restart", "--no-block", "l4lb")
        service.wait_shown("ActiveState", "deactivating")
        wait_until(lambda: "waiting for 1 session" in service.shown("StatusText"))
        with service.connect() as second:
            first.send(b"still here")
            assert first.receive(10) == b"still here"
            assert not second.readable()
            first.close()
            assert read_name(second) == "first"


def test_a_stop_closes_the_listeners_at_once(service: Service, served: Served) -> None:
    configure(service, served, f"127.0.0.1:{PORT}", "unix:/run/l4lb/app.sock")
    service.start()
    with service.connect() as client:
        assert read_name(client) == "first"
        service.command("systemctl", "stop", "--no-block", "l4lb")
        wait_until(lambda: not service.listens())
        assert stored(service) == 0
        assert not service.world.path("/run/l4lb/app.sock").exists()
        with pytest.raises(ConnectionRefusedError):
            service.connect()
    service.wait_shown("ActiveState", "inactive")


def test_a_reload_stores_what_is_new_and_closes_what_is_gone(service: Service, served: Served) -> None:
    configure(service, served)
    service.start()
    configure(service, served, f"127.0.0.1:{PORT}", "127.0.0.1:81", "127.0.0.1:82")
    service.command("/opt/l4lb/bin/l4lb", "reload")
    wait_until(lambda: stored(service) == 3 * WORKERS)
    configure(service, served, "127.0.0.1:82")
    service.command("/opt/l4lb/bin/l4lb", "reload")
    wait_until(lambda: stored(service) == WORKERS)
    wait_until(lambda: not service.listens())
    kill(service)
    assert binds(service) == ["127.0.0.1:82"]
    assert stored(service) == WORKERS


def test_what_a_changed_file_does_not_want_is_closed_after_a_crash(service: Service, served: Served) -> None:
    configure(service, served, f"0.0.0.0:{PORT}", "127.0.0.1:81")
    service.start()
    configure(service, served, f"127.0.0.1:{PORT}")
    kill(service)
    assert binds(service) == [f"127.0.0.1:{PORT}"]
    wait_until(lambda: stored(service) == WORKERS)
    assert "no listener uses the inherited socket of 127.0.0.1:81; closing it" in service.journal()
    with calling(service) as callers:
        pass
    assert set(callers.outcomes) == {"served"}


@pytest.mark.parametrize("workers", [1, 3])
def test_another_number_of_workers_uses_the_same_sockets(service: Service, served: Served, workers: int) -> None:
    configure(service, served)
    service.start()
    service.put(
        "/etc/l4lb/l4lb.yaml", service.read("/etc/l4lb/l4lb.yaml").replace('"workers": 2', f'"workers": {workers}')
    )
    with calling(service) as callers:
        kill(service)
        callers.wait_served()
    assert callers.outcomes["refused"] == callers.outcomes["late"] == 0
    assert stored(service) == WORKERS
    assert len(service.status()["workers"]) == workers


def test_a_process_that_fails_to_start_again_and_again_loses_no_client(service: Service, served: Served) -> None:
    configure(service, served)
    service.start()
    with service.world.network.entered():
        occupant = Served(named("occupant"), port=81)
    with occupant, calling(service) as callers:
        configure(service, served, f"127.0.0.1:{PORT}", "127.0.0.1:81")
        service.command("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "l4lb")
        wait_until(lambda: int(service.shown("NRestarts")) >= 3, what=service.journal)
        assert service.listens()
        assert stored(service) == WORKERS
        occupant.close()
        service.wait_shown("ActiveState", "active")
        callers.wait_served()
    assert callers.outcomes["refused"] == callers.outcomes["late"] == 0
    assert stored(service) == 2 * WORKERS


def test_a_program_that_cannot_run_for_a_while_loses_no_client(service: Service, served: Served) -> None:
    configure(service, served)
    service.start()
    with calling(service) as callers:
        try:
            service.replace_program("#!/nowhere\n")
            service.command("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "l4lb")
            wait_until(lambda: int(service.shown("NRestarts")) >= 3, what=service.journal)
            assert service.listens()
        finally:
            service.install_program()
        service.wait_shown("ActiveState", "active")
        callers.wait_served()
    assert callers.outcomes["refused"] == callers.outcomes["late"] == 0


def test_a_full_store_is_logged_once_and_does_no_harm(service: Service, served: Served) -> None:
    service.put(
        "/etc/systemd/system/l4lb.service.d/store.conf",
        f"[Service]\nFileDescriptorStoreMax={WORKERS}\nEnvironment=FDSTORE={WORKERS}\n",
    )
    service.command("systemctl", "daemon-reload")
    configure(service, served, f"127.0.0.1:{PORT}", "127.0.0.1:81", "127.0.0.1:82")
    service.start()
    service.command("/opt/l4lb/bin/l4lb", "reload")
    assert stored(service) == WORKERS
    journal = service.journal()
    assert journal.count("room for 2 sockets, but not for those of 127.0.0.1:81") == 1
    assert "127.0.0.1:82;" not in journal
    with calling(service) as callers:
        kill(service)
        callers.wait_served()
    assert callers.outcomes["refused"] == 0


@pytest.mark.slow
def test_a_worker_that_hangs_has_the_process_replaced_and_no_client_is_refused(
    service: Service, served: Served
) -> None:
    service.put("/etc/systemd/system/l4lb.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
    service.command("systemctl", "daemon-reload")
    configure(service, served)
    service.start()
    with calling(service) as callers, stuck(service.outer_pid, "l4lb-worker-0"):
        # The control plane lives, and says so of the worker instead of feeding the watchdog.
        wait_until(lambda: int(service.shown("NRestarts")) == 1, 30, service.journal)
        service.wait_shown("ActiveState", "active")
        callers.wait_served()
    journal = service.journal()
    assert "stuck worker" in journal
    assert "Watchdog timeout" in journal
    assert callers.outcomes["refused"] == 0


@pytest.mark.slow
def test_a_process_that_hangs_is_replaced_and_no_client_is_refused(service: Service, served: Served) -> None:
    service.put("/etc/systemd/system/l4lb.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
    service.command("systemctl", "daemon-reload")
    configure(service, served)
    service.start()
    with calling(service) as callers:
        service.command("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "l4lb")
        service.wait_shown("NRestarts", "1")
        service.wait_shown("ActiveState", "active")
        callers.wait_served()
    assert "Watchdog timeout" in service.journal()
    assert callers.outcomes["refused"] == callers.outcomes["late"] == 0
