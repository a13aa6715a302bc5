"""A client of Dask that computes what it is told, line by line: ADDRESS.

Each line of its input is {"seed", "tasks", "gate"}, the sum of so many squares from a seed on, of tasks that wait until
the file `gate` is there. It answers with a line when they are submitted, and with {"result"} or {"error"} in the end.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from distributed import Client

GATE_SECONDS = 0.01


def square(number: int, gate: str) -> int:
    """It leaves a file `gate.number`, so that one can see that it runs."""
    Path(f"{gate}.{number}").touch()
    while not Path(gate).exists():
        time.sleep(GATE_SECONDS)
    return number * number


def say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def main(address: str) -> None:
    with Client(address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        for line in sys.stdin:
            asked = json.loads(line)
            numbers = range(asked["seed"], asked["seed"] + asked["tasks"])
            futures = client.map(square, numbers, [asked["gate"]] * len(numbers), pure=False)
            total = client.submit(sum, futures)
            say(submitted=len(futures))
            try:
                say(result=total.result())
            except Exception as error:
                say(error=repr(error))


if __name__ == "__main__":
    main(sys.argv[1])
