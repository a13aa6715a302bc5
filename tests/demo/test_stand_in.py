"""The stand-in answers as a model server does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from l4lb.demo import stand_in

Client = TestClient[web.Request, web.Application]


@pytest.fixture(autouse=True)
def _no_thinking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "PREFILL_SECONDS", (0, 0))
    monkeypatch.setattr(stand_in, "TOKEN_SECONDS", 0)


def with_client(use: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with TestClient(TestServer(stand_in.StandIn("one").app())) as client:
            await use(client)

    asyncio.run(run())


def test_stream_is_one_event_for_each_token_and_says_when_it_is_done() -> None:
    async def use(client: Client) -> None:
        async with client.post("/v1/completions", json={"max_tokens": 5, "stream": True}) as response:
            assert response.headers["X-Served-By"] == "one"
            assert response.content_type == "text/event-stream"
            events = [line.removeprefix("data: ") for line in (await response.text()).split("\n\n") if line]
        assert events[-1] == "[DONE]"
        assert len(events) == 6
        assert all(json.loads(event)["choices"][0]["text"] for event in events[:-1])

    with_client(use)


def test_answer_without_stream_holds_every_token() -> None:
    async def use(client: Client) -> None:
        async with client.post("/v1/completions", json={"max_tokens": 5}) as response:
            answer = await response.json()
        assert len(answer["choices"][0]["text"].split()) == 5

    with_client(use)


def test_metrics_count_tokens_and_finished_requests_and_are_there_before_the_first() -> None:
    async def use(client: Client) -> None:
        assert await _metrics(client) == {
            "vllm:num_requests_running": 0,
            "vllm:num_requests_waiting": 0,
            "vllm:request_success_total": 0,
            "vllm:generation_tokens_total": 0,
        }
        async with client.post("/v1/completions", json={"max_tokens": 5}) as response:
            await response.read()
        after = await _metrics(client)
        assert after["vllm:request_success_total"] == 1
        assert after["vllm:generation_tokens_total"] == 5
        assert after["vllm:num_requests_running"] == 0

    with_client(use)


async def _metrics(client: Client) -> dict[str, float]:
    async with client.get("/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        return {
            sample.name: sample.value
            for family in families
            for sample in family.samples
            if not sample.name.endswith("_created")
        }


def test_requests_beyond_the_batch_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "BATCH_MAX", 1)
    monkeypatch.setattr(stand_in, "TOKEN_SECONDS", 60)

    async def use(client: Client) -> None:
        async with client.post("/v1/completions", json={"stream": True}) as running:
            assert running.status == 200
            waiting = asyncio.create_task(client.post("/v1/completions", json={"stream": True}))
            async with asyncio.timeout(10):
                while (await _metrics(client))["vllm:num_requests_waiting"] != 1:
                    pass
            assert (await _metrics(client))["vllm:num_requests_running"] == 1
            waiting.cancel()

    with_client(use)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"max_tokens": "many"}', b'{"max_tokens": null}'])
def test_bad_request_is_refused(body: bytes) -> None:
    async def use(client: Client) -> None:
        async with client.post("/v1/completions", data=body) as response:
            assert response.status == 400

    with_client(use)
