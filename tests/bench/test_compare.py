"""The load generator's HTTP, and the ratios of bench/compare."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.compare.rounds import Measurement
from bench.compare.summary import Results
from bench.shared import load
from bench.shared.places import default_cpus, free_port


@pytest.fixture(scope="module")
def program() -> Path:
    return load.build()


@pytest.fixture
def server(program: Path, tmp_path: Path) -> Iterator[str]:
    """The address of the load generator's server."""
    address = f"127.0.0.1:{free_port()}"
    with load.server(program, address, cpu=default_cpus()[1], directory=tmp_path):
        yield address


def outcome(program: Path, address: str, *arguments: str) -> dict[str, Any]:
    kind, *options = arguments
    done = subprocess.run([program, kind, address, *options], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("size", [0, 64, 1000, 4 << 10, 1 << 20])
def test_responses_of_every_size_arrive_whole(program: Path, server: str, size: int) -> None:
    found = outcome(program, server, "http", "--body", str(size), "--connections", "3", "--seconds", "0.1")
    assert found["operations"] > 0
    assert (found["errors"], found["first_error"]) == (0, "")


def test_every_chunk_of_a_streamed_response_is_counted_once(program: Path, server: str) -> None:
    options = ("--chunk", "100", "--interval", "5", "--connections", "10", "--seconds", "0.1")
    found = outcome(program, server, "http-stream", *options)
    assert (found["operations"], found["errors"]) == (200, 0)


def test_a_response_that_is_an_error_is_told(program: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [program, "http", f"127.0.0.1:{listener.getsockname()[1]}", "--connections", "1"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                _, errors = process.communicate()
    assert errors == "load: connection 0: the status is not 200\n"


def test_a_ratio_is_taken_within_a_round() -> None:
    results = Results(
        Measurement(number, "http-64b", name, 0, "", {"cpu_us": cost})
        for number, name, cost in (
            (1, "haproxy-http", 10.0),
            (2, "haproxy-http", 40.0),
            (1, "ours", 5.0),
            (2, "ours", 10.0),
        )
    )
    ratio = results.ratio("http-64b", "ours", "cpu_us", "haproxy-http")
    assert ratio is not None
    assert (ratio.least, ratio.median, ratio.most) == (0.25, 0.375, 0.5)
    assert results.ratio("http-64b", "ours", "cpu_us", "nginx-http") is None
    assert results.measured("http-64b") == ["haproxy-http", "ours"]
