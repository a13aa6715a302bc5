"""What is known of model servers and their kin: how they say that they are ready, and how loaded they are.

Plain settings of a pool, spelled as in a configuration file. They stand in where a pool that names the preset is
silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Settings = Mapping[str, Any]

_OK = [200]
"""Each of these servers is ready with 200; what it says otherwise (400, 404, 500, 503) is no two alike."""

_REQUESTS: Settings = {"protocol": "http1", "abort_on_close": True}
"""HTTP servers: each request is balanced, and a client that closes has given up."""

_KEPT = "4s"
"""Less than the 5 seconds after which uvicorn closes an idle connection. KServe and Ray Serve wait for longer now;
earlier versions of them do not."""

_STREAMS: Settings = {
    "connect": "2s",
    "idle": "1h",
    "response": "15m",
    "stream_gap": "5m",
    "keepalive": "15m",
    "backend_keepalive": _KEPT,
}
"""Timeouts for streams of tokens: a reasoning model is silent for minutes before the first token and between tokens.

Users of reasoning models, and OpenAI's clients, wait for up to 10 minutes. The client should give up first, not l4lb. A
server may send the head of its response at once and compute afterwards. From the second minute on, that silence counts
as the silence between turns, so `keepalive` is no shorter than `response`. It matters only for servers that keep idle
connections; most close them after 5 to 90 seconds. `stream_gap` ends streams that their client does not read.
"""

_CALLS: Settings = {"connect": "2s", "idle": "10m", "backend_keepalive": _KEPT}
"""One question, one answer, and limits of the server's own (30 s to 2 minutes): one deadline for all of it will do."""

_SOCKETS: Settings = {"connect": "2s", "idle": "1h", "backend_keepalive": _KEPT}
"""Websockets, which are pinged every 20 seconds."""

_PROBED: Settings = {"keepalive": "60s", "keepalive_interval": "10s", "keepalive_probes": 6}
"""A host that is gone is noticed within 2 minutes, and NATs on the way, which forget after some minutes of silence, are
kept from cutting a session that waits. No `user_timeout`: servers that are busy with long prompts read nothing for
minutes, and are healthy."""


_SPARED: Settings = {"turns": 2, "responses": 3}
"""The first requests of a model server compile kernels and fill caches: each of them takes seconds."""


@dataclass(frozen=True, slots=True)
class Preset:
    """`source` is where the facts come from."""

    title: str
    source: str
    settings: Settings


def _http(path: str, **more: Any) -> Settings:
    return {"type": "http", "path": path, "status": _OK, **more}


