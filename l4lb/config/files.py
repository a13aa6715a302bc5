"""Reads the files of a configuration, within bounds, and merges includes."""

from __future__ import annotations

import glob
import itertools
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from l4lb.base.text import quoted
from l4lb.config.tree import Budget, ListNode, MapNode, Node, Place, ScalarNode, SyntaxProblem, TreeBuilder
from l4lb.errors import Problem

BYTES_MAX = 16 * 1024 * 1024
"""Bytes of all files together."""

FILES_MAX = 1024
DEPTH_MAX = 8
"""Levels of files that include files."""

PATH_MAX = 4096


def read_regular(path: str, most: int) -> bytes:
    """The first bytes of a regular file. OSError or ValueError if it is not one."""
    # Without O_NONBLOCK, opening a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise ValueError("it is a directory")
        if not stat.S_ISREG(mode):
            raise ValueError("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class FileReader:
    """Reads a file and its includes into one tree.

    `files` are those read, in order. `complete` is False if something is missing from the tree; then nothing can be
    said about missing keys.
    """

    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    complete: bool = True
    _bytes_left: int = BYTES_MAX
    _budget: Budget = field(default_factory=Budget)
    _identities: set[str] = field(default_factory=set)

    def read(self, path: str, data: bytes | None = None) -> MapNode:
        """The tree of the file at `path`, or of `data` in its place."""
        root = MapNode(Place(path, 1, 1), {})
        self._read_into(root, path, Place(path, 1, 1), (), data)
        return root

    def _read_into(
        self, root: MapNode, path: str, asked: Place, parents: tuple[str, ...], data: bytes | None = None
    ) -> None:
        """Add the contents of a file to `root`. `asked` is where a failure to read it is reported."""
        identity = _identity(path)
        self.files.append(path)
        self._identities.add(identity)
        text = self._text(path, asked, data)
        if text is None:
            return
        try:
            tree = TreeBuilder(path, self.environ, self._budget, self.problems).build(text)
        except SyntaxProblem as error:
            self._fail(error.problem)
            return
        if tree is None:
            return
        if not isinstance(tree, MapNode):
            self._fail(
                Problem(*tree.place, "", "a configuration is a mapping of sections, such as listeners and pools")
            )
            return
        _, include = tree.entries.pop("include", (tree.place, None))
        self._merge(root, tree)
        if include is not None:
            for pattern in self._patterns(include):
                self._include(root, path, pattern, (*parents, identity))

    def _text(self, path: str, asked: Place, data: bytes | None) -> str | None:
        try:
            data = read_regular(path, self._bytes_left + 1) if data is None else data
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._fail(Problem(*asked, "", f"cannot read {_quoted(path)}: {reason}"))
            return None
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            self._fail(Problem(*asked, "", f"the configuration is larger than {BYTES_MAX // 2**20} MiB"))
            return None
        try:
            return data.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
            place = Place(path, before.count(b"\n") + 1, column)
            self._fail(Problem(*place, "", "these bytes are not UTF-8; save the file as UTF-8"))
            return None

    def _patterns(self, include: Node) -> Iterator[ScalarNode]:
        for node in include.nodes if isinstance(include, ListNode) else [include]:
            if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.value:
                yield node
            else:
                message = "a file name or pattern is expected, such as conf.d/*.yaml"
                self.problems.append(Problem(*node.place, "include", message))

    def _include(self, root: MapNode, path: str, pattern: ScalarNode, parents: tuple[str, ...]) -> None:
        wanted = os.path.join(os.path.dirname(path), str(pattern.value))
        try:
            found = sorted(itertools.islice(glob.iglob(wanted), FILES_MAX + 1))
        except ValueError:
            found = []
        if not found and not glob.has_magic(wanted):
            found = [wanted]
        for file in found:
            identity = _identity(file)
            message = None
            if identity in parents:
                message = f"{_quoted(file)} would include itself"
            elif identity in self._identities:
                message = f"{_quoted(file)} is included twice"
            elif len(parents) >= DEPTH_MAX:
                message = f"files include files more than {DEPTH_MAX} levels deep"
            elif len(self.files) >= FILES_MAX:
                message = f"more than {FILES_MAX} files are included"
            if message is not None:
                self._fail(Problem(*pattern.place, "include", message))
                return
            self._read_into(root, file, pattern.place, parents)

    def _merge(self, root: MapNode, tree: MapNode) -> None:
        """Merge a file's sections key by key. A key that two files set is an error."""
        for name, (key_place, node) in tree.entries.items():
            if name not in root.entries:
                # A copy: other files add to this section, and an alias may share the original.
                copy = MapNode(node.place, dict(node.entries)) if isinstance(node, MapNode) else node
                root.entries[name] = key_place, copy
                continue
            first_place, first = root.entries[name]
            if not isinstance(first, MapNode) or not isinstance(node, MapNode):
                self._twice(key_place, name, first_place)
                continue
            for key, entry in node.entries.items():
                if key in first.entries:
                    self._twice(entry[0], f"{name}.{key}", first.entries[key][0])
                else:
                    first.entries[key] = entry

    def _twice(self, place: Place, path: str, first: Place) -> None:
        self.problems.append(Problem(*place, path, f"two files say this; the other is {first}"))

    def _fail(self, problem: Problem) -> None:
        self.complete = False
        self.problems.append(problem)


def _identity(path: str) -> str:
    """Identifies a file however its path is spelled."""
    try:
        return os.path.realpath(path)
    except ValueError:  # not a valid path; reading it reports that
        return path


def _quoted(path: str) -> str:
    """A path in full, because its end says most."""
    return quoted(path, PATH_MAX)
