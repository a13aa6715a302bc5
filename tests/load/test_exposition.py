"""What is read of a Prometheus exposition, and what is not believed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config.fields.series import Series
from l4lb.load.exposition import SERIES_MAX, ExpositionError, Wanted, read
from l4lb.presets import PRESETS

VLLM = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen2.5-1.5B"} 12.0
vllm:num_requests_running{engine="1",model_name="Qwen/Qwen2.5-1.5B"} 3.0
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen2.5-1.5B"} 2.0
vllm:num_requests_waiting{engine="1",model_name="Qwen/Qwen2.5-1.5B"} 5.0
vllm:kv_cache_usage_perc{engine="0",model_name="Qwen/Qwen2.5-1.5B"} 0.41
vllm:kv_cache_usage_perc{engine="1",model_name="Qwen/Qwen2.5-1.5B"} 0.62
vllm:iteration_tokens_total_count{engine="0"} 88211.0
"""

SGLANG = """
# TYPE sglang:token_usage gauge
sglang:token_usage{model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.28
sglang:num_running_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct"} 162.0
sglang:num_queue_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct"} 2826.0
sglang:prompt_tokens_total{model_name="meta-llama/Llama-3.1-8B-Instruct"} 8.128902e+06
"""

TRT_LLM = """
nv_trt_llm_request_metrics{model="ensemble",request_type="waiting",version="1"} 3
nv_trt_llm_request_metrics{model="ensemble",request_type="scheduled",version="1"} 9
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="ensemble",version="1"} 0.42
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="ensemble",version="1"} 5000
nv_inference_pending_request_count{model="ensemble",version="1"} 95
"""

TORCHSERVE = """
CPUUtilization{Level="Host",Hostname="88665a372f4b",} 37.5
MemoryUtilization{Level="Host",Hostname="88665a372f4b",} 80.0
"""


def wanted(**chains: str | list[str]) -> Wanted:
    """Series by signal."""
    return {
        signal: tuple(map(Series.parse, [chain] if isinstance(chain, str) else chain))  # type: ignore[misc]
        for signal, chain in chains.items()
    }


def preset(name: str) -> Wanted:
    return wanted(**PRESETS[name].settings["load"]["signals"])


@pytest.mark.parametrize(
    ("text", "name", "readings"),
    [
        (VLLM, "vllm", {"queue": 7, "running": 15, "kv": 0.62}),
        (VLLM.replace("kv_cache", "gpu_cache"), "vllm", {"queue": 7, "running": 15, "kv": 0.62}),
        (SGLANG, "sglang", {"queue": 2826, "running": 162, "kv": 0.28}),
        ("tgi_queue_size 3\ntgi_batch_current_size 16\n", "tgi", {"queue": 3, "running": 16}),
        ('nv_inference_pending_request_count{model="m"} 95\n', "triton", {"queue": 95}),
        (TRT_LLM, "triton", {"queue": 3, "running": 9, "kv": 0.42}),
        ('dask_scheduler_tasks{state="queued"} 9\ndask_scheduler_tasks{state="memory"} 99\n', "dask", {"queue": 9}),
        (
            'ray_serve_deployment_queued_queries{handle="1"} 12\nray_serve_deployment_queued_queries{handle="2"} 1',
            "ray",
            {"queue": 13},
        ),
        (TORCHSERVE, "torchserve", {"cpu": 0.375, "memory": 0.8}),
    ],
)
def test_servers_are_read_as_they_write(text: str, name: str, readings: dict[str, float]) -> None:
    assert read(text, preset(name)) == pytest.approx(readings)


def test_a_gpu_exporter_is_read_in_percent_and_by_its_fullest_gpu() -> None:
    text = 'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 98\nDCGM_FI_DEV_GPU_UTIL{gpu="1"} 12\n'
    assert read(text, wanted(gpu="DCGM_FI_DEV_GPU_UTIL %")) == {"gpu": 0.98}


