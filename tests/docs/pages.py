"""The pages of the documentation: their text, their blocks of code, their links and the anchors of their headings."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OTHERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
OTHERS += [*sorted((ROOT / "bench").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


def page(name: str) -> str:
    """The text of a page, by its path below docs/ without the ending: `guides/drain`."""
    return (DOCS / f"{name}.md").read_text()


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a language, without their indentation."""
    found = re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Where a link may point inside a page, as GitHub makes anchors of headings."""
    text = without_code(path.read_text())
    found = set(re.findall(r'<a id="([\w-]+)">', text))
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", ""))
        found.add(words.replace(" ", "-"))
    return found


def links(path: Path) -> Iterator[str]:
    """The targets of all links of a page that lead to files of the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
        if not re.match(r"[a-z]+:", target):
            yield target
