"""Reads databases in the MaxMind DB format. Needs the extra `geo`."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maxminddb.reader import Reader

BYTES_MAX = 1 << 30
"""Maximum size of a database, which is held in memory while it is read."""

NETWORKS_MAX = 10_000_000
"""The tree of a broken database may be infinite."""


class DatabaseError(Exception):
    """`str()` is one sentence: what, where, and what to do."""


def check(path: str) -> None:
    """DatabaseError if `path` is not a readable database."""
    with _opened(path):
        pass


def identity(path: str) -> tuple[int, ...]:
    """A value that changes with the content, as far as stat can tell. DatabaseError if there is no such file."""
    found = _stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def networks(path: str) -> Iterator[tuple[IPv4Network | IPv6Network, Mapping[str, Any]]]:
    """Every network of the database with its record, in order of addresses, without overlaps. May take seconds.

    DatabaseError, perhaps after some networks, if the database cannot be read.
    """
    with _opened(path) as reader:
        for count, (network, record) in enumerate(reader):
            if count == NETWORKS_MAX:
                raise DatabaseError(f"{path} has more than {NETWORKS_MAX} networks; take a smaller database")
            if isinstance(record, dict):
                yield network, record


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Reader]:
    try:
        from maxminddb import InvalidDatabaseError, open_database
    except ImportError as error:
        raise DatabaseError("the package maxminddb is not installed; run pip install 'l4lb[geo]'") from error
    try:
        with contextlib.ExitStack() as stack:
            copy = stack.enter_context(_copied(path))
            yield stack.enter_context(open_database(copy))
    except OSError as error:
        raise _unreadable(path, error) from error
    except (InvalidDatabaseError, ValueError, UnicodeDecodeError) as error:
        raise DatabaseError(f"{path} is not a complete database in the MaxMind DB format; download it again") from error


def _unreadable(path: str, error: OSError) -> DatabaseError:
    return DatabaseError(f"{path} cannot be read: {error.strerror or error}")


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error


@contextlib.contextmanager
def _copied(path: str) -> Iterator[str]:
    """Read the file into memory. The library would map it, and a mapped file that gets truncated kills the process."""
    found = _stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise DatabaseError(f"{path} is not a file; give the .mmdb file of a database")
    if found.st_size > BYTES_MAX:
        raise DatabaseError(f"{path} has {found.st_size} bytes, more than the {BYTES_MAX} that a database may have")
    descriptor = os.memfd_create("l4lb-geo")
    try:
        with open(path, "rb") as source, open(descriptor, "wb", closefd=False) as target:
            shutil.copyfileobj(source, target)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
