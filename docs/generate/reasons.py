"""Tables of reasons: codes, reasons and meanings come from the tables in `src_c/l4lb.h`, the advice is here."""

from __future__ import annotations

from l4lb.engine._native import (
    CLOSE_MEANINGS,
    CLOSE_REASONS,
    PIN_MEANINGS,
    PIN_REASONS,
    REJECT_MEANINGS,
    REJECT_REASONS,
)

CLOSED: dict[tuple[str, str], str] = {
    ("--", "normal"): "nothing: all is well",
    ("CC", "client_abort"): "`connect_s`: do backends take long to connect? The client's own timeout",
    ("CQ", "client_abort"): "`queue_s` against the client's timeout; more backends, or a shorter `queue.timeout`",
    ("CD", "client_abort"): (
        "the client: it crashed, was stopped or gave up (`first_byte_s`, `duration_s`). Many alike: something "
        "on the path"
    ),
    ("CD", "client_lost"): (
        "the client's host and the network to it; a NAT on the path that forgets sooner than `tcp.keepalive`; "
        "a client that stops reading"
    ),
    ("SD", "server_abort"): (
        "the log of the backend: it crashed or was restarted, or has a timeout of its own (a keep-alive "
        "shorter than that of clients)"
    ),
    ("SD", "server_lost"): "the backend's host and the network to it",
    (
        "SC",
        "connect_failed",
    ): "`l4lb_backend_connect_failures_total`: is the server running, is its address right, does a firewall refuse?",
    (
        "sC",
        "connect_timeout",
    ): "`l4lb_backend_connect_timeouts_total`: host down, packets dropped, or a backlog that is full",
    ("SC", "no_backend"): (
        "`l4lb status`: `state`, `health` and `effective_weight`; `max_connections` and `max_busy`; a `queue` "
        "would let clients wait"
    ),
    ("SQ", "queue_full"): "`l4lb_pool_queued`; more backends, or a larger `queue.size`",
    ("sQ", "queue_timeout"): "`l4lb_pool_queue_seconds`; more backends, or a longer `queue.timeout`",
    ("cD", "idle"): "nothing, if clients open connections again; else a longer `timeouts.idle`",
    ("sD", "idle"): "the backend: it hangs, or responses take longer than that",
    ("cD", "half_close"): "clients that do not close; a longer `timeouts.half_close` if they still send",
    ("sD", "half_close"): "backends that do not close after the client has, and after their response",
    ("cD", "first_byte"): "the client's address: a scan, or a connection pool that connects in advance",
    ("sD", "first_byte"): "the backend's queue; `l4lb_backend_first_byte_seconds`",
    ("sD", "response"): "the backend: it hangs, or is slower than that; `l4lb_backend_first_byte_seconds`",
    ("cD", "stream_gap"): "the client: it hangs, or is too slow for what it requested",
    ("sD", "stream_gap"): "the backend: it hangs in the middle; `l4lb_backend_stream_gap_seconds`",
    (
        "cD",
        "keepalive",
    ): "nothing, if clients open connections again. A stream that pauses for longer ends like this too",
    ("LD", "lifetime"): "nothing: it is meant to",
    ("KQ", "killed"): "calls of `l4lb kill`",
    ("KC", "killed"): "calls of `l4lb kill`",
    ("KD", "killed"): "calls of `l4lb kill` and `l4lb drain --kill`",
    ("DC", "backend_down"): "`health_message` of the backend",
    ("DD", "backend_down"): "`health_message` of the backend",
    ("UC", "better_up"): "`max_connections` of the better tier",
    ("UD", "better_up"): "nothing: clients that connect again go there",
    ("DD", "drained"): "with a long `duration_s` and a turn in flight: a longer `drain_timeout`",
    ("DD", "rebalanced"): "nothing, if clients open connections again; `rebalance.quiet`",
    ("KD", "shutdown"): "a longer `process.drain_timeout`",
    ("RC", "resource"): "[Limits](../guides/limits.md)",
}
"""Where to look if many sessions end so, by code and reason."""

REJECTED: dict[str, str] = {
    "denied": "the two lists; behind another proxy, `proxy_protocol`",
    "proxy_untrusted": "`from`: a proxy that is missing there, or a client that goes around it",
    "proxy_invalid": "whether that proxy is configured to send one",
    "proxy_timeout": "the proxy, and the network to it",
    "closed": "nothing; many may be checks of a proxy in `from` that only connect",
    "silent": "scans, or an attack; else raise `process.max_connections`, of which a quarter may be such clients",
    "resource": "[Limits](../guides/limits.md)",
}
"""Where to look if many clients are rejected for this reason."""

PINNED: dict[str, str] = {
    "not_http": "what clients speak: for TLS, HTTP/2 or gRPC write `protocol: tcp`",
    "syntax": "the client, or the backend, whichever sent it",
    "length": "the client, or the backend, whichever sent it; many may be an attempt to smuggle requests",
    "too_long": "cookies or tokens that grew",
    "pipeline": "nothing: the client sends requests without waiting",
    "early_response": "`l4lb_backend_responses_total`: requests that are rejected while they are uploaded",
    "unrequested": "the log of the backend: it may send an error before it closes",
    "upgrade": "nothing: WebSockets do that",
    "credential": "nothing: the server signs in a connection, and not each request",
    "resource": "[Limits](../guides/limits.md)",
}
"""Where to look if many sessions are pinned for this reason."""


def closed() -> str:
    """Why sessions end. KeyError for a reason without advice."""
    rows = [
        f"| `{code}` | `{reason}` | {meaning} | {CLOSED[code, reason]} |"
        for (reason, code), meaning in zip(CLOSE_REASONS, CLOSE_MEANINGS, strict=True)
    ]
    return "\n".join(["| code | reason | means | look at |", "|---|---|---|---|", *rows])


def rejected() -> str:
    """Why clients are turned away. KeyError for a reason without advice."""
    rows = [
        f"| `{reason}` | {meaning} | {REJECTED[reason]} |"
        for reason, meaning in zip(REJECT_REASONS, REJECT_MEANINGS, strict=True)
    ]
    return "\n".join(["| reason | means | look at |", "|---|---|---|", *rows])


def pinned() -> str:
    """Why sessions keep their backend. KeyError for a reason without advice."""
    rows = [
        f"| `{reason}` | {meaning} | {PINNED[reason]} |"
        for reason, meaning in zip(PIN_REASONS[1:], PIN_MEANINGS[1:], strict=True)
    ]
    return "\n".join(["| reason | means | look at |", "|---|---|---|", *rows])


TABLES = {"closed": closed, "rejected": rejected, "pinned": pinned}
"""The tables, by the name in their marks."""
