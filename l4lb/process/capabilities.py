"""The capability to bind ports below 1024, which a process keeps when it gives up root. See capabilities(7).

Capabilities belong to threads: all of this is about the calling one, and the programs that it starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

NET_BIND_SERVICE = 10

_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_IS_SET, _RAISE, _LOWER = 1, 2, 3
_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def keep_over_setuid() -> None:
    """Have the permitted capabilities of this thread survive when it gives up root. OSError."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def keep_only_low_ports() -> None:
    """Give up every capability but that of low ports, if this thread has it. OSError."""
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    _checked(_libc.capget(ctypes.byref(header), sets))
    kept = sets[0].permitted & 1 << NET_BIND_SERVICE
    sets[0], sets[1] = _Sets(kept, kept, kept), _Sets()
    _checked(_libc.capset(ctypes.byref(header), sets))


def forbid_new_privileges() -> None:
    """Neither this thread nor a program that it starts can gain a privilege any more, as by a setuid bit. OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


@contextlib.contextmanager
def passing_on_low_ports() -> Iterator[None]:
    """A program that is started in here may bind low ports if this thread may, for whatever reason."""
    try:
        lower = not _prctl(_PR_CAP_AMBIENT, _IS_SET, NET_BIND_SERVICE)
        _prctl(_PR_CAP_AMBIENT, _RAISE, NET_BIND_SERVICE)
    except OSError:  # it may not, or it is root's and all of its programs may
        lower = False
    try:
        yield
    finally:
        if lower:
            pass_on_nothing()


def pass_on_nothing() -> None:
    """A program that this thread starts may not bind low ports, as it could if this one was started so."""
    _prctl(_PR_CAP_AMBIENT, _LOWER, NET_BIND_SERVICE)


def _prctl(*arguments: int) -> int:
    return _checked(_libc.prctl(*(ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:5])))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
