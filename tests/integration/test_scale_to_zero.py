"""Pools without backends: clients wait, the one that comes serves them, and nothing takes the emptiness for a fault."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeScene
from tests.helpers.balancer import Balancer, Json
from tests.helpers.kubernetes_api import KubernetesApi, endpoint
from tests.helpers.peers import End, Peer, Served, address_of, connect, echo, listen, named, read_name, spelled
from tests.helpers.scene import Scene
from tests.helpers.tls import client_hello
from tests.helpers.waiting import wait_until

ASLEEP: dict[str, Any] = {"scale_to_zero": True, "queue": {"size": 50, "timeout": "60s"}}


def write(path: Path, *targets: object) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps([{"targets": [str(target) for target in targets]}]))
    temporary.replace(path)


def asleep(path: Path, **more: Any) -> Json:
    """A pool that finds its backends in a file, none at first."""
    write(path)
    return ASLEEP | {"discover": {"file": {"path": str(path)}, "hold": "0s"}} | more


def autoscale(lb: Balancer, pool: str) -> Json:
    status, body = lb.request("GET", f"/api/v1/autoscale/{pool}")
    assert status == 200
    return body


def wait_demand(scene: Scene, demand: int, **backends: int) -> None:
    def is_so() -> bool:
        view = autoscale(scene.lb, scene.pool)
        return view["demand"] == demand and backends.items() <= view["backends"].items()

    wait_until(is_so, what=lambda: f"{autoscale(scene.lb, scene.pool)}, not {demand}, {backends}")


def asking(scene: Scene, number: int) -> list[Peer]:
    """So many clients, each with its question in the line."""
    clients = []
    for index in range(number):
        clients.append(scene.connect())
        clients[-1].send(b"question")
        wait_until(lambda n=index: scene.pool_status()["queued"] == n + 1)  # type: ignore[misc]
    return clients


def names(clients: Iterable[Peer]) -> list[str]:
    return [read_name(client) for client in clients]


def test_the_first_backend_that_is_found_serves_waiting_clients(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    scene = balance(pool=asleep(path))
    assert scene.lb.request("GET", "/readyz?pools=all")[0] == 200
    assert autoscale(scene.lb, scene.pool) == {
        "pool": scene.pool,
        "demand": 0,
        "sessions": 0,
        "queued": 0,
        "busy": 0,
        "connections": 0,
        "backends": {"total": 0, "ready": 0, "usable": 0},
    }
    clients = asking(scene, 5)
    wait_demand(scene, 5, total=0)
    assert scene.lb.metric("l4lb_pool_queued", pool=scene.pool) == 5
    assert scene.lb.request("GET", "/readyz?pools=all")[0] == 200
    with Served(named("woken")) as served:
        write(path, served)
        assert names(clients) == ["woken"] * 5
        wait_demand(scene, 0, total=1, ready=1, usable=1)
        write(path)
        wait_demand(scene, 0, total=0)
        later = scene.connect()
        wait_demand(scene, 1, total=0)
        write(path, served)
        assert read_name(later) == "woken"


def test_a_backend_that_starts_is_waited_for_until_it_is_healthy(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    health = {"type": "tcp", "interval": "50ms", "rise": 1, "start": "down"}
    scene = balance(pool=asleep(path, health=health))
    clients = asking(scene, 3)
    with listen() as port:
        address = address_of(port)
    write(path, spelled(address))
    wait_demand(scene, 3, total=1, ready=1, usable=0)
    assert scene.lb.request("GET", "/readyz?pools=all")[0] == 200
    with Served(named("woken"), *address):
        assert names(clients) == ["woken"] * 3


@pytest.mark.parametrize(
    "more",
    [
        {"balance": "maglev"},
        {"balance": "least_busy", "sticky": {}},
        {"balance": "power_of_two", "panic_threshold": "50%"},
        {"slow_start": "30s"},
    ],
    ids=lambda more: "-".join(more),
)
def test_whichever_way_clients_are_shared_out_they_are_woken(
    balance: MakeScene, tmp_path: Path, more: dict[str, Any]
) -> None:
    path = tmp_path / "targets.json"
    scene = balance(pool=asleep(path, **more))
    clients = asking(scene, 4)
    with Served(named("woken")) as served:
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps([{"targets": [str(served)], "labels": {"tier": "3"}}]))
        temporary.replace(path)
        assert names(clients) == ["woken"] * 4


def test_limits_of_found_backends_hold_when_a_crowd_is_woken(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    pool = asleep(path)
    pool["discover"]["max_connections"] = 2
    scene = balance(pool=pool)
    clients = asking(scene, 6)
    with Served(echo) as served:
        write(path, served)
        for left in range(6, 0, -1):

            def is_full(left: int = left) -> bool:
                view = autoscale(scene.lb, scene.pool)
                return (view["connections"], view["queued"]) == (min(2, left), max(0, left - 2))

            wait_until(is_full)
            client = clients[6 - left]
            assert client.receive(8) == b"question"
            client.finish()
            assert client.ended() is End.FIN


def test_a_hello_that_was_read_for_its_name_waits_with_its_client(balance: MakeScene, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    hello = client_hello("model.llama.example")
    scene = balance(pool=asleep(path, balance="maglev", hash={"key": "sni"}))
    client = scene.connect()
    client.send(hello)
    wait_until(lambda: scene.pool_status()["queued"] == 1)
    with Served(echo) as served:
        write(path, served)
        assert client.receive(len(hello)) == hello


def test_clients_that_leave_are_too_many_or_wait_too_long_are_told_apart(balance: MakeScene, tmp_path: Path) -> None:
    scene = balance(pool=asleep(tmp_path / "targets.json") | {"queue": {"size": 2, "timeout": "60s"}})
    first, second = asking(scene, 2)
    assert scene.connect().ended() is End.FIN
    first.reset()
    scene.wait_closed("SQ queue_full", "CQ client_abort")
    second.reset()
    scene.wait_closed("SQ queue_full", "CQ client_abort", "CQ client_abort")
    scene.reload(pool={"queue": {"size": 3, "timeout": "100ms"}})
    assert scene.connect().ended() is End.FIN
    scene.wait_closed("SQ queue_full", "CQ client_abort", "CQ client_abort", "sQ queue_timeout")


def test_a_client_that_is_gone_after_its_request_is_found_by_keepalive(balance: MakeScene, tmp_path: Path) -> None:
    """A client that only sent its FIN may wait for the response. Keepalive tells it from one that is gone."""
    probes = {"keepalive": "1s", "keepalive_interval": "1s", "keepalive_probes": 3}
    scene = balance(pool=asleep(tmp_path / "targets.json"), listener={"tcp": probes})
    (client,) = asking(scene, 1)
    # Its kernel forgets the connection after a second, not after tcp_fin_timeout.
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
    client.close()
    scene.wait_closed("CQ client_abort")


def test_a_reload_without_the_queue_closes_waiting_clients(balance: MakeScene, tmp_path: Path) -> None:
    scene = balance(pool=asleep(tmp_path / "targets.json"))
    clients = [scene.connect() for _ in range(5)]
    wait_until(lambda: scene.pool_status()["queued"] == 5)
    scene.reload(pool={"scale_to_zero": False, "queue": None})
    assert [client.ended() for client in clients] == [End.FIN] * 5
    assert scene.closed() == {"SC no_backend": 5}
    assert scene.lb.request("GET", "/readyz?pools=all")[0] == 503


def settings(path: Path) -> Json:
    return {
        "process": {"workers": 2, "drain_timeout": "60s"},
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {"main": asleep(path)},
    }


def test_a_stopping_process_still_finds_a_backend_for_waiting_clients(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with Served(named("woken")) as served, Balancer(settings(path)) as lb, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(lb.address("main"))) for _ in range(3)]
        wait_until(lambda: autoscale(lb, "main")["queued"] == 3)
        lb.signal(signal.SIGTERM)
        lb.wait_notified("STOPPING=1")
        write(path, served)
        assert names(clients) == ["woken"] * 3
        for client in clients:
            client.close()
        lb.wait_exit()


def test_a_process_that_is_told_to_stop_twice_closes_waiting_clients(tmp_path: Path) -> None:
    with Balancer(settings(tmp_path / "targets.json")) as lb, connect(lb.address("main")) as client:
        wait_until(lambda: autoscale(lb, "main")["queued"] == 1)
        lb.signal(signal.SIGTERM)
        lb.wait_notified("STOPPING=1")
        lb.signal(signal.SIGTERM)
        assert client.ended() in (End.FIN, End.RESET)
        lb.wait_exit()
        (line,) = lb.access()
        assert (line["code"], line["reason"]) == ("KD", "shutdown")


def test_the_last_pod_that_is_told_to_go_gets_no_new_client(balance: MakeScene, tmp_path: Path) -> None:
    """Elsewhere it would be better than no backend; here the next one is."""
    pytest.importorskip("kubernetes_asyncio")
    with KubernetesApi() as api, Served(echo) as last, Served(named("next")) as following:

        def put(name: str, at: Served, **conditions: bool) -> None:
            port = int(str(at).rpartition(":")[2])
            api.put(name, endpoint("127.0.0.1", name, **conditions), ports=[{"name": "", "port": port}])

        put("last", last, ready=True)
        kubeconfig = str(api.kubeconfig(tmp_path / "kubeconfig"))
        scene = balance(pool=ASLEEP | {"discover": {"kubernetes": {"service": "llama", "kubeconfig": kubeconfig}}})
        inside = scene.connect()
        inside.send(b"question")
        assert inside.receive(8) == b"question"
        put("last", last, ready=False, serving=True, terminating=True)
        wait_until(lambda: scene.backend_status("last")["state"] == "drain")
        waiting = scene.connect()
        wait_until(lambda: scene.pool_status()["queued"] == 1)
        # Its absence is believed at once, for it was about to go.
        api.delete("last")
        wait_until(lambda: autoscale(scene.lb, scene.pool)["backends"]["total"] == 0)
        put("next", following, ready=True)
        assert read_name(waiting) == "next"
