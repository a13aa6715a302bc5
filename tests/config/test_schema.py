"""The JSON Schema accepts what the loader accepts, and refuses the slips an editor should underline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from l4lb.config import json_schema

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "conf").glob("*.yaml"))


@pytest.fixture(scope="module")
def accepts() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).is_valid


class _Loader(yaml.SafeLoader):
    """YAML 1.2, as editors read it: `off` is a word."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in found if not tag.endswith(":bool")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_every_example_file_is_valid(accepts: Any, path: Path) -> None:
    assert accepts(yaml.load(path.read_text(), _Loader))


def pool(**keys: object) -> dict[str, object]:
    return {"pools": {"web": keys}}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"include": "conf.d/*.yaml"},
        pool(backends=["10.0.0.1:80", {"address": "unix:/x"}]),
        pool(retries="${RETRIES}", timeouts={"connect": "${T:-5s}", "lifetime": "off"}),
        pool(health={"status": [200, "300-399"]}),
        {"listeners": {"web": {"bind": "*:80", "allow": "10.0.0.0/8"}}},
        {"listeners": {"web": {"sni": {"*.llama.example": "llama", "emb.example": "${POOL}"}}}},
        {"defaults": {"retries": 1, "max_connections": 2}},
    ],
)
def test_what_loads_is_valid(accepts: Any, data: object) -> None:
    assert accepts(data)


@pytest.mark.parametrize(
    "data",
    [
        {"pool": {}},
        pool(retry=3),
        pool(retries=101),
        pool(balance="best"),
        pool(timeouts={"connect": 5}),
        pool(preset="vlm"),
        pool(slow_start=30),
        pool(load={"signals": {"queue": ["a b"]}}),
        pool(load={"limits": {"kv": "much"}}),
        pool(agent={"port": 0}),
        pool(timeouts={"connect": "off"}),
        pool(backends=["10.0.0.1"]),
        pool(backends=[{"name": "a"}]),
        {"listeners": {"web": {"proxy_protocol": {}}}},
        {"listeners": {"web": {"allow": ["web.example"]}}},
        {"listeners": {"web": {"sni": {"web.example": "a b"}}}},
        {"listeners": {"web": {"sni": ["web.example"]}}},
    ],
)
def test_slips_are_invalid(accepts: Any, data: object) -> None:
    assert not accepts(data)


def test_every_key_has_a_sentence_that_an_editor_shows() -> None:
    silent = {
        f"{name}.{key}"
        for name, definition in json_schema()["$defs"].items()
        for key, found in definition.get("properties", {}).items()
        if "description" not in found and name != "Defaults"  # whose keys are those of Listener and Pool
    }
    assert silent == set()
