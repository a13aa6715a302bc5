"""Turns pydantic's errors into sentences that say what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from l4lb.base.text import quoted
from l4lb.config.fields.strings import PATTERN_HELP
from l4lb.config.model import Config
from l4lb.config.rules import Loc


def sentence(line: ErrorDetails) -> str:
    """One sentence for one error."""
    context: dict[str, Any] = line.get("ctx", {})
    value = line["input"]
    match line["type"]:
        case "missing":
            return f"the key '{line['loc'][-1]}' is missing"
        case "extra_forbidden":
            return _unknown_key(line["loc"])
        case "conflict" | "value_error":
            return str(context.get("message") or context["error"])
        case _ if value is None:
            return "there is no value; give one, or remove the key"
        case "literal_error":
            return _unknown_word(value, re.findall(r"'([^']*)'", context["expected"]))
        case "int_type":
            return f"a whole number is expected, not {quoted(value)}"
        case "bool_parsing" | "bool_type":
            return f"true or false is expected, not {_kind(value)}"
        case "greater_than_equal":
            return f"{value} is too small; the least is {context['ge']}"
        case "less_than_equal":
            return f"{value} is too large; the most is {context['le']}"
        case "string_type":
            return f"text is expected, not {quoted(value)}; put it in quotes if it is meant as text"
        case "string_pattern_mismatch":
            return f"{quoted(value)} cannot be used here; {PATTERN_HELP[context['pattern']]}"
        case "model_type" | "dict_type":
            return f"a section with keys is expected, not {_kind(value)}"
        case "tuple_type":
            return f"a list is expected, not {_kind(value)}"
        case "string_too_long":
            return f"the text has more than {context['max_length']} characters"
        case "too_long":
            return f"the list has more than {context['max_length']} entries"
    return line["msg"]


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a section" if isinstance(value, dict) else quoted(value)


def _unknown_key(loc: Loc) -> str:
    known = _keys_beside(loc)
    return f"unknown key {quoted(loc[-1])}; {_suggestion(str(loc[-1]), known)}"


def _unknown_word(value: Any, known: list[str]) -> str:
    return f"{quoted(value)} is not known here; {_suggestion(value, known)}"


def _suggestion(given: Any, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1) if isinstance(given, str) and len(given) < 100 else []
    return f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(known)}"


def _keys_beside(loc: Loc) -> set[str]:
    """The keys of the section that contains the last part of `loc`."""
    section: type[BaseModel] = Config
    named = False
    for part in loc[:-1]:
        if named or isinstance(part, int):
            named = False
            continue
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        annotation = fields[part].annotation
        named = get_origin(annotation) is dict
        section = next(_models(annotation))
    names = {field.alias or name for name, field in section.model_fields.items()}
    return names | {"include"} if section is Config else names


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
