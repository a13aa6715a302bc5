"""What is configured for lost peers is what the sockets of sessions have, from the moment it is in force."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Peer, Served, connect, echo
from tests.helpers.scene import Scene
from tests.helpers.tcp import TcpOptions, options_towards

CLIENT = {"keepalive": "90s", "keepalive_interval": "11s", "keepalive_probes": 4, "user_timeout": "150s"}
SERVER = {"keepalive": "20s", "user_timeout": "1500ms"}
OFF = {"keepalive": "off", "user_timeout": "off"}


def options(scene: Scene, client: Peer, server: Peer) -> tuple[TcpOptions, TcpOptions]:
    """Of both sockets of a session."""
    return options_towards(scene.lb.pid, client), options_towards(scene.lb.pid, server)


def test_both_sockets_of_a_session_have_the_options_of_their_side(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"tcp": CLIENT}, pool={"tcp": SERVER})
    assert options(scene, *scene.pair(backend)) == (
        TcpOptions(keepalive=(90, 11, 4), user_timeout_ms=150_000),
        TcpOptions(keepalive=(20, 10, 6), user_timeout_ms=1500),
    )


def test_nothing_is_set_unless_it_is_given(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    assert options(scene, *scene.pair(backend)) == (TcpOptions(), TcpOptions())


def test_reload_changes_them_for_sessions_that_come(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"tcp": CLIENT}, pool={"tcp": SERVER})
    before = scene.pair(backend)
    kept = options(scene, *before)
    scene.reload(listener={"tcp": OFF}, pool={"tcp": OFF})
    assert options(scene, *scene.pair(backend)) == (TcpOptions(), TcpOptions())
    assert options(scene, *before) == kept
    scene.reload(listener={"tcp": SERVER}, pool={"tcp": CLIENT})
    assert options(scene, *scene.pair(backend)) == (
        TcpOptions(keepalive=(20, 10, 6), user_timeout_ms=1500),
        TcpOptions(keepalive=(90, 11, 4), user_timeout_ms=150_000),
    )


def test_unix_sockets_work_as_without(balance: MakeScene, tmp_path: Path) -> None:
    with Served(echo, path=str(tmp_path / "backend.sock")) as served:
        listener = {"bind": f"unix:{tmp_path}/web.sock", "tcp": CLIENT}
        scene = balance(served, listener=listener, pool={"tcp": SERVER})
        with connect(scene.address) as client:
            client.send(b"x")
            assert client.receive(1) == b"x"
