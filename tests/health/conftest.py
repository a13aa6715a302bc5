"""What health checks meet: servers on every kind of address, or a network that only exists in the test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from l4lb.health import scheduler
from tests.health.scheduling import FakeNetwork


@pytest.fixture(params=["127.0.0.1", "::1", "unix", "abstract"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """How to listen at each kind of address."""
    if request.param == "unix":
        yield {"path": str(tmp_path / "b.sock")}
    elif request.param == "abstract":
        yield {"path": f"\0l4lb-test-{uuid.uuid4()}"}
    else:
        yield {"host": request.param}


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    """Takes the place of real checks."""
    network = FakeNetwork()
    monkeypatch.setattr(scheduler, "probe", network.probe)
    return network
