"""The simulated model servers and the statistics of bench/fleet."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import mean, pstdev

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.fleet.client import Channel, Outcome
from bench.fleet.engine import Engine, Gpu, Job
from bench.fleet.exposition import Exposition
from bench.fleet.plan import SCENARIOS
from bench.fleet.server import Replica, Session, Truth
from bench.fleet.subjects.base import Load
from bench.fleet.summary import RIVALS, Results, Run, meets_level, shares
from bench.fleet.truth import Sample, busy_error, in_flight, turns_error
from bench.fleet.workload import Traffic, capacity, requests

GPU = Gpu(batch=2, cache_tokens=160, step_seconds=1.0, sequence_seconds=0.1, prompt_seconds=0.01)


def _engine(*jobs: Job, gpu: Gpu = GPU) -> Engine:
    engine = Engine(gpu)
    for job in jobs:
        engine.submit(job)
    return engine


def test_a_step_gives_every_sequence_of_the_batch_a_token() -> None:
    first, second = Job(10, 1), Job(20, 2)
    engine = _engine(first, second)
    assert engine.begin() == pytest.approx(1.0 + 2 * 0.1 + 30 * 0.01)
    assert engine.finish() == [first, second]
    assert engine.running == [second]
    assert engine.begin() == pytest.approx(1.0 + 0.1)
    assert engine.finish() == [second]
    assert engine.begin() is None


def test_a_full_batch_makes_others_wait_and_takes_them_in_when_there_is_room() -> None:
    short, long, late = Job(10, 1), Job(10, 9), Job(10, 1)
    engine = _engine(short, long, late)
    engine.begin()
    assert list(engine.waiting) == [late]
    engine.finish()
    engine.begin()
    assert engine.running == [long, late]


def test_a_full_cache_makes_others_wait_in_order_even_those_that_would_fit() -> None:
    big, bigger, small = Job(90, 2), Job(91, 2), Job(1, 1)
    engine = _engine(big, bigger, small)
    engine.begin()
    assert engine.running == [big]
    assert list(engine.waiting) == [bigger, small]
    assert engine.cache_usage == pytest.approx(6 / 10)


def test_what_can_never_fit_into_the_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit into a cache of 160"):
        _engine(Job(160, 1))


def test_a_client_that_goes_away_frees_its_place_at_once() -> None:
    stays, goes, waits = Job(10, 2), Job(10, 2), Job(10, 2)
    engine = _engine(stays, goes, waits)
    engine.begin()
    engine.cancel(goes)
    assert engine.finish() == [stays]
    engine.begin()
    assert engine.running == [stays, waits]


def test_the_prompts_of_a_step_are_limited() -> None:
    engine = _engine(Job(30, 1), Job(30, 1), gpu=replace(GPU, prompt_tokens_per_step=50))
    assert engine.begin() == pytest.approx(1.0 + 0.1 + 30 * 0.01)


def test_a_cold_replica_is_slow_at_its_first_prompts_only() -> None:
    engine = _engine(Job(10, 2), gpu=replace(GPU, cold_seconds=(5.0,)))
    assert engine.begin() == pytest.approx(5.0 + 1.0 + 0.1 + 0.1)
    engine.finish()
    assert engine.begin() == pytest.approx(1.0 + 0.1)
    engine.finish()
    engine.submit(Job(10, 1))
    assert engine.begin() == pytest.approx(1.0 + 0.1 + 0.1)


def test_capacity_follows_the_speed() -> None:
    assert capacity(Gpu(speed=0.5)) == pytest.approx(capacity(Gpu()) / 2)


def test_arrivals_are_bursty_and_the_same_for_a_seed() -> None:
    work = requests(Traffic(variation=2.5), lambda _at: 50.0, 400, seed=7)
    gaps = [after.at - before.at for before, after in pairwise(work)]
    assert mean(gaps) == pytest.approx(1 / 50, rel=0.1)
    assert pstdev(gaps) / mean(gaps) == pytest.approx(2.5, rel=0.15)
    assert work == requests(Traffic(variation=2.5), lambda _at: 50.0, 400, seed=7)
    assert work != requests(Traffic(variation=2.5), lambda _at: 50.0, 400, seed=8)


def test_the_metrics_are_those_of_vllm() -> None:
    engine = _engine(Job(10, 1), Job(10, 2), Job(10, 2))
    exposition = Exposition(engine)
    engine.begin()
    exposition.stepped(engine.finish())
    engine.begin()
    samples = {
        sample.name: (sample.value, sample.labels)
        for family in text_string_to_metric_families(exposition.text().decode())
        for sample in family.samples
    }
    labels = {"engine": "0", "model_name": "sim/8b-instruct"}
    assert samples["vllm:num_requests_running"] == (2, labels)
    assert samples["vllm:num_requests_waiting"] == (0, labels)
    assert samples["vllm:kv_cache_usage_perc"] == (0.2, labels)
    assert samples["vllm:generation_tokens_total"] == (2, labels)
    assert samples["vllm:request_success_total"] == (1, labels | {"finished_reason": "length"})


def test_the_error_of_busy_is_weighted_by_time() -> None:
    truths = [Truth("a", [0.0, 1.0], [3.0]), Truth("b", [0.0], [9.0])]
    assert [in_flight(truths[0], at) for at in (0.5, 1.0, 3.5)] == [1, 2, 1]
    right, wrong = {"a": Load(2, 2), "b": Load(1, 1)}, {"a": Load(0, 2), "b": Load(2, 1)}
    error = busy_error([Sample(1.0, right), Sample(2.0, wrong), Sample(3.0, right)], truths)
    assert error is not None
    assert error.absolute == pytest.approx(3 / 6)
    assert error.signed == pytest.approx(-1 / 6)
    assert turns_error(Sample(4.0, right), truths) == 0
    assert busy_error([], truths) is None


def test_the_share_of_the_added_replica_is_measured_by_its_capacity() -> None:
    scenario = SCENARIOS["pooled"]
    at = scenario.timeline.added + 1
    served = [Outcome(at, replica=f"r{i}") for i in range(1, 8)]
    # One request in seven, and a seventh of the capacity: two of the eight have half the speed.
    assert shares(scenario, served)[0] == pytest.approx(1.0)


def test_the_service_level_counts_no_failure_and_nothing_late() -> None:
    good = Outcome(0, first_token=0.5, end=1.4, tokens=10)
    assert meets_level(good)
    assert not meets_level(replace(good, first_token=1.1))
    assert not meets_level(replace(good, end=2.4))
    assert not meets_level(replace(good, failure="cut"))


def test_ratios_are_to_the_better_rival_with_the_same_seed() -> None:
    first, second = RIVALS
    results = Results(
        Run("pooled", name, "", seed, {"late": late})
        for name, seed, late in (
            (first, 1, 4.0),
            (second, 1, 2.0),
            (first, 2, 5.0),
            ("no rival", 1, 0.1),
            ("ours", 1, 1.0),
            ("ours", 2, 5.0),
        )
    )
    ratio = results.ratio("pooled", "ours", "late", min)
    assert ratio is not None
    assert (ratio.least, ratio.median, ratio.most) == (0.5, 0.75, 1.0)
    assert results.ratio("pooled", "ours", "early", min) is None


def test_a_replica_serves_a_real_client() -> None:
    async def talk() -> None:
        replica = Replica("r0", replace(GPU, step_seconds=0.001), answers_at_once=True)
        server = await asyncio.get_running_loop().create_server(partial(Session, replica), "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            for _ in range(2):
                question = {"prompt": "x" * 40, "max_tokens": 3, "stream": True}
                async with session.post(f"{base}/v1/completions", json=question) as answer:
                    lines = [line async for line in answer.content if line.strip()]
                    assert answer.headers["x-replica"] == "r0"
                assert len(lines) == 4
                assert lines[-1] == b"data: [DONE]\n"
            async with session.get(f"{base}/health") as health:
                assert health.status == 200
            async with session.get(f"{base}/metrics") as metrics:
                assert 'vllm:generation_tokens_total{engine="0",' in await metrics.text()
            assert len(replica.truth.begun) == len(replica.truth.ended) == 2

    asyncio.run(talk())


HEAD = b"HTTP/1.1 200 OK\r\nx-replica: r3\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def _asked(*segments: bytes) -> tuple[Channel, Outcome]:
    """A channel after the answer came in these segments, and what became of the request."""

    class Answering(asyncio.Transport):
        def write(self, _data: object) -> None:
            for segment in segments:
                channel.data_received(segment)

        def close(self) -> None:
            channel.connection_lost(None)

    async def ask() -> None:
        channel.connection_made(Answering())
        await channel.ask(b"question", outcome, 0.0)

    channel, outcome = Channel(), Outcome(0, failure="unfinished")
    asyncio.run(ask())
    return channel, outcome


def test_a_channel_times_an_answer_however_it_is_cut_into_segments() -> None:
    answer = HEAD + 3 * b"a\r\ndata: {}\n\n\r\n" + END
    channel, outcome = _asked(*(bytes([byte]) for byte in answer))
    assert (outcome.replica, outcome.tokens, outcome.failure) == ("r3", 3, None)
    assert channel.open


def test_a_channel_counts_tokens_however_a_proxy_cuts_the_stream_into_chunks() -> None:
    chunks = b"19\r\ndata: {}\n\ndata: {}\n\ndata:\r\n" + b"5\r\n {}\n\n\r\n"
    _, outcome = _asked(HEAD + chunks + END)
    assert (outcome.tokens, outcome.failure) == (3, None)


def test_a_connection_is_used_no_more_after_its_last_answer() -> None:
    channel, outcome = _asked(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + END)
    assert outcome.failure is None
    assert not channel.open


def test_an_error_of_a_proxy_is_a_refused_request() -> None:
    channel, outcome = _asked(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno")
    assert (outcome.failure, outcome.replica) == ("refused", None)
    assert not channel.open
