"""Turns a file or plain data into a `Config`, or reports every problem at its place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from l4lb.config.data import DataTree
from l4lb.config.fields import FROM_FILE
from l4lb.config.files import FileReader
from l4lb.config.lists import NetworkFiles
from l4lb.config.messages import sentence
from l4lb.config.model import Config
from l4lb.config.rules import KEY, Loc
from l4lb.config.tree import ListNode, MapNode, Node, Place, ScalarNode, SyntaxProblem, path_part, plain
from l4lb.errors import ConfigError, Problem
from l4lb.geo import database


def load_config(
    path: str | os.PathLike[str], environ: Mapping[str, str] | None = None, *, data: bytes | None = None
) -> Config:
    """Read the configuration file at `path`, or `data` in its place, and the files it includes.

    Nothing is resolved, bound or contacted; databases are only opened. `environ` replaces the environment. ConfigError
    has every problem, ordered by file and line; no other exception is raised.
    """
    source = FileReader(os.environ if environ is None else environ)
    tree = source.read(os.fspath(path), data)
    NetworkFiles(source.problems, source.files).put_into(tree)
    config = _read(tree, source.problems, FROM_FILE) if source.complete else None
    if config is None or source.problems:
        order = {file: index for index, file in enumerate(source.files)}
        raise ConfigError(sorted(source.problems, key=lambda found: (order[found.file], found)))
    return config


def read_config(data: Mapping[str, Any]) -> Config:
    """Read a configuration from a mapping of the same shape as a file.

    As in `load_config`, nothing is contacted, and ConfigError has every problem, in the order of the mapping. A
    duration may also be a number of seconds, or None for off. `${VAR}` is plain text.
    """
    problems: list[Problem] = []
    config = None
    try:
        tree = DataTree(problems).build(data)
        NetworkFiles(problems, []).put_into(tree)
        config = _read(tree, problems, None)
    except SyntaxProblem as error:
        problems.append(error.problem)
    if config is None or problems:
        # Only network files have lines.
        raise ConfigError(
            [problem if problem.file else replace(problem, line=0, column=0) for problem in sorted(problems)]
        )
    return config


def _read(tree: MapNode, problems: list[Problem], context: dict[str, bool] | None) -> Config | None:
    """The configuration of a tree, or None. Problems are added to `problems`."""
    try:
        config = Config.model_validate(plain(tree), context=context)
    except ValidationError as error:
        lines = error.errors(include_url=False)
        problems += _validation_problems(tree, lines, {_place(problem) for problem in problems})
        return None
    problems += _database_problems(tree, config)
    return config


def _validation_problems(tree: MapNode, lines: list[ErrorDetails], known: set[Place]) -> Iterator[Problem]:
    """The model's problems at their places in the tree, except where a problem is already known."""
    said: set[tuple[Place, str]] = set()
    for line in lines:
        at_key = line["type"] in ("missing", "extra_forbidden")
        place, path = _locate(tree, line["loc"], at_key=at_key)
        message = sentence(line)
        if first := line.get("ctx", {}).get("first"):
            where, first_path = _locate(tree, first)
            message += f" ({where if where.file else first_path})"
        # Report a bad default once, not in each pool that uses it.
        if place not in known and (place, message) not in said:
            said.add((place, message))
            yield Problem(*place, path, message)


def _database_problems(tree: MapNode, config: Config) -> Iterator[Problem]:
    for index, path in enumerate(() if config.geo is None else config.geo.database):
        try:
            database.check(path)
        except database.DatabaseError as error:
            place, at = _locate(tree, ("geo", "database", index))
            yield Problem(*place, at, str(error))


def _place(problem: Problem) -> Place:
    return Place(problem.file, problem.line, problem.column)


def _locate(tree: MapNode, loc: Loc, *, at_key: bool = False) -> tuple[Place, str]:
    """Where the thing at `loc` is written, and its dotted path.

    That is the value if it is a scalar and `at_key` is false, else its key. A key that a listener or pool inherits is
    in the defaults; a missing key is at the section that lacks it.
    """
    place, path, found = _walk(tree, loc, at_key)
    if not found and not at_key and loc[0] in ("listeners", "pools"):
        default_place, default_path, found = _walk(tree, ("defaults", *loc[2:]), at_key)
        if found:
            return default_place, default_path
    return place, path


def _walk(tree: MapNode, loc: Loc, at_key: bool) -> tuple[Place, str, bool]:
    node: Node = tree
    key_place = place = tree.place
    path = ""
    for part in loc:
        if isinstance(node, MapNode) and part in node.entries:
            key_place, node = node.entries[str(part)]
            place = node.place if isinstance(node, ScalarNode) and not at_key else key_place
            path += path_part(str(part))
        elif isinstance(node, ListNode) and isinstance(part, int) and part < len(node.nodes):
            node = node.nodes[part]
            place = node.place
            path += f"[{part}]"
        elif part == 0 and isinstance(node, MapNode):
            continue  # a single entry in place of a list
        elif part == KEY:
            place = key_place
        elif isinstance(node, ScalarNode):
            break  # a short form, such as an address in place of a backend
        else:
            return place, path.removeprefix("."), False
    return place, path.removeprefix("."), True
