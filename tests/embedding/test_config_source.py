"""What an embedded balancer is made from: defaults of its own, and only where the configuration is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import l4lb
from l4lb.embedding.config_source import name, read
from tests.embedding.build import config


@pytest.mark.parametrize(
    ("process", "workers", "patience"),
    [
        ({}, 1, 0.0),
        ({"workers": "auto"}, "auto", 0.0),
        ({"workers": 3, "drain_timeout": "5s"}, 3, 5.0),
        ({"max_connections": 7}, 1, 0.0),
    ],
)
def test_where_it_is_silent_there_is_one_worker_and_no_waiting(
    tmp_path: Path, process: dict[str, Any], workers: object, patience: float
) -> None:
    path = tmp_path / "l4lb.yaml"
    path.write_text(yaml.safe_dump(config(process=process)))
    for source in (path, config(process=process), l4lb.load_config(path)):
        found = read(source).process
        assert (found.workers, found.drain_timeout) == (workers, patience)
        assert found.max_connections == process.get("max_connections", "auto")


def test_a_configuration_is_not_changed_by_running_it() -> None:
    given = l4lb.read_config(config())
    assert read(given) is not given
    assert given == l4lb.read_config(config())
    assert given.process.workers == "auto"


def test_what_is_shown_as_the_file(tmp_path: Path) -> None:
    assert name(tmp_path / "x") == str(tmp_path / "x")
    assert name("x") == "x"
    assert name({}) == name(l4lb.read_config(config())) == "(no file)"
