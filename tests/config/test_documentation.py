"""The reference and the examples say what is: every key, default and name that l4lb shows, and YAML that loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from docs.generate.keys import sections
from l4lb.admin import metrics
from l4lb.config import Config, json_schema, load_config
from l4lb.config.sections.discover import SOURCES, Discover
from l4lb.engine._native import CLOSE_REASONS, PIN_REASONS, REJECT_REASONS
from l4lb.engine.api import EventKind
from l4lb.observe.access import format_json
from tests.admin.fake_control import make_session, make_status
from tests.docs.pages import blocks, page
from tests.helpers.mmdb import write_database

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = page("reference/configuration")
EXAMPLES = sorted((ROOT / "conf").glob("*.yaml"))
BLOCKS = [
    block
    for name in ("reference/configuration", "concepts/failover", "concepts/health", "guides/access-lists")
    for block in blocks(page(name), "yaml")
]

SECTIONS = {path: kind.__name__ for path, kind in sections().items()}


def with_database(text: str, folder: Path) -> str:
    """The text with a database that is there."""
    path = write_database(folder / "geo.mmdb", {"192.0.2.0/24": {"country": {"iso_code": "DE"}}})
    return text.replace("/var/lib/GeoIP/GeoLite2-Country.mmdb", str(path))


def properties(definition: str) -> dict[str, dict[str, Any]]:
    found = json_schema()["$defs"][definition]
    for choice in found.get("anyOf", ()):  # a backend may be an address alone
        found = choice if "properties" in choice else found
    result: dict[str, dict[str, Any]] = found["properties"]
    return result


def key_table(section: str) -> dict[str, list[str]]:
    """The first table below the heading of a section: key -> cells."""
    _, _, below = REFERENCE.partition(f"# `{section}`\n")
    assert below, f"there is no heading `{section}`"
    rows = re.search(r"^\| key .*\n\|[-|]+\n((?:\|.*\n)+)", below.split("\n#")[0], re.MULTILINE)
    assert rows, f"`{section}` has no table of keys"
    cells = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in rows[1].splitlines())
    return {key.strip("`"): rest for key, *rest in cells}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_reference_has_exactly_the_keys_there_are_with_their_defaults(section: str) -> None:
    known, table = properties(SECTIONS[section]), key_table(section)
    assert list(table) == list(known)
    for key, (written, default, meaning) in table.items():
        assert written
        assert meaning
        value = known[key].get("default")
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        if isinstance(value, bool):
            value = str(value).lower()
        if value not in (None, ""):
            assert default == f"`{value}`", key
        else:
            assert not default.startswith("`"), key


def test_the_top_level_keys_are_all_there() -> None:
    for key in json_schema()["properties"]:
        assert re.search(rf"^(### `{key}[`.]|`{key}` names)", REFERENCE, re.MULTILINE), key


@pytest.mark.parametrize("block", BLOCKS, ids=[" ".join(block.split())[:40] for block in BLOCKS])
def test_every_yaml_block_loads(block: str, tmp_path: Path) -> None:
    """What a block leaves out, listeners or pools, is added around it."""
    given = yaml.safe_load(block)
    if "pools" not in given:
        names = [listener["pool"] for listener in given.get("listeners", {}).values()] or ["web"]
        block += yaml.safe_dump({"pools": {name: {"backends": ["10.0.0.1:80"]} for name in names}})
    if "listeners" not in given:
        pool = next(iter(given.get("pools", {"web": None})))
        block += yaml.safe_dump({"listeners": {"web": {"bind": "127.0.0.1:8080", "pool": pool}}})
    path = tmp_path / "l4lb.yaml"
    (tmp_path / "deny.lst").write_text("192.0.2.7\n")
    path.write_text(with_database(block, tmp_path))
    load_config(path, {})


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_every_example_file_loads(path: Path) -> None:
    assert load_config(path, {}).listeners


def test_the_commented_example_has_every_key_when_its_comments_are_taken_away(tmp_path: Path) -> None:
    text = with_database((ROOT / "conf/l4lb.yaml").read_text(), tmp_path)
    path = tmp_path / "l4lb.yaml"
    text = re.sub(r"^( *)# ( *[a-z_]+: )", r"\1\2", text, flags=re.MULTILINE)
    assert text.count("\n    discover: {} ") == 1
    path.write_text(text.replace("\n    discover: {} ", "\n    discover: {file: {path: x.json}} "))
    assert path.read_text().count("\ninclude: ") == 1
    config = load_config(path, {})
    listener, pool = config.listeners["example"], config.pools["example"]
    sections: list[BaseModel | None] = [
        *(config.process, config.admin, config.log, config.log.access, config.geo),
        *(listener, listener.proxy_protocol, listener.tcp),
        *(
            pool,
            pool.backends[0],
            pool.backends[0].health,
            pool.backends[0].agent,
            pool.hash,
            pool.queue,
            pool.sticky,
            pool.rebalance,
            pool.slow_start,
        ),
        *(pool.timeouts, pool.tcp, pool.load, pool.agent, pool.passive),
        pool.passive.server_errors if pool.passive else None,
        *((pool.load.signals, pool.load.limits) if pool.load else ()),
    ]
    # No check uses every key: there is a pool for each type of them.
    for health in (other.health for other in config.pools.values()):
        assert health is not None
        sections += [health, health.tls, *health.script, health.progress]
    given: dict[type[BaseModel], set[str]] = {}
    for section in sections:
        if section is not None:
            given.setdefault(type(section), set()).update(section.model_fields_set)
    for kind, keys in given.items():
        assert keys == set(kind.model_fields), kind.__name__
    assert {kind.__name__ for kind in given} == {
        name for section, name in SECTIONS.items() if ".discover" not in section
    }
    assert set(Config.model_fields) == {"process", "admin", "log", "defaults", "geo", "zones", "listeners", "pools"}
    assert config.zones


def enumerations(schema: Any) -> Iterator[tuple[str, list[str]]]:
    """Every key whose value is one of some words, and those."""
    for key, value in schema.get("properties", {}).items():
        found = [choice for choice in (value, *value.get("anyOf", ()), value.get("items", {})) if "enum" in choice]
        found += [choice for choice in value.get("items", {}).get("anyOf", ()) if "enum" in choice]
        yield from ((key, choice["enum"]) for choice in found)
    for choice in schema.get("anyOf", ()):
        yield from enumerations(choice)


def test_the_commented_example_names_every_word_that_a_key_takes() -> None:
    """On the line of the key, or in the comments below it."""
    text = "".join((ROOT / "conf" / name).read_text() for name in ("l4lb.yaml", "discovery.yaml"))
    entries = re.sub(r"\n {30,}#", " ", text).splitlines()
    checked = 0
    for definition in json_schema()["$defs"].values():
        for key, words in enumerations(definition):
            lines = " ".join(line for line in entries if re.search(rf"\b{key}:", line))
            missing = [word for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", lines)]
            assert not missing, (key, missing)
            checked += 1
    assert checked > 20


def test_the_example_of_discovery_has_every_key_of_each_source() -> None:
    discovers = [pool.discover for pool in load_config(ROOT / "conf/discovery.yaml", {}).pools.values()]
    assert [discover.kind for discover in discovers if discover] == list(SOURCES)
    for discover in discovers:
        source = getattr(discover, discover.kind) if discover else None
        assert source.model_fields_set == set(type(source).model_fields), type(source).__name__
    assert set().union(*(discover.model_fields_set for discover in discovers if discover)) == set(Discover.model_fields)


def test_every_metric_is_in_the_reference_and_the_other_way_round() -> None:
    families = list(metrics.render(make_status()))
    shown = {family.name + ("_total" if family.kind == "counter" else "") for family in families}
    assert set(re.findall(r"^\| `(l4lb_\w+)` \|", page("reference/metrics"), re.MULTILINE)) == shown


def test_every_field_of_the_access_log_is_in_the_reference() -> None:
    events = (EventKind.CLOSE, EventKind.REQUEST)
    fields = {key for event in events for key in yaml.safe_load(format_json(make_session(event=event)))}
    section = page("reference/access-log")
    for field in fields:
        assert re.search(rf"^\|.*`{field}`.* \|", section, re.MULTILINE), field


def reason_rows(*header: str, under: str = "# Reasons") -> list[list[str]]:
    """The rows, without their marks, of the first table of reasons below a heading whose columns are these."""
    section = page("reference/reasons").partition(under)[2]
    head = f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n"
    assert head in section, head
    lines = section.partition(head)[2].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert all(len(row) == len(header) and all(row) for row in rows)
    return rows


def test_every_reason_of_the_data_plane_is_in_the_reference_once_with_what_to_look_at() -> None:
    rows = reason_rows("code", "reason", "means", "look at")
    assert CLOSE_REASONS
    assert sorted((reason.strip("`"), code.strip("`")) for code, reason, *_ in rows) == sorted(CLOSE_REASONS)
    rejected = reason_rows("reason", "means", "look at", under="## Clients turned away")
    assert sorted(reason.strip("`") for reason, *_ in rejected) == sorted(REJECT_REASONS)
    pinned = reason_rows("reason", "means", "look at", under="## Sessions that keep their backend")
    assert [reason.strip("`") for reason, *_ in pinned] == list(PIN_REASONS[1:])
