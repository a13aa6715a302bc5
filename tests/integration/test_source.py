"""Where connections to backends come from, when the pool says so."""

from __future__ import annotations

import pytest

from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Peer, Served
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until

FIRST, SECOND, ELSEWHERE = "127.0.9.1", "127.0.9.2", "203.0.113.1"


def send_remote_address(peer: Peer) -> None:
    """Tell the client which address the connection came from."""
    peer.send(str(peer.remote[0]).encode() + b"\n")


def ask(scene: Scene) -> str:
    """The address that a client's connection came from."""
    with scene.connect() as client:
        return client.read_all().decode().strip()


@pytest.mark.parametrize("sources", [[FIRST], [FIRST, SECOND], [FIRST, ELSEWHERE, SECOND]])
def test_connections_come_from_each_source_that_is_here(balance: MakeScene, sources: list[str]) -> None:
    with Served(send_remote_address) as backend:
        scene = balance(backend, pool={"source": sources})
        seen = {ask(scene) for _ in range(24)}
        assert seen == set(sources) - {ELSEWHERE}
        scene.reload(pool={"source": []})
        assert ask(scene) == "127.0.0.1"


def test_each_family_has_sources_of_its_own(balance: MakeScene) -> None:
    with Served(send_remote_address) as four, Served(send_remote_address, host="::1") as six:
        scene = balance(four, six, pool={"source": [FIRST, "::1"]})
        assert {ask(scene) for _ in range(8)} == {FIRST, "::1"}


def test_a_source_that_is_not_here_is_no_fault_of_the_backend(balance: MakeScene) -> None:
    with Served(send_remote_address) as backend:
        health = {"interval": "50ms", "timeout": "1s", "fall": 1, "start": "up"}
        scene = balance(backend, pool={"source": ELSEWHERE, "retries": 0, "health": health})
        client = scene.connect()
        assert client.read_all() == b""
        scene.wait_closed("RC resource")
        wait_until(lambda: scene.backend_status()["health_checks_total"]["hindered"] >= 3)
        status = scene.backend_status()
        assert (status["health"], status["connect_failures_total"]) == ("up", 0)
        assert f"this host has no address to connect from ({ELSEWHERE}); see source" in status["health_message"]


def test_checks_and_agents_are_asked_from_there_too(balance: MakeScene) -> None:
    seen: dict[str, set[str]] = {"check": set(), "agent": set()}

    def note(kind: str) -> Served:
        def handler(peer: Peer) -> None:
            seen[kind].add(str(peer.remote[0]))
            peer.send(b"ready\n")

        return Served(handler)

    with Backend() as backend, note("check") as check, note("agent") as agent:
        health = {"interval": "50ms", "timeout": "2s", "port": check.address[1]}
        pool = {"source": FIRST, "health": health, "agent": {"port": agent.address[1], "interval": "50ms"}}
        balance(backend, pool=pool)
        wait_until(lambda: all(seen.values()))
        assert seen == {"check": {FIRST}, "agent": {FIRST}}
