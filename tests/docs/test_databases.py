"""The page about databases: its settings load, and the files that it names say what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from l4lb.config import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/guides/databases.md").read_text()
(BLOCK,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_its_settings_load(tmp_path: Path) -> None:
    path = tmp_path / "l4lb.yaml"
    path.write_text(f'listeners: {{database: {{bind: "127.0.0.1:5432", pool: primary}}}}\n{BLOCK}')
    assert load_config(path, {}).pools["primary"].failback is None


@pytest.mark.parametrize(("file", "pool"), [("redis", "redis"), ("postgres", "primary")])
def test_the_files_keep_clients_with_the_primary(file: str, pool: str) -> None:
    primary = load_config(ROOT / f"conf/{file}.yaml", {}).pools[pool]
    assert (primary.on_down, primary.failback, primary.spill) == ("close", None, "off")
    assert len({backend.tier for backend in primary.backends}) == len(primary.backends)
