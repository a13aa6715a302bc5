"""The page about health says what the code does, and its configurations load."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from l4lb.admin import metrics
from l4lb.config import Config, load_config, model
from l4lb.health import machine, passive, probes
from l4lb.health.probes import command, http
from l4lb.process import capacity
from tests.admin.fake_control import make_status

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/concepts/health.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[" ".join(block.split())[:40] for block in BLOCKS])
def test_every_configuration_loads(block: str, tmp_path: Path) -> None:
    given: dict[str, Any] = yaml.safe_load(block)
    assert given.keys() <= Config.model_fields.keys()
    if "listeners" not in given:
        block += yaml.safe_dump({"listeners": {"web": {"bind": "127.0.0.1:8080", "pool": next(iter(given["pools"]))}}})
    path = tmp_path / "l4lb.yaml"
    path.write_text(block)
    load_config(path, {})


def test_every_metric_exists() -> None:
    shown = {family.name + ("_total" if family.kind == "counter" else "") for family in metrics.render(make_status())}
    named = set(re.findall(r"\bl4lb_\w+", PAGE))
    assert named
    assert named <= shown


def test_every_type_of_check_is_there() -> None:
    table = PAGE[PAGE.index("| type | healthy when |") : PAGE.index("Each check is a connection")]
    types = set(get_args(model.Health.model_fields["type"].annotation)) - {"none"}
    assert set(re.findall(r"`(\w+)`", re.sub(r"(?m)^(\| [^|]+ \|).*$", r"\1", table))) == types


def test_every_variable_of_a_program_is_there() -> None:
    health = model.Health.model_validate({"type": "exec", "command": "x"})
    for name in command.environment("", "", health, probes.NO_SUBJECT):
        assert f"`{name}`" in PAGE, name


@pytest.mark.parametrize(
    "sentence",
    [
        f"Up to {capacity.CHECKS_MAX:,} checks are under way at once",
        f"at least {capacity.CHECKS_MIN}",
        f"programs {command.CONCURRENCY}.",
        f"further than {http.BODY_MAX // 1024} KiB",
        f"more than {probes.LATE * 1000:.0f} ms late",
        f"After {machine.UNDECIDED_MAX} of them in a row",
        f"within {machine.FLAP_INTERVALS} intervals",
        f"that is 4, 8, 16 and at most {2 << machine.FLAPS_MAX}",
        f"counts up to {machine.FLAPS_MAX}",
        f"when at least {passive.OWED_MIN} of its clients wait",
        f"{passive.PATIENCE} times as long as the slowest",
    ],
)
def test_numbers_are_those_of_the_code(sentence: str) -> None:
    assert sentence in " ".join(PAGE.split()), sentence
    assert machine.FLAP_WINDOW == 60
    assert (capacity.DESCRIPTORS_PER_CHECK, passive.MULTIPLE_MAX, passive.EXCESS_MAX) == (64, 10, 2)
