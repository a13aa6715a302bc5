"""Edits of backends: what they make of a file, when they end, and that a successor understands them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import Config
from l4lb.config.backends import read_backend, written
from l4lb.discovery.source import ENDPOINTS_MAX
from l4lb.errors import ConfigError, ControlError
from l4lb.handover.records import HandoverData, HandoverReader
from l4lb.state import edits
from l4lb.state.edits import NO_EDITS, Edit, Edits
from tests.helpers.build import config, merged
from tests.helpers.stage import A, B, C

KEY = ("app", "a")


def backend(name: str, address: str = A, **settings: Any) -> dict[str, Any]:
    return {"name": name, "address": address} | settings


def names(edited: Config) -> list[str]:
    return [one.name for one in edited.pools["app"].backends]


def listed(edited: Config) -> list[dict[str, Any]]:
    return [written(one) for one in edited.pools["app"].backends]


def add(known: Edits, file: Config, settings: dict[str, Any]) -> Edits:
    return edits.added(known, file, merged(edits.over(file, known)), "app", settings)[0]


def change(known: Edits, file: Config, name: str, **settings: Any) -> Edits:
    return edits.changed(known, file, merged(edits.over(file, known)), ("app", name), settings)


def remove(known: Edits, file: Config, name: str) -> Edits:
    return edits.removed(known, file, merged(edits.over(file, known)), ("app", name))


def test_without_edits_the_configuration_is_the_same_object() -> None:
    file = config(backend("a"))
    assert edits.over(file, NO_EDITS) is file
    edited = edits.over(file, add(NO_EDITS, file, backend("b")))
    assert edited.pools["app"].backends[0] is file.pools["app"].backends[0]


def test_what_leads_back_to_the_file_is_no_edit() -> None:
    file = config(backend("a"), backend("b", B))
    assert change(change(NO_EDITS, file, "a", address=C), file, "a", address=A) == {}
    assert add(remove(NO_EDITS, file, "b"), file, backend("b", B)) == {}
    assert remove(add(NO_EDITS, file, backend("c", C)), file, "c") == {}


def test_backends_keep_their_places_and_new_ones_come_last() -> None:
    file = config(backend("a"), backend("b", B), backend("c", C))
    known = remove(change(add(NO_EDITS, file, backend("d", C)), file, "b", weight=3), file, "a")
    assert names(edits.over(file, known)) == ["b", "c", "d"]
    assert known["app", "b"].changed == ("weight",)


@pytest.mark.parametrize(
    ("then", "left"),
    [
        ([backend("a"), backend("b", B)], ["a", "new"]),
        ([backend("a", weight=2), backend("b", B)], ["a", "new"]),
        ([backend("b", B, weight=2)], ["b", "new"]),
        ([backend("a")], ["a", "new"]),
        ([backend("new", B)], ["new"]),
        ([], ["new"]),
    ],
)
def test_an_edit_ends_when_the_file_says_something_else_of_that_backend(
    then: list[dict[str, Any]], left: list[str]
) -> None:
    file = config(backend("a"), backend("b", B))
    known = remove(change(add(NO_EDITS, file, backend("new", C)), file, "a", max_busy=4), file, "b")
    later = config(*then, pool={"retries": 1})
    lasting = edits.lasting(known, later)
    assert names(edits.over(later, lasting)) == left
    kept = {entry["name"]: entry for entry in listed(edits.over(later, lasting))}
    assert ("max_busy" in kept.get("a", {})) is (then[:1] == [backend("a")])
    if then and then[0]["name"] == "new":
        assert kept["new"] == backend("new", B), "the file's"


def test_edits_of_a_pool_that_is_gone_are_gone() -> None:
    file = config(backend("a"))
    known = add(NO_EDITS, file, backend("b"))
    other = config(
        listeners={"web": {"bind": "127.0.0.1:0", "pool": "other"}}, pools={"other": {"backends": [backend("a")]}}
    )
    assert edits.lasting(known, other) == {}


@pytest.mark.slow
def test_a_pool_has_room_for_so_many_and_the_file_for_more() -> None:
    file = config(*(backend(f"n{number}") for number in range(ENDPOINTS_MAX)))
    state = merged(file)
    with pytest.raises(ControlError, match="too many backends") as refused:
        edits.added(NO_EDITS, file, state, "app", backend("more"))
    assert refused.value.status == 409
    assert edits.changed(NO_EDITS, file, state, ("app", "n1"), {"address": B})


def test_what_contradicts_the_pool_is_refused_with_its_key() -> None:
    with pytest.raises(ControlError, match="max_busy: auto holds requests back") as refused:
        change(NO_EDITS, config(backend("a")), "a", max_busy="auto")
    assert refused.value.status == 409


def test_a_backend_reads_as_it_is_written() -> None:
    whole = backend("a", "unix:/run/x.sock", weight=0, max_connections=1, max_busy=2, tier=3, health={"port": 80})
    assert written(read_backend(whole)) == whole
    assert written(read_backend({"address": A})) == {"name": A, "address": A}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def sentences(settings: dict[str, Any]) -> list[str]:
    try:
        read_backend(settings)
    except ConfigError as error:
        return [problem.message for problem in error.problems]
    return []


@given(JSON)
def test_whatever_is_given_as_settings_is_a_backend_or_a_short_sentence(value: Any) -> None:
    for settings in ({"address": value}, {"address": A, "name": value}, {"address": A, "health": value}):
        assert all(len(sentence) < 500 for sentence in sentences(settings))


def heard(told: HandoverData, spoil: Any = None) -> HandoverData:
    listener = HandoverReader()
    for kind, fields in told.messages():
        copied = json.loads(json.dumps(fields))
        if spoil is not None and kind == "edits":
            spoil(copied["edits"])
        listener.read(kind, copied)
    return listener.memory


def test_a_successor_hears_every_edit() -> None:
    file = config(backend("a"), backend("b", B))
    known = remove(change(add(NO_EDITS, file, backend("c", C)), file, "a", max_busy=4), file, "b")
    many = {("app", f"n{number}"): Edit(None, read_backend(backend(f"n{number}"))) for number in range(700)}
    assert heard(HandoverData(edits={**known, **many})).edits == {**known, **many}


def test_what_a_successor_does_not_know_is_as_in_the_file() -> None:
    def of_another_version(told: list[dict[str, Any]]) -> None:
        told[0]["now"]["colour"] = "red"

    file = config(backend("a"))
    known = change(add(NO_EDITS, file, backend("c", C)), file, "a", max_busy=4)
    assert len(heard(HandoverData(edits=known), of_another_version).edits) == 1
