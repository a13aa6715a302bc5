"""What the tests of the control plane share."""

from __future__ import annotations

import pytest

from l4lb.health.probes import Result
from l4lb.net.target import Target
from tests.helpers.loops import eventually


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[int, Result]:
    """What a check of each port finds; a port that is not there is not answered at all."""
    answers: dict[int, Result] = {}

    async def probe(target: Target, _settings: object, _subject: object) -> Result:
        await eventually(lambda: target.address[1] in answers)
        return answers[target.address[1]]  # type: ignore[index]

    monkeypatch.setattr("l4lb.health.scheduler.probe", probe)
    return answers
