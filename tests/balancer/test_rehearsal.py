"""`check` tries a configuration on the data plane itself, without a socket, a look-up or a file."""

from __future__ import annotations

import os

import pytest

from l4lb.balancer import compose
from l4lb.balancer.rehearsal import rehearse
from l4lb.config.load import read_config
from l4lb.errors import ConfigError, StartError
from tests.helpers.build import config
from tests.helpers.leaks import holdings


def test_what_runs_is_valid() -> None:
    before = holdings(os.getpid())
    rehearse(
        config(
            "10.0.0.1:80",
            "name.example:80",
            "unix:/run/x.sock",
            "[fe80::1%nowhere0]:80",
            {"address": "[::ffff:10.0.0.7]:80", "zone": "eu", "tier": 3},
            pool={"balance": "maglev", "sticky": {}},
            zones={"eu": ["10.0.0.0/8"]},
        )
    )
    assert holdings(os.getpid()) == before


def test_what_the_packers_refuse_is_named_with_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "Balance", {"RANDOM": 99})
    with pytest.raises(StartError, match=r"pool app: .*Invalid argument"):
        rehearse(config("10.0.0.1:80", pool={"balance": "random"}))


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("[fe80::1]:80", "needs its interface"),
        ("[fe80::1%]:80", "brackets|needs its interface"),
        ("[fe80::1%0]:80", "names no interface"),
        ("[fe80::1%seventeen-letters]:80", "names no interface"),
        ("[2001:db8::1%eth0]:80", "only link-local"),
        ("[::1%lo]:80", "only link-local"),
    ],
)
@pytest.mark.parametrize("place", ["backend", "bind", "admin", "name server", "check"])
def test_an_address_that_no_socket_takes_is_refused_wherever_it_stands(
    address: str, complaint: str, place: str
) -> None:
    data = {
        "listeners": {"web": {"bind": "127.0.0.1:0", "pool": "app"}},
        "pools": {"app": {"backends": ["127.0.0.1:1"]}},
    }
    pool = data["pools"]["app"]
    if place == "backend":
        pool["backends"] = [address]  # type: ignore[assignment]
    elif place == "bind":
        data["listeners"]["web"]["bind"] = address  # type: ignore[index]
    elif place == "admin":
        data["admin"] = {"listen": address}  # type: ignore[dict-item]
    elif place == "check":
        pool["health"] = {"address": address.rpartition(":")[0].strip("[]")}  # type: ignore[assignment]
        complaint += "|not an IP address"
    else:
        pool["discover"] = {"dns": {"name": "x", "port": 1, "servers": address}}  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=complaint):
        read_config(data)
