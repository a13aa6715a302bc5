"""What a reload says about keys that only a start can change."""

from __future__ import annotations

from typing import Any

import pytest

from l4lb.process.restart import restart_required
from tests.helpers.build import config

A = "127.0.0.1:9001"


@pytest.mark.parametrize(
    ("sections", "note"),
    [
        ({"process": {"workers": 3}}, "process.workers: 3 takes effect at the next start; auto stays until then"),
        ({"process": {"max_connections": 9}}, "process.max_connections: 9 takes effect at the next start"),
        ({"process": {"max_pipes": 9}}, "process.max_pipes: 9 takes effect at the next start"),
        (
            {"process": {"user": "nobody"}},
            "process.user: nobody takes effect at the next start; unset stays until then",
        ),
        ({"admin": {"socket": "/run/x.sock"}}, "admin.socket: /run/x.sock takes effect at the next start"),
        ({"admin": {"listen": "127.0.0.1:9400"}}, "admin.listen: 127.0.0.1:9400 takes effect at the next start"),
    ],
)
def test_each_key_has_its_sentence(sections: dict[str, Any], note: str) -> None:
    (said,) = restart_required(config(A), config(A, **sections))
    assert said.startswith(note)


@pytest.mark.parametrize("section", ["process", "admin"])
def test_every_key_of_the_process_needs_a_restart_or_is_known_not_to(section: str) -> None:
    before, after = config(A), config(A)
    keys = set(type(getattr(before, section)).model_fields)
    # None of them is ever equal to this.
    changed = getattr(after, section).model_copy(update=dict.fromkeys(keys, object()))
    notes = restart_required(before, after.model_copy(update={section: changed}))
    assert {note.partition(":")[0].partition(".")[2] for note in notes} == keys - {"drain_timeout"}


def test_removing_a_key_is_a_change_too() -> None:
    (said,) = restart_required(config(A, admin={"socket": "/run/x.sock"}), config(A))
    assert said == "admin.socket: unset takes effect at the next start; /run/x.sock stays until then"


def test_what_a_reload_can_change_needs_no_note() -> None:
    wanted = config("127.0.0.1:9002", process={"drain_timeout": 5}, log={"level": "debug"}, pool={"retries": 0})
    assert list(restart_required(config(A), wanted)) == []


def test_every_changed_key_is_named() -> None:
    wanted = config(A, process={"workers": 1, "max_pipes": 1}, admin={"socket": "/run/x.sock"})
    assert [note.partition(":")[0] for note in restart_required(config(A), wanted)] == [
        "process.workers",
        "process.max_pipes",
        "admin.socket",
    ]
