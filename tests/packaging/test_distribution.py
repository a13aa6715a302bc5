"""The source distribution is whole: a wheel can be built from it, and what that installs works."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.helpers.balancer import ROOT, child_environment

WHEEL = (sys.executable, "-m", "pip", "wheel", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--wheel-dir")


def run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**child_environment(), **env}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of what git knows."""
    pytest.importorskip("build", reason="source distributions are built by `build`: pip install '.[dev]'")
    if not (ROOT / ".git").exists():
        pytest.skip("what belongs to the distribution is read from git, and this is no git checkout")
    folder = tmp_path_factory.mktemp("sdist")
    tree = folder / "tree"
    tree.mkdir()
    # As a clean clone would have it: files that only the working tree holds must not make up for what is left out.
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    for name in filter(None, (file.decode() for file in files)):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    done = run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), cwd=tree)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def unpacked(distribution: Path) -> Path:
    with tarfile.open(distribution) as archive:
        archive.extractall(distribution.parent, filter="data")
    return distribution.with_name(distribution.name.removesuffix(".tar.gz"))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_wheel_from_the_source_distribution_balances(distribution: Path, unpacked: Path, tmp_path: Path) -> None:
    done = run(*WHEEL, str(tmp_path), str(distribution), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site"))
    done = run(*install, *map(str, tmp_path.glob("l4lb-*.whl")), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [*(tmp_path / "site").rglob("*.pyx"), *(tmp_path / "site").rglob("*.c")]

    program = "from l4lb import Balancer, __file__; print(__file__); Balancer({'listeners': {}, 'pools': {}})"
    done = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
    config = str(unpacked / "conf" / "minimal.yaml")
    done = run(sys.executable, "-m", "l4lb", "check", "-c", config, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_source_distribution_has_what_the_tests_need(unpacked: Path) -> None:
    for name in ("Makefile", "CHANGELOG.md", "LICENSE", "src_c/l4lb.h", "l4lb/engine/_native.pyx", "tests/c/Makefile"):
        assert (unpacked / name).is_file(), name
    for folder in ("conf", "docs", "tests/helpers", "bench", "examples"):
        assert any((unpacked / folder).iterdir()), folder


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_missing_compiler_is_named_at_the_end(distribution: Path, tmp_path: Path) -> None:
    done = run(*WHEEL, str(tmp_path), str(distribution), cwd=tmp_path, CC="/nonexistent/cc")
    assert done.returncode != 0
    assert "apt install gcc" in done.stdout + done.stderr
