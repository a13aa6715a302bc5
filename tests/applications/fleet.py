"""Replicas of a server behind one of the recipes of conf/, and the books that have to balance in the end."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Self

import yaml

from tests.applications.conftest import PREFIX, daemon, moved
from tests.helpers.balancer import ROOT, Balancer, Json, child_environment
from tests.helpers.leaks import descriptors
from tests.helpers.peers import Address, connect
from tests.helpers.waiting import wait_until

SERVER = f"{PREFIX}.5"
"""Where the listeners of the recipes are."""

A, B, C = (f"{PREFIX}.{host}" for host in (11, 12, 13))
"""The two replicas of each recipe, and one more."""

START_DEADLINE = 45.0

LEAVE_DEADLINE = 30.0
"""A quiet session leaves after a second as a rule, but after 15 where the end of its last answer was not clear."""

PROBES = 2
"""Sockets towards each replica that may be open at any moment: of a check and of a scrape."""


def recipe(name: str) -> Json:
    """What conf/NAME.yaml says, on addresses of this run, but for `admin`."""
    config: Json = yaml.safe_load(moved(name))
    return {section: values for section, values in config.items() if section != "admin"}


class Fleet:
    """A recipe, the replicas as processes that a test starts, signals and kills, and the balancer in front of them."""

    def __init__(self, config: Json) -> None:
        self.config = config
        self.balancer = Balancer(config)
        self.directory = self.balancer.directory
        self._processes = ExitStack()
        self._awaited: list[Address] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._processes:
            self.balancer.close()

    def serve(self, module: str, host: str, port: int, name: str) -> subprocess.Popen[bytes]:
        """Start tests/applications/servers/MODULE.py, to listen there."""
        command = (sys.executable, "-m", f"tests.applications.servers.{module}", host, str(port), name)
        return self.run(*command, name=name, address=(host, port))

    def run(self, *command: str, name: str, address: Address | None = None) -> subprocess.Popen[bytes]:
        """Start a program; it is to listen at the address, if there is one."""
        if address is not None:
            self._awaited.append(address)
        log = self.directory / f"{name}.log"
        return self._processes.enter_context(daemon(*command, log=log, cwd=ROOT, env=child_environment()))

    @contextmanager
    def balanced(self) -> Iterator[None]:
        """Run the balancer once all replicas that were started listen. It ends cleanly, and until then has let go of
        every socket and pipe that the block cost it."""
        for address in self._awaited:
            wait_until(partial(listens, address), START_DEADLINE, self.logs)
        with self.balancer:
            most = descriptors(self.balancer.pid)["socket"] + PROBES * len(self._awaited)
            yield
            assert self.balancer.workers_total("pipes_in_use") == 0
            wait_until(lambda: descriptors(self.balancer.pid)["socket"] <= most, what=most)

    def logs(self) -> str:
        """What the replicas say."""
        return "".join(f"{path.name}:\n{path.read_text()}" for path in self.directory.glob("*.log"))

    def change(self, **pools: list[Json]) -> None:
        """Reload with these backends."""
        merged = {name: pool | {"backends": pools.get(name, pool["backends"])} for name, pool in self.pools.items()}
        self.config = self.config | {"pools": merged}
        self.balancer.reload(self.config)

    @property
    def pools(self) -> Json:
        pools: Json = self.config["pools"]
        return pools

    def drain(self, pool: str, backend: str) -> None:
        path = f"/api/v1/pools/{pool}/backends/{backend}"
        status, body = self.balancer.request("PATCH", path, {"state": "drain"})
        assert status == 200, body

    def backend(self, pool: str, name: str) -> Json:
        found: Json = self.balancer.status()["pools"][pool]["backends"][name]
        return found

    def wait_up(self, pool: str, *names: str) -> None:
        wait_until(
            lambda: all(self.backend(pool, name)["health"] == "up" for name in names),
            START_DEADLINE,
            lambda: {name: self.backend(pool, name) for name in names},
        )

    def wait_left(self, *names: str) -> None:
        """Wait until these backends have no session, whether they are drained or have left the file."""
        wait_until(
            lambda: not any(session["backend"] in names for session in self.balancer.sessions()),
            LEAVE_DEADLINE,
            self.balancer.sessions,
        )

    def ended(self) -> list[Json]:
        """The line of the access log of every session there was, once all have ended; every number agrees with them."""
        balancer = self.balancer
        wait_until(lambda: balancer.session_count() == 0, what=balancer.sessions)
        status = balancer.status()
        listeners, pools = status["listeners"].values(), status["pools"].values()
        accepted = sum(listener["connections_total"] for listener in listeners)
        assert not any(listener["connections"] for listener in listeners)
        assert not any(count for listener in listeners for count in listener["rejected_total"].values())
        wait_until(lambda: len(list(balancer.access())) >= accepted, what=lambda: (accepted, list(balancer.access())))
        lines = list(balancer.access())
        assert len(lines) == accepted
        closed: Counter[tuple[str, str]] = Counter()
        for pool in pools:
            for reason, codes in pool["closed_total"].items():
                closed.update({(code, reason): count for code, count in codes.items()})
            for name, backend in pool["backends"].items():
                assert (backend["connections"], backend["busy"]) == (0, 0), name
        assert +closed == endings(lines)
        return lines


def endings(lines: list[Json], *backends: str) -> Counter[tuple[str, str]]:
    """Codes and reasons of the sessions of some backends, or of all."""
    return Counter((line["code"], line["reason"]) for line in lines if not backends or line["backend"] in backends)


def listens(address: Address) -> bool:
    try:
        with connect(address):
            return True
    except ConnectionRefusedError:
        return False
