"""The command `python -m bench instructions`: instructions of the data plane under callgrind. See README.md.

The counts are the same in every run, on every machine, for one compiler. tests/c/instructions.json holds the recorded
ones; a test compares.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click

from bench.shared.processes import ROOT

PROGRAM = ROOT / "tests/c"
RECORDED = PROGRAM / "instructions.json"
EPILOG = """\b
Examples:
  python -m bench instructions --functions 25
  git worktree add /tmp/before COMMIT && python -m bench instructions --tree /tmp/before
  python -m bench instructions --record
"""

Costs = Counter[str]
"""Instructions by function: `session/relay.c:run` with those of everything that was inlined into it."""

_NAME = re.compile(r"(c?)(fl|fi|fe|fn)=\((\d+)\)(?: (.*))?")
_COST = re.compile(r"(?:[+-]?\d+|\*) (\d+)")


def own_costs(profile: Iterable[str]) -> Costs:
    """What each function of src_c executes itself, calls left out, in a profile that callgrind wrote.

    The format: https://valgrind.org/docs/manual/cl-format.html. A name is spelled out once and is a number afterwards.
    """
    names: dict[tuple[bool, str], str] = {}
    costs: Costs = Counter()
    file = function = ""
    is_call = False
    for line in profile:
        if match := _NAME.match(line):
            callee, key, number, name = match.groups()
            is_function = key == "fn"
            if name is not None:
                names[is_function, number] = name
            if key == "fl" and not callee:
                file = names[is_function, number]
            elif is_function and not callee:
                function = names[is_function, number]
        elif line.startswith("calls="):
            is_call = True
        elif match := _COST.match(line):
            _, is_core, path = file.partition("/src_c/")
            if is_core and not is_call:
                costs[f"{path}:{function}"] += int(match[1])
            is_call = False
    return costs


@dataclass(frozen=True, slots=True)
class Phase:
    name: str
    operations: int
    costs: Costs

    @property
    def instructions(self) -> int:
        """Of one operation."""
        return round(self.costs.total() / self.operations)


def count(tree: Path = ROOT) -> list[Phase]:
    """Build src_c of this tree as setup.py does, run it under callgrind, and read the profiles."""
    subprocess.run(["make", "--quiet", "-C", PROGRAM, "instructions", "RELEASE=1", f"ROOT={tree}"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profile")
        command = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={profile}"]
        program = tree / "build/c/release/instructions"
        output = subprocess.run([*command, program], stdout=subprocess.PIPE, text=True, check=True).stdout
        return [
            Phase(name, int(operations), own_costs(Path(f"{profile}.{number}").read_text().splitlines()))
            for number, (name, operations) in enumerate(re.findall(r"^phase (\w+) (\d+)$", output, re.MULTILINE), 1)
        ]


def compiler() -> str:
    """The compiler whose counts may be compared: its major version and what it builds for."""
    version, machine = (
        subprocess.run(["gcc", option], capture_output=True, text=True, check=True).stdout.strip()
        for option in ("-dumpversion", "-dumpmachine")
    )
    return f"gcc {version.partition('.')[0]} {machine}"


def recorded() -> tuple[str, dict[str, int]]:
    """The compiler and the instructions of one operation of each phase."""
    content = json.loads(RECORDED.read_text())
    return content["compiler"], content["instructions"]


def record(phases: list[Phase]) -> None:
    content = {"compiler": compiler(), "instructions": {phase.name: phase.instructions for phase in phases}}
    RECORDED.write_text(json.dumps(content, indent=2) + "\n")


@click.command(epilog=EPILOG)
@click.option("--functions", default=0, metavar="N", help="The N functions of each phase that execute most.")
@click.option(
    "--tree",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    default=ROOT,
    help="Count another checkout.",
)
@click.option("--record", "is_record", is_flag=True, help="Write the counts to tests/c/instructions.json.")
def main(functions: int, tree: Path, is_record: bool) -> None:
    """How many instructions does the data plane execute for a connect, an exchange and a close?"""
    before_compiler, before = recorded()
    phases = count(tree)
    print(f"{compiler()}; recorded with {before_compiler}")
    for phase in phases:
        print(f"{phase.name:10} {phase.instructions:8,}   recorded {before.get(phase.name, 0):8,}")
        for function, cost in phase.costs.most_common(functions):
            print(f"{cost / phase.operations:19,.1f}   {function}")
    if is_record:
        record(phases)
