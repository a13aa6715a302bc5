"""Tables of the metrics: their type, their labels and their help, from a rendering of everything there may be."""

from __future__ import annotations

import re

from docs.generate.parts import table
from l4lb.admin import metrics
from l4lb.admin.metrics import Family
from tests.admin.fake_control import exhaustive_status

OBJECTS = ("listener", "backend", "pool", "discovery", "worker")
"""What a metric may be about, by the first word of its name. All others are about the process."""


def metric_table(about: str) -> str:
    """The metrics about an object; those of the process if it is `process`."""
    families = [family for family in metrics.render(exhaustive_status()) if _object(family) == about]
    rows = [(f"`{_name(family)}`", family.kind, _labels(family), family.help) for family in families]
    return table(("metric", "type", "labels", "meaning"), rows)


def _object(family: Family) -> str:
    word = family.name.removeprefix("l4lb_").split("_")[0]
    return "pool" if word == "closed" else word if word in OBJECTS else "process"


def _name(family: Family) -> str:
    return family.name + ("_total" if family.kind == "counter" else "")


def _labels(family: Family) -> str:
    assert family.lines, f"{family.name} has no sample in the exhaustive status"
    names = re.findall(r'[{,](\w+)="', family.lines[0])
    return ", ".join(f"`{name}`" for name in names if name != "le")
