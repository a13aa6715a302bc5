"""The admin server over real sockets: routes, rights, strict bodies, and clients that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
import uvloop

from l4lb.admin import backends, connections, server
from l4lb.admin.server import AdminServer
from l4lb.config import Address
from l4lb.errors import ControlError, StartError
from l4lb.status import AdminState, ReloadOutcome, Session, UpgradeOutcome
from tests.admin.fake_control import FakeControl, backend_status, make_session, make_status, pool_status
from tests.helpers.loops import eventually, turns

DEADLINE = 10.0


@dataclass(frozen=True)
class Served:
    control: FakeControl
    server: AdminServer
    path: str
    unix: aiohttp.ClientSession
    tcp: aiohttp.ClientSession

    async def open_unix(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)


Case = Callable[[Served], Awaitable[None]]


@asynccontextmanager
async def serving(tmp_path: Path, control: FakeControl) -> AsyncIterator[Served]:
    path = str(tmp_path / "admin.sock")
    admin = AdminServer(control, path, Address.parse("127.0.0.1:0"))
    await admin.start()
    try:
        assert admin.tcp_address is not None
        host, port = admin.tcp_address
        async with (
            aiohttp.ClientSession("http://l4lb", connector=aiohttp.UnixConnector(path)) as unix,
            aiohttp.ClientSession(f"http://{host}:{port}") as tcp,
        ):
            yield Served(control, admin, path, unix, tcp)
    finally:
        await admin.close()


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def run(tmp_path: Path, control: FakeControl) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        async def main() -> None:
            async with asyncio.timeout(DEADLINE), serving(tmp_path, control) as served:
                await case(served)

        uvloop.run(main())

    return run


Run = Callable[[Case], None]


def test_reading_works_over_both_sockets(run: Run) -> None:
    async def case(served: Served) -> None:
        for client in (served.unix, served.tcp):
            async with client.get("/api/v1/status") as answer:
                assert answer.status == 200
                assert answer.content_type == "application/json"
                assert (await answer.json())["version"] == "1.2.3"
            async with client.get("/api/v1/sessions") as answer:
                assert [item["session"] for item in (await answer.json())["sessions"]] == [81_604_378_625]
            async with client.get("/healthz") as answer:
                assert answer.status == 200
            async with client.get("/metrics") as answer:
                assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
                body = await answer.text()
                assert 'l4lb_build_info{version="1.2.3"} 1\n' in body
                assert "process_resident_memory_bytes" in body

    run(case)


def test_openmetrics_is_served_to_who_asks(run: Run) -> None:
    async def case(served: Served) -> None:
        async with served.tcp.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as got:
            assert got.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
            assert (await got.text()).endswith("# EOF\n")

    run(case)


def test_large_answers_are_compressed_for_who_asks(run: Run, control: FakeControl) -> None:
    control.current = make_status({"p": pool_status({f"b{n}": backend_status() for n in range(200)})})

    async def case(served: Served) -> None:
        async with served.tcp.get("/metrics", headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as got:
            assert got.headers["Content-Encoding"] == "gzip"
            assert b'l4lb_backend_up{pool="p",backend="b199"} 1' in gzip.decompress(await got.read())
        for refused in ("identity", "gzip;q=0, identity", "*;q=0"):
            async with served.tcp.get("/metrics", headers={"Accept-Encoding": refused}) as got:
                assert "Content-Encoding" not in got.headers

    run(case)


def test_readiness_names_what_is_missing(run: Run, control: FakeControl) -> None:
    async def case(served: Served) -> None:
        sentence = "pool 'lame' has no usable backend"
        control.current = make_status({"lame": pool_status({"a": backend_status(effective_weight=0)})})
        async with served.tcp.get("/readyz") as answer:
            assert answer.status == 200
            assert (await answer.json())["warnings"] == [sentence]
        for query in ("pool=lame", "pools=all"):
            async with served.tcp.get(f"/readyz?{query}") as answer:
                assert answer.status == 503
                assert (await answer.json())["problems"] == [sentence]
        async with served.tcp.get("/readyz?pool=none") as answer:
            assert answer.status == 404
            assert (await answer.json())["error"] == "there is no pool 'none'"

    run(case)


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/api/v1/status", "/api/v1/sessions"])
def test_a_slash_at_the_end_is_no_other_place(run: Run, path: str) -> None:
    async def case(served: Served) -> None:
        async with served.tcp.get(f"{path}/") as answer:
            assert answer.status == 200

    run(case)


def test_an_autoscaler_reads_a_pool_over_both_sockets(run: Run, control: FakeControl) -> None:
    control.current = make_status({"llama": pool_status({"a": backend_status()}, queued=3), "a/b c": pool_status({})})

    async def case(served: Served) -> None:
        for client in (served.unix, served.tcp):
            async with client.get("/api/v1/autoscale/llama") as answer:
                assert (answer.status, answer.content_type) == (200, "application/json")
                assert (await answer.json())["demand"] == 3
        async with served.tcp.get("/api/v1/autoscale/a%2Fb%20c") as answer:
            assert (await answer.json())["pool"] == "a/b c"
        async with served.tcp.get("/api/v1/autoscale/llam") as answer:
            assert answer.status == 404
            assert await answer.json() == {"error": "there is no pool 'llam'"}

    run(case)


def test_a_backend_is_changed_and_shown_as_it_is_then(run: Run, control: FakeControl) -> None:
    async def case(served: Served) -> None:
        async with served.unix.patch("/api/v1/pools/llama/backends/a", json={"state": "drain", "weight": 7}) as answer:
            assert answer.status == 200
            body = await answer.json()
            assert (body["state"], body["weight"]) == ("drain", 7)
        assert control.changes == [("set", "llama", "a", AdminState.DRAIN, 7)]

    run(case)


@pytest.mark.parametrize("name", ["unix:%2Frun%2Fb.sock", "unix:/run/b.sock"])
def test_a_backend_named_by_a_unix_path_is_found(run: Run, control: FakeControl, name: str) -> None:
    async def case(served: Served) -> None:
        async with served.unix.patch(f"/api/v1/pools/llama/backends/{name}", json={"weight": 0}) as answer:
            assert answer.status == 200
        assert control.changes == [("set", "llama", "unix:/run/b.sock", None, 0)]

    run(case)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"state": null}',
        '{"state": "off"}',
        '{"state": 1}',
        '{"weight": "1"}',
        '{"weight": 1.5}',
        '{"weight": true}',
        '{"weight": -1}',
        '{"weight": 257}',
        "\xff\xfe",
        "[" * 50_000,
    ],
)
def test_a_body_that_is_not_exactly_right_changes_nothing(run: Run, control: FakeControl, body: str) -> None:
    async def case(served: Served) -> None:
        async with served.unix.patch("/api/v1/pools/llama/backends/a", data=body.encode("latin-1")) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"].startswith("invalid request body: ")
        assert control.changes == []

    run(case)


def test_a_body_that_is_too_large_is_refused(run: Run, control: FakeControl) -> None:
    async def case(served: Served) -> None:
        body = b'{"weight": 1' + b" " * server.BODY_BYTES_MAX + b"}"
        async with served.unix.patch("/api/v1/pools/llama/backends/a", data=body) as answer:
            assert answer.status == 413
            assert "larger than" in (await answer.json())["error"]
        assert control.changes == []

    run(case)


@pytest.mark.parametrize("target", ["/api/v1/pools/llama/backends/zzz", "/api/v1/pools/zzz/backends/a"])
def test_an_unknown_backend_is_404(run: Run, target: str) -> None:
    async def case(served: Served) -> None:
        for answering in (served.unix.patch(target, json={"weight": 1}), served.unix.get(target)):
            async with answering as answer:
                assert answer.status == 404
                assert "zzz" in (await answer.json())["error"]

    run(case)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PATCH", "/api/v1/pools/llama/backends/a"),
        ("DELETE", "/api/v1/sessions/81604378625"),
        ("DELETE", "/api/v1/pools/llama/backends/a/sessions"),
        ("DELETE", "/api/v1/pools/llama/backends/a"),
        ("POST", "/api/v1/pools/llama/backends"),
        ("POST", "/api/v1/reload"),
        ("POST", "/api/v1/upgrade"),
        ("POST", "/api/v1/nothing"),
    ],
)
def test_changes_over_tcp_are_forbidden(run: Run, control: FakeControl, method: str, target: str) -> None:
    async def case(served: Served) -> None:
        async with served.tcp.request(method, target, json={"weight": 1}) as answer:
            assert answer.status == 403
            assert "admin socket" in (await answer.json())["error"]
        assert control.changes == []

    run(case)


@pytest.mark.parametrize("backend", ["a", "unix:/run/b.sock"])
def test_the_sessions_of_a_backend_are_killed_all_at_once(run: Run, control: FakeControl, backend: str) -> None:
    async def case(served: Served) -> None:
        path = f"/api/v1/pools/llama/backends/{quote(backend, safe='')}/sessions"
        control.connections_left = [3]
        async with served.unix.delete(path) as answer:
            assert (answer.status, await answer.json()) == (200, {"killed": 3})
        async with served.unix.delete("/api/v1/pools/llama/backends/nope/sessions") as answer:
            assert answer.status == 404
        assert control.changes == [("kill all", "llama", backend)]

    run(case)


def test_a_session_is_killed_by_its_number(run: Run, control: FakeControl) -> None:
    async def case(served: Served) -> None:
        async with served.unix.delete("/api/v1/sessions/81604378625") as answer:
            assert answer.status == 200
        async with served.unix.delete("/api/v1/sessions/5") as answer:
            assert answer.status == 404
        for wrong in ("abc", "-1", "1" * 5000, "%D9%A1"):
            async with served.unix.delete(f"/api/v1/sessions/{wrong}") as answer:
                assert answer.status == 400
        assert control.changes == [("kill", 81_604_378_625), ("kill", 5)]

    run(case)


def test_reload_tells_how_it_went(run: Run, control: FakeControl) -> None:
    async def case(served: Served) -> None:
        control.outcome = ReloadOutcome(applied=True, notes=["process.workers needs a restart"])
        async with served.unix.post("/api/v1/reload") as answer:
            assert answer.status == 200
            assert await answer.json() == {"applied": True, "notes": ["process.workers needs a restart"]}
        control.outcome = ReloadOutcome(applied=False, problems=["l4lb.yaml:3:1: error: pools: missing"])
        async with served.unix.post("/api/v1/reload") as answer:
            assert answer.status == 422
            body = await answer.json()
            assert body["problems"] == ["l4lb.yaml:3:1: error: pools: missing"]
            assert "rejected" in body["error"]

    run(case)


def test_an_upgrade_tells_how_it_went(run: Run, control: FakeControl) -> None:
    async def case(served: Served) -> None:
        async with served.unix.post("/api/v1/upgrade") as answer:
            assert (answer.status, await answer.json()) == (200, {"upgraded": True, "pid": 4712, "version": "1.2.4"})
        control.upgraded = UpgradeOutcome(reason="it hangs")
        async with served.unix.post("/api/v1/upgrade") as answer:
            assert answer.status == 422
            error = "the upgrade failed: it hangs; nothing has changed"
            assert await answer.json() == {"error": error, "upgraded": False}

    run(case)


def test_in_a_pause_requests_wait_and_idle_connections_end(run: Run, control: FakeControl) -> None:
    async def case(served: Served) -> None:
        async with served.unix.get("/healthz") as answer:
            assert answer.status == 200
        idle = served.server._doors["admin socket"].guards
        assert len(idle) == 1
        served.server.pause()
        await eventually(lambda: not idle)
        waiting = asyncio.ensure_future(served.unix.get("/healthz"))
        reader, writer = await asyncio.open_connection(*served.server.tcp_address)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await turns()
        assert not waiting.done()
        await served.server.serve()
        async with await waiting as answer:
            assert answer.status == 200
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()

    run(case)


def test_a_control_error_keeps_its_status(run: Run, control: FakeControl) -> None:
    async def case(served: Served) -> None:
        control.failure = ControlError("a reload is going on; try again", 409)
        async with served.unix.get("/api/v1/status") as answer:
            assert answer.status == 409
            assert await answer.json() == {"error": "a reload is going on; try again"}

    run(case)


def test_a_mistake_inside_is_a_500_without_details(run: Run, control: FakeControl) -> None:
    async def case(served: Served) -> None:
        control.failure = RuntimeError("secret")
        async with served.unix.get("/api/v1/status") as answer:
            assert answer.status == 500
            assert "secret" not in await answer.text()
        control.failure = None
        async with served.unix.get("/api/v1/status") as answer:
            assert answer.status == 200

    run(case)


def test_unknown_paths_and_methods_are_json_errors(run: Run) -> None:
    async def case(served: Served) -> None:
        async with served.unix.get("/nothing") as answer:
            assert answer.status == 404
            assert "/nothing" in (await answer.json())["error"]
        async with served.unix.put("/api/v1/status") as answer:
            assert answer.status == 405
            assert "GET" in answer.headers["Allow"]
            assert "error" in await answer.json()

    run(case)


def test_half_a_request_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT", 0.05)

    async def case(served: Served) -> None:
        for half in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"PATCH /api/v1/pools/p/backends/b HTT"):
            reader, writer = await served.open_unix()
            writer.write(half)
            assert await closed(reader)
            writer.close()
        async with served.unix.get("/healthz") as answer:
            assert answer.status == 200

    run(case)


def test_half_a_body_is_cut_off(run: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "REQUEST_TIMEOUT", 0.05)

    async def case(served: Served) -> None:
        reader, writer = await served.open_unix()
        writer.write(b"PATCH /api/v1/pools/llama/backends/a HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{")
        assert b" 408 " in await reader.readline()
        writer.close()
        assert control.changes == []

    run(case)


def test_a_client_that_does_not_read_its_answer_is_cut_off(
    run: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER_TIMEOUT", 0.05)
    control.live = [make_session(n) for n in range(5_000)]

    async def case(served: Served) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(served.path)
            client.sendall(b"GET /api/v1/sessions HTTP/1.1\r\nHost: x\r\n\r\n")
            door = served.server._doors["admin socket"]
            await eventually(lambda: bool(door.guards))
            await eventually(lambda: not door.guards)

    run(case)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(10_000)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n\r\n",
        bytes(range(256)) * 40 + b"\r\n\r\n",
    ],
    ids=["long line", "long header", "many headers", "tls", "proxy", "bytes"],
)
def test_garbage_is_refused_and_others_are_served(run: Run, garbage: bytes) -> None:
    async def case(served: Served) -> None:
        reader, writer = await served.open_unix()
        writer.write(garbage)
        assert b" 400 " in await reader.readline()
        assert await closed(reader)
        writer.close()
        async with served.unix.get("/healthz") as answer:
            assert answer.status == 200

    run(case)


async def doors_have(served: Served, count: int) -> None:
    await eventually(lambda: len(served.server._doors["admin address"].guards) == count)


def test_clients_that_only_hold_connections_turn_nobody_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 3)

    async def case(served: Served) -> None:
        assert served.server.tcp_address is not None
        pairs = []
        for count in range(3):
            pairs.append(await asyncio.open_connection(*served.server.tcp_address))
            pairs[-1][1].write(b"GET /healthz HTTP/1.1\r\nHost:")
            await doors_have(served, count + 1)
        async with served.tcp.get("/healthz") as got:
            assert got.status == 200
        await doors_have(served, 3)
        # The one that has waited for longest had to go.
        with suppress(ConnectionResetError):
            assert await pairs[0][0].read() == b""
        for _, writer in pairs:
            writer.close()

    run(case)


def test_one_address_gets_no_more_than_its_share(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server.OF_ONE_ADDRESS_MAX, "admin address", 2)

    async def case(served: Served) -> None:
        assert served.server.tcp_address is not None
        host, port = served.server.tcp_address
        other = await asyncio.open_connection(host, port, local_addr=("127.0.0.2", 0))
        await doors_have(served, 1)
        pairs = [await asyncio.open_connection(host, port) for _ in range(5)]
        for reader, _ in pairs[:3]:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        await doors_have(served, 3)
        for reader, writer in (other, *pairs[3:]):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        for _, writer in (other, *pairs):
            writer.close()

    run(case)


def test_connections_beyond_the_limit_are_told_while_all_others_are_answered(
    run: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    held = asyncio.Event()

    async def sessions() -> list[Session]:
        await held.wait()
        return []

    monkeypatch.setattr(control, "sessions", sessions)

    async def case(served: Served) -> None:
        assert served.server.tcp_address is not None
        answers = [asyncio.ensure_future(served.tcp.get("/api/v1/sessions")) for _ in range(2)]
        await eventually(
            lambda: [guard.answers for guard in served.server._doors["admin address"].guards.values()] == [True, True]
        )
        reader, writer = await asyncio.open_connection(*served.server.tcp_address)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert "too many connections" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        async with served.unix.get("/healthz") as got:
            assert got.status == 200
        held.set()
        for done in answers:
            async with await done as got:
                assert got.status == 200
        writer.close()

    run(case)


def test_names_that_a_stranger_may_have_are_answered_by_the_admin_socket_only(run: Run) -> None:
    async def case(served: Served) -> None:
        for host, status in (
            ("rebound.example", 403),
            ("localhost:9400", 200),
            ("l4lb.ml.svc", 200),
            ("10.0.0.1", 200),
        ):
            async with served.tcp.get("/api/v1/status", headers={"Host": host}) as got:
                assert got.status == status
        async with served.tcp.get("/metrics", headers={"Host": "rebound.example"}) as got:
            assert "admin.hosts" in (await got.json())["error"]
        async with served.unix.get("/api/v1/status", headers={"Host": "rebound.example"}) as got:
            assert got.status == 200

    run(case)


def test_what_programs_of_checks_say_is_shown_by_the_admin_socket_only(run: Run, control: FakeControl) -> None:
    secret = backend_status(health_message="exit status 1: password=12345", output=True)
    control.current = make_status({"p": pool_status({"a": secret, "b": backend_status(health_message="connected")})})

    async def case(served: Served) -> None:
        for client, shown in ((served.unix, True), (served.tcp, False)):
            for path in ("/api/v1/status", "/api/v1/pools/p/backends/a", "/metrics"):
                async with client.get(path) as got:
                    text = await got.text()
                    assert got.status == 200
                    assert ("12345" in text) is (shown and path != "/metrics")
            async with client.get("/api/v1/pools/p/backends/b") as got:
                assert (await got.json())["health_message"] == "connected"

    run(case)


def test_requests_on_one_connection_are_answered_in_turn(run: Run) -> None:
    async def case(served: Served) -> None:
        reader, writer = await served.open_unix()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 51
        writer.close()

    run(case)


def test_closing_removes_the_socket_and_ends_connections(tmp_path: Path, control: FakeControl) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE):
            path = tmp_path / "admin.sock"
            admin = AdminServer(control, str(path), None)
            await admin.start()
            reader, writer = await asyncio.open_unix_connection(path)
            await admin.close()
            assert await closed(reader)
            assert not path.exists()
            await admin.close()
            writer.close()

    uvloop.run(main())


def test_a_port_in_use_stops_the_start_and_leaves_nothing(tmp_path: Path, control: FakeControl) -> None:
    async def main() -> None:
        path = tmp_path / "admin.sock"
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = Address("127.0.0.1", taken.getsockname()[1])
            with pytest.raises(StartError, match=r"admin\.listen: cannot bind .*: Address already in use"):
                await AdminServer(control, str(path), address).start()
        assert not path.exists()

    uvloop.run(main())


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the peer ends the connection, having sent whatever it likes."""
    with suppress(ConnectionError):
        await reader.read()
    return True


def test_the_root_lists_every_path_with_its_methods(run: Run) -> None:
    async def case(served: Served) -> None:
        async with served.tcp.get("/") as answer:
            paths = (await answer.json())["paths"]
        assert paths["/metrics"] == ["GET"]
        assert paths["/api/v1/pools/{pool}/backends/{backend}"] == ["GET", "PATCH", "DELETE"]
        assert paths["/api/v1/pools/{pool}/backends"] == ["POST"]
        for path, methods in paths.items():
            if "{" not in path and "GET" in methods:
                async with served.tcp.get(path) as answer:
                    assert answer.status == 200, path

    run(case)
