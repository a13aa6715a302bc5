"""Environment variables in values: `${VAR}` and `${VAR:-default}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from l4lb.base.text import quoted

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_BODY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII | re.DOTALL)


def expand(text: str, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text with its references replaced, and a sentence for each invalid reference.

    As in a shell, the default also replaces a variable that is set but empty. `$${` stands for `${`. The value of a
    variable is not expanded again.
    """
    complaints: list[str] = []

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        body = _BODY.fullmatch(found[1])
        if body is None or not found[2]:
            complaints.append(
                f"{quoted(found[0])} is not a reference; write ${{NAME}} or ${{NAME:-default}}, or $${{ for ${{"
            )
            return ""
        name, default = body.groups()
        value = environ.get(name)
        if value is None and default is None:
            complaints.append(f"the environment variable {name} is not set; set it or write ${{{name}:-default}}")
        elif not _is_text(value or ""):
            complaints.append(f"the environment variable {name} holds bytes that are not UTF-8 text")
        elif default is not None:
            return value or default
        return value or ""

    return _REFERENCE.sub(replace, text), complaints


def escaped(value: Any) -> Any:
    """The data with its text escaped, so that `expand` does not change it."""
    match value:
        case str():
            return value.replace("${", "$${")
        case dict():
            return {key: escaped(item) for key, item in value.items()}
        case list():
            return [escaped(item) for item in value]
        case _:
            return value


def _is_text(value: str) -> bool:
    """Whether the variable is valid text: bytes that are not UTF-8 appear as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
