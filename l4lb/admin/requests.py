"""What the admin API accepts as a request body."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from l4lb.base.limits import WEIGHT_MAX


class BackendChange(BaseModel):
    """The body of a PATCH of a backend: state, weight, and settings of the file."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    state: Literal["ready", "drain", "maint"] | None = None
    weight: Annotated[int, Field(ge=0, le=WEIGHT_MAX)] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the file that it has."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _changes_something(self) -> BackendChange:
        if self.state is None and self.weight is None and not self.settings:
            raise ValueError('give "state", "weight", "address" or other settings of a backend')
        return self


def validation_sentence(error: ValidationError) -> str:
    """Every mistake in one sentence."""
    parts = []
    for item in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {message}" if where else message)
    return f"invalid request body: {'; '.join(parts)}"
