"""The example of an embedded balancer does what its README says."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.helpers.balancer import ROOT, child_environment

EXAMPLE = ROOT / "examples" / "embedding"


def test_servers_are_restarted_and_no_request_fails() -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py")], env=child_environment(), capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
    found = re.findall(r"^(\w+) +(\d+) answers before its restart, +(\d+) after it$", run.stdout, re.MULTILINE)
    assert [name for name, _, _ in found] == ["red", "green", "blue"]
    assert all(int(count) > 0 for _, *counts in found for count in counts)
    assert re.search(r"^failed +0$", run.stdout, re.MULTILINE)
    assert {word.split()[0] for word in re.findall(r"^       (.*(?:restart|failed).*)$", readme(), re.MULTILINE)} == {
        *("red", "green", "blue", "failed")
    }


def readme() -> str:
    return (EXAMPLE / "README.md").read_text()
