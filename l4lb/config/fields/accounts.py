"""Credentials of checks for databases and mail servers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

from l4lb.base.text import quoted
from l4lb.config.fields.shape import Written, is_number

ROLES = ("any", "primary", "master", "replica")
HELLO_PATTERN = r"^(HELO|EHLO|LHLO) [!-~]{1,255}$"


def _role(value: Any) -> Any:
    if value not in ROLES:
        raise ValueError(f"{quoted(value)} is not a role; write primary (or master), replica or any")
    return "primary" if value == "master" else value


Role = Annotated[
    Literal["any", "primary", "replica"],
    BeforeValidator(_role),
    WithJsonSchema({"enum": list(ROLES)}),
    Written("`any`, `primary` or `master`, `replica`"),
]
"""The role of a database server; `master` is a synonym of `primary`."""


def _text(pattern: str, expected: str) -> BeforeValidator:
    """Text, or a number that stands for its digits. The message does not repeat the value: it may be a password."""
    whole = re.compile(pattern)

    def read(value: Any) -> Any:
        text = str(value) if is_number(value) else value
        if isinstance(text, str) and not whole.fullmatch(text):
            raise ValueError(expected)
        return text

    return BeforeValidator(read)


Account = Annotated[
    str,
    StringConstraints(strict=True),
    _text(r"[^\x00-\x1f\x7f]{1,63}", "1 to 63 characters are expected, none of them a control character"),
    WithJsonSchema({"type": ["string", "integer"]}),
    Written("a name"),
]
"""The name of a user or a database."""

Secret = Annotated[
    str,
    StringConstraints(strict=True),
    _text(r"[^\x00-\x1f\x7f]{0,1024}", "up to 1024 characters are expected, none of them a control character"),
    WithJsonSchema({"type": ["string", "integer"]}),
    Written("text"),
]
"""A password."""

Hello = Annotated[
    str,
    StringConstraints(strict=True),
    _text(HELLO_PATTERN, "HELO, EHLO or LHLO and a name are expected, such as EHLO lb.example"),
    WithJsonSchema({"type": "string", "pattern": HELLO_PATTERN}),
    Written("`HELO`, `EHLO` or `LHLO` and a name"),
]
