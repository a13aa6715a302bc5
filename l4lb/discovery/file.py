"""Discovery by a file that another program writes, in the format of Prometheus' file_sd.

The directory is watched, so the file is read at once when it is replaced by a rename, or by switching a symbolic link
as Kubernetes does with a ConfigMap. Changes that inotify does not report (a link in a parent directory, a network file
system) are found by reading again at intervals.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import itertools
import os
from typing import NoReturn

from l4lb.base.pacing import rounds
from l4lb.base.text import reason
from l4lb.base.threads import SerialThread
from l4lb.config.sections import discover
from l4lb.discovery.inotify import Inotify
from l4lb.discovery.source import ANSWER_MAX, ENDPOINTS_MAX, Answer, DiscoveryError, Report
from l4lb.discovery.targets import parse_json, parse_yaml

REREAD = 30.0
"""Seconds after which the file is read again without a notification."""

RETRY = 5.0
"""The same after a failure: a directory that does not exist cannot be watched."""

SETTLE = 0.02
"""Seconds from the first notification to reading: a program that replaces several files takes a moment."""

SETTLE_MAX = 1.0
"""Minimum seconds between two reads of a file that keeps changing."""

FILES_MAX = 1024

_PATTERN = frozenset("*?[")
_SUFFIXES = {".json": parse_json, ".yaml": parse_yaml, ".yml": parse_yaml}


class FileSource:
    """Implements `Source`. Several files that match a pattern form one answer: if one file is invalid, so is the
    answer."""

    def __init__(self, settings: discover.FileDiscovery) -> None:
        self._path = settings.path
        self._files = SerialThread(f"reading {settings.path}")
        self.interval = REREAD

    async def watch(self, report: Report) -> NoReturn:
        inotify = Inotify()
        try:
            async for _ in rounds(SETTLE, SETTLE_MAX):
                inotify.changed.clear()
                patience = REREAD
                try:
                    await report.found(await self._files.call(self._read, inotify))
                except (DiscoveryError, OSError, TimeoutError) as error:
                    # After a failure, restart the backoff, so that a repaired file is noticed at once.
                    report.failed(reason(error))
                    patience = RETRY
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await inotify.changed.wait()
                    await asyncio.sleep(SETTLE)
            raise AssertionError("rounds do not end")
        finally:
            inotify.close()

    def _read(self, inotify: Inotify) -> Answer:
        # Watch before reading, so that no change is missed. Adding the watch resolves the path, so it may hang too.
        inotify.watch(os.path.dirname(self._path) or ".")
        return read(self._path)


def read(path: str) -> Answer:
    """The answer of the file at `path`, or of all files that match its last part. DiscoveryError or OSError."""
    directory, last = os.path.split(path)
    if not _PATTERN & set(last):
        answer, _ = _read_one(path, ANSWER_MAX)
        return answer
    found = sorted(itertools.islice(glob.iglob(os.path.join(glob.escape(directory), last)), FILES_MAX + 1))
    if len(found) > FILES_MAX:
        raise DiscoveryError(f"there are more than the {FILES_MAX} files that are read")
    whole, left = Answer(), ANSWER_MAX
    for one in found:
        answer, size = _read_one(one, left)
        left -= size
        whole.endpoints += answer.endpoints
        if len(whole.endpoints) > ENDPOINTS_MAX:
            raise DiscoveryError(f"there are more than the {ENDPOINTS_MAX} targets that fit in {len(found)} files")
        whole.unusable |= {f"{one}: {entry}": reason for entry, reason in answer.unusable.items()}
        whole.notes |= {f"{one}: {entry}": note for entry, note in answer.notes.items()}
    return whole


def _read_one(path: str, most: int) -> tuple[Answer, int]:
    """The answer of one file, and its size. `left` is how many bytes the answer may still have."""
    parse = _SUFFIXES.get(os.path.splitext(path)[1])
    if parse is None:
        raise DiscoveryError(f"{path} ends in none of {', '.join(_SUFFIXES)}")
    try:
        with open(path, "rb", opener=_open) as file:
            body = file.read(most + 1)
    except OSError as error:
        raise DiscoveryError(f"{path}: {error.strerror or error}") from error
    if len(body) > most:
        together = "" if most == ANSWER_MAX else ", with the files before it,"
        raise DiscoveryError(f"{path}{together} is larger than {ANSWER_MAX // 2**20} MiB")
    try:
        return parse(body), len(body)
    except DiscoveryError as error:
        raise DiscoveryError(f"{path}: {error}") from error


def _open(path: str, flags: int) -> int:
    # A FIFO at this path would block the thread for ever.
    return os.open(path, flags | os.O_NONBLOCK)
