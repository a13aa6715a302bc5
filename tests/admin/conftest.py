"""An admin server for one test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.admin.fake_control import FakeControl
from tests.admin.serving import DEADLINE, Case, serving


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def run(tmp_path: Path, control: FakeControl) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        async def main() -> None:
            async with asyncio.timeout(DEADLINE), serving(tmp_path, control) as served:
                await case(served)

        uvloop.run(main())

    return run
