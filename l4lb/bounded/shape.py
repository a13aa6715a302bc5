"""Parts of a document of others, by the type they have to have. Pure.

What is missing, or null, is empty. A part of any other type is DocumentError, whose message does not repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l4lb.bounded.documents import DocumentError

Object = Mapping[str, Any]


def an_object(value: Any, what: str) -> Object:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DocumentError(f"{what} is no object")
    return value


def section(parent: Object, key: str) -> Object:
    return an_object(parent.get(key), f"its '{key}'")


def items(parent: Object, key: str) -> Sequence[Any]:
    value = parent.get(key)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise DocumentError(f"its '{key}' is no list")
    return value


def objects(parent: Object, key: str) -> Sequence[Object]:
    found = items(parent, key)
    if not all(isinstance(one, dict) for one in found):
        raise DocumentError(f"its '{key}' is no list of objects")
    return found


def text(parent: Object, key: str) -> str:
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DocumentError(f"its '{key}' is no text")
    return value
