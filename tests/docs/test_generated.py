"""The generated parts of the documentation are what the code says now."""

from __future__ import annotations

from docs.generate import __main__ as generate
from docs.generate import keys, parts
from l4lb.config import json_schema
from tests.docs.pages import page


def test_every_generated_part_is_up_to_date() -> None:
    old = [str(path.relative_to(generate.DOCS)) for path, text in generate.pages() if path.read_text() != text]
    assert not old, f"run make docs: {', '.join(old)} and the code differ"


def test_the_reference_has_a_table_for_every_section_below_its_heading() -> None:
    reference = page("reference/configuration")
    sections = keys.sections()
    assert sorted(parts.names(reference)) == sorted(f"keys.{path.replace('[]', '')}" for path in sections)
    assert {kind.__name__ for kind in sections.values()} | {"Defaults", "Reference"} == set(json_schema()["$defs"])
    for path in sections:
        below = reference.partition(f"# `{path}`\n")[2].split("\n#")[0]
        assert f"<!-- begin keys.{path.replace('[]', '')} -->" in below, path


def test_every_key_has_a_meaning_in_plain_sentences() -> None:
    for path, kind in keys.sections().items():
        for name, info in kind.model_fields.items():
            assert info.description, f"{path}.{name}"
            assert info.description.rstrip().endswith((".", ")")), f"{path}.{name}"
