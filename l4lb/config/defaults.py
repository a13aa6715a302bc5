"""Merges defaults and presets into listeners and pools.

It works on the plain data of a file. Data of the wrong shape stays as it is, and the model reports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l4lb.presets import PRESETS

_MERGED_BY_KEY = ("timeouts", "tcp")


def merge_defaults(data: Mapping[str, Any], listener_keys: frozenset[str], pool_keys: frozenset[str]) -> dict[str, Any]:
    """The data with all defaults and presets merged into its listeners and pools.

    The keys of a pool come first, then its preset, then the defaults, then a preset named in the defaults.
    """
    merged = dict(data)
    defaults = data.get("defaults")
    for section, keys in (("listeners", listener_keys), ("pools", pool_keys)):
        items = data.get(section)
        if isinstance(items, Mapping):
            common = defaults if isinstance(defaults, Mapping) else {}
            given = {key: value for key, value in common.items() if key in keys}
            fill = _with_preset if section == "pools" else _as_it_is
            merged[section] = {name: fill(_with_defaults(fill(item), given)) for name, item in items.items()}
    if isinstance(pools := merged.get("pools"), Mapping):
        merged["pools"] = {name: _with_no_backends(pool) for name, pool in pools.items()}
    return merged


def _with_no_backends(pool: Any) -> Any:
    """A pool that discovers its backends need not list any."""
    if isinstance(pool, Mapping) and pool.get("discover") is not None:
        return {"backends": [], **pool}
    return pool


def _as_it_is(item: Any) -> Any:
    return item


def _with_preset(pool: Any) -> Any:
    name = pool.get("preset") if isinstance(pool, Mapping) else None
    return _filled(pool, PRESETS[name].settings) if isinstance(name, str) and name in PRESETS else pool


def _filled(own: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """`own` completed by the keys of `common`. A section of another `type` is not completed."""
    merged = {**common, **own}
    for key in own.keys() & common.keys():
        ours, theirs = own[key], common[key]
        if (
            isinstance(ours, Mapping)
            and isinstance(theirs, Mapping)
            and ours.get("type", theirs.get("type")) == theirs.get("type")
        ):
            merged[key] = _filled(ours, theirs)
    return merged


def _with_defaults(item: Any, defaults: Mapping[str, Any]) -> Any:
    if not isinstance(item, Mapping):
        return item
    merged = {**defaults, **item}
    for key in _MERGED_BY_KEY:
        own, common = item.get(key), defaults.get(key)
        if isinstance(own, Mapping) and isinstance(common, Mapping):
            merged[key] = {**common, **own}
    return merged
