"""What is compared: balancers and their policies. Another policy is a line in `subjects`.

All have the same replicas, weights and timeouts. The name says the mode: `tcp` relays bytes and places connections;
`http` and `http1` place requests. HAProxy, l4lb and vllm-router check /health alike, which nginx cannot. Each learns of
a new replica in the way that disturbs it least.
"""

from __future__ import annotations

from bench.fleet.subjects.base import BATCH, QUEUE_SECONDS, Subject
from bench.fleet.subjects.haproxy import HAProxy
from bench.fleet.subjects.l4lb import L4lb
from bench.fleet.subjects.nginx import Nginx
from bench.fleet.subjects.vllm_router import VllmRouter

HTTP1 = "protocol: http1"
QUEUE = f"queue: {{size: 1000, timeout: {QUEUE_SECONDS}s}}"
MAX_BUSY = f"max_busy: {BATCH}"
AUTO = "max_busy: auto"
COLD = "slow_start: {turns: 2}"
BATCHES = "load: {signals: {running: ['vllm:num_requests_running'], queue: ['vllm:num_requests_waiting']}}"
REBALANCE = "rebalance: {rate: 20/s, quiet: 2s}"
LOAD = "load: {signals: {queue: ['vllm:num_requests_waiting'], kv: ['vllm:kv_cache_usage_perc']}}"


def subjects(haproxy: str, nginx: str, vllm_router: str) -> dict[str, Subject]:
    """All subjects by name; the arguments are their programs."""
    every: tuple[Subject, ...] = (
        HAProxy("haproxy-http-leastconn", haproxy, "http", "leastconn"),
        HAProxy("haproxy-http-random", haproxy, "http", "random(2)"),
        HAProxy("haproxy-http-maxconn", haproxy, "http", "leastconn", server=f"maxconn {BATCH}"),
        Nginx("nginx-http-least-conn", nginx, "http", "least_conn"),
        VllmRouter("vllm-router-power-of-two", vllm_router, "power_of_two"),
        L4lb("l4lb-http1-least-busy", "least_busy", HTTP1),
        L4lb("l4lb-http1-max-busy", "least_busy", HTTP1, QUEUE, backend=MAX_BUSY),
        L4lb("l4lb-http1-cold", "least_busy", HTTP1, QUEUE, COLD, backend=MAX_BUSY),
        L4lb("l4lb-http1-auto", "least_busy", HTTP1, QUEUE, COLD, BATCHES, backend=AUTO),
        L4lb("l4lb-http1-preset", "least_busy", "preset: vllm", QUEUE, backend=AUTO),
        HAProxy("haproxy-tcp-leastconn", haproxy, "tcp", "leastconn"),
        HAProxy("haproxy-tcp-random", haproxy, "tcp", "random(2)"),
        Nginx("nginx-tcp-least-conn", nginx, "tcp", "least_conn"),
        L4lb("l4lb-tcp-least-connections", "least_connections"),
        L4lb("l4lb-tcp-power-of-two", "power_of_two"),
        L4lb("l4lb-tcp-least-busy", "least_busy"),
        L4lb("l4lb-tcp-least-latency", "least_latency"),
        L4lb("l4lb-tcp-rebalance", "least_busy", REBALANCE),
        L4lb("l4lb-tcp-load", "least_busy", REBALANCE, LOAD),
    )
    return {subject.name: subject for subject in every}