@pytest.mark.parametrize(
    "value", ["NaN", "nan", "+Inf", "-Inf", "-1", "9223372036854775794", "2147483632", "1e18", "oops", "1_0", "0x10"]
)
def test_a_number_that_makes_no_sense_makes_its_signal_unknown(value: str) -> None:
    """Also beside one that does: the sum of the others would be too small."""
    text = f'q{{engine="0"}} {value}\nq{{engine="1"}} 1\nr 3\n'
    assert read(text, wanted(queue="q", running="r")) == {"running": 3}


@pytest.mark.parametrize("value", ["40", "2.1", "-0.1", "NaN"])
def test_a_share_that_makes_no_sense_is_unknown(value: str) -> None:
    assert read(f"kv {value}\nr 3\n", wanted(kv="kv", running="r")) == {"running": 3}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("q 1", 1),
        ("q\t1  ", 1),
        ("q 1\r", 1),
        ('q {a="b"} 1', 1),
        ("q 1 1700000000000", 1),
        ("q 1.5e+1", 15),
        ("q{} 1", 1),
        ('q{a="x } y",b="\\"{"} 1', 1),
        ('q{a="b",} 1', 1),
        ('q{ a = "b" , c="d"} 1', 1),
        ('q{"a.b"="c"} 1', 1),
        ("q_total 1", 1),
        ('q 1\nq{le="0.5"} 7', 1),
    ],
)
def test_lines_are_read_leniently(line: str, value: float) -> None:
    assert read(f"# q 5\nqq 6\n{line}\nbroken {{", wanted(queue="q")) == {"queue": value}


def test_the_first_name_that_is_there_counts() -> None:
    text = "old 9\nnew 1\n"
    assert read(text, wanted(queue=["newest", "new", "old"])) == {"queue": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "none of the wanted"),
        ("other 1\n", "none of the wanted"),
        ("<html><body>\nq 1\n</body></html>", "HTML"),
        ('{"q": 1}', "none of the wanted"),
        ("q 1\n" * (SERIES_MAX + 1), "more than"),
    ],
)
def test_what_has_no_metrics_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ExpositionError, match=message):
        read(text, wanted(queue="q"))


HOSTILE = [
    " " * 2**20,
    "{" + "a" * 2**20,
    '{a="' + "\\\\" * 2**19,
    "{" + '""' * 2**19,
    "\nq" * 9999,
    "{" + "a" * 60_000 + "} 1",
    "{" + "a=" * 30_000 + "} 1",
    "{" + '""' * 30_000 + "} 1",
    '{a="' + "\\" * 60_001 + '"} 1',
    "{" + 'a="b" ' * 10_000 + "x} 1",
    "{" + ",".join(f'a{number}="b"' for number in range(1000)) + "} 1",
    " " + "1" * 2**20,
]


@pytest.mark.parametrize("tail", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_lines_take_no_longer_than_others(tail: str) -> None:
    """A quadratic search would take from seconds to hours, where a linear one takes milliseconds."""
    begun = time.thread_time()
    with pytest.raises(ExpositionError):
        read(f"q{tail}\n", wanted(queue="q"))
    assert time.thread_time() - begun < 0.5


@given(st.text(alphabet='q{}="\\,a1 .eE+-\n#NInf', max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        readings = read(text, wanted(queue="q", kv='q{a="1"}'))
    except ExpositionError:
        return
    assert all(0 <= value <= 1e6 for value in readings.values())


@pytest.mark.parametrize("text", ["a", "a:b", 'a{b="c"}', 'a{b="c",d="e"} %', "a %"])
def test_series_are_written_as_they_are_read(text: str) -> None:
    assert str(Series.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "1a", "a b", "a{", "a / b", "a{b=c}x", "a{b=c}", "a{junk}", 'a{b="c"}x', 'a{b="c" junk}']
)
def test_what_is_no_series_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a series"):
        Series.parse(text)
