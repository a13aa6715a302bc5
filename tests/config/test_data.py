"""A configuration that is no file: what may stand in a mapping, and every mistake in it by its dotted path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from l4lb.config import Address, Config, data, load_config, read_config
from l4lb.config.tree import DEPTH_MAX
from l4lb.errors import ConfigError
from tests.config.conftest import Write

LISTENERS = {"web": {"bind": "127.0.0.1:0", "pool": "app"}}
POOLS = {"app": {"backends": ["127.0.0.1:9"]}}


def problems(given: Mapping[Any, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_config(given)
    assert all((problem.file, problem.line, problem.column) == ("", 0, 0) for problem in caught.value.problems)
    return str(caught.value).splitlines()


def pool(**keys: Any) -> dict[str, Any]:
    return {"listeners": LISTENERS, "pools": {"app": POOLS["app"] | keys}}


def test_a_mapping_is_read_like_the_file_of_the_same_shape(write: Write) -> None:
    path = write(
        """
        listeners: {web: {bind: ["127.0.0.1:0", "[::1]:80"], pool: app, max_connections: 7}}
        pools: {app: {backends: ["127.0.0.1:9", {name: b, address: "unix:@b"}], timeouts: {idle: 250ms, lifetime: off}}}
        """
    )
    given = {
        "listeners": {"web": {"bind": ("127.0.0.1:0", "[::1]:80"), "pool": "app", "max_connections": 7}},
        "pools": MappingProxyType(
            {
                "app": {
                    "backends": [Address("127.0.0.1", 9), {"name": "b", "address": "unix:@b"}],
                    "timeouts": {"idle": 0.25, "lifetime": None},
                }
            }
        ),
    }
    assert read_config(given) == load_config(path, {})


def test_a_path_may_be_an_object_and_nothing_is_expanded(tmp_path: Path) -> None:
    config = read_config(
        pool() | {"admin": {"socket": tmp_path / "s"}, "log": {"access": {"to": tmp_path / "${HOME}"}}}
    )
    assert config.admin.socket == str(tmp_path / "s")
    assert config.log.access is not None
    assert config.log.access.to == str(tmp_path / "${HOME}")


def test_every_mistake_is_reported_at_once_in_the_order_of_the_mapping() -> None:
    given: dict[Any, Any] = {
        "listeners": {"web": {"bind": "127.0.0.1:0", "pool": "none"}, 7: {}},
        "pools": {"app": {"balance": "best", "backends": ["127.0.0.1"], "timeouts": {"idel": "1s", "connect": "5"}}},
        "listener": {},
        "include": "more.yaml",
    }
    assert problems(given) == [
        "error: listeners.web.pool: there is no pool 'none'",
        "error: listeners: a key has to be text, which '7' is not",
        "error: pools.app.balance: 'best' is not known here; use one of first, least_busy, least_connections, "
        "least_latency, maglev, power_of_two, random, round_robin, source_hash",
        "error: pools.app.backends[0]: '127.0.0.1' has no port; write 127.0.0.1:PORT",
        "error: pools.app.timeouts.idel: unknown key 'idel'; did you mean 'idle'?",
        "error: pools.app.timeouts.connect: 5 has no unit; write 5s for seconds (units: ms, s, m, h, d)",
        "error: listener: unknown key 'listener'; did you mean 'listeners'?",
        "error: include: only a file can include others; give the path of one, or put the sections into this mapping",
    ]


def test_the_other_half_of_a_contradiction_is_named_by_its_path() -> None:
    assert problems(pool(backends=["127.0.0.1:9", {"address": "127.0.0.1:9"}])) == [
        "error: pools.app.backends[1]: the pool has a backend '127.0.0.1:9' already; give this one another name "
        "(pools.app.backends[0])"
    ]


def test_equal_mistakes_at_two_places_are_two() -> None:
    found = problems({"listeners": LISTENERS | {"b": LISTENERS["web"]}, "pools": {}})
    assert found == [f"error: listeners.{name}.pool: there is no pool 'app'" for name in ("web", "b")]


def test_a_bad_default_is_wrong_once() -> None:
    given = pool() | {"defaults": {"timeouts": {"connect": "soon"}}}
    (problem,) = problems(given | {"pools": {"app": POOLS["app"], "b": POOLS["app"]}})
    assert problem.startswith("error: defaults.timeouts.connect: 'soon' is not a duration")


def test_what_is_too_deep_or_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    endless: dict[str, Any] = {}
    endless["a"] = [endless]
    (problem,) = problems(endless)
    assert problem.endswith(f"this is nested more than {DEPTH_MAX} levels deep")
    monkeypatch.setattr(data, "NODES_MAX", 1000)
    many: list[Any] = []
    for _ in range(25):
        many = [many, many]
    (problem,) = problems({"pools": many})
    assert "here the configuration grows beyond 1000 values" in problem


def test_a_missing_database_is_a_problem_with_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "none.mmdb")
    (problem,) = problems(pool() | {"geo": {"database": path}})
    assert problem.startswith("error: geo.database")
    assert path in problem


def test_an_empty_mapping_lacks_what_a_file_would() -> None:
    assert problems({}) == ["error: the key 'listeners' is missing", "error: the key 'pools' is missing"]


def test_the_data_is_left_as_it_was() -> None:
    given = pool(preset="vllm")
    copy = {key: dict(value) for key, value in given.items()}
    assert isinstance(read_config(given), Config)
    assert given == copy
