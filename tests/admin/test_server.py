"""The admin server over real sockets: routes, encodings, errors, start and end."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path

import pytest
import uvloop

from l4lb.admin.server import AdminServer
from l4lb.config import Address
from l4lb.errors import ControlError, StartError
from tests.admin.fake_control import FakeControl, backend_status, make_status, pool_status
from tests.admin.serving import DEADLINE, Run, Served, closed
from tests.helpers.loops import eventually, turns


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


def test_openmetrics_is_served_on_request(run: Run) -> None:
    async def case(served: Served) -> None:
        async with served.tcp.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as got:
            assert got.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
            assert (await got.text()).endswith("# EOF\n")

    run(case)


def test_large_responses_are_compressed_on_request(run: Run, control: FakeControl) -> None:
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
