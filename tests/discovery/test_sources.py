"""Each kind of source has its settings and its module."""

from __future__ import annotations

from typing import Any

import pytest

from l4lb.config.sections.discover import SOURCES, Discover
from l4lb.discovery.sources import new_source

SETTINGS: dict[str, Any] = {
    "dns": {"name": "a.test", "port": 80},
    "file": {"path": "a.json"},
    "http": {"url": "http://a.test"},
    "kubernetes": {"service": "a"},
    "etcd": {"endpoints": "http://a.test:2379", "prefix": "/a"},
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_source_is_the_one_that_is_named(kind: str) -> None:
    settings = Discover.model_validate({kind: SETTINGS[kind]})
    assert settings.kind == kind
    assert type(new_source(settings)).__module__ == f"l4lb.discovery.{kind}"
