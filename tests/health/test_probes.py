"""Checks of every type when this host runs out of something, and what they leave open."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from l4lb.config.model import Health
from l4lb.health.probes import Outcome, Result, probe
from l4lb.net.target import Target
from tests.health.probing import check, target
from tests.health.web_server import OK, Web
from tests.helpers.loops import run
from tests.helpers.peers import Address, Backend, blackhole, listen, refused
from tests.helpers.waiting import wait_until


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "tcp"},
        {"type": "http"},
        {"type": "grpc"},
        {"type": "redis"},
        {"type": "pgsql", "user": "u"},
        {"type": "exec", "command": ["/bin/true"]},
    ],
    ids=lambda settings: settings["type"],
)
def test_a_host_without_descriptors_says_nothing_of_the_backend(settings: dict[str, Any]) -> None:
    async def main(address: Address) -> Result:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
        fillers: list[int] = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(2))
            return await probe(target(address), Health.model_validate(settings))
        finally:
            for filler in fillers:
                os.close(filler)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with Backend() as backend:
        result = run(main(backend.address))
        assert (result.outcome, result.message) == (Outcome.HINDERED, "Too many open files")


@pytest.mark.parametrize(
    "error", [errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EADDRNOTAVAIL, errno.EAGAIN]
)
def test_other_shortages_of_this_host_say_nothing_of_the_backend(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(socket.socket):
        def connect_ex(self, _address: object) -> int:
            return error

    monkeypatch.setattr(socket, "socket", Short)
    assert check(("127.0.0.1", 1)) == Result(Outcome.HINDERED, os.strerror(error))


@pytest.mark.slow
def test_checks_of_all_kinds_leave_no_descriptor(tmp_path: Path) -> None:
    async def all_kinds(cases: list[tuple[Target, Health]]) -> None:
        for where, settings in cases:
            await probe(where, settings)

    tcp, http = Health(timeout=0.05), Health(type="http", timeout=0.05)
    with (
        Web(OK) as web,
        Web(b"") as silent,
        Web(b"garbage\r\n\r\n") as garbage,
        refused() as closed,
        blackhole() as hole,
    ):
        dead = str(tmp_path / "dead.sock")
        listen(path=dead).close()
        places = [web.address, silent.address, garbage.address, closed, hole, dead]
        cases = [(target(place), settings) for place in places for settings in (tcp, http)]

        async def main() -> tuple[int, int]:
            await all_kinds(cases)
            before = open_descriptors(web, silent, garbage)
            for _ in range(3):
                await all_kinds(cases)
            return before, open_descriptors(web, silent, garbage)

        before, after = run(main())
        assert after <= before


def open_descriptors(*servers: Web) -> int:
    """Of this process, once the servers have closed their ends of the connections."""
    wait_until(lambda: not any(server.live for server in servers))
    return len(os.listdir("/proc/self/fd"))
