"""Untrusted JSON and YAML as plain values. Pure.

A document has a limited number of values and levels, counted before or while it is read. The C implementation of the
JSON reader is fast but does not release the GIL, for as long as a second for the largest documents. So only small
documents are read with it. Large ones are read with the Python implementation, which is some ten times slower but lets
other threads run; read them on a thread.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from json import scanner
from typing import Any

import yaml
from yaml import events

SMALL = 64 * 1024
"""Bytes of JSON that take a few milliseconds at worst. More belongs on a thread."""

VALUES_MAX = 500_000
"""Values of one document: 16,384 backends have up to 30 each in the lists of Kubernetes."""

DEPTH_MAX = 64
KEYS_MAX = 10_000
"""Of one object."""

DIGITS_MAX = 40

YAML_BYTES_MAX = 4 * 1024 * 1024
"""16,384 targets have one or two."""

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class DocumentError(ValueError):
    """The document cannot be read. `str()` is one short line."""


class _Reader(json.JSONDecoder):
    """With `patient`, the JSON reader uses the Python implementation of the scanner."""

    def __init__(self, *, patient: bool) -> None:
        super().__init__(object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction)
        if patient:
            self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > KEYS_MAX:
        raise DocumentError(f"an object in it has more than {KEYS_MAX} keys")
    return dict(pairs)


def _integer(text: str) -> int:
    return int(_number(text))


def _fraction(text: str) -> float:
    return float(_number(text))


def _number(text: str) -> str:
    if len(text) > DIGITS_MAX:
        raise DocumentError(f"a number in it has more than {DIGITS_MAX} digits")
    return text


_QUICK = _Reader(patient=False)
_PATIENT = _Reader(patient=True)


def read_json(body: bytes) -> Any:
    """The value of a JSON document. DocumentError if it is invalid or too large."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > VALUES_MAX:
        raise DocumentError(f"it has more than {VALUES_MAX} values")
    try:
        return (_QUICK if len(body) <= SMALL else _PATIENT).decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DocumentError(f"the byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise DocumentError(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise DocumentError("it is nested too deep") from error


def read_yaml(body: bytes) -> Any:
    """The value of a YAML document, None if it is empty. Every scalar is text; tags are ignored.

    An alias counts as often as the value it refers to. DocumentError if the document is invalid or too large.
    """
    if len(body) > YAML_BYTES_MAX:
        raise DocumentError(f"it is larger than {YAML_BYTES_MAX // 2**20} MiB")
    try:
        return _Composer().document(iter(_LOADER(_Stream(body)).get_event, None))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        message = ", ".join(part for part in (error.context, error.problem) if part)
        raise DocumentError(f"{message}{place}"[:200]) from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise DocumentError(" ".join(str(error).split())[:200]) from error


class _Stream:
    """The body in pieces: other threads may run at each piece and between two events."""

    def __init__(self, body: bytes) -> None:
        self._rest = io.BytesIO(body)

    def read(self, size: int = -1, /) -> bytes:
        return self._rest.read(size)


class _Composer:
    """Builds values from the events of a parser."""

    def __init__(self) -> None:
        self._left = VALUES_MAX
        self._anchors: dict[str, tuple[Any, int]] = {}

    def document(self, stream: Iterator[Any]) -> Any:
        root = None
        for event in stream:
            if isinstance(event, events.NodeEvent):
                root = self._value(event, stream, 1)
            elif isinstance(event, events.DocumentStartEvent) and root is not None:
                raise DocumentError("a second document begins in it")
        return root

    def _value(self, event: Any, stream: Iterator[Any], depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise DocumentError(f"it is nested more than {DEPTH_MAX} levels deep")
        if isinstance(event, events.AliasEvent):
            if event.anchor not in self._anchors:
                raise DocumentError("an alias in it names nothing that was finished before")
            value, size = self._anchors[event.anchor]
            self._spend(size)
            return value
        before = self._left
        self._spend(1)
        value = event.value if isinstance(event, events.ScalarEvent) else self._collection(event, stream, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, before - self._left
        return value

    def _collection(self, event: Any, stream: Iterator[Any], depth: int) -> Any:
        if isinstance(event, events.SequenceStartEvent):
            return [self._value(item, stream, depth + 1) for item in _until(stream, events.SequenceEndEvent)]
        found = {}
        for key in _until(stream, events.MappingEndEvent):
            name = self._value(key, stream, depth + 1)
            value = self._value(next(stream), stream, depth + 1)
            if not isinstance(name, str):
                raise DocumentError("a key in it is not a string")
            found[name] = value
        return found

    def _spend(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise DocumentError(f"it has more than {VALUES_MAX} values, with all aliases expanded")


def _until(stream: Iterator[Any], end: type[Any]) -> Iterator[Any]:
    for event in stream:
        if isinstance(event, end):
            return
        yield event
