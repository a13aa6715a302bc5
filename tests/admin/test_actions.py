"""Changes through the admin API: over the admin socket only, with strict bodies, and what each reports."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from l4lb.admin import server
from l4lb.status import AdminState, ReloadOutcome, UpgradeOutcome
from tests.admin.fake_control import FakeControl
from tests.admin.serving import Run, Served


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
