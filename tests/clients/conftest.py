"""Programs that some tests need."""

from __future__ import annotations

import shutil

import pytest


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def curl() -> str:
    return _program("curl")


@pytest.fixture
def wrk() -> str:
    return _program("wrk")


@pytest.fixture
def node() -> str:
    return _program("node")
