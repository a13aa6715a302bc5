"""Reading YAML: types, places, and everything a hostile file can try."""

from __future__ import annotations

from typing import Any

import pytest

from l4lb.config.tree import DEPTH_MAX, Budget, MapNode, Place, SyntaxProblem, TreeBuilder, plain
from l4lb.errors import Problem


def build(text: str, **environ: str) -> tuple[Any, list[str]]:
    problems: list[Problem] = []
    tree = TreeBuilder("f", environ, Budget(), problems).build(text)
    return None if tree is None else plain(tree), [str(problem) for problem in problems]


def failure(text: str, budget: int = 1000) -> str:
    with pytest.raises(SyntaxProblem) as caught:
        TreeBuilder("f", {}, Budget(budget), []).build(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("+12", 12),
        ("007", "007"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("1.5", "1.5"),
        (".inf", ".inf"),
        ("2024-01-01", "2024-01-01"),
        ("12:30", "12:30"),
        ("9" * 18, int("9" * 18)),
        ("9" * 5000, "9" * 5000),
        ('"12"', "12"),
        ("'off'", "off"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ('"\\u00e9"', "é"),
    ],
)
def test_only_plain_words_and_whole_numbers_have_a_type(text: str, value: object) -> None:
    data, problems = build(f"key: {text}")
    assert problems == []
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_every_key_and_value_knows_its_place() -> None:
    tree = TreeBuilder("f", {}, Budget(), []).build("a:\n  - é: {x: 1}\n  -   two\n")
    assert isinstance(tree, MapNode)
    key_place, items = tree.entries["a"]
    assert key_place == Place("f", 1, 1)
    assert items.nodes[1].place == Place("f", 3, 7)
    place, inner = items.nodes[0].entries["é"]
    assert place == Place("f", 2, 5)
    assert inner.entries["x"][1].place == Place("f", 2, 12)


def test_no_document_is_nothing() -> None:
    assert build("") == (None, [])
    assert build("# only a comment\n") == (None, [])


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "{a: 1, b: 2, a: 3}", '{a: 1, b: 2, "a": 3}'])
def test_a_key_given_twice_is_a_problem_and_the_first_one_counts(text: str) -> None:
    data, problems = build(text)
    assert data == {"a": 1, "b": 2}
    (problem,) = problems
    assert "the key 'a' is given twice; the first is on line 1" in problem


def test_problems_carry_their_dotted_path() -> None:
    _, problems = build("a: {b: [x, {c: 1, c: 2}], d: ${NOPE}}".replace("${NOPE}", '"${NOPE}"'))
    assert [problem.split(": ")[2] for problem in problems] == ["a.b[1].c", "a.d"]


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [echo]",
        "!!python/name:os.system ''",
        "!!binary aGVsbG8=",
        "!!set {a, b}",
        "!!int '1'",
        "!local 1",
        "!<tag:example,2000:x> {}",
    ],
)
def test_tags_make_nothing(text: str) -> None:
    _, problems = build(f"key: {text}")
    assert len(problems) == 1
    assert "is not allowed; remove it" in problems[0]


def test_aliases_share_values_and_merge_keys_fill_gaps() -> None:
    data, problems = build("a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\nd: {<<: [*a, {z: 4, x: 9}]}\n")
    assert problems == []
    assert data == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 3},
        "d": {"x": 1, "y": 2, "z": 4},
    }


def test_merging_what_is_no_mapping_is_a_problem() -> None:
    data, problems = build("c: {<<: 1, y: 3}\nd: {<<: [1]}")
    assert data == {"c": {"y": 3}, "d": {}}
    assert len(problems) == 2


def test_an_alias_bomb_is_refused_where_it_goes_off() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9))
    assert "with all aliases expanded" in failure(bomb, 1_000_000)
    assert failure(bomb, 1_000_000).startswith("f:6:")


def test_merge_keys_spend_the_same_budget() -> None:
    bomb = "a: &a {" + ", ".join(f"k{n}: 1" for n in range(400)) + "}\nb: [" + "{<<: *a}, " * 10 + "]\n"
    assert "with all aliases expanded" in failure(bomb)


def test_files_share_one_budget() -> None:
    budget = Budget(6)
    TreeBuilder("f", {}, budget, []).build("[1, 2, 3]")
    with pytest.raises(SyntaxProblem, match="grows beyond"):
        TreeBuilder("g", {}, budget, []).build("[1, 2, 3]")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: *nothing", "&a {b: *a}"])
def test_an_alias_must_name_something_finished(text: str) -> None:
    assert "names nothing that was finished before it" in failure(text)


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000])
def test_deep_nesting_is_refused_not_followed(text: str) -> None:
    assert f"nested more than {DEPTH_MAX} levels deep" in failure(text, 1_000_000)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1, 2\nb: 3\n", "f:2:2: "),
        ("a: b: c\n", "f:1:5: "),
        ("a:\n\t- 1\n", "f:2:1: "),
        ('a: "unclosed\n', "f:2:1: "),
        ("%YAML 9.9\n---\na: 1\n", "f:1:1: "),
        ("a: @x\n", "f:1:4: "),
    ],
)
def test_what_is_no_yaml_is_one_problem_at_its_place(text: str, place: str) -> None:
    message = failure(text)
    assert message.startswith(place)
    assert "this is not YAML" in message


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: 1\nb: \0\n", "f:2:4: "), ("\ufeffa: 1", "f:1:1: "), ("\x1b[1m", "f:1:1: "), ("a: \ufffe", "f:1:4: ")],
)
def test_characters_that_no_file_should_hold_are_refused(text: str, place: str) -> None:
    message = failure(text)
    assert message.startswith(place)
    assert "is not allowed here" in message


def test_a_second_document_is_refused() -> None:
    assert failure("a: 1\n---\nb: 2\n").startswith("f:2:1: error: a second document begins here")


def test_keys_are_text() -> None:
    data, problems = build("{[1]: 2, {a: b}: 3, 4: 5, ~: 6}\n")
    assert data == {"4": 5, "~": 6}
    assert len(problems) == 2
    assert "a key has to be plain text" in problems[0]
