"""HAProxy's agent-check protocol: one line of words, each of which changes something. Pure.

Words may come in any order and case, separated by spaces, tabs or commas; text after `#` is a remark. Unknown words are
ignored, and what a line does not mention stays as it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from l4lb.base.limits import CONNECTIONS_MAX, WEIGHT_MAX
from l4lb.status import AdminState

LINE_MAX = 1024
"""Maximum bytes of a reply."""

REMARK_MAX = 200
PERCENT_MAX = 100 * WEIGHT_MAX

_SEPARATORS = re.compile(r"[ \t,]+")
_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
_STATES = {"ready": AdminState.READY, "drain": AdminState.DRAIN, "maint": AdminState.MAINT}
_DOWN = {"up": False, "down": True, "fail": True, "failed": True, "stopped": True}


@dataclass(frozen=True, slots=True)
class AgentWeight:
    """A percentage of the configured weight, or an absolute weight that replaces it."""

    value: int
    relative: bool = True

    def of(self, weight: int) -> float:
        """The weight that results from the configured `weight`."""
        return min(weight * self.value / 100 if self.relative else float(self.value), float(WEIGHT_MAX))


@dataclass(frozen=True, slots=True)
class AgentReport:
    """Everything that an agent has reported so far; None for what it never mentioned."""

    state: AdminState = AdminState.READY
    down: bool = False
    weight: AgentWeight | None = None
    max_connections: int | None = None
    remark: str = ""

    def with_line(self, line: str) -> AgentReport:
        """The report after one more line."""
        words, _, remark = line.partition("#")
        verdict = self
        for word in _SEPARATORS.split(words.strip()):
            verdict = verdict._heard_word(word.lower())
        remark = "".join(character for character in remark.strip() if character.isprintable())
        return replace(verdict, remark=remark[:REMARK_MAX])

    def cleared(self) -> AgentReport:
        """The report without anything that keeps the backend out of service."""
        return replace(self, state=AdminState.READY, down=False, remark="")

    def _heard_word(self, word: str) -> AgentReport:
        if word in _STATES:
            return replace(self, state=_STATES[word])
        if word in _DOWN:
            return replace(self, down=_DOWN[word])
        if word.endswith("%"):
            value = _number(word[:-1].removeprefix("weight:"), PERCENT_MAX)
            return self if value is None else replace(self, weight=AgentWeight(value))
        if word.startswith("weight:"):
            value = _number(word.removeprefix("weight:"), WEIGHT_MAX)
            return self if value is None else replace(self, weight=AgentWeight(value, relative=False))
        if word.startswith("maxconn:"):
            value = _number(word.removeprefix("maxconn:"), CONNECTIONS_MAX)
            return self if value is None else replace(self, max_connections=value)
        return self


NO_REPORT = AgentReport()


def _number(text: str, most: int) -> int | None:
    return min(int(text), most) if _DIGITS.fullmatch(text) else None


def format_line(percent: int | None, *, state: AdminState | None = None, remark: str = "") -> bytes:
    """The line that an agent sends: up, a state, a weight in percent if known, and a remark."""
    words = ["up", *([] if state is None else [state.value]), *([] if percent is None else [f"{percent}%"])]
    return " ".join([*words, *([f"#{remark}"] if remark else [])]).encode()[: LINE_MAX - 1] + b"\n"
