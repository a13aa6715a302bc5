"""The path of plain TCP costs no more instructions than it did."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import instructions

TOLERANCE = 0.02

HINT = """Instructions of one operation on the path of plain TCP, {compiler}:
{rows}
`python -m bench instructions --functions 25` shows which functions they are in, and `--tree` those of another commit.
If the path is meant to cost this now, record it with `python -m bench instructions --record` and say in the commit
message what is gained for it."""


@pytest.fixture
def callgrind() -> None:
    if shutil.which("valgrind") is None or not Path("/usr/include/valgrind/callgrind.h").exists():
        pytest.skip("no valgrind with its headers: instructions are not counted")


@pytest.mark.slow
@pytest.mark.usefixtures("callgrind")
def test_a_connect_an_exchange_and_a_close_cost_no_more_instructions_than_recorded() -> None:
    recorded_with, recorded = instructions.recorded()
    compiler = instructions.compiler()
    if compiler != recorded_with:
        pytest.skip(f"instructions were recorded with {recorded_with}, which is not comparable with {compiler}")
    counted = {phase.name: phase.instructions for phase in instructions.count()}
    assert counted.keys() == recorded.keys()
    rows = [
        f"  {name:10} {now:6,}, recorded {recorded[name]:6,} ({now / recorded[name] - 1:+.1%})"
        for name, now in counted.items()
    ]
    is_within = all(now <= recorded[name] * (1 + TOLERANCE) for name, now in counted.items())
    assert is_within, HINT.format(compiler=compiler, rows="\n".join(rows))


def test_costs_of_calls_and_of_other_code_are_left_out() -> None:
    profile = """
fl=(1) /l4lb/src_c/worker/loop.c
fn=(1) iterate
10 5
+1 7
cfi=(2) /l4lb/src_c/worker/worker.c
cfn=(2) read_clock
calls=3 20
* 900
fi=(3) /l4lb/src_c/base/list.h
5 30

fl=(2)
fn=(2)
20 100
-3 1

fl=(4) ./nptl/futex.c
fn=(3) wait
7 1000
"""
    assert instructions.own_costs(profile.splitlines()) == {
        "worker/loop.c:iterate": 42,
        "worker/worker.c:read_clock": 101,
    }
