"""Every link of the documentation leads somewhere, and every page can be reached from the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, OTHERS, PAGES, ROOT, anchors, links

EVERY = [*PAGES, *OTHERS]


def target_of(page: Path, link: str) -> tuple[Path, str]:
    path, _, anchor = link.partition("#")
    return ((page.parent / path).resolve() if path else page), anchor


@pytest.mark.parametrize("page", EVERY, ids=[str(path.relative_to(ROOT)) for path in EVERY])
def test_every_link_and_anchor_exists(page: Path) -> None:
    for link in links(page):
        target, anchor = target_of(page, link)
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_leads_to_every_page_and_the_front_page_to_the_index() -> None:
    index = DOCS / "README.md"
    reached = {target_of(index, link)[0] for link in links(index)}
    assert set(PAGES) - {index} <= reached
    assert index in {target_of(ROOT / "README.md", link)[0] for link in links(ROOT / "README.md")}
