"""A backend that turns out to be l4lb itself gets no clients; the others go on."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import MakeScene
from tests.helpers.peers import Served, ask, named, spelled
from tests.helpers.waiting import wait_until
from tests.integration.test_discovery import file, wait_backends, write


def test_a_found_backend_that_is_this_listener_gets_no_clients(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with Served(named("a")) as a:
        write(path, a)
        scene = balance(pool=file(path))
        me = spelled(scene.address)
        write(path, a, me)
        wait_backends(scene, a, me)
        assert {ask(scene.address) for _ in range(6)} == {"a"}
        assert scene.backend_status(me)["connections_total"] == 0
        warning = f"{scene.pool}/{me} is at {scene.address}, which is l4lb's own listener {scene.listener}"
        wait_until(lambda: warning in scene.lb.log)
        assert scene.lb.log.count(warning) == 1
        # Not for ever: it may be another's by then.
        write(path, a)
        wait_backends(scene, a)


def test_a_found_backend_that_is_another_listener_serves(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with Served(named("a")) as a:
        write(path)
        scene = balance(
            pool=file(path),
            sections={
                "listeners": {"inner": {"bind": "127.0.0.1:0", "pool": "inner"}},
                "pools": {"inner": {"backends": [str(a)]}},
            },
        )
        write(path, spelled(scene.lb.address("inner")))
        wait_until(lambda: len(scene.pool_status()["backends"]) == 1)
        assert ask(scene.address) == "a"
