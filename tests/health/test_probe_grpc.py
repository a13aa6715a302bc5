"""grpc against the health service of grpcio, and against servers that are something else."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from l4lb.health.probes import Outcome, Result, Subject, failure, success
from tests.health.certificates import authority
from tests.health.probing import SHORT, check
from tests.helpers.peers import Address, Backend, Peer, Served, connect

STATES = health_pb2.HealthCheckResponse


@contextlib.contextmanager
def serving(
    servicer: health.HealthServicer | None, credentials: grpc.ServerCredentials | None = None
) -> Iterator[Address]:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        if servicer is not None:
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield "127.0.0.1", port
        server.stop(None).wait()


def servicer(**services: int) -> health.HealthServicer:
    made = health.HealthServicer()
    for name, state in services.items():
        made.set(name, state)
    return made


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (STATES.SERVING, success("SERVING")),
        (STATES.NOT_SERVING, failure("NOT_SERVING")),
        (STATES.UNKNOWN, failure("UNKNOWN")),
    ],
)
def test_state_of_the_server_and_of_a_service(state: int, expected: Result) -> None:
    name = "inference.GRPCInferenceService" + "x" * 200  # long enough for a length of two bytes
    with serving(servicer(**{"": STATES.SERVING, name: state})) as address:
        assert check(address, type="grpc") == success("SERVING")
        assert check(address, type="grpc", service=name) == expected


def test_unknown_service() -> None:
    with serving(servicer()) as address:
        assert check(address, type="grpc", service="other") == failure("there is no service 'other' (NOT_FOUND)")


def test_server_without_a_health_service() -> None:
    with serving(None) as address:
        assert check(address, type="grpc") == failure("the server has no health service (UNIMPLEMENTED)")


def test_tls(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    leaf, _ = ca.issue("triton.example")
    pair = (leaf.private_key_pem.bytes(), b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    with serving(servicer(), grpc.ssl_server_credentials([pair])) as address:
        tls = {"ca": ca.file, "server_name": "triton.example"}
        assert check(address, type="grpc", tls=tls) == success("SERVING")
        assert check(address, type="grpc", tls={"verify": False}) == success("SERVING")
        assert not check(address, type="grpc", tls={"ca": ca.file}).ok


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the response is not HTTP/2: 'HTTP/1.1 400"),
        (b"\0" * 8000, "the response is not HTTP/2"),
        (b"", "the connection ended without a response"),
        (b"\0\0\0\4\0\0\0\0\0" * 20000, "more than 256 frames"),
    ],
)
def test_server_that_speaks_something_else(answer: bytes, words: str) -> None:
    def handle(peer: Peer) -> None:
        peer.read_first()
        peer.send(answer)
        peer.finish()
        peer.drain()

    with Served(handle) as server:
        result = check(server.address, type="grpc")
        assert not result.ok
        assert words in result.message


def test_silence_is_a_timeout() -> None:
    with Backend() as backend:
        silence = Result(Outcome.TIMEOUT, "no answer to the health service within 0.2s")
        assert check(backend.address, type="grpc", timeout=SHORT) == silence


def frames(*answers: bytes) -> Callable[[Peer], None]:
    """A server that reads the request and sends these bytes at once."""

    def handle(peer: Peer) -> None:
        read = b""
        while REQUEST not in read:
            read += peer.receive(1)
        peer.send(b"".join(answers))
        peer.reset()

    return handle


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def goaway(error: int, last: int = 1) -> bytes:
    return frame(7, 0, 0, struct.pack("!II", last, error))


REQUEST = bytes(5)
SETTINGS = frame(4, 0, 0, b"")
HEAD = frame(1, 4, 1, b"\x88")
BODY = frame(0, 0, 1, b"\0\0\0\0\x02\x08\x01")
TRAILERS = frame(1, 5, 1, b"\x00\x0bgrpc-status\x010")
REFUSED = frame(1, 5, 1, b"\x88" + b"\x00\x0bgrpc-status\x0212")
ANSWER = HEAD + BODY + TRAILERS


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([SETTINGS, goaway(0), ANSWER], success("SERVING")),
        ([SETTINGS, goaway(0, 2**31 - 1), HEAD, goaway(0), BODY, TRAILERS], success("SERVING")),
        ([SETTINGS, ANSWER, goaway(0)], success("SERVING")),
        ([SETTINGS, ANSWER, goaway(11)], success("SERVING")),
        ([SETTINGS, ANSWER, frame(3, 0, 1, bytes(4))], success("SERVING")),
        ([SETTINGS, ANSWER, b"\xff" * 100], success("SERVING")),
        ([SETTINGS, REFUSED], failure("the server has no health service (UNIMPLEMENTED)")),
        ([SETTINGS, goaway(11), ANSWER], failure("the connection was ended with the HTTP/2 error 11")),
        ([SETTINGS, HEAD, frame(3, 0, 1, b"\0\0\0\x02")], failure("the stream was reset with the HTTP/2 error 2")),
    ],
)
def test_what_was_answered_before_the_end_counts(answer: list[bytes], expected: Result) -> None:
    with Served(frames(*answer)) as server:
        assert check(server.address, type="grpc") == expected


def test_a_server_of_http_1_that_stays_connected_is_told_at_once() -> None:
    def handle(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\nConnection: keep-alive\r\n\r\n")
        peer.drain()

    with Served(handle) as server:
        assert "is not HTTP/2" in check(server.address, type="grpc").message


def test_proxy_header_comes_first() -> None:
    """A proxy that accepts only a connection with a header passes the rest on to the real server."""
    with serving(servicer()) as (host, port):

        def handle(peer: Peer) -> None:
            assert peer.receive(15) == b"PROXY UNKNOWN\r\n"
            with connect((host, port)) as upstream:
                back = threading.Thread(target=_pump, args=(upstream, peer))
                back.start()
                _pump(peer, upstream)
                upstream.finish()
                back.join()

        with Served(handle) as server:
            assert check(server.address, type="grpc", subject=Subject(send_proxy="v1")) == success("SERVING")


def _pump(source: Peer, sink: Peer) -> None:
    with contextlib.suppress(OSError):
        while data := source.sock.recv(65536):
            sink.send(data)
