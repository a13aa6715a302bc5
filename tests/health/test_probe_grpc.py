"""grpc against the health service of grpcio, and against servers that are something else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from l4lb.health.probes import Result, Subject, failure, success
from tests.health.certificates import authority
from tests.health.probing import NO_ANSWER, SHORT, check
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


def test_service_that_nobody_knows() -> None:
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
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the connection ended without an answer"),
        (b"\0" * 8000, "the answer is not HTTP/2"),
        (b"", "the connection ended without an answer"),
        (b"\0\0\0\4\0\0\0\0\0" * 20000, "too large"),
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
        assert check(backend.address, type="grpc", timeout=SHORT) == NO_ANSWER


def test_proxy_header_comes_first() -> None:
    """A proxy that believes nobody else passes the rest on to the real server."""
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
