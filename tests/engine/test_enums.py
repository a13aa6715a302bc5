"""The numbers of `l4lb.engine.api` are those of `src_c/l4lb.h`: a pool that asks for one thing must not get another."""

from __future__ import annotations

import enum
import re
from pathlib import Path

import pytest

from l4lb.engine import api

HEADER = Path(__file__).resolve().parents[2] / "src_c" / "l4lb.h"

ENUMS: dict[type[enum.Enum], tuple[str, str]] = {
    api.SlotKind: ("l4lb_slot_kind", "L4LB_SLOT_"),
    api.Balance: ("l4lb_balance", "L4LB_"),
    api.ProxyMode: ("l4lb_proxy_mode", "L4LB_PROXY_"),
    api.SendProxy: ("l4lb_send_proxy", "L4LB_SEND_PROXY_"),
    api.PoolProtocol: ("l4lb_protocol", "L4LB_PROTOCOL_"),
    api.Resend: ("l4lb_resend", "L4LB_RESEND_"),
    api.HashKey: ("l4lb_hash_key", "L4LB_HASH_"),
    api.EventKind: ("l4lb_event_kind", "L4LB_EVENT_"),
    api.SessionState: ("l4lb_session_state", "L4LB_SESSION_"),
    api.Phase: ("l4lb_phase", "L4LB_PHASE_"),
    api.Path: ("l4lb_path", "L4LB_PATH_"),
}
"""The enum in C, and how its names begin."""


def numbers_in_c(name: str, prefix: str) -> dict[str, int]:
    match = re.search(
        rf"enum {name} {{(.*?)}};", re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL), re.DOTALL
    )
    assert match, name
    numbers: dict[str, int] = {}
    following = 0
    for entry in filter(None, map(str.strip, match[1].split(","))):
        if entry.startswith("L4LB_N_"):  # how many there are
            continue
        word, _, value = entry.partition("=")
        following = int(value) if value else following
        assert word.strip().startswith(prefix), word
        numbers[word.strip().removeprefix(prefix)] = following
        following += 1
    return numbers


@pytest.mark.parametrize("kind", ENUMS, ids=lambda kind: kind.__name__)
def test_numbers_are_those_of_the_data_plane(kind: type[enum.Enum]) -> None:
    assert {member.name: member.value for member in kind} == numbers_in_c(*ENUMS[kind])


def test_every_number_that_crosses_is_compared() -> None:
    numbered = {
        value
        for value in vars(api).values()
        if isinstance(value, type) and issubclass(value, enum.Enum) and issubclass(value, int)
    }
    assert numbered == ENUMS.keys()
