"""The pages about scaling and Kubernetes: every query, setting, field, file and key in it is one that there is."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
import yaml

from l4lb.admin import views
from l4lb.config import Config, load_config
from tests.admin.fake_control import pool_status
from tests.docs import test_operations as operations
from tests.docs.pages import page
from tests.helpers.promql import check_query

ROOT = Path(__file__).resolve().parents[2]
PAGE = page("guides/scaling")
PAGES = PAGE + page("guides/kubernetes")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"^ *```yaml\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)]
SETTINGS = [block for block in BLOCKS if "pools:" in block]
TABLE = PAGE[PAGE.index("## Queries") :].partition("\n## ")[0]
QUERIES = [
    *re.findall(r"^\| [^|]+ \| `(.*)` \|$", TABLE, re.MULTILINE),
    *re.findall(r"^```promql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL),
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_asks_for_what_there_is(query: str) -> None:
    assert check_query(query)


@pytest.mark.parametrize("rule", operations.RULES, ids=[rule["alert"] for rule in operations.RULES])
def test_every_alert_of_operations_asks_for_what_there_is(rule: dict[str, str]) -> None:
    assert check_query(rule["expr"])


@pytest.mark.parametrize(
    "query",
    ["sum(l4lb_backend_bussy)", "sum by (pol) (l4lb_pool_queued)", 'l4lb_closed_total{reason="quiet"}', "sum(("],
)
def test_a_query_for_what_there_is_not_is_found_out(query: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check_query(query)


def test_every_query_of_the_table_was_seen() -> None:
    assert len(QUERIES) == TABLE.count("\n| ") - 1 + 1  # the heading, and the block
    assert set(re.findall(r"\bl4lb_(?!demand)\w+", PAGE)) <= set().union(*map(check_query, QUERIES))


@pytest.mark.parametrize("block", SETTINGS, ids=[" ".join(block.split())[:40] for block in SETTINGS])
def test_every_setting_loads(block: str, tmp_path: Path) -> None:
    settings = yaml.safe_load(block)
    path = tmp_path / "l4lb.yaml"
    listeners = {"web": {"bind": "127.0.0.1:8080", "pool": next(iter(settings["pools"]))}}
    path.write_text(yaml.safe_dump({"listeners": listeners} | settings))
    assert all(pool.scale_to_zero for pool in load_config(path, {}).pools.values())


def test_the_answer_for_autoscalers_has_the_fields_that_are_shown() -> None:
    (shown,) = re.findall(r'^\{"pool".*\}$', PAGE, re.MULTILINE)
    answer = json.loads(shown)
    view = views.autoscale_view("llama", pool_status({}))
    assert list(answer) == list(view)
    assert list(answer["backends"]) == list(view["backends"])  # type: ignore[call-overload]
    assert answer["demand"] == answer["busy"] + answer["queued"]
    assert answer["sessions"] == answer["connections"] + answer["queued"]


def test_every_file_and_every_key_exists() -> None:
    files = set(re.findall(r"\bconf/kubernetes/[\w.-]+\w", PAGES))
    files |= {
        f"conf/kubernetes/{name}" for name in re.findall(r"`([\w-]+\.yaml|Dockerfile)`", PAGES) if name != "l4lb.yaml"
    }
    assert files == {f"conf/kubernetes/{path.name}" for path in (ROOT / "conf/kubernetes").iterdir()}
    known = json.dumps(Config.model_json_schema())
    for key in ("scale_to_zero", "max_busy", "max_connections", "drain_timeout", "hold", "keepalive", "workers"):
        assert f"`{key}" in PAGES or f".{key}`" in PAGES, key
        assert f'"{key}"' in known
