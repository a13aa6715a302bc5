"""How the program is started again, as it is installed now and with what it was told at its start."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def command() -> list[str]:
    """The command that starts this process's program again."""
    return again(sys.argv, sys.orig_argv, sys.executable, os.getcwd())


def again(argv: Sequence[str], original: Sequence[str], interpreter: str, directory: str) -> list[str]:
    """The same from `sys.argv`, `sys.orig_argv`, `sys.executable` and where the process is.

    An executable file is started itself, so that its first line names the interpreter: where a symbolic link on the way
    to it leads to another version now, that has one of its own. Nothing is resolved, for the same reason.
    """
    program = os.path.join(directory, argv[0])
    # With -m the program is a module, and `argv` has the file it was found in.
    if argv[0] in original and os.access(program, os.X_OK):
        return [program, *argv[1:]]
    return [interpreter, *original[1:]]
