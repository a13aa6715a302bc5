"""What every section of the configuration is: frozen, closed to unknown keys, described by its docstrings."""

from __future__ import annotations

from pydantic import ConfigDict

SECTION = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
