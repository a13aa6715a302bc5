"""Write every generated part anew. `--check` writes nothing, names the pages that differ, and exits with 1."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from docs.generate import commands, keys, metric_tables, openapi, reasons
from docs.generate.parts import filled

DOCS = Path(__file__).resolve().parents[1]


def made(name: str) -> str:
    """A generated part, by the name in its marks."""
    sections = {path.replace("[]", ""): kind for path, kind in keys.sections().items()}
    what, _, which = name.partition(".")
    match what:
        case "keys":
            return keys.key_table(sections[which])
        case "commands":
            return commands.commands()
        case "metrics":
            return metric_tables.metric_table(which)
        case "reasons":
            return reasons.TABLES[which]()
        case "requests":
            return openapi.request_table()
        case "fields":
            return openapi.field_table(which)
    raise ValueError(f"there is no generated part '{name}'")


def pages() -> Iterator[tuple[Path, str]]:
    """Every page with generated parts, every file that is generated as a whole, and its text as it should be."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text()
        if "<!-- begin " in text:
            yield path, filled(text, made)
    yield DOCS / "reference/openapi.json", json.dumps(openapi.document(), indent=2) + "\n"


def main(arguments: list[str]) -> int:
    different = [(path, text) for path, text in pages() if not path.exists() or path.read_text() != text]
    for path, text in different:
        if "--check" not in arguments:
            path.write_text(text)
        sys.stdout.write(f"{path.relative_to(DOCS.parent)}\n")
    return 1 if different and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
