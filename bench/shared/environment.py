"""The machine and the versions that a reader needs to judge the numbers; no name of a host."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path


def describe(versions: Mapping[str, str], *, repeated: int, quick: bool, unit: str = "rounds") -> dict[str, str]:
    """`unit` names what was repeated. An empty version is left out."""
    described = {
        "kernel": platform.release(),
        "processor": _processor(),
        "CPUs": str(os.cpu_count()),
        unit: f"{repeated} (quick)" if quick else str(repeated),
    }
    return described | {name: version for name, version in versions.items() if version}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
