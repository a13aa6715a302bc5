"""`l4lb.Balancer`: what a program can ask and change, from any thread."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import l4lb
from l4lb.types import AdminState, HealthState
from tests.embedding.build import config
from tests.embedding.traffic import paired
from tests.helpers.balancer import UnixConnection
from tests.helpers.peers import Backend, Background, Served, ask, connect, echo, named, refused, spelled
from tests.helpers.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.usefixtures("clean")


def test_traffic_goes_through() -> None:
    with Served(echo) as backend, l4lb.Balancer(config(backend)) as lb, connect(lb.address("web")) as client:
        client.send(b"question")
        assert client.receive(8) == b"question"


def test_it_is_made_from_a_file_a_mapping_or_a_read_configuration(tmp_path: Path) -> None:
    path = tmp_path / "l4lb.yaml"
    with Served(named("one")) as backend:
        path.write_text(yaml.safe_dump(config(backend)))
        for source in (path, str(path), config(backend), l4lb.load_config(path), l4lb.read_config(config(backend))):
            with l4lb.Balancer(source) as lb:
                assert ask(lb.address("web")) == "one"
                assert lb.status().config.file == (str(path) if source in (path, str(path)) else "(no file)")


def test_several_run_at_once_also_one_behind_the_other() -> None:
    with (
        Served(named("one")) as one,
        Served(named("two")) as two,
        l4lb.Balancer(config(one)) as first,
        l4lb.Balancer(config(two)) as second,
        l4lb.Balancer(config(first.address("web"), second.address("web"))) as front,
    ):
        assert {ask(front.address("web")) for _ in range(2)} == {"one", "two"}
        second.close()
        assert {ask(front.address("web")) for _ in range(4)} == {"one"}
        assert front.status().pools["app"].backends["b0"].statistics.connections_total > 0


def test_addresses_are_those_really_bound(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    binds = ["unix:" + path, "127.0.0.1:0", "[::1]:0", "unix:@l4lb-embedding"]
    with l4lb.Balancer(config(listener={"bind": binds})) as lb:
        unix, first, second, abstract = lb.addresses("web")
        assert (unix, abstract) == (path, "\0l4lb-embedding")
        assert first == lb.address("web")
        assert first[1] > 0
        assert second[0] == "::1"
        for address in (unix, first, second, abstract):
            connect(address).close()
        with pytest.raises(l4lb.ControlError, match=r"no listener 'wbe'; there are web"):
            lb.address("wbe")
    with (
        l4lb.Balancer(config(listener={"bind": "unix:@l4lb-embedding"})) as lb,
        pytest.raises(l4lb.ControlError, match="no TCP address"),
    ):
        lb.address("web")


def test_status_and_metrics_tell_what_there_is() -> None:
    with Served(named("one")) as backend, l4lb.Balancer(config(backend, pool={"health": {"type": "tcp"}})) as lb:
        ask(lb.address("web"))
        wait_until(lambda: lb.status().pools["app"].backends["b0"].statistics.connections == 0)
        status = lb.status()
        assert status.pid == os.getpid()
        assert len(status.workers) == 1
        shown = status.pools["app"].backends["b0"]
        assert (shown.health, shown.state, shown.weight) == (HealthState.UP, AdminState.READY, 1)
        assert shown.statistics.connections_total == 1
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(lb.metrics())
            for sample in family.samples
        }
        assert samples["l4lb_backend_connections_total"] == 1


def test_workers_follow_the_configuration_and_are_one_without_it() -> None:
    with l4lb.Balancer(config(process={"workers": 3})) as lb:
        assert len(lb.status().workers) == 3
    with l4lb.Balancer(config(process={"workers": "auto"})) as lb:
        assert len(lb.status().workers) == len(os.sched_getaffinity(0))
    with l4lb.Balancer(config(process={"drain_timeout": 1})) as lb:
        assert len(lb.status().workers) == 1


def test_backends_are_drained_and_weighed() -> None:
    with Backend() as one, Backend() as two, l4lb.Balancer(config(one, two)) as lb:
        with paired(lb, one) as (client, server):
            client.send(b"question")
            server.receive(8)
            lb.drain("app/b0")
            assert lb.status().pools["app"].backends["b0"].state is AdminState.DRAIN
            with pytest.raises(TimeoutError, match=r"app/b0 still has sessions after 0\.01 s: 1"):
                lb.drained("app/b0", timeout=0.01)
            with paired(lb, two), paired(lb, two):
                waiting = Background(lambda: lb.drained("app/b0"))
                server.send(b"answer")
                assert client.receive(6) == b"answer"
                client.finish()
                server.finish()
                waiting.result()
        lb.ready("app/b0")
        lb.weight("app/b1", 0)
        with paired(lb, one), paired(lb, one):
            pass
        lb.maint("app/b0")
        assert lb.status().pools["app"].backends["b0"].state is AdminState.MAINT


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("b0", "'b0' is not POOL/BACKEND"),
        ("app/", "'app/' is not POOL/BACKEND"),
        ("none/b0", "there is no pool 'none'"),
        ("app/b9", "there is no backend 'b9' in pool 'app'"),
    ],
)
def test_a_backend_that_is_not_there_is_named(name: str, sentence: str) -> None:
    with l4lb.Balancer(config(("127.0.0.1", 9))) as lb:
        for call in (lb.drain, lb.ready, lb.maint, lb.drained):
            with pytest.raises(l4lb.ControlError, match=sentence):
                call(name)
        with pytest.raises(l4lb.ControlError, match="weights are 0 to 256"):
            lb.weight("app/b0", 257)


def test_sessions_are_listed_and_killed() -> None:
    with Backend() as backend, l4lb.Balancer(config(backend)) as lb:
        with paired(lb, backend) as (client, _), paired(lb, backend) as (other, _):
            by_port = {session.record.client_port: session for session in lb.sessions()}
            lb.kill(by_port[client.local[1]])  # type: ignore[index]
            client.ended()
            lb.kill(by_port[other.local[1]].record.id)  # type: ignore[index]
            other.ended()
        with pytest.raises(l4lb.ControlError, match="there is no session"):
            lb.kill(next(iter(by_port.values())))


def test_closed_sessions_are_reported_once_each_and_a_failing_callback_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[l4lb.Session] = []
    threads: set[str] = set()

    def on_close(session: l4lb.Session) -> None:
        told.append(session)
        threads.add(threading.current_thread().name)
        raise RuntimeError("a mistake of the program")

    with Served(echo) as backend, l4lb.Balancer(config(backend), on_close=on_close) as lb:
        with connect(lb.address("web")) as client:
            client.send(b"12345")
            client.receive(5)
        wait_until(lambda: len(told) == 1)
        last = connect(lb.address("web"))
        wait_until(lambda: len(lb.sessions()) == 1)
    last.ended()
    last.close()
    assert [(one.listener, one.pool, one.backend, one.record.bytes_in) for one in told] == [
        ("web", "app", "b0", 5),
        ("web", "app", "b0", 0),
    ]
    assert [one.record.close and one.record.close[0] for one in told] == ["normal", "shutdown"]
    assert threads == {"l4lb-control"}
    assert "on_close failed" in caplog.text


def test_the_access_log_has_only_what_it_asked_for(tmp_path: Path) -> None:
    path, told = tmp_path / "log", []
    access = {"log": {"access": {"to": str(path), "events": ["open"]}}}
    with Served(named("one")) as backend, l4lb.Balancer(config(backend, **access), on_close=told.append) as lb:
        ask(lb.address("web"))
        wait_until(lambda: len(told) == 1)
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["open"]


def test_on_close_cannot_wait_for_itself() -> None:
    said: list[str] = []

    def on_close(_session: l4lb.Session) -> None:
        for call in (lb.status, lb.close):
            try:
                call()
            except l4lb.ControlError as error:
                said.append(str(error))

    with Served(named("one")) as backend, l4lb.Balancer(config(backend), on_close=on_close) as lb:
        ask(lb.address("web"))
        wait_until(lambda: len(said) == 2)
    assert all("use another thread" in sentence for sentence in said)


def test_a_reload_changes_what_it_says_under_traffic() -> None:
    with Served(named("one")) as one, Served(named("two")) as two, l4lb.Balancer(config(one)) as lb:
        address = lb.address("web")
        stop = threading.Event()

        def asking() -> set[str]:
            heard = set()
            while not stop.is_set():
                heard.add(ask(address))
            return heard

        with connect(address) as old:
            assert old.receive(4) == b"one\n"
            clients = [Background(asking) for _ in range(3)]
            for number in range(10):
                assert lb.reload(config(two if number % 2 else one)) == ()
            assert ask(address) == "two"
            assert lb.address("web") == address
            old.send(b"still here")
            assert old.receive(10) == b"still here"
            stop.set()
            assert all(client.result() <= {"one", "two"} for client in clients)  # type: ignore[operator]


def test_a_reload_without_a_configuration_reads_the_same_one_again(tmp_path: Path) -> None:
    path = tmp_path / "l4lb.yaml"
    with Served(named("one")) as one, Served(named("two")) as two:
        path.write_text(yaml.safe_dump(config(one)))
        given = config(one)
        with l4lb.Balancer(path) as by_path, l4lb.Balancer(given) as by_mapping:
            path.write_text(yaml.safe_dump(config(two)))
            given["pools"] = config(two)["pools"]
            for lb in (by_path, by_mapping):
                assert ask(lb.address("web")) == "one"
                lb.reload()
                assert ask(lb.address("web")) == "two"


def test_a_rejected_reload_changes_nothing() -> None:
    with Backend() as taken, Served(named("one")) as one, l4lb.Balancer(config(one)) as lb:
        address = lb.address("web")
        with pytest.raises(l4lb.ConfigError, match=r"^error: pools\.app\.balance: 'best' is not known"):
            lb.reload(config(one, pool={"balance": "best"}))
        assert lb.status().config.last_reload_ok is False
        with pytest.raises(l4lb.StartError, match="cannot bind"):
            lb.reload(config(one, listener={"bind": ["127.0.0.1:0", str(taken)]}))
        with pytest.raises(l4lb.StartError, match=r"process\.user"):
            lb.reload(config(one, process={"user": "nobody"}))
        error = lb.status().config.last_error
        assert error is not None
        assert "process.user" in error
        assert (lb.address("web"), ask(address)) == (address, "one")
        notes = lb.reload(config(one, process={"workers": 2}))
        assert "process.workers" in notes[0]
        assert lb.status().config.restart_notes == notes
        assert lb.status().config.last_reload_ok is True


def test_the_admin_api_is_there_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    admin = {"admin": {"socket": path, "listen": "127.0.0.1:0"}}
    with Backend() as backend, l4lb.Balancer(config(backend, **admin)) as lb:
        with contextlib.closing(http.client.HTTPConnection(*lb.admin_address(), timeout=DEADLINE)) as http_client:
            http_client.request("GET", "/readyz")
            assert http_client.getresponse().status == 200
        with contextlib.closing(UnixConnection(str(path), DEADLINE)) as unix:
            unix.request("PATCH", "/api/v1/pools/app/backends/b0", '{"weight": 5}')
            assert unix.getresponse().read()
            assert lb.status().pools["app"].backends["b0"].weight == 5
            unix.request("POST", "/api/v1/reload")
            assert json.loads(unix.getresponse().read())["applied"] is True
    assert not path.exists()


def test_there_is_no_admin_socket_unless_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("L4LB_SOCKET", str(tmp_path / "admin.sock"))
    with l4lb.Balancer(config()) as lb:
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(l4lb.ControlError, match=r"no admin\.listen"):
            lb.admin_address()


def test_many_threads_may_ask_at_once() -> None:
    with Served(named("one")) as backend, l4lb.Balancer(config(backend)) as lb, ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(call) for _ in range(25) for call in (lb.status, lb.sessions, lb.reload, lb.metrics)]
        for _ in range(20):
            assert ask(lb.address("web")) == "one"
        assert all(future.result(DEADLINE) is not None for future in futures)


def test_it_runs_inside_of_a_running_loop_and_of_a_thread() -> None:
    async def main() -> str:
        with Served(named("one")) as backend, l4lb.Balancer(config(backend)) as lb:
            return await asyncio.to_thread(ask, lb.address("web"))

    assert asyncio.run(main()) == "one"
    assert Background(lambda: asyncio.run(main())).result() == "one"


def test_a_backend_that_refuses_is_found_before_the_first_client() -> None:
    with refused() as address, Served(named("one")) as one:
        checked = {"health": {"interval": 60}, "retries": 0}
        with l4lb.Balancer(config(address, one, pool=checked)) as lb:
            assert {ask(lb.address("web")) for _ in range(4)} == {"one"}
            assert lb.status().pools["app"].backends["b0"].address == spelled(address)
