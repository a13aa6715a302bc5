"""Parses YAML text into a tree whose values know where they were written.

It is built from parser events instead of the library's composer, so that everything a file can do to its reader is
bounded: nesting, the expansion of aliases, and tags (none that create objects). Plain `true`, `null` and whole numbers
have their type; everything else is text, including `off` and `yes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import yaml
from yaml import events

from l4lb.base.text import quoted
from l4lb.config.environment import expand
from l4lb.errors import Problem

DEPTH_MAX = 32
NODES_MAX = 1_000_000
"""Values of a whole configuration, each counted as often as aliases repeat it."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # without libyaml, PyYAML is slower but otherwise equal
_TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LIBRARY_TOO_DEEP = "nesting depth"
"""Part of libyaml's message when it rejects nesting; it scans ahead, so this may come before the first event."""
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class Place(NamedTuple):
    """A position in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class ScalarNode(NamedTuple):
    place: Place
    value: str | int | bool | None


class ListNode(NamedTuple):
    """A sequence."""

    place: Place
    nodes: list[Node]


class MapNode(NamedTuple):
    """A mapping: the place of each key, and its value."""

    place: Place
    entries: dict[str, tuple[Place, Node]]


Node: TypeAlias = ScalarNode | ListNode | MapNode


def path_part(key: str | int) -> str:
    """A key or an index as a step of a dotted path, printable on one line."""
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if key.isprintable() and len(key) <= 128 else f".{quoted(key)}"


def plain(node: Node) -> Any:
    """The data of a tree, without the places."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain(item) for item in node.nodes]
        case MapNode():
            return {key: plain(value) for key, (_, value) in node.entries.items()}


@dataclass(slots=True)
class Budget:
    """How much of `NODES_MAX` is left, shared by all files of a configuration."""

    nodes: int = NODES_MAX


