"""Backends that are found, through the real process: clients reach them, and leave them in peace."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import dns.rcode
import pytest

from tests.conftest import MakeScene
from tests.helpers.balancer import Balancer, Json, merge
from tests.helpers.kubernetes_api import KubernetesApi, endpoint
from tests.helpers.leaks import watches
from tests.helpers.name_server import NameServer
from tests.helpers.peers import Backend, End, Served, address_of, ask, connect, echo, listen, named, spelled
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until

ANSWER = b"a" * 100


def write(path: Path, *targets: object) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps([{"targets": [str(target) for target in targets]}]))
    temporary.replace(path)


def file(path: Path, **more: Any) -> Json:
    return {"discover": {"file": {"path": str(path)}} | more}


def backends(scene: Scene) -> set[str]:
    return set(scene.pool_status()["backends"])


def wait_backends(scene: Scene, *expected: object) -> None:
    names = {str(one) for one in expected}
    wait_until(lambda: backends(scene) == names, what=lambda: f"{scene.pool_status()}, not {names}")


def test_clients_reach_what_a_file_names_as_it_changes(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with Served(named("a")) as a, Served(named("b")) as b:
        write(path, a)
        scene = balance(pool=file(path))
        assert ask(scene.address) == "a"
        write(path, a, b)
        wait_backends(scene, a, b)
        assert {ask(scene.address) for _ in range(4)} == {"a", "b"}
        write(path, b)
        wait_backends(scene, b)
        assert {ask(scene.address) for _ in range(4)} == {"b"}
        discovery = scene.pool_status()["discovery"]
        assert (discovery["source"], discovery["working"], discovery["endpoints"]) == ("file", True, 1)
        assert scene.lb.metric("l4lb_discovery_endpoints", pool=scene.pool, source="file") == 1
        assert scene.lb.metric("l4lb_discovery_updates_total", pool=scene.pool, result="success") >= 3
        assert 0 <= scene.lb.metric("l4lb_discovery_age_seconds", pool=scene.pool) < 60


def test_a_reload_from_listed_to_found_backends_and_back_leaves_no_gap(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with Served(named("a")) as a:
        write(path, a)
        listed = {"name": str(a), "address": str(a)}
        scene = balance(listed)
        before = scene.backend_status(str(a))["connections_total"]
        for found in (True, False, True):
            scene.reload([] if found else [listed], pool=file(path) if found else {"discover": None})
            assert ask(scene.address) == "a"
        assert scene.backend_status(str(a))["connections_total"] == before + 3


def test_a_reload_keeps_what_is_known_though_the_source_broke(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with Served(named("a")) as a:
        write(path, a)
        scene = balance(pool=file(path))
        path.unlink()
        wait_until(lambda: not scene.pool_status()["discovery"]["working"])
        scene.reload(pool={"retries": 1})
        assert ask(scene.address) == "a"
        assert "No such file" in scene.pool_status()["discovery"]["message"]
        assert scene.lb.metric("l4lb_discovery_working", pool=scene.pool) == 0


def test_a_reload_that_is_rejected_leaves_no_source_behind(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with Served(named("a")) as a, listen() as taken:
        write(path, a)
        scene = balance({"name": "a", "address": str(a)})
        pid = scene.lb.popen.pid
        before = watches(pid)
        rejected = merge(scene.config, {"pools": {scene.pool: file(path)}})
        rejected["listeners"][scene.listener] |= {"bind": spelled(address_of(taken))}
        scene.lb.write(rejected)
        assert scene.lb.request("POST", "/api/v1/reload")[0] == 422
        assert scene.pool_status()["discovery"] is None
        wait_until(lambda: watches(pid) == before)
        assert ask(scene.address) == "a"


def test_a_session_outlives_its_backend_and_its_neighbours_keep_their_weight(
    balance: MakeScene, backend: Backend, tmp_path: Path
) -> None:
    path = tmp_path / "targets.json"
    with Served(named("b")) as b:
        write(path, backend)
        scene = balance(pool=file(path))
        client, server = scene.pair(backend)
        client.send(b"question")
        assert server.receive(8) == b"question"
        write(path, backend, b)
        wait_backends(scene, backend, b)
        url = f"/api/v1/pools/{scene.pool}/backends/{b}"
        assert scene.lb.request("PATCH", url, {"weight": 9})[0] == 200
        write(path, b)
        wait_backends(scene, b)
        # The turn in flight goes on to its end; then the session, being quiet, is closed.
        server.send(ANSWER)
        assert client.receive(len(ANSWER)) == ANSWER
        client.ended()
        scene.wait_closed("DD drained")
        assert scene.backend_status(str(b))["weight"] == 9


def test_idle_sessions_close_with_their_backend_and_a_turn_has_the_time_of_its_pool(
    balance: MakeScene, backend: Backend, tmp_path: Path
) -> None:
    path = tmp_path / "targets.json"
    with Served(named("b")) as b:
        write(path, backend)
        scene = balance(pool=file(path) | {"drain_timeout": "3s"})
        quiet, working = scene.pair(backend), scene.pair(backend)
        for client, server in (quiet, working):
            client.send(b"question")
            assert server.receive(8) == b"question"
        quiet[1].send(ANSWER)
        assert quiet[0].receive(len(ANSWER)) == ANSWER
        write(path, b)
        wait_backends(scene, b)
        assert quiet[0].ended() is quiet[1].ended() is End.FIN
        quiet[0].close()
        wait_until(lambda: len(scene.lb.sessions()) == 1, what=scene.lb.sessions)
        # It gets no answer.
        assert working[0].ended() is working[1].ended()
        scene.wait_closed("DD drained", "DD drained")
        scene.lb.wait_log(f"{scene.pool}/{backend}: drain_timeout is over, closed 1 session")
        assert ask(scene.address) == "b"


def test_a_storm_of_changes_loses_no_client(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with contextlib.ExitStack() as stack:
        keeper = stack.enter_context(Served(echo))
        others = [stack.enter_context(Served(echo)) for _ in range(3)]
        write(path, keeper)
        scene = balance(pool=file(path, hold="0s"))
        lasting = scene.connect()
        for number in range(24):
            write(path, keeper, *others[: number % 4])
            with connect(scene.address) as client:
                for peer in (client, lasting):
                    peer.send(b"%d" % (10 + number))
                    assert peer.receive(2) == b"%d" % (10 + number)
        write(path, keeper)
        wait_backends(scene, keeper)
        lasting.send(b"still")
        assert lasting.receive(5) == b"still"
        assert scene.pool_status()["closed_total"]["connect_failed"]["SC"] == 0


def test_an_emptied_file_empties_the_pool_only_after_a_while(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with Served(named("a")) as a:
        write(path, a)
        scene = balance(pool=file(path, hold="1h"))
        write(path)
        wait_until(lambda: scene.pool_status()["discovery"]["held"] == 1)
        assert ask(scene.address) == "a"
        assert scene.lb.metric("l4lb_discovery_held_endpoints", pool=scene.pool) == 1
        scene.reload(pool=file(path, hold="100ms"))
        wait_backends(scene)


def test_a_name_in_a_file_is_looked_up(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with Served(named("a")) as a:
        port = str(a).rpartition(":")[2]
        write(path, f"localhost:{port}")
        scene = balance(pool=file(path))
        assert ask(scene.address) == "a"


def config(bind: str, server: NameServer, port: str, **more: Any) -> Json:
    discover = {"dns": {"name": "llama.test", "port": int(port), "servers": server.address}}
    return {
        "listeners": {"main": {"bind": bind, "pool": "main"}},
        "pools": {"main": {"discover": discover} | more},
    }


def test_first_client_after_ready_is_served_though_backends_are_found_and_checked() -> None:
    with Served(named("a")) as a, NameServer({("llama.test", "A"): ["127.0.0.1"]}) as server:
        port = str(a).rpartition(":")[2]
        health = {"type": "tcp", "interval": "10s"}
        with Balancer(config("127.0.0.1:0", server, port, health=health)) as lb:
            assert ask(lb.address("main")) == "a"
            assert not lb.status()["pools"]["main"]["closed_total"]["no_backend"]["SC"]
            server.rcode = dns.rcode.SERVFAIL
            lb.wait_log("pool main: dns fails: ")
            assert ask(lb.address("main")) == "a"
            server.rcode = dns.rcode.NOERROR
            lb.wait_log("pool main: dns works again")


def test_client_that_comes_before_the_first_answer_waits_for_it() -> None:
    with Served(named("a")) as a, NameServer(silent=True) as server, Balancer() as lb, contextlib.ExitStack() as stack:
        bind = f"unix:{lb.directory}/listener"
        lb.stop()
        lb.write(config(bind, server, str(a).rpartition(":")[2]))
        lb.spawn()
        wait_until(lambda: server.asked)
        wait_until(lambda: os.path.exists(f"{lb.directory}/listener"))
        client = stack.enter_context(connect(f"{lb.directory}/listener"))
        server.records["llama.test", "A"] = ["127.0.0.1"]
        server.silent = False
        assert client.read_first() == b"a\n"
        lb.wait_notified("READY=1")


def test_a_source_without_an_answer_does_not_keep_the_process_from_starting_or_stopping() -> None:
    with NameServer(rcode=dns.rcode.SERVFAIL) as server, Balancer(config("127.0.0.1:0", server, "9")) as lb:
        with connect(lb.address("main")) as client:
            client.ended()
        assert lb.status()["pools"]["main"]["discovery"]["age_s"] is None
        assert lb.request("GET", "/readyz?pools=all")[0] == 503
        assert lb.log.count("pool main: dns fails") == 1


def test_pods_come_are_drained_and_go_as_kubernetes_says(balance: MakeScene, backend: Backend, tmp_path: Path) -> None:
    pytest.importorskip("kubernetes_asyncio", reason="l4lb[kubernetes] is not installed")
    going = {"ready": False, "serving": True, "terminating": True}
    with KubernetesApi() as api, Served(named("new")) as new:

        def put(old: dict[str, bool] | None, *others: dict[str, bool]) -> None:
            """One slice for each pod: they listen on ports of their own here."""
            pods = [("old", backend, old), *zip(["new", "third"], [new, new], others, strict=False)]
            for name, at, conditions in pods:
                port = int(str(at).rpartition(":")[2])
                found = [] if conditions is None else [endpoint("127.0.0.1", name, **conditions)]
                api.put(name, *found, ports=[{"name": "", "port": port}])

        def shown(name: str) -> tuple[str, str]:
            status = scene.backend_status(name)
            return status["state"], status["health"]

        put({"ready": True})
        kubeconfig = str(api.kubeconfig(tmp_path / "kubeconfig"))
        scene = balance(pool={"discover": {"kubernetes": {"service": "llama", "kubeconfig": kubeconfig}}})
        client, server = scene.pair(backend)
        client.send(b"question")
        assert server.receive(8) == b"question"
        put({"ready": True}, {"ready": False})
        wait_backends(scene, "old", "new")
        assert shown("new") == ("ready", "down")
        assert scene.backend_status("new")["health_message"] == "its source says it is not ready"
        put({"ready": True}, {"ready": True})
        wait_until(lambda: shown("new") == ("ready", "none"))
        # The old one is about to go: it gets no new session, and may finish its answer.
        put(going, {"ready": True})
        wait_until(lambda: shown("old") == ("drain", "none"))
        assert {ask(scene.address) for _ in range(4)} == {"new"}
        server.send(ANSWER)
        assert client.receive(len(ANSWER)) == ANSWER
        client.ended()
        scene.wait_closed("DD drained", *["-- normal"] * 4)
        put(None)
        wait_backends(scene, "new")
        assert scene.pool_status()["discovery"]["held"] == 0
        # It is about to go too, but no other is ready: better than no backend.
        put(None, going, {"ready": False})
        wait_backends(scene, "new", "third")
        wait_until(lambda: shown("third") == ("ready", "down"))
        assert shown("new") == ("ready", "none")
        assert ask(scene.address) == "new"
