"""Documents of others have bounds, and reading the largest one gives way to other threads all the time."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.bounded.documents import SMALL, VALUES_MAX, YAML_BYTES_MAX, DocumentError, read_json, read_yaml

MIB = 2**20
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN, st.booleans())
def test_json_is_read_as_the_library_reads_it(value: Any, large: bool) -> None:
    body = json.dumps(value).encode() + b" " * (SMALL if large else 0)
    assert read_json(body) == json.loads(body)


HOSTILE_JSON = {
    "lists": (b"[" + b"[]," * VALUES_MAX, "more than 500000 values"),
    "objects": (b"[" + b"{}," * VALUES_MAX, "more than"),
    "numbers": (b"[" + b"1," * VALUES_MAX, "more than"),
    "many": (b"[" + b"[]," * (VALUES_MAX // 2 - 9) + b"x", "Expecting value at line 1"),
    "keys": (b"{" + b",".join(b'"%d":0' % number for number in range(300_000)) + b"}", "more than 10000 keys"),
    "deep": (b"[" * 100_000, "nested too deep"),
    "deep objects": (b'{"a":' * 100_000, "nested too deep"),
    "digits": (b"[" + b"9" * 4000 + b"]", "more than 40 digits"),
    "long number": (b"9" * 8 * MIB, "more than 40 digits"),
    "long fraction": (b"1." + b"9" * 8 * MIB, "more than 40 digits"),
    "space": (b" " * 8 * MIB, "Expecting value at line 1"),
    "text": (b'"' + b"a" * 8 * MIB, "Unterminated string"),
    "escapes": (b'"' + b"\\n" * 4 * MIB, "Unterminated string"),
    "binary": (bytes(range(128, 256)) * 1000, "is not UTF-8"),
    "packed": (gzip.compress(b"[" + b" " * 1000), "is not UTF-8"),
    "empty": (b"", "Expecting value"),
}
LAUGHS = b"- &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"- &%c [%s]\n" % (98 + level, b",".join([b"*%c" % (97 + level)] * 10)) for level in range(9)
)
HOSTILE_YAML = {
    "laughs": (LAUGHS, "more than 500000 values"),
    "large": (b" " * (YAML_BYTES_MAX + 1), "larger than 4 MiB"),
    "items": (b"- a\n" * MIB, "more than 500000 values"),
    "flow": (b"[" + b"a," * MIB, "more than 500000 values"),
    "deep": (b"- " * 100_000, "more than 64 levels deep"),
    "deep flow": (b"{a: " * 100_000, "levels deep|nesting depth"),
    "keys": (b"? " * 100_000, "more than 64 levels deep"),
    "self": (b"&a [*a]", "names nothing"),
    "documents": (b"---\na\n" * 1000, "second document"),
    "list as key": (b"? [a]\n: b\n", "a key in it is not a string"),
    "binary": (b"\x00\x01\x02", "."),
    "not UTF-8": (b"- \xff\xfe\xfd", "."),
    "tabs": (b"a:\t" * 1000, "line 1"),
    "text": (b'"' + b"\\n" * MIB, "."),
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json_is_refused_in_a_few_words(name: str) -> None:
    _is_refused(read_json, *HOSTILE_JSON[name])


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_hostile_yaml_is_refused_in_a_few_words(name: str) -> None:
    _is_refused(read_yaml, *HOSTILE_YAML[name])


def _is_refused(read: Callable[[bytes], Any], body: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as caught:
        read(body)
    assert len(str(caught.value)) <= 200
    assert "\n" not in str(caught.value)


class Waits:
    """Counts how often another thread has its turn."""

    def __init__(self) -> None:
        self.turns = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.turns += 1
            time.sleep(0.0005)

    def __enter__(self) -> Waits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


LARGE = {
    "lists": (read_json, b"[" + b"[]," * (VALUES_MAX // 2 - 9) + b"[]]"),
    "numbers": (read_json, b"[" + b"1," * (VALUES_MAX - 9) + b"1]"),
    "objects": (read_json, b"[" + b'{"a":0},' * (VALUES_MAX // 2 - 9) + b"1]"),
    "keys": (read_json, b"{" + b",".join(b'"%d":0' % number for number in range(300_000)) + b"}"),
    "yaml": (read_yaml, b"[" + b"[]," * (VALUES_MAX - 9) + b"]"),
    "yaml items": (read_yaml, b"- a\n" * (VALUES_MAX - 9)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_reading_the_largest_documents_gives_way_to_others(name: str) -> None:
    """Where a reader in C keeps the interpreter for itself, another thread has two or three turns in all."""
    read, body = LARGE[name]
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        with Waits() as waits, contextlib.suppress(DocumentError):
            read(body)
    finally:
        sys.setswitchinterval(before)
    assert waits.turns > 20
