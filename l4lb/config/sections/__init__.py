"""The sections of the configuration, a module for each. What is optional there says what its absence means."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, closed to unknown keys, described by its docstrings."""

    # Each use of a pattern would be compiled anew by the other engine, which takes 6 MiB in all.
    model_config = ConfigDict(frozen=True, extra="forbid", regex_engine="python-re", use_attribute_docstrings=True)
