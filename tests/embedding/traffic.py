"""Sessions through an embedded balancer, both ends in the hands of the test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import l4lb
from tests.helpers.peers import Backend, Peer, connect


@contextlib.contextmanager
def paired(lb: l4lb.Balancer, backend: Backend) -> Iterator[tuple[Peer, Peer]]:
    """A client, and the backend's end of its session."""
    with connect(lb.address("web")) as client, backend.accept() as server:
        yield client, server


@contextlib.contextmanager
def busy(lb: l4lb.Balancer, backend: Backend) -> Iterator[tuple[Peer, Peer]]:
    """The same in the middle of a turn: the backend has not answered yet."""
    with paired(lb, backend) as (client, server):
        client.send(b"question")
        assert server.receive(8) == b"question"
        yield client, server
