"""The line that an agent answers follows from what it found."""

from __future__ import annotations

import pytest

from l4lb.agent.gpu import GpuState
from l4lb.agent.report import RECOVERY, Findings, LoadReporter

IDLE = {"cpu": 0.1, "memory": 0.2}


@pytest.mark.parametrize(
    ("findings", "used"),
    [
        (Findings(IDLE), 0.2),
        (Findings(IDLE, GpuState(0.9)), 0.9),
        (Findings(IDLE, GpuState(0.9), {"queue": 2.0}), 0.4),
        (Findings(IDLE, GpuState(0.9), {"queue": 0.0, "kv": 0.72}), 0.9),
        (Findings({"cpu": 0.8}, server={"queue": 0.0}), 0.8),
        (Findings(IDLE, silent=True), None),
        (Findings({}), None),
    ],
)
def test_the_scarcest_thing_decides(findings: Findings, used: float | None) -> None:
    """The GPU only where the model server does not say better; nothing where it should and does not."""
    assert findings.used() == (None if used is None else pytest.approx(used))


def line(*findings: Findings, after: float = 1000.0) -> bytes:
    """The answer, `after` seconds after the start, having found these a minute apart."""
    reporter, now = LoadReporter(0.0), after
    for one in findings:
        now += 60
        reporter.observe(one, now)
    return reporter.line(now)


@pytest.mark.parametrize(
    ("findings", "answer"),
    [
        (Findings({"cpu": 0.37}), b"up 63%\n"),
        (Findings({"cpu": 1.0}), b"up 1%\n"),
        (Findings({"cpu": 0.0}), b"up 100%\n"),
        (Findings({}), b"up\n"),
        (Findings({"cpu": 0.37}, GpuState(fault="gpu 0: lost")), b"up drain 63% #gpu 0: lost\n"),
    ],
)
def test_an_answer_has_the_weight_and_a_fault_drains(findings: Findings, answer: bytes) -> None:
    assert line(findings) == answer


def test_the_weight_is_smoothed() -> None:
    reporter = LoadReporter(0.0)
    reporter.observe(Findings({"cpu": 0.0}), 1000.0)
    reporter.observe(Findings({"cpu": 1.0}), 1001.0)
    assert reporter.line(1001.0) == b"up 72%\n"
    reporter.observe(Findings({"cpu": 1.0}), 1060.0)
    assert reporter.line(1060.0) == b"up 1%\n"


def test_ready_is_said_as_long_as_there_may_be_a_drain_to_take_back() -> None:
    reporter = LoadReporter(0.0)
    assert reporter.line(1.0) == b"up ready\n"
    assert reporter.line(RECOVERY) == b"up\n"
    reporter.observe(Findings({}, GpuState(fault="x")), 500.0)
    assert reporter.line(500.0) == b"up drain #x\n"
    reporter.observe(Findings({}), 501.0)
    assert reporter.line(501.0) == b"up ready\n"
    assert reporter.line(500.0 + RECOVERY) == b"up\n"