PRESETS: Mapping[str, Preset] = {
    "vllm": Preset(
        "vLLM, the OpenAI server",
        "https://docs.vllm.ai/en/latest/usage/metrics.html",
        {
            # A busy engine answers late; one that is loading does not listen yet.
            # It goes on saying 200 when the engine hangs; what counts the steps of the engine does not go on.
            "health": _http(
                "/health",
                timeout="5s",
                progress={
                    "counter": [
                        "vllm:iteration_tokens_total_count",
                        "vllm_iteration_tokens_total_count",
                        "ray_vllm_iteration_tokens_total_count",
                    ],
                    "stalled": "1m",
                },
            ),
            "load": {
                "url": "http://{host}:{port}/metrics",
                "signals": {
                    "queue": [
                        "vllm:num_requests_waiting",
                        "vllm_num_requests_waiting",
                        "ray_vllm_num_requests_waiting",
                    ],
                    "running": [
                        "vllm:num_requests_running",
                        "vllm_num_requests_running",
                        "ray_vllm_num_requests_running",
                    ],
                    "kv": [
                        "vllm:kv_cache_usage_perc",
                        "vllm:gpu_cache_usage_perc",
                        "vllm_kv_cache_usage_perc",
                        "ray_vllm_kv_cache_usage_perc",
                    ],
                },
                "limits": {"queue": "5", "kv": "0.8"},
            },
            **_REQUESTS,
            "slow_start": _SPARED,
            "timeouts": _STREAMS,
            "tcp": _PROBED,
            "drain_timeout": "10m",
        },
    ),
    "sglang": Preset(
        "SGLang, started with --enable-metrics",
        "https://docs.sglang.ai/references/production_metrics.html",
        {
            # It makes a token, for which a busy server takes up to 20 s.
            "health": _http("/health_generate", interval="5s", timeout="25s"),
            "load": {
                "url": "http://{host}:{port}/metrics",
                "signals": {
                    "queue": ["sglang:num_queue_reqs", "sglang_num_queue_reqs"],
                    "running": ["sglang:num_running_reqs", "sglang_num_running_reqs"],
                    "kv": ["sglang:token_usage", "sglang_token_usage"],
                },
                "limits": {"queue": "5", "kv": "0.9"},
            },
            **_REQUESTS,
            "slow_start": _SPARED,
            "timeouts": _STREAMS,
            "tcp": _PROBED,
            "drain_timeout": "10m",
        },
    ),
    "tgi": Preset(
        "Text Generation Inference",
        "https://huggingface.co/docs/text-generation-inference/reference/metrics",
        {
            "health": _http("/health", timeout="5s"),
            "load": {
                "url": "http://{host}:{port}/metrics",
                "signals": {"queue": ["tgi_queue_size"], "running": ["tgi_batch_current_size"]},
                "limits": {"queue": "5"},
            },
            **_REQUESTS,
            "slow_start": _SPARED,
            "timeouts": _STREAMS,
            "tcp": _PROBED,
            "drain_timeout": "10m",
        },
    ),
    "triton": Preset(
        "Triton Inference Server, its HTTP port; for gRPC give protocol tcp and health.port",
        "https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html",
        {
            "health": _http("/v2/health/ready", timeout="2s"),
            "load": {
                "url": "http://{host}:8002/metrics",
                "signals": {
                    "queue": [
                        'nv_trt_llm_request_metrics{request_type="waiting"}',
                        "nv_inference_pending_request_count",
                    ],
                    "running": ['nv_trt_llm_request_metrics{request_type="scheduled"}'],
                    "kv": ['nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}'],
                },
                "limits": {"queue": "16", "kv": "0.8"},
            },
            **_REQUESTS,
            "slow_start": _SPARED,
            "timeouts": _STREAMS,
            "tcp": _PROBED,
            "drain_timeout": "10m",
        },
    ),
    "kserve": Preset(
        "KServe and other servers of the Open Inference Protocol, version 2",
        "https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol",
        {
            "health": _http("/v2/health/ready", timeout="2s"),
            **_REQUESTS,
            "slow_start": _SPARED,
            "timeouts": _STREAMS,
            "tcp": _PROBED,
            "drain_timeout": "10m",
        },
    ),
    "ray": Preset(
        "Ray Serve, the proxies of a cluster; metrics of the node on port 8080",
        "https://docs.ray.io/en/latest/serve/monitoring.html",
        {
            "health": _http("/-/healthz", timeout="2s"),
            "load": {
                "url": "http://{host}:8080/metrics",
                "signals": {
                    "queue": [
                        "ray_vllm_num_requests_waiting",
                        "ray_vllm:num_requests_waiting",
                        "ray_serve_deployment_queued_queries",
                    ],
                    "running": ["ray_serve_num_ongoing_http_requests", "ray_serve_replica_processing_queries"],
                },
                "limits": {"queue": "16"},
            },
            **_REQUESTS,
            "timeouts": _STREAMS,
            "tcp": _PROBED,
            "drain_timeout": "10m",
        },
    ),
    "mlflow": Preset(
        "MLflow, models serve",
        "https://mlflow.org/docs/latest/genai/serving",
        {
            "health": _http("/ping", timeout="2s"),
            **_REQUESTS,
            # Versions before 3 are served by gunicorn, which closes after 2 seconds.
            "timeouts": {**_CALLS, "backend_keepalive": "1s"},
            "tcp": _PROBED,
            "drain_timeout": "1m",
        },
    ),
    "dask": Preset(
        "Dask schedulers, their raw TCP port; health and metrics of the dashboard on port 8787",
        "https://distributed.dask.org/en/latest/prometheus.html",
        {
            "health": _http("/health", port=8787, timeout="2s"),
            "load": {
                "url": "http://{host}:8787/metrics",
                "signals": {
                    "queue": ['dask_scheduler_tasks{state="queued"}', 'dask_worker_tasks{state="ready"}'],
                    "running": ['dask_scheduler_tasks{state="processing"}', 'dask_worker_tasks{state="executing"}'],
                },
                "limits": {"queue": "1000"},
            },
            # Clients and workers keep one connection for as long as they live.
            "timeouts": {"connect": "2s", "idle": "1d"},
            # As long as Dask itself (distributed.comm.timeouts.tcp) waits for a sign of life.
            "tcp": {"keepalive": "10s", "keepalive_interval": "2s", "keepalive_probes": 10},
            "drain_timeout": "off",
            # A comm is silent while its worker computes. Closing it would lose the result.
            "drain_quiet": "keep",
        },
    ),
    "airflow": Preset(
        # It answers 200 whatever it finds. An API server needs its database; the scheduler is another matter.
        "Airflow 3, its API servers",
        "https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/check-health.html",
        {
            "health": _http(
                "/api/v2/monitor/health",
                interval="5s",
                timeout="5s",
                body=r'"metadatabase":\s*\{\s*"status":\s*"healthy"',
            ),
            **_REQUESTS,
            "timeouts": _CALLS,
            "tcp": _PROBED,
            "drain_timeout": "1m",
        },
    ),
    "prefect": Preset(
        "Prefect, its servers",
        "https://docs.prefect.io/v3/advanced/self-hosted",
        {
            "health": _http("/api/ready", interval="5s", timeout="5s"),
            **_REQUESTS,
            "timeouts": _SOCKETS,
            "tcp": _PROBED,
            "drain_timeout": "1m",
        },
    ),
    "tensorflow-serving": Preset(
        # Readiness is of a model by its name, which a preset does not know.
        "TensorFlow Serving; for readiness give health {type: http, path: /v1/models/NAME}",
        "https://www.tensorflow.org/tfx/serving/api_rest",
        {
            "health": {"type": "tcp", "timeout": "2s"},
            **_REQUESTS,
            "slow_start": _SPARED,
            "timeouts": _CALLS,
            "tcp": _PROBED,
            "drain_timeout": "1m",
        },
    ),
    "torchserve": Preset(
        "TorchServe with metrics_mode=prometheus; metrics on port 8082",
        "https://docs.pytorch.org/serve/metrics_api.html",
        {
            "health": _http("/ping", timeout="2s"),
            "load": {
                "url": "http://{host}:8082/metrics",
                "signals": {
                    "cpu": ["CPUUtilization %"],
                    "gpu": ["GPUUtilization %"],
                    "memory": ["MemoryUtilization %"],
                },
            },
            **_REQUESTS,
            "slow_start": _SPARED,
            "timeouts": _CALLS,
            "tcp": _PROBED,
            "drain_timeout": "1m",
        },
    ),
}
