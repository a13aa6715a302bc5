"""A name that a stranger can have does not read the admin address through a visitor's browser."""

from __future__ import annotations

import socket

import pytest

from l4lb.admin.hosts import is_expected

NAMES = ("metrics.example.com", "*.mesh.example")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "localhost",
        "LOCALHOST:9400",
        "admin.localhost",
        "127.0.0.1",
        "10.1.2.3:9400",
        "[::1]",
        "[2001:db8::1]:9400",
        "l4lb",
        "l4lb:9400",
        "l4lb.ml.svc",
        "l4lb.ml.svc.cluster.local:9400",
        "gpu-7.internal",
        "metrics.example.com",
        "Metrics.Example.COM.:9400",
        "a.mesh.example",
        "a.b.mesh.example:1",
        f"{socket.gethostname()}:9400",
    ],
)
def test_answered(header: str) -> None:
    assert is_expected(header, NAMES)


@pytest.mark.parametrize(
    "header",
    [
        "rebound.example",
        "rebound.example:9400",
        "127.0.0.1.rebound.example",
        "localhost.rebound.example",
        "rebound.example#.local",
        "rebound.example/.internal",
        "user@localhost",
        "metrics.example.com.rebound.example",
        "mesh.example",
        "xmesh.example",
        "metrics.example.com:9400:1",
        "metrics.example.com@rebound.example",
        "127.0.0.1:80@rebound.example",
        "[rebound.example]",
        "[::1].rebound.example",
        "[::1",
        "local.rebound.example",
        "rebound.example/localhost",
        "rebound.example,localhost",
    ],
)
def test_not_answered(header: str) -> None:
    assert not is_expected(header, NAMES)
