"""Link-local IPv6 addresses work end to end, with their interface by name or number."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.helpers.balancer import Balancer, Json
from tests.helpers.network import Network, cabled
from tests.helpers.peers import Served, named
from tests.helpers.waiting import wait_until

NEAR, FAR = "fe80::7", "fe80::8"


@pytest.fixture
def networks() -> Iterator[tuple[Network, Network]]:
    with cabled() as (inside, outside):
        inside.run("ip", "address", "add", f"{NEAR}/64", "dev", "wire", "nodad")
        outside.run("ip", "address", "add", f"{FAR}/64", "dev", "wire", "nodad")
        yield inside, outside


def number(network: Network) -> int:
    with network.entered():
        return socket.if_nametoindex("wire")


def config(bind: str, backend: str, health: str = "http") -> Json:
    pool: Json = {"backends": [{"name": "far", "address": backend}], "health": {"type": health, "interval": "200ms"}}
    return {"listeners": {"main": {"bind": bind, "pool": "main"}}, "pools": {"main": pool}}


@pytest.mark.parametrize("by_number", [False, True], ids=["name", "number"])
def test_a_listener_and_a_backend_on_link_local_addresses_serve(
    networks: tuple[Network, Network], by_number: bool
) -> None:
    inside, outside = networks
    interface = str(number(inside)) if by_number else "wire"
    with outside.entered():
        # The balancer connects from its own network, so that the number there is another one.
        listening = socket.socket(socket.AF_INET6)
        listening.bind((FAR, 0, 0, number(outside)))
        listening.listen(16)
    with listening, inside.entered():
        settings = config(f"[{NEAR}%{interface}]:0", f"[{FAR}%{interface}]:{listening.getsockname()[1]}", "tcp")
        with Balancer(settings) as lb:
            (bind,) = lb.status()["listeners"]["main"]["bind"]
            assert bind.startswith(f"[{NEAR}%{interface}]:")
            backend = lambda: lb.status()["pools"]["main"]["backends"]["far"]  # noqa: E731
            wait_until(lambda: backend()["health"] == "up")
            with outside.entered(), socket.socket(socket.AF_INET6) as client:
                client.settimeout(10)
                client.connect((NEAR, int(bind.rpartition(":")[2]), 0, number(outside)))
                client.sendall(b"x")
                while True:
                    server, _ = listening.accept()
                    # Others are checks, which send nothing.
                    with server, contextlib.suppress(ConnectionResetError):
                        server.settimeout(10)
                        if server.recv(1):
                            server.sendall(b"answer")
                            break
                assert client.recv(16) == b"answer"


def test_an_interface_that_is_not_there_is_said_and_a_backend_waits_for_it(
    networks: tuple[Network, Network],
) -> None:
    inside, _ = networks
    with inside.entered(), Balancer(config("127.0.0.1:0", "[fe80::8%wire9]:80")) as lb:
        assert lb.status()["pools"]["main"]["backends"]["far"]["health_message"] == "this host has no interface wire9"
        lb.write(config("[fe80::7%wire9]:0", "127.0.0.1:1"))
        status, _ = lb.request("POST", "/api/v1/reload")
        assert status != 200
        lb.wait_log("this host has no interface wire9; name one of its interfaces")


def test_ipv4_within_ipv6_is_ipv4() -> None:
    with Served(named("only")) as served:
        port = served.address[1] if isinstance(served.address, tuple) else 0
        with Balancer(config("[::ffff:127.0.0.1]:0", f"[::ffff:127.0.0.1]:{port}", "tcp")) as lb:
            (bind,) = lb.status()["listeners"]["main"]["bind"]
            assert bind.startswith("127.0.0.1:")
            assert lb.status()["pools"]["main"]["backends"]["far"]["address"] == f"127.0.0.1:{port}"
            with socket.create_connection(("127.0.0.1", int(bind.rpartition(":")[2])), timeout=10) as client:
                client.sendall(b"x")
                assert client.recv(4) == b"only"
