"""The pages about operations name only what there is: files, commands, metrics and settings that load."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from l4lb.admin import metrics
from l4lb.cli import COMMANDS
from l4lb.config import Config, load_config
from l4lb.engine._native import CLOSE_REASONS
from tests.admin.fake_control import make_status
from tests.docs.pages import page
from tests.helpers.promql import check_query

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "start/install",
    "guides/systemd",
    "guides/upgrade",
    "guides/drain",
    "guides/monitoring",
    "guides/limits",
)
PAGE = "\n".join(map(page, PAGES))
UNIT = (ROOT / "conf/l4lb.service").read_text()
REASONS = {reason for reason, _ in CLOSE_REASONS}
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
SETTINGS = [block for block in BLOCKS if block.keys() <= Config.model_fields.keys()]
RULES = [rule for block in BLOCKS for group in block.get("groups", ()) for rule in group["rules"]]


def metric_names() -> set[str]:
    families = metrics.render(make_status())
    return {family.name + ("_total" if family.kind == "counter" else "") for family in families}


def test_every_metric_exists() -> None:
    named = set(re.findall(r"\bl4lb_\w+", PAGE))
    assert named
    assert {name.removesuffix("_bucket") for name in named} <= metric_names()


@pytest.mark.parametrize("settings", SETTINGS, ids=[next(iter(block)) for block in SETTINGS])
def test_every_setting_loads(settings: dict[str, Any], tmp_path: Path) -> None:
    listeners = {"web": {"bind": "127.0.0.1:8080", "pool": "web"}}
    path = tmp_path / "l4lb.yaml"
    path.write_text(yaml.safe_dump({"listeners": listeners, "pools": {"web": {"backends": []}}} | settings))
    load_config(path, {})


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_every_alert_watches_something_and_says_what_is_wrong(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    named = set(re.findall(r"\bl4lb_\w+", rule["expr"]))
    assert named or rule["expr"].startswith("up{")
    check_query(rule["expr"])
    for choice in re.findall(r'reason=~"([\w|]+)"', rule["expr"]):
        assert set(choice.split("|")) <= REASONS


def test_every_command_and_file_exists() -> None:
    commands = set(re.findall(r"^# (?:\S*/)?l4lb ([a-z]\w*)", PAGE, re.MULTILINE))
    assert commands
    assert commands <= COMMANDS.keys()
    files = set(re.findall(r"\bconf/[\w.]+\w", PAGE))
    assert files
    assert all((ROOT / name).is_file() for name in files)


def test_the_page_and_the_unit_agree() -> None:
    for setting in ("LimitNOFILE=1048576", "RestartSec=1s", "WatchdogSec=10s", "TimeoutStopSec=11min", "User=l4lb"):
        assert f"\n{setting}\n" in UNIT
    (lines,) = re.findall(r"A\nunit of your own needs.*?```ini\n(.*?)```", PAGE, re.DOTALL)
    for setting in lines.splitlines():
        assert f"\n{setting}\n" in UNIT
    assert "The unit has 1048576" in PAGE
    assert "replaced after a second" in PAGE
    assert "within 10 seconds" in PAGE
