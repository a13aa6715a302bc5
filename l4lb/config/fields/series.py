"""Names of metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field

from l4lb.base.text import quoted
from l4lb.config.fields.shape import Written, list_schema, one_or_many

LABELS_MAX = 256
QUOTED_MAX = 60

NAME_PATTERN = r"[A-Za-z_:][A-Za-z0-9_:]*"
LABEL_PATTERN = r'[A-Za-z_][A-Za-z0-9_]*\s*=\s*"([^"\\]|\\.)*"'

# All of these match possessively, without backtracking: a line costs no more than its length.
_TEXT = r'(?:[^"\\\n]|\\.)*+'
LABELS = rf'\{{(?:[^"}}\n]|"{_TEXT}")*+\}}'
_LABEL = re.compile(rf'[\s,]*+([A-Za-z_][A-Za-z0-9_]*+|"{_TEXT}")\s*+=\s*+"({_TEXT})"')
_LABELS_END = re.compile(r"[\s,]*+\}")
_SERIES = re.compile(rf"({NAME_PATTERN})\s*({LABELS})?\s*(%)?")


@dataclass(frozen=True, slots=True)
class Series:
    """A metric, perhaps with certain values of labels. With `percent` it ranges from 0 to 100."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `name`, `name{label="value"}` or either followed by ` %`. ValueError says what is expected."""
        found = _SERIES.fullmatch(text.strip())
        labels = None if found is None else read_labels(found[2])
        if found is None or labels is None:
            shown = ascii(text[:QUOTED_MAX])[1:-1]
            raise ValueError(
                f"'{shown}' is not a series; write a metric name, such as name, name{{label=\"value\"}} or name %"
            )
        return cls(found[1], tuple(labels.items()), found[3] is not None)

    def __str__(self) -> str:
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels)
        return f"{self.name}{f'{{{labels}}}' if labels else ''}{' %' if self.percent else ''}"


def read_labels(text: str | None) -> dict[str, str] | None:
    """The labels between braces; None if they are invalid or too many."""
    found: dict[str, str] = {}
    at = 1
    while text is not None and (label := _LABEL.match(text, at)) is not None:
        at = label.end()
        found[label[1].strip('"')] = label[2]
        if len(found) > LABELS_MAX:
            return None
    return found if text is None or _LABELS_END.match(text, at) else None


def _series(value: Any) -> Series:
    if isinstance(value, Series):
        return value
    if not isinstance(value, str):
        raise ValueError(f"a metric name is expected, not {quoted(value)}")
    return Series.parse(value)


_LABELS_PATTERN = rf"\{{\s*({LABEL_PATTERN}(\s*,\s*{LABEL_PATTERN})*\s*,?)?\s*\}}"
SERIES_PATTERN = rf"^{NAME_PATTERN}\s*({_LABELS_PATTERN})?\s*%?$"

Chain = Annotated[
    tuple[Annotated[Series, BeforeValidator(_series)], ...],
    Field(max_length=64),
    BeforeValidator(one_or_many),
    list_schema({"type": "string", "pattern": SERIES_PATTERN}, 64),
    Written("metrics"),
]
"""The possible names of a metric; the first one present counts."""
