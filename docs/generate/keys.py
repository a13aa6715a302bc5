"""Tables of the keys of the configuration: how each is written, its default and its meaning.

Meanings are the docstrings of the fields. A last sentence `Default: …` is for the column of that name, where a key that
is not given means something other than nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.generate.parts import table
from l4lb.config import Config, json_schema
from l4lb.config.fields.shape import Written
from l4lb.config.sections import Section

SEE = {
    ("Pool", "balance"): "../concepts/balancing.md",
    ("Pool", "preset"): "presets.md",
    ("Pool", "protocol"): "../concepts/requests.md",
    ("Pool", "resend"): "../concepts/requests.md#when-a-request-is-sent-again",
    ("Timeouts", "backend_keepalive"): "../concepts/requests.md#keep-alive-times",
    ("Passive", "server_errors"): "../concepts/health.md#passive-health",
    ("Pool", "scale_to_zero"): "../guides/scaling.md#to-zero-and-back",
    ("SlowStart", "turns"): "../concepts/load.md#slow-start",
    ("Pool", "panic_threshold"): "../concepts/health.md#panic",
    ("Pool", "on_down"): "../concepts/failover.md#failover",
    ("Pool", "drain_quiet"): "../guides/drain.md",
    ("Health", "rise"): "../concepts/health.md#flapping",
    ("Health", "environment"): "../concepts/health.md#exec",
    ("Log", "access"): "access-log.md",
}
"""Where more is said about a key."""


def sections() -> dict[str, type[Section]]:
    """The sections by their path in the file, in the order of the file. A section that two others share is there once:
    under the first."""
    found: dict[str, type[Section]] = {}

    def walk(path: str, kind: type[Section]) -> None:
        if kind in found.values():
            return
        found[path] = kind
        for name, hint in _hints(kind).items():
            for suffix, inner in _sections_of(hint):
                walk(f"{path}.{_spelled(kind, name)}{suffix}", inner)

    for name, hint in _hints(Config).items():
        for suffix, kind in _sections_of(hint):
            if name != "defaults":
                walk(f"{name}{suffix}", kind)
    return found


def key_table(kind: type[Section]) -> str:
    """The keys of a section."""
    rows = []
    for name, info in kind.model_fields.items():
        text, default = _meaning(info)
        if see := SEE.get((kind.__name__, name)):
            text += f" [More]({see})"
        rows.append((f"`{_spelled(kind, name)}`", _value(kind, name), default or _default(kind, name), text))
    return table(("key", "value", "default", "meaning"), rows)


def _hints(kind: type[BaseModel]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in kind.model_fields}


def _spelled(kind: type[Section], name: str) -> str:
    return kind.model_fields[name].alias or name


def _sections_of(hint: Any, suffix: str = "") -> Iterator[tuple[str, type[Section]]]:
    """The sections a type holds, with what stands behind the key: `.NAME` for each of a mapping, `[]` of a list."""
    if isinstance(hint, type) and issubclass(hint, Section):
        yield suffix, hint
    origin = get_origin(hint)
    behind = ".NAME" if origin is dict else "[]" if origin is tuple else ""
    for inner in get_args(hint):
        yield from _sections_of(inner, suffix + behind)


def _parts_of(hint: Any) -> Iterator[Any]:
    """A type and all it is made of: annotations, and the choices of a union; not the items of lists."""
    yield hint
    if hasattr(hint, "__metadata__"):
        yield from hint.__metadata__
        yield from _parts_of(hint.__origin__)
    elif get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        for choice in get_args(hint):
            yield from _parts_of(choice)


def _value(kind: type[Section], name: str) -> str:
    hint = _hints(kind)[name]
    if found := list(_sections_of(hint)):
        suffix, inner = found[0]
        word = "list of sections" if suffix else "section"
        return f"[{word}](#{_anchor(inner)})"
    parts = list(_parts_of(hint))
    for part in parts:
        if isinstance(part, Written):
            return part.text
    if bool in parts:
        return "`true`, `false`"
    for part in parts:
        if get_origin(part) is Literal:
            return ", ".join(f"`{word}`" for word in get_args(part))
    bounds = [item for part in parts for item in (part.metadata if isinstance(part, FieldInfo) else [part])]
    least = next(item.ge for item in bounds if isinstance(item, Ge))
    most = next(item.le for item in bounds if isinstance(item, Le))
    return f"{least:.12g} to {most:.12g}"  # type: ignore[str-format]


@cache
def _anchor(kind: type[Section]) -> str:
    path = next(path for path, other in sections().items() if other is kind)
    return re.sub(r"[^\w-]", "", path.lower())


def _meaning(info: FieldInfo) -> tuple[str, str]:
    """The text, and what a missing key means."""
    text = " ".join((info.description or "").split())
    text, _, default = text.partition(" Default: ")
    return text, default.removesuffix(".")


def _default(kind: type[Section], name: str) -> str:
    if isinstance(kind.model_fields[name].default, Section):
        return "as below"
    if kind.model_fields[name].is_required():
        return "required"
    value = _properties(kind.__name__)[_spelled(kind, name)].get("default")
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, bool):
        value = str(value).lower()
    return "none" if value in (None, "", {}) else f"`{value}`"


@cache
def _properties(name: str) -> dict[str, dict[str, Any]]:
    """The properties of a section in the JSON Schema, which has defaults as a file spells them."""
    found = json_schema()["$defs"][name]
    for choice in found.get("anyOf", ()):  # a backend may be an address alone
        found = choice if "properties" in choice else found
    properties: dict[str, dict[str, Any]] = found["properties"]
    return properties
