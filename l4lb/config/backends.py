"""A single backend outside of a file: read by the rules of the file, and written as a file has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from l4lb.config import model
from l4lb.config.messages import sentence
from l4lb.config.rules import Conflict, find_conflicts
from l4lb.config.tree import path_part
from l4lb.errors import ConfigError, Problem

PLACE = ("pools", "", "backends", 0)
"""The path of a list of backends in a file."""


PROBLEMS_MAX = 8
"""Problems that are reported. A client may not know the keys at all, and each sentence takes time."""


def read_backend(settings: Mapping[str, Any]) -> model.Backend:
    """The backend with these settings. ConfigError has the first problems, with paths relative to the backend."""
    try:
        return model.Backend.model_validate(dict(settings))
    except ValidationError as error:
        raise ConfigError([_problem(line) for line in error.errors(include_url=False)[:PROBLEMS_MAX]]) from None


def _problem(line: ErrorDetails) -> Problem:
    path = "".join(map(path_part, line["loc"])).removeprefix(".")
    placed = cast(ErrorDetails, {**line, "loc": (*PLACE, *line["loc"])})
    return Problem("", 0, 0, path, sentence(placed))


def written(backend: model.Backend) -> dict[str, Any]:
    """The settings of a backend as a file has them. `read_backend` makes the same backend of them."""
    settings = backend.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"name": backend.name, "address": str(backend.address), **_without(settings, "name", "address")}


def _without(settings: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def backend_problems(config: model.Config, name: str, backends: tuple[model.Backend, ...]) -> list[str]:
    """What would be wrong with the configuration if a pool had these backends, in sentences."""
    pools: dict[str, model.Pool | None] = dict.fromkeys(config.pools)
    pools[name] = config.pools[name].model_copy(update={"backends": backends})
    # Networks and the other pools are unchanged and valid; checking them would take as long as reading the file.
    data = {"listeners": config.listeners, "pools": pools, "zones": dict.fromkeys(config.zones, ())}
    return [_said(conflict) for conflict in find_conflicts(data)]


def _said(conflict: Conflict) -> str:
    """The problem, behind its key if it is one of a backend."""
    key = conflict.loc[-1]
    return (
        f"{key}: {conflict.message}" if "backends" in conflict.loc[:-1] and isinstance(key, str) else conflict.message
    )
