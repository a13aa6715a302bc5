"""Typed access to parts of an untrusted document. Pure.

A missing or null part reads as empty. A part of any other type raises DocumentError, whose message does not quote it.
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
        raise DocumentError(f"{what} is not an object")
    return value


def section(parent: Object, key: str) -> Object:
    return an_object(parent.get(key), f"its '{key}'")


def items(parent: Object, key: str) -> Sequence[Any]:
    value = parent.get(key)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise DocumentError(f"its '{key}' is not a list")
    return value


def objects(parent: Object, key: str) -> Sequence[Object]:
    found = items(parent, key)
    if not all(isinstance(one, dict) for one in found):
        raise DocumentError(f"its '{key}' is not a list of objects")
    return found


def text(parent: Object, key: str) -> str:
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DocumentError(f"its '{key}' is not a string")
    return value
