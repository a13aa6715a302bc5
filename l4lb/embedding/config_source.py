"""What an embedded balancer is made from, and where it differs from a process of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from l4lb.config import Config, load_config, read_config
from l4lb.errors import StartError

ConfigSource: TypeAlias = Mapping[str, Any] | str | os.PathLike[str] | Config
"""A mapping of the same shape as the YAML file, the path of a file, or a configuration that was read before."""

DEFAULTS: Mapping[str, Any] = {"workers": 1, "drain_timeout": 0.0}
"""Of `process`, where the configuration is silent. The program around the balancer needs CPUs too, and rarely wants to
wait at the end of a block."""


def read(source: ConfigSource) -> Config:
    """The configuration as it is run here. ConfigError if it is wrong, StartError if it asks for what cannot be."""
    if isinstance(source, Config):
        config = source
    elif isinstance(source, Mapping):
        config = read_config(source)
    else:
        config = load_config(source)
    process = config.process
    if process.user is not None:
        raise StartError(
            "process.user: an embedded balancer cannot become another user, as the program around it would too; "
            "remove the key"
        )
    silent = {key: value for key, value in DEFAULTS.items() if key not in process.model_fields_set}
    return config.model_copy(update={"process": process.model_copy(update=silent)})


def name(source: ConfigSource) -> str:
    """What the status shows as the file."""
    return "(no file)" if isinstance(source, Mapping | Config) else os.fspath(source)
