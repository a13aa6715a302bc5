"""Builds the tree of plain data, so that problems in it are found and named by their paths as in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from l4lb.base.text import quoted
from l4lb.config.tree import DEPTH_MAX, NODES_MAX, ListNode, MapNode, Node, Place, ScalarNode, SyntaxProblem, path_part
from l4lb.errors import Problem


class DataTree:
    """Builds the tree of a mapping. Problems that do not stop it go to `problems`.

    Its places have no file. Their lines number the values, which distinguishes problems and puts them in order.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._nodes = 0

    def build(self, data: Mapping[Any, Any]) -> MapNode:
        """SyntaxProblem if the data is nested too deep or has too many values."""
        root = self._section(data, "", 1)
        if "include" in root.entries:
            place, _ = root.entries.pop("include")
            message = "only a file can include others; give the path of one, or put the sections into this mapping"
            self._problems.append(Problem(*place, "include", message))
        return root

    def _node(self, value: Any, path: str, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise self._failure(path, f"this is nested more than {DEPTH_MAX} levels deep")
        if isinstance(value, Mapping):
            return self._section(value, path, depth)
        if isinstance(value, list | tuple):
            place = self._place(path)
            return ListNode(
                place, [self._node(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
            )
        return ScalarNode(self._place(path), os.fspath(value) if isinstance(value, os.PathLike) else value)

    def _section(self, data: Mapping[Any, Any], path: str, depth: int) -> MapNode:
        section = MapNode(self._place(path), {})
        for key, value in data.items():
            place = self._place(path)
            if isinstance(key, str):
                section.entries[key] = place, self._node(value, path + path_part(key), depth + 1)
            else:
                message = f"a key has to be text, which {quoted(key)} is not"
                self._problems.append(Problem(*place, path.removeprefix("."), message))
        return section

    def _place(self, path: str) -> Place:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise self._failure(path, f"here the configuration grows beyond {NODES_MAX} values")
        return Place("", self._nodes, 0)

    def _failure(self, path: str, message: str) -> SyntaxProblem:
        return SyntaxProblem(Problem("", self._nodes, 0, path.removeprefix("."), message))
