"""The page about Python programs, followed word by word: its programs print what it says."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import l4lb
from l4lb.engine import WORKER_STATS
from tests.embedding.build import spotless, warm_up
from tests.helpers.balancer import ROOT, child_environment
from tests.helpers.peers import Peer, Served, spelled

PAGE = (ROOT / "docs/guides/embedding.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"


def website(peer: Peer) -> None:
    """As much of one as the page needs."""
    if peer.read_first():
        peer.send(ANSWER)
        peer.finish()
        peer.drain()


def masked(text: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)


def test_every_program_prints_what_the_page_says() -> None:
    names: dict[str, object] = {}
    followed = 0
    warm_up()
    with Served(website) as one, Served(website) as two, spotless():
        for (kind, text), (next_kind, printed) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
            if kind != "python" or "import pytest" in text:
                continue
            program = text.replace("127.0.0.1:8081", spelled(one.address)).replace(
                "127.0.0.1:8082", spelled(two.address)
            )
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(program, "docs/guides/embedding.md", "exec"), names)
            assert next_kind == ""
            assert masked(output.getvalue()) == masked(printed)
            followed += 1
    assert followed == 7


@pytest.mark.slow
def test_the_fixture_works(tmp_path: Path) -> None:
    (recipe,) = (text for kind, text in BLOCKS if kind == "python" and "import pytest" in text)
    (tmp_path / "test_model.py").write_text(recipe)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env=child_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_every_method_is_there_and_coroutines_have_a_star() -> None:
    table = PAGE[PAGE.index("| `address(listener)`") : PAGE.index("Those with a star")]
    named = dict(re.findall(r"`(\w+)\([^`]*\)`( \*)?", table))
    methods = {name for name in dir(l4lb.Balancer) if not name.startswith("_")}
    assert named.keys() == methods == {name for name in dir(l4lb.AsyncBalancer) if not name.startswith("_")}
    for name, star in named.items():
        coroutine = getattr(l4lb.AsyncBalancer, name).__code__.co_flags & 0x80
        assert bool(star) is bool(coroutine), name
        assert getattr(l4lb.Balancer, name).__doc__ == getattr(l4lb.AsyncBalancer, name).__doc__ or name in DIFFERENT


DIFFERENT = {"start", "close", "drained", "add"}
"""Their end, and how they are called, differ."""


def test_every_name_exists() -> None:
    for name in re.findall(r"l4lb\.([A-Z]\w+)", PAGE):
        assert name in l4lb.__all__
    assert "events_dropped_total" in {stat.name for stat in WORKER_STATS}
