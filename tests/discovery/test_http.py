"""http_sd against a server that serves it, and serves anything else."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from l4lb.config.sections.discover import HttpDiscovery as Settings
from l4lb.discovery.http import HttpSource
from l4lb.discovery.source import ANSWER_MAX
from tests.discovery.recorder import failure, watched
from tests.helpers.loops import eventually, run
from tests.helpers.web import serving

A, B = "10.0.0.1:80", "10.0.0.2:80"


def groups(*targets: str) -> str:
    return json.dumps([{"targets": targets}])


class Registry:
    """Answers what the test puts into `body`, or with `answer` if there is one."""

    def __init__(self, *targets: str) -> None:
        self.body = groups(*targets)
        self.etag: str | None = None
        self.answer: web.StreamResponse | None = None
        self.requests: list[web.Request] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.answer is not None:
            answer, self.answer = self.answer, None
            return answer
        if self.etag is not None and request.headers.get("If-None-Match") == self.etag:
            return web.Response(status=304)
        headers = {} if self.etag is None else {"ETag": self.etag}
        return web.Response(text=self.body, content_type="application/json", headers=headers)


def source(origin: str, **settings: Any) -> HttpSource:
    return HttpSource(Settings.model_validate({"url": f"{origin}/targets?a=b", "interval": 0.02} | settings))


def test_it_is_asked_again_and_again() -> None:
    async def main() -> None:
        registry = Registry(A)
        async with serving(registry) as origin, watched(source(origin, interval=0.05)) as recorder:
            await recorder.wait_names(A)
            registry.body = groups(A, B)
            await recorder.wait_names(A, B)
            registry.body = "[]"
            await recorder.wait_names()
            request = registry.requests[0]
            assert request.path_qs == "/targets?a=b"
            assert request.headers["Accept"] == "application/json"
            assert request.headers["X-Prometheus-Refresh-Interval-Seconds"] == "0.05"

    run(main())


def test_a_server_that_says_nothing_changed_is_believed() -> None:
    async def main() -> None:
        registry = Registry(A)
        registry.etag = '"1"'
        async with serving(registry) as origin, watched(source(origin)) as recorder:
            await eventually(lambda: recorder.confirmed >= 3)
            assert len(recorder.answers) == 1
            registry.body, registry.etag = groups(B), '"2"'
            await recorder.wait_names(B)

    run(main())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: web.Response(status=500), "HTTP 500"),
        (lambda: web.Response(status=404), "HTTP 404"),
        (lambda: web.Response(status=304), "HTTP 304"),
        (lambda: web.Response(status=302, headers={"Location": "/"}), "HTTP 302"),
        (lambda: web.Response(status=204), "HTTP 204"),
        (lambda: web.Response(text="[]"), "the answer is text/plain; application/json is expected"),
        (lambda: web.Response(text="[", content_type="application/json"), "not valid JSON"),
        (lambda: web.Response(text="{}", content_type="application/json"), "a list of target groups is expected"),
        (lambda: web.Response(text='["x"]', content_type="application/json"), "group 1 is not an object with targets"),
        (lambda: web.Response(body=b" " * (ANSWER_MAX + 1), content_type="application/json"), "larger than 8 MiB"),
    ],
)
def test_any_other_answer_is_a_failure(answer: Any, message: str) -> None:
    async def main() -> None:
        registry = Registry(A)
        async with serving(registry) as origin, watched(source(origin)) as recorder:
            await recorder.wait_names(A)
            registry.answer = answer()
            assert message in await recorder.wait_error()
            assert recorder.names == [A]

    run(main())


def test_a_body_that_unpacks_into_a_giant_is_a_failure() -> None:
    async def main() -> None:
        registry = Registry()
        registry.answer = web.Response(body=b" " * (20 * ANSWER_MAX), content_type="application/json")
        registry.answer.enable_compression(web.ContentCoding.gzip)
        async with serving(registry) as origin:
            assert "compressed" in await failure(source(origin, timeout=20.0))

    run(main())


def test_a_slow_answer_is_a_failure_in_time() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with serving(slow) as origin:
            assert "no complete response within 0.1s" in await failure(source(origin, timeout=0.1))

    run(main())


def test_a_server_that_is_not_there_is_a_failure() -> None:
    async def main() -> None:
        async with serving(Registry()) as origin:
            pass
        assert "Connection refused" in await failure(source(origin))

    run(main())


def test_the_token_is_read_again_for_each_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")

    async def main() -> None:
        registry = Registry(A)
        settings = {"token_file": str(token)}
        async with serving(registry) as origin, watched(source(origin, **settings)) as recorder:
            await eventually(lambda: registry.requests)
            assert registry.requests[0].headers["Authorization"] == "Bearer one"
            token.write_text("two")
            await eventually(lambda: registry.requests[-1].headers["Authorization"] == "Bearer two")
            token.write_text(" \n")
            assert "there is no token in" in await recorder.wait_error()
            token.unlink()
            assert "the token cannot be read" in await failure(source(origin, **settings))

    run(main())


def test_the_certificate_must_lead_to_the_given_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def main() -> None:
        async with serving(Registry(A), context) as origin:
            async with watched(source(origin, ca=str(tmp_path / "ca.pem"))) as recorder:
                await recorder.wait_names(A)
            assert "TLS: unable to get local issuer certificate" in await failure(
                source(origin, ca=str(tmp_path / "other.pem"))
            )
            assert "TLS: unable to get local issuer certificate" in await failure(source(origin))
            assert "cannot be used" in await failure(source(origin, ca=str(tmp_path / "no.pem")))

    run(main())


def test_nothing_is_left_open() -> None:
    async def main() -> None:
        registry = Registry(A)
        async with serving(registry) as origin:
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                async with watched(source(origin)) as recorder:
                    await recorder.wait_names(A)
                registry.answer = web.Response(status=500)
                await failure(source(origin))
            await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(main())
