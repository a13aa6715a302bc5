"""Notifications about changes in directories (inotify(7)).

Uses ctypes: the available packages search for the C library with a compiler or a linker, which a service must not need
at run time.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os

IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_ONLYDIR = 0x1000000

CHANGES = (
    IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
    | IN_ONLYDIR
)

READ_SIZE = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """Sets `changed` after each change in a watched directory. The owner closes it, on the same loop."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
        self._loop.add_reader(self._fd, self._read)

    def watch(self, directory: str) -> None:
        """Watch a directory; watching it twice is harmless. OSError if it cannot be watched."""
        _checked(_libc.inotify_add_watch(self._fd, os.fsencode(directory), CHANGES), directory)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _read(self) -> None:
        # The kind of event does not matter: the reader looks at the file itself.
        try:
            while os.read(self._fd, READ_SIZE):
                self.changed.set()
        except BlockingIOError:
            pass


def _checked(result: int, where: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        if number in (errno.EMFILE, errno.ENOSPC):
            raise OSError(number, "no more inotify watches; raise fs.inotify.max_user_instances or max_user_watches")
        raise OSError(number, os.strerror(number), where)
    return result
