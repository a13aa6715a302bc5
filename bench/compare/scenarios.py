"""What is measured: the loads of the comparison, their sizes, and what one operation is. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

TCP, HTTP = "tcp", "http"
CLIENT_ADDRESSES = "127.0.2.1:0+16"


@dataclass(frozen=True, slots=True)
class Scenario:
    """`arguments` and `quick` go to the load generator. `memory` also counts bytes per connection. `protocol` is what
    the load speaks: subjects that do not speak it are left out. With `streams`, a piece of a response must not wait for
    the next one.
    """

    name: str
    title: str
    operation: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...]
    protocol: str = TCP
    streams: bool = False
    memory: bool = False
    fills_ports: bool = False
    hold_seconds: float = 0.0


def _connect(total: int) -> tuple[str, ...]:
    return ("connect", "--connections", "64", "--total", str(total), "--seconds", "20", "--from", CLIENT_ADDRESSES)


def _exchange(seconds: float) -> tuple[str, ...]:
    return ("exchange", "--connections", "64", "--seconds", str(seconds))


def _stream(seconds: float) -> tuple[str, ...]:
    return ("stream", "--connections", "1000", "--chunk", "100", "--interval", "25", "--seconds", str(seconds))


def _bulk(direction: str, mebibytes: int) -> tuple[str, ...]:
    return ("bulk", "--connections", "4", "--mebibytes", str(mebibytes), "--direction", direction)


def _http(title: str, connections: int, body: int) -> Scenario:
    def arguments(seconds: float) -> tuple[str, ...]:
        return ("http", "--connections", str(connections), "--body", str(body), "--seconds", str(seconds))

    return Scenario(
        f"http-{title.replace(' ', '').lower()}",
        f"HTTP requests on {connections} connections, responses of {title}",
        "request",
        arguments(3),
        arguments(0.5),
        HTTP,
    )


SCENARIOS = (
    # Each connection leaves a socket in TIME_WAIT on both of its legs, so the count is bounded, not the time.
    Scenario("connect", "new connections", "connection", _connect(15_000), _connect(4_000), fills_ports=True),
    Scenario("exchange", "64-byte exchanges, 64 connections", "exchange", _exchange(3), _exchange(0.5)),
    Scenario("stream", "100-byte chunks, 1,000 streams", "chunk", _stream(3), _stream(0.75)),
    Scenario("bulk-down", "bulk to the client", "MiB", _bulk("down", 768), _bulk("down", 192)),
    Scenario("bulk-up", "bulk from the client", "MiB", _bulk("up", 768), _bulk("up", 192)),
    Scenario("bulk-both", "bulk both ways", "MiB", _bulk("both", 384), _bulk("both", 96)),
    Scenario(
        "idle",
        "4,000 idle connections",
        "connection",
        ("idle", "--connections", "4000"),
        ("idle", "--connections", "4000"),
        memory=True,
        hold_seconds=2.0,
    ),
    _http("64 B", 64, 64),
    _http("4 KiB", 64, 4 << 10),
    _http("64 KiB", 64, 64 << 10),
    _http("1 MiB", 16, 1 << 20),
    Scenario(
        "http-stream",
        "100-byte chunks of 1,000 streamed HTTP responses",
        "chunk",
        ("http-stream", *_stream(3)[1:]),
        ("http-stream", *_stream(0.75)[1:]),
        HTTP,
        streams=True,
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
