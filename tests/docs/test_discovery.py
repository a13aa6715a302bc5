"""The page about discovery: its settings load, its first steps work as written, and it names only what there is."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
import yaml

from l4lb.config import load_config
from l4lb.discovery.targets import parse_json
from tests.docs.pages import page
from tests.docs.test_operations import metric_names
from tests.helpers.balancer import Balancer
from tests.helpers.peers import Served, ask, named
from tests.helpers.waiting import wait_until

PAGE = page("guides/discovery")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"^ *```yaml\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)]
SETTINGS = [block for block in BLOCKS if "pools:" in block]


@pytest.mark.parametrize("block", SETTINGS, ids=[" ".join(block.split())[:40] for block in SETTINGS])
def test_every_setting_loads(block: str, tmp_path: Path) -> None:
    settings = yaml.safe_load(block)
    listeners = {"web": {"bind": "127.0.0.1:8080", "pool": next(iter(settings["pools"]))}}
    path = tmp_path / "l4lb.yaml"
    path.write_text(yaml.safe_dump({"listeners": listeners} | settings))
    assert all(pool.discover for pool in load_config(path, {"PWD": "/"}).pools.values())


def test_the_rights_are_those_that_are_used() -> None:
    (rights,) = (block for block in BLOCKS if "RoleBinding" in block)
    role, binding = yaml.safe_load_all(rights)
    assert role["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_the_document_of_targets_is_one() -> None:
    (document,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert [(one.name, one.weight, one.zone) for one in parse_json(document.encode()).endpoints] == [
        ("10.0.0.11:8000", 2, "eu-1a"),
        ("10.0.0.12:8000", 2, "eu-1a"),
        ("10.0.1.11:8000", 1, "eu-1b"),
    ]


def test_every_metric_exists() -> None:
    named_there = set(re.findall(r"\bl4lb_\w+", PAGE))
    assert {name for name in metric_names() if name.startswith("l4lb_discovery")} == named_there


@pytest.mark.slow
def test_the_first_steps_work_as_written(tmp_path: Path) -> None:
    """The same files and settings, with ports of this test."""
    (text,) = (block for block in SETTINGS if "targets.json" in block and "admin" in block)
    documents = re.findall(r"^\$ echo '(.*)' > (\w+\.json)", PAGE, re.MULTILINE)
    assert len(documents) == 3
    with Served(named("one")) as one, Served(named("two")) as two:

        def write(document: str) -> None:
            for port, server in (("9001", one), ("9002", two)):
                document = document.replace(f"127.0.0.1:{port}", str(server))
            (tmp_path / "new.json").write_text(json.dumps(json.loads(document)))
            (tmp_path / "new.json").replace(tmp_path / "targets.json")

        write(documents[0][0])
        settings = yaml.safe_load(text.replace("${PWD}", "/unused").replace("127.0.0.1:9000", "127.0.0.1:0"))
        settings["pools"]["web"]["discover"]["file"]["path"] = str(tmp_path / "targets.json")
        del settings["admin"]
        with Balancer(settings) as lb:

            def names() -> set[str]:
                return set(lb.status()["pools"]["web"]["backends"])

            assert names() == {str(one)}
            assert ask(lb.address("web")) == "one"
            write(documents[1][0])
            wait_until(lambda: names() == {str(one), str(two)})
            write(documents[2][0])
            wait_until(lambda: names() == {str(two)})
            assert ask(lb.address("web")) == "two"
            (tmp_path / "targets.json").unlink()
            wait_until(lambda: not lb.status()["pools"]["web"]["discovery"]["working"])
            assert ask(lb.address("web")) == "two"
