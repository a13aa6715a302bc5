"""What is started in an upgrade: the program as it is installed now, by the name it was started by."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from l4lb.process.executable import again, command

RUN = ["run", "-c", "/etc/l4lb.yaml"]


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "current" / "bin" / "l4lb"
    (tmp_path / "v1" / "bin").mkdir(parents=True)
    (tmp_path / "current").symlink_to("v1")
    path.write_text("#!/opt/l4lb/bin/python\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_is_started_by_its_name_and_not_with_the_interpreter_of_today(program: str) -> None:
    argv = [program, "run", "-c", "x.yaml"]
    assert again(argv, ["/opt/v1/bin/python3", "-sP", *argv], "/opt/v1/bin/python3", program, RUN) == [program, *RUN]


def test_a_relative_name_counts_from_where_the_process_is(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(program).parents[1])
    argv = ["bin/l4lb", "run", "-c", "x.yaml"]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", *argv])
    # The kernel resolves symbolic links in the working directory.
    assert command("/etc/l4lb.yaml") == [str(Path(program).resolve()), *RUN]


def test_a_module_is_started_as_one() -> None:
    argv = ["/opt/l4lb/lib/l4lb/__main__.py", "run", "-c", "x.yaml"]
    original = ["python3", "-X", "dev", "-m", "l4lb", "run", "-c", "x.yaml"]
    wanted = ["/opt/l4lb/bin/python3", "-X", "dev", "-m", "l4lb", *RUN]
    assert again(argv, original, "/opt/l4lb/bin/python3", argv[0], RUN) == wanted


def test_a_file_that_is_not_executable_is_started_as_before(program: str) -> None:
    Path(program).chmod(0o644)
    argv = [program, "run"]
    assert again(argv, ["python3", *argv], "/usr/bin/python3", program, RUN) == ["/usr/bin/python3", program, *RUN]
