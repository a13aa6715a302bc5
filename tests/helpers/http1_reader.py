"""The data plane's reader of HTTP/1 for tests in Python: its sources, compiled with the flags of the extension."""

from __future__ import annotations

import ctypes
import functools
import re
import shlex
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [Path(__file__).with_suffix(".c"), *sorted(ROOT.glob("src_c/protocol/http1*.c"))]
FLAGS = ("-std=gnu11", "-O2", "-D_GNU_SOURCE", "-DLB_VALIDATE", "-Wall", "-Werror", "-fPIC", "-shared")
EVENTS = ("more", "began", "head", "end", "unusual")
PINS = re.findall(r'^    X\(\w+, "(\w+)", \\$', (ROOT / "src_c/l4lb.h").read_text().split("L4LB_PIN_TABLE(X)")[1], re.M)


@dataclass(frozen=True, slots=True)
class Report:
    """What happened with the byte before `at`. The others are those of the last head; a pin is that of `unusual`."""

    at: int
    event: str
    pin: str
    status: int
    closes: bool


class _Report(ctypes.Structure):
    _fields_ = (
        ("at", ctypes.c_uint64),
        ("event", ctypes.c_int32),
        ("pin", ctypes.c_int32),
        ("status", ctypes.c_int32),
        ("closes", ctypes.c_int32),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "http1_reader.so"
        sources = [str(source) for source in SOURCES]
        subprocess.run([*compiler, *FLAGS, f"-I{ROOT}/src_c", *sources, "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library))
    loaded.read_stream.restype = ctypes.c_size_t
    return loaded


def read(stream: bytes, *, responses: bool, to_head: bool = False, piece: int | None = None) -> list[Report]:
    """What the reader reports, of all at once or of pieces of this size. `to_head`: the requests were HEAD."""
    room = len(stream) + 4
    reports = (_Report * room)()
    size = ctypes.c_size_t
    n = _library().read_stream(
        stream, size(len(stream)), size(piece or max(len(stream), 1)), responses, to_head, reports, size(room)
    )
    return [Report(r.at, EVENTS[r.event], PINS[r.pin], r.status, bool(r.closes)) for r in reports[:n]]
