"""A balancer whose own functions fail when a test says so.

`FAULTY` is run in place of the interpreter's command line. It wraps the functions that L4LB_TEST_FAULTS names: each
raises as long as a file of its name is in the directory L4LB_TEST_FAULTS_AT, and notes there when it returned.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.helpers.balancer import Balancer

FAULTY = """
import asyncio, builtins, functools, importlib, inspect, json, os, sys

folder = os.environ["L4LB_TEST_FAULTS_AT"]

def trip(name):
    try:
        with open(os.path.join(folder, name)) as file:
            kind, mode = file.read().split()
        if mode == "once":
            os.unlink(os.path.join(folder, name))
    except (FileNotFoundError, ValueError):
        return
    raise {"CancelledError": asyncio.CancelledError}.get(kind) or getattr(builtins, kind)("injected")

def returned(name):
    open(os.path.join(folder, name + ".returned"), "w").close()

def wrapped(name, function):
    if inspect.iscoroutinefunction(function):
        async def faulty(*arguments, **options):
            trip(name)
            result = await function(*arguments, **options)
            returned(name)
            return result
    else:
        def faulty(*arguments, **options):
            trip(name)
            result = function(*arguments, **options)
            returned(name)
            return result
    return functools.wraps(function)(faulty)

for name in json.loads(os.environ["L4LB_TEST_FAULTS"]):
    module, _, path = name.partition(":")
    holder = importlib.import_module(module)
    *outer, last = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    setattr(holder, last, wrapped(name, getattr(holder, last)))

for name, value in json.loads(os.environ["L4LB_TEST_CONSTANTS"]).items():
    module, _, last = name.partition(":")
    setattr(importlib.import_module(module), last, value)

sys.argv = ["l4lb", *sys.argv[sys.argv.index("l4lb") + 1:]]
importlib.import_module("l4lb.cli").main()
"""


class Faults:
    """The switches of the functions."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        self.names = names

    def balancer(
        self, config: Mapping[str, object], constants: Mapping[str, object], env: Mapping[str, str]
    ) -> Balancer:
        settings = {
            "L4LB_TEST_FAULTS": json.dumps(self.names),
            "L4LB_TEST_CONSTANTS": json.dumps(constants),
            "L4LB_TEST_FAULTS_AT": str(self.folder),
        }
        return Balancer(config, prefix=(sys.executable, "-c", FAULTY), env=settings | dict(env))

    @contextlib.contextmanager
    def on(self, name: str, kind: str, mode: str) -> Iterator[None]:
        """The function raises once, or always, in the block."""
        assert name in self.names
        temporary = self.folder / "new"
        temporary.write_text(f"{kind} {mode}")
        temporary.rename(self.folder / name)
        try:
            yield
        finally:
            (self.folder / name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Forget that the function has returned."""
        (self.folder / f"{name}.returned").unlink(missing_ok=True)

    def returned(self, name: str) -> bool:
        """Whether the function has returned since it was forgotten."""
        return (self.folder / f"{name}.returned").exists()
