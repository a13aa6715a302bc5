"""Sockets of a socket unit: they are there before the process, serve as its listeners, and outlive it."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.helpers.balancer import ROOT
from tests.helpers.callers import Callers
from tests.helpers.peers import Peer, Served, named, read_name
from tests.helpers.waiting import DEADLINE, wait_until
from tests.systemd.conftest import PORT, Service

WORKERS = 2


@pytest.fixture
def served(service: Service) -> Iterator[Served]:
    with service.world.network.entered(), Served(named("first")) as served:
        yield served
    service.systemctl("stop", "l4lb.socket")
    service.systemctl("reset-failed", "l4lb.socket")
    service.command("rm", "-f", "/etc/systemd/system/l4lb.socket")


def configure(service: Service, backend: object, *binds: str, **sections: Any) -> None:
    config = {
        "process": {"workers": WORKERS, "drain_timeout": "30s"},
        "listeners": {"main": {"bind": list(binds), "pool": "main"}},
        "pools": {"main": {"backends": [{"name": "b0", "address": str(backend)}]}},
    }
    service.put("/etc/l4lb/l4lb.yaml", json.dumps(config | sections))


def activate(service: Service, *settings: str) -> None:
    """Have systemd listen, and start nothing yet."""
    service.put("/etc/systemd/system/l4lb.socket", "\n".join(("[Socket]", *settings, "")))
    service.command("systemctl", "daemon-reload")
    service.command("systemctl", "start", "l4lb.socket")
    assert service.shown("ActiveState") == "inactive"


def calling(service: Service) -> Callers:
    return Callers(("127.0.0.1", PORT), 4, service.world.network)


def served_by(service: Service) -> str:
    with service.connect() as client:
        return read_name(client)


@pytest.mark.parametrize(
    ("listen", "bind"),
    [
        (f"127.0.0.1:{PORT}", f"127.0.0.1:{PORT}"),
        (str(PORT), f"0.0.0.0:{PORT}"),
        (str(PORT), f"[::]:{PORT}"),
    ],
)
def test_the_first_client_starts_the_service_and_is_served(
    service: Service, served: Served, listen: str, bind: str
) -> None:
    configure(service, served, bind)
    activate(service, f"ListenStream={listen}")
    with calling(service) as callers:
        service.wait_shown("ActiveState", "active")
        callers.wait_served()
    assert set(callers.outcomes) == {"served"}
    assert service.shown("NFileDescriptorStore") == "0"
    assert "in vain" not in service.journal()


def test_all_workers_accept_from_the_one_socket(service: Service, served: Served) -> None:
    configure(service, served, f"127.0.0.1:{PORT}")
    activate(service, f"ListenStream=127.0.0.1:{PORT}")
    assert served_by(service) == "first"

    def every_worker_has_one() -> bool:
        """One at a time may all go to the same; while that is busy with some, the others are woken."""
        with contextlib.ExitStack() as stack:
            with service.world.network.entered():
                crowd = [stack.enter_context(socket.socket()) for _ in range(200)]
            for client in crowd:
                client.setblocking(False)
            for client in crowd:
                client.connect_ex(("127.0.0.1", PORT))
            return all(worker["sessions"] for worker in service.status()["workers"])

    wait_until(every_worker_has_one)


def test_a_killed_process_is_replaced_and_no_client_is_refused(service: Service, served: Served) -> None:
    configure(service, served, f"127.0.0.1:{PORT}", "127.0.0.1:81")
    activate(service, f"ListenStream=127.0.0.1:{PORT}")
    with calling(service) as callers:
        service.wait_shown("ActiveState", "active")
        # What l4lb opened itself is stored, what it was lent is not.
        assert service.shown("NFileDescriptorStore") == str(WORKERS)
        service.command("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "l4lb")
        service.wait_shown("NRestarts", "1")
        callers.wait_served()
    assert callers.outcomes["refused"] == callers.outcomes["late"] == 0


def test_an_upgrade_hands_on_what_is_lent_and_what_is_stored(service: Service, served: Served) -> None:
    path = "/run/lent.sock"
    configure(service, served, f"127.0.0.1:{PORT}", f"unix:{path}", "127.0.0.1:81", "127.0.0.1:82")
    activate(service, f"ListenStream=127.0.0.1:{PORT}", f"ListenStream={path}")
    with calling(service) as callers:
        service.wait_shown("ActiveState", "active")
        assert service.shown("NFileDescriptorStore") == str(2 * WORKERS)
        # What the new file does not have is stored no longer.
        configure(service, served, f"127.0.0.1:{PORT}", f"unix:{path}", "127.0.0.1:81")
        for _ in range(2):
            service.command("/opt/l4lb/bin/l4lb", "upgrade")
            service.wait_shown("NFileDescriptorStore", str(WORKERS))
        service.command("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "l4lb")
        service.wait_shown("NRestarts", "1")
        callers.wait_served()
    assert callers.outcomes["refused"] == callers.outcomes["late"] == 0
    assert service.world.path(path).is_socket()


def test_a_stopped_service_is_started_by_the_next_client(service: Service, served: Served) -> None:
    configure(service, served, f"127.0.0.1:{PORT}")
    activate(service, f"ListenStream=127.0.0.1:{PORT}")
    assert served_by(service) == "first"
    service.command("systemctl", "stop", "l4lb.service")
    assert served_by(service) == "first"
    service.command("systemctl", "stop", "l4lb.socket", "l4lb.service")
    assert not service.listens()


def test_a_listener_may_go_and_come_back(service: Service, served: Served) -> None:
    configure(service, served, f"127.0.0.1:{PORT}", "127.0.0.1:81")
    activate(service, f"ListenStream=127.0.0.1:{PORT}")
    assert served_by(service) == "first"
    for binds in (("127.0.0.1:81",), ("127.0.0.1:81", f"127.0.0.1:{PORT}")):
        configure(service, served, *binds)
        service.command("/opt/l4lb/bin/l4lb", "reload")
    assert served_by(service) == "first"


def test_unix_and_admin_sockets_may_come_from_the_unit(service: Service, served: Served) -> None:
    configure(
        service, served, "unix:/run/app.sock", "unix:@app",
        admin={"socket": "/run/l4lb-admin.sock", "listen": "127.0.0.1:9400"},
    )  # fmt: skip
    activate(
        service, "ListenStream=/run/app.sock", "ListenStream=@app", "ListenStream=/run/l4lb-admin.sock",
        "ListenStream=127.0.0.1:9400",
    )  # fmt: skip

    def ask_unix() -> str:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        sock.connect(str(service.world.path("/run/app.sock")))
        with Peer(sock) as client:
            return read_name(client)

    assert ask_unix() == "first"
    status = service.command("curl", "-s", "http://127.0.0.1:9400/api/v1/status")
    assert json.loads(status)["listeners"]["main"]["connections_total"] == 1
    assert "main" in service.command("/opt/l4lb/bin/l4lb", "status", "--socket", "/run/l4lb-admin.sock")
    service.command("systemctl", "stop", "l4lb.service")
    assert ask_unix() == "first"
    assert "main" in service.command("/opt/l4lb/bin/l4lb", "status", "--socket", "/run/l4lb-admin.sock")


def test_the_steps_of_the_documentation_work(service: Service, served: Served) -> None:
    page = (ROOT / "docs/guides/systemd.md").read_text().partition("## Socket activation")[2]
    (unit,) = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    listeners = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    pools = {"llama": {"backends": [str(served)]}}
    service.put("/etc/systemd/system/l4lb.socket", unit)
    service.put("/etc/l4lb/l4lb.yaml", json.dumps(listeners | {"pools": pools}))
    commands = re.findall(r"^# (.*)$", re.findall(r"```console\n(.*?)```", page, re.DOTALL)[0], re.MULTILINE)
    for command in commands[:-1]:
        service.command(*command.split())
    with service.world.network.entered(), Callers(("127.0.0.1", 8000), 2) as callers:
        pass
    assert set(callers.outcomes) == {"served"}
    service.command("systemctl", "disable", "l4lb.socket")
    (stop,) = re.findall(r"`(systemctl stop l4lb.socket l4lb.service)`", page)
    service.command(*stop.split())
    assert not service.listens(8000)


def test_unusable_sockets_are_logged_and_do_no_harm(service: Service, served: Served) -> None:
    configure(service, served, f"127.0.0.1:{PORT}")
    activate(
        service, f"ListenStream=127.0.0.1:{PORT}", "ListenStream=127.0.0.1:98", "ListenDatagram=127.0.0.1:99",
        "FileDescriptorName=front",
    )  # fmt: skip
    assert served_by(service) == "first"
    journal = service.journal()
    assert journal.count("no listener uses 127.0.0.1:98, where a socket unit listens") == 1
    unused = "(front) from the service manager is not used: the socket of 127.0.0.1:99 is not a stream socket"
    assert journal.count(unused) == 1
