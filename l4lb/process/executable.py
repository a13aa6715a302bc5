"""The command that starts this program again, as it is installed now, with its original arguments."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence


def command(path: str) -> list[str]:
    """The command that starts this process's program again, to run the configuration file at `path`."""
    program = sys.argv[0]
    # Fails if the working directory is gone. Then a relative name could not be found either.
    with contextlib.suppress(OSError):
        program = os.path.abspath(program)
    return again(sys.argv, sys.orig_argv, sys.executable, program, ["run", "-c", path])


def again(
    argv: Sequence[str], original: Sequence[str], interpreter: str, program: str, arguments: Sequence[str]
) -> list[str]:
    """The command, from `sys.argv`, `sys.orig_argv`, `sys.executable` and the absolute path of `argv[0]`.

    An executable file is started directly, so that its first line names the interpreter: a symbolic link may lead to
    another version by now, with an interpreter of its own. Links are not resolved, for the same reason.
    """
    # With -m the program is a module, and `argv` has the file it was found in.
    if argv[0] in original and os.access(program, os.X_OK):
        return [program, *arguments]
    return [interpreter, *original[1 : len(original) - len(argv) + 1], *arguments]