class SyntaxProblem(Exception):
    """The rest of the file cannot be parsed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(slots=True)
class TreeBuilder:
    """Builds the tree of one file. Problems that do not stop it go to `problems`."""

    file: str
    environ: Mapping[str, str]
    budget: Budget
    problems: list[Problem]
    _anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)
    _path: list[str | int] = field(default_factory=list)

    def build(self, text: str) -> Node | None:
        """The tree of `text`, None if it is empty. SyntaxProblem if it is invalid YAML or too large."""
        if found := _UNREADABLE.search(text):
            before = text[: found.start()]
            place = Place(self.file, before.count("\n") + 1, len(before) - before.rfind("\n"))
            raise _failure(place, f"the character U+{ord(found[0]):04X} is not allowed here; remove it")
        try:
            return self._document(iter(_LOADER(text).get_event, None))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(self.file, mark.line + 1, mark.column + 1) if mark else Place(self.file, 1, 1)
            message = ", ".join(part for part in (error.context, error.problem) if part)
            if _LIBRARY_TOO_DEEP in message:
                raise _too_deep(place) from error
            # If the file ends too early, the mark is on the line after the last.
            if mark and "${" in "".join(text.split("\n", mark.line + 1)[mark.line : mark.line + 1]):
                message += "; inside {} and [], put a value with ${VAR} in quotes"
            raise _failure(place, f"this is not YAML: {message}") from error
        except yaml.YAMLError as error:
            raise _failure(Place(self.file, 1, 1), f"this is not YAML: {error}") from error

    def _document(self, stream: Iterator[Any]) -> Node | None:
        root: Node | None = None
        for event in stream:
            if isinstance(event, events.DocumentStartEvent):
                if root is not None:
                    raise _failure(self._place(event), "a second document begins here; use one file for each")
            elif isinstance(event, events.NodeEvent):
                root, _ = self._node(event, stream, 1)
        return root

    def _node(self, event: Any, stream: Iterator[Any], depth: int) -> tuple[Node, int]:
        """The node that begins with `event`, and its number of values with all aliases expanded."""
        place = self._place(event)
        if depth > DEPTH_MAX:
            raise _too_deep(place)
        if isinstance(event, events.AliasEvent):
            if event.anchor not in self._anchors:
                raise _failure(place, f"the alias *{event.anchor} names nothing that was finished before it")
            node, size = self._anchors[event.anchor]
            self._spend(size, place)
            return node, size
        self._spend(1, place)
        if isinstance(event, events.ScalarEvent):
            node, size = ScalarNode(place, self._scalar(event, place)), 1
        elif isinstance(event, events.SequenceStartEvent):
            node, size = self._items(event, place, stream, depth)
        else:
            node, size = self._section(event, place, stream, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node, size
        return node, size

    def _scalar(self, event: events.ScalarEvent, place: Place) -> str | int | bool | None:
        self._check_tag(event, place, _TEXT_TAGS)
        text = event.value
        if "${" in text:
            text, complaints = expand(text, self.environ)
            self._report(place, complaints)
        if event.tag is not None or not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        return int(text) if _INTEGER.fullmatch(text) else text

    def _items(self, event: Any, place: Place, stream: Iterator[Any], depth: int) -> tuple[ListNode, int]:
        self._check_tag(event, place, (None, "!", "tag:yaml.org,2002:seq"))
        items = ListNode(place, [])
        size = 1
        for item in stream:
            if isinstance(item, events.SequenceEndEvent):
                break
            self._path.append(len(items.nodes))
            node, grown = self._node(item, stream, depth + 1)
            self._path.pop()
            items.nodes.append(node)
            size += grown
        return items, size

    def _section(self, event: Any, place: Place, stream: Iterator[Any], depth: int) -> tuple[MapNode, int]:
        self._check_tag(event, place, (None, "!", "tag:yaml.org,2002:map"))
        section = MapNode(place, {})
        merged: list[MapNode] = []
        size = 1
        for key in stream:
            if isinstance(key, events.MappingEndEvent):
                break
            key_place = self._place(key)
            name = key.value if isinstance(key, events.ScalarEvent) else None
            if name is None:
                self._node(key, stream, depth + 1)
            self._path.append(name or "?")
            node, grown = self._node(next(stream), stream, depth + 1)
            size += 1 + grown
            if name is None:
                self._report(key_place, ["a key has to be plain text"])
            elif name == "<<" and key.implicit[0]:
                merged += self._merge_sources(node, key_place)
            elif name in section.entries:
                first, _ = section.entries[name]
                self._report(key_place, [f"the key {quoted(name)} is given twice; the first is on line {first.line}"])
            else:
                section.entries[name] = key_place, node
            self._path.pop()
        for source in merged:
            for name, entry in source.entries.items():
                section.entries.setdefault(name, entry)
        return section, size

    def _merge_sources(self, node: Node, place: Place) -> list[MapNode]:
        sources = node.nodes if isinstance(node, ListNode) else [node]
        sections = [source for source in sources if isinstance(source, MapNode)]
        if len(sections) != len(sources):
            self._report(place, ["<< takes a mapping or a list of mappings"])
        return sections

    def _check_tag(self, event: Any, place: Place, allowed: tuple[str | None, ...]) -> None:
        if event.tag not in allowed:
            self._report(place, [f"the tag {quoted(event.tag)} is not allowed; remove it"])

    def _spend(self, nodes: int, place: Place) -> None:
        self.budget.nodes -= nodes
        if self.budget.nodes < 0:
            raise _failure(place, f"here the configuration grows beyond {NODES_MAX} values, with all aliases expanded")

    def _report(self, place: Place, messages: list[str]) -> None:
        if not messages:
            return
        path = "".join(map(path_part, self._path)).removeprefix(".")
        self.problems += [Problem(*place, path, message) for message in messages]

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1)


def _too_deep(place: Place) -> SyntaxProblem:
    return _failure(place, f"this is nested more than {DEPTH_MAX} levels deep")


def _failure(place: Place, message: str) -> SyntaxProblem:
    return SyntaxProblem(Problem(*place, "", message))
