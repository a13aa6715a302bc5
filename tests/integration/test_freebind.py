"""A listener on an address that this host does not have yet: clients come when the address does."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.helpers.balancer import Balancer, Json
from tests.helpers.peers import Served, ask, listen, named
from tests.helpers.upgrades import taking_care_of_orphans, upgrade
from tests.helpers.waiting import wait_until

FLOATING = "192.0.2.77"


def free_port() -> int:
    with contextlib.closing(listen()) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def floating() -> Iterator[None]:
    """The address is here for the length of the block, as when a standby takes over."""
    ip = shutil.which("ip")
    if ip is None or os.geteuid() != 0:
        pytest.skip("adding an address to this host takes root and iproute2")
    subprocess.run([ip, "address", "add", f"{FLOATING}/32", "dev", "lo"], check=True)
    try:
        yield
    finally:
        subprocess.run([ip, "address", "del", f"{FLOATING}/32", "dev", "lo"], check=True)


def config(served: Served, *binds: str, **listener: object) -> Json:
    return {
        "process": {"workers": 2, "drain_timeout": "10s"},
        "listeners": {"vip": {"bind": list(binds), "pool": "main"} | listener},
        "pools": {"main": {"backends": [str(served)]}},
    }


@pytest.mark.slow
def test_clients_are_served_whenever_the_address_is_here() -> None:
    port = free_port()
    address, bind = (FLOATING, port), f"{FLOATING}:{port}"
    with (
        Served(named("a")) as served,
        taking_care_of_orphans(),
        Balancer(config(served, bind, freebind=True)) as lb,
    ):
        assert lb.request("GET", "/readyz")[0] == 200
        with floating():
            assert ask(address) == "a"
        lb.reload(config(served, bind, "127.0.0.1:0", freebind=True))
        old = upgrade(lb)
        assert old.wait(20) == 0
        with floating():
            wait_until(lambda: ask(address) == "a")


def test_a_reload_may_bring_the_address() -> None:
    port = free_port()
    bind = f"{FLOATING}:{port}"
    with Served(named("a")) as served, Balancer(config(served, "127.0.0.1:0")) as lb:
        lb.write(config(served, bind))
        status, answer = lb.request("POST", "/api/v1/reload")
        assert status != 200
        assert "freebind: true" in str(answer)
        lb.reload(config(served, bind, freebind=True))
        with floating():
            assert ask((FLOATING, port)) == "a"
