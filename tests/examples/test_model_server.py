"""The example with a real model does what its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from l4lb.config import load_config
from tests.helpers.balancer import ROOT, child_environment

EXAMPLE = ROOT / "examples" / "model_server"
HOST = f"127.78.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
"""A loopback address of this run alone, so that the ports of the example are free."""

DEADLINE = 100.0
INFERENCES = 200


def test_configuration_of_the_example_is_valid() -> None:
    pool = load_config(EXAMPLE / "l4lb.yaml", {}).pools["magika"]
    assert pool.retries > 0
    assert [str(backend.address) for backend in pool.backends] == ["127.0.0.1:9101", "127.0.0.1:9102"]


@pytest.mark.slow
def test_killed_replica_costs_only_what_was_in_flight_on_it() -> None:
    for package in ("onnxruntime", "magika", "starlette", "uvicorn"):
        pytest.importorskip(package, reason=f"the example needs {package}: pip install '.[example]'")
    run = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py"), str(INFERENCES)],
        env=child_environment() | {"HOST": HOST},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    assert f"{INFERENCES} of {INFERENCES}, 0 of them wrong" in run.stdout
    by_replica = {name: int(count) for name, count in re.findall(r"by (replica-\d) +(\d+)", run.stdout)}
    assert min(by_replica[name] for name in ("replica-1", "replica-2")) > 0
    assert sum(by_replica.values()) == INFERENCES
    assert re.search(r"lost before or after it +0\n", run.stdout)
    assert re.search(r"never answered +0\n", run.stdout)
    assert "Traceback" not in run.stderr
