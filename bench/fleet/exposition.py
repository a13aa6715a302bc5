"""What a replica says of itself at /metrics: names, labels and help texts of vLLM's, written by the library it uses."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bench.fleet.engine import Engine, Job

MODEL = "sim/8b-instruct"
_FIRST_TOKEN_BUCKETS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
)
_STEP_TOKENS_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_LABELS = ("model_name", "engine")


class Exposition:
    """The metrics of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._registry = CollectorRegistry()
        labels = {"model_name": MODEL, "engine": "0"}

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, _LABELS, registry=self._registry).labels(**labels)

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, _LABELS, registry=self._registry).labels(**labels)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, _LABELS, registry=self._registry, buckets=buckets).labels(**labels)

        self._running = gauge("vllm:num_requests_running", "Number of requests in model execution batches.")
        self._waiting = gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.")
        self._cache = gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        counter("vllm:num_preemptions", "Cumulative number of preemption from the engine.")
        self._prompt = counter("vllm:prompt_tokens", "Number of prefill tokens processed.")
        self._generated = counter("vllm:generation_tokens", "Number of generation tokens processed.")
        self._success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            (*_LABELS, "finished_reason"),
            registry=self._registry,
        ).labels(**labels, finished_reason="length")
        self._step_tokens = histogram(
            "vllm:iteration_tokens_total", "Histogram of number of tokens per engine_step.", _STEP_TOKENS_BUCKETS
        )
        self._first_token = histogram(
            "vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", _FIRST_TOKEN_BUCKETS
        )

    def stepped(self, advanced: list[Job]) -> None:
        """A step has ended with a token for each of these."""
        prompts = sum(job.prompt for job in advanced if job.produced == 1)
        self._prompt.inc(prompts)
        self._generated.inc(len(advanced))
        self._success.inc(sum(job.produced == job.output for job in advanced))
        self._step_tokens.observe(prompts + len(advanced))

    def answered(self, seconds: float) -> None:
        """The first token of a request came after `seconds`."""
        self._first_token.observe(seconds)

    def text(self) -> bytes:
        self._running.set(len(self._engine.running))
        self._waiting.set(len(self._engine.waiting))
        self._cache.set(self._engine.cache_usage)
        return generate_latest(self._registry)
