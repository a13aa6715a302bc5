"""What a reader must know of the machine to judge the numbers, without naming it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path


def describe(versions: Mapping[str, str], *, rounds: int, quick: bool) -> dict[str, str]:
    described = {
        "kernel": platform.release(),
        "processor": _processor(),
        "CPUs": str(os.cpu_count()),
        "rounds": f"{rounds} (quick)" if quick else str(rounds),
    }
    return described | {name: version for name, version in versions.items() if version}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
