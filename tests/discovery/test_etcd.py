"""etcd as it is: a real server, its restarts, compactions and leases; and servers that are none."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import web

from l4lb.config.sections.discover import EtcdDiscovery as Settings
from l4lb.discovery import etcd as module
from l4lb.discovery.etcd import EtcdSource
from l4lb.discovery.source import ANSWER_MAX
from tests.discovery.recorder import failure, watched
from tests.helpers.loops import eventually, run
from tests.helpers.waiting import wait_until
from tests.helpers.web import serving

PREFIX = "/l4lb/llama/"


class Etcd:
    """A member that is a cluster of its own, for the length of a block."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.client, self.peer = _free_ports(2)
        self.url = f"http://127.0.0.1:{self.client}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self.peer}"
        options = {
            "name": "m",
            "data-dir": str(self.folder / "data"),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"m={peer}",
            "unsafe-no-fsync": "true",
        }
        command = [self.program, *(f"--{key}={value}" for key, value in options.items())]
        with (self.folder / "log").open("ab") as log:
            environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        wait_until(self.answers, deadline=30, what=lambda: (self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        try:
            return bool(self.call("kv/range", key=_b64("x")))
        except OSError:
            return False

    def call(self, path: str, **body: Any) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.url}/v3/{path}", json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=5) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def put(self, name: str, value: str, **more: Any) -> int:
        """Write a key; the revision of it."""
        answer = self.call("kv/put", key=_b64(PREFIX + name), value=_b64(value), **more)
        return int(answer["header"]["revision"])

    def delete(self, name: str) -> None:
        self.call("kv/deleterange", key=_b64(PREFIX + name))

    def compact(self, revision: int) -> None:
        self.call("kv/compaction", revision=revision, physical=True)


def _b64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    program = shutil.which("etcd")
    if program is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    with Etcd(program, tmp_path) as etcd:
        etcd.put("a", "10.0.0.1:80")
        etcd.put("b", '{"address": "10.0.0.2:80", "weight": 2, "zone": "eu"}')
        etcd.call("kv/put", key=_b64("/l4lb/llama0"), value=_b64("10.0.0.9:80"))
        etcd.call("kv/put", key=_b64("/l4lb/llam"), value=_b64("10.0.0.9:80"))
        yield etcd


def source(*urls: str, **settings: Any) -> EtcdSource:
    return EtcdSource(Settings.model_validate({"endpoints": urls, "prefix": PREFIX} | settings))


def test_changes_come_as_they_happen(etcd: Etcd) -> None:
    async def main() -> None:
        async with watched(source(etcd.url)) as recorder:
            await recorder.wait_names("a", "b")
            assert {one.name: (one.weight, one.zone) for one in recorder.last} == {"a": (1, None), "b": (2, "eu")}
            etcd.put("c", "10.0.0.3:80")
            await recorder.wait_names("a", "b", "c")
            etcd.delete("a")
            await recorder.wait_names("b", "c")
            etcd.put("b", "10.0.0.4:80")
            await eventually(lambda: str(recorder.last[0].address) == "10.0.0.4:80")
            etcd.delete("b")
            etcd.delete("c")
            await recorder.wait_names()

    run(main())


@pytest.mark.slow
def test_a_lease_that_ends_takes_its_backend_along(etcd: Etcd) -> None:
    lease = etcd.call("lease/grant", TTL=1)["ID"]
    etcd.put("leased", "10.0.0.3:80", lease=lease)

    async def main() -> None:
        async with watched(source(etcd.url)) as recorder:
            await recorder.wait_names("a", "b", "leased")
            await recorder.wait_names("a", "b")

    run(main())


def test_a_wrong_value_is_passed_over_and_told(etcd: Etcd) -> None:
    async def main() -> None:
        async with watched(source(etcd.url)) as recorder:
            await recorder.wait_names("a", "b")
            etcd.put("wrong", "nonsense")
            etcd.put("c", "10.0.0.3:80")
            await recorder.wait_names("a", "b", "c")
            assert "'nonsense' has no port" in recorder.unusable[-1]["the key /l4lb/llama/wrong"]

    run(main())


@pytest.mark.slow
def test_what_happened_while_it_was_down_or_was_compacted_is_found(etcd: Etcd) -> None:
    """The watch asks for a revision that is gone: everything is read again, and backends removed meanwhile are gone."""

    async def main() -> None:
        reader = EtcdSource._range

        async def slow(self: EtcdSource, *arguments: Any) -> Any:
            found = await reader(self, *arguments)
            if not done:
                done.append(1)
                await asyncio.to_thread(etcd.delete, "a")
                etcd.put("c", "10.0.0.3:80")
                etcd.compact(etcd.put("d", "10.0.0.4:80"))
            return found

        done: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(EtcdSource, "_range", slow)
            async with watched(source(etcd.url)) as recorder:
                await recorder.wait_names("b", "c", "d")
                assert [one.name for one in recorder.answers[0]] == ["a", "b"]
                etcd.put("e", "10.0.0.5:80")
                await recorder.wait_names("b", "c", "d", "e")

    run(main())


@pytest.mark.slow
def test_a_restart_is_survived(etcd: Etcd) -> None:
    async def main() -> None:
        asked = source(etcd.url)
        async with watched(asked) as recorder:
            await recorder.wait_names("a", "b")
            await asyncio.to_thread(etcd.stop)
            assert await recorder.wait_error()
            assert recorder.names == ["a", "b"]
        assert "Connection refused" in await failure(asked)
        await asyncio.to_thread(etcd.start)
        async with watched(asked) as recorder:
            await recorder.wait_names("a", "b")
            etcd.put("c", "10.0.0.3:80")
            await recorder.wait_names("a", "b", "c")

    run(main(), deadline=60)


def test_another_member_is_asked_when_one_fails(etcd: Etcd) -> None:
    (closed,) = _free_ports(1)

    async def main() -> None:
        async with watched(source(f"http://127.0.0.1:{closed}", etcd.url)) as recorder:
            await recorder.wait_names("a", "b")
            etcd.put("c", "10.0.0.3:80")
            await recorder.wait_names("a", "b", "c")

    run(main())


@pytest.mark.slow
def test_everything_is_read_again_now_and_then(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH", 0.05)

    async def main() -> None:
        async with watched(source(etcd.url)) as recorder:
            await eventually(lambda: len(recorder.answers) >= 4)
            assert recorder.error is None
            etcd.put("c", "10.0.0.3:80")
            await recorder.wait_names("a", "b", "c")

    run(main())


def test_nothing_is_left_open(etcd: Etcd) -> None:
    async def main() -> None:
        async def round_trip() -> None:
            async with watched(source(etcd.url)) as recorder:
                await recorder.wait_names("a", "b")

        await round_trip()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await round_trip()
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(main())


# ---- servers that are no etcd ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: web.Response(status=404), "HTTP 404"),
        (lambda: web.json_response({"error": "no leader"}, status=503), "HTTP 503: no leader"),
        (lambda: web.Response(text="<html>"), "the response is not valid JSON"),
        (lambda: web.Response(text="[]"), "the answer is not an object"),
        (lambda: web.Response(body=b" " * (ANSWER_MAX + 1)), "larger than"),
        (lambda: web.json_response({"kvs": [{"key": "%%%"}]}), "base64"),
    ],
)
def test_any_other_answer_is_a_failure(answer: Any, message: str) -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = answer()
        return response

    async def main() -> None:
        async with serving(handler) as origin:
            assert message in await failure(source(origin))

    run(main())


def test_a_member_that_does_not_watch_is_broken_and_one_that_is_slow_too() -> None:
    async def no_watch(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("range"):
            return web.json_response({"header": {"revision": "7"}})
        return web.Response(text="") if watch_status == 200 else web.Response(status=watch_status)

    async def silent(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        async with serving(no_watch) as origin:
            nonlocal watch_status
            assert await failure(source(origin)) == "the member ends the watch at once"
            watch_status = 500
            assert "HTTP 500" in await failure(source(origin))
        async with serving(silent) as origin:
            assert await failure(source(origin, timeout=0.05)) == "no answer within 0.05s"

    watch_status = 200
    run(main())
