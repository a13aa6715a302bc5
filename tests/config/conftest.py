from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from l4lb.config import Config, load_config
from l4lb.errors import ConfigError

Write = Callable[..., str]
Load = Callable[..., Config]
Problems = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of the test's directory; its path."""

    def write(text: str, name: str = "l4lb.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
        return str(path)

    return write


@pytest.fixture
def load(write: Write) -> Load:
    def load(text: str, **environ: str) -> Config:
        return load_config(write(text), environ)

    return load


@pytest.fixture
def problems(write: Write, tmp_path: Path) -> Problems:
    """Every problem of a file, as it is printed, without the directory."""

    def problems(text: str, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_config(write(text), environ)
        return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return problems
