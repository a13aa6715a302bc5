from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from l4lb.cli import main
from tests.admin.fake_control import FakeControl, admin_in_thread

Run = Callable[..., Result]


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def socket_path(control: FakeControl) -> Iterator[str]:
    """The admin socket of a real admin server in front of `control`."""
    with admin_in_thread(control) as path:
        yield path


@pytest.fixture
def l4lb(socket_path: str) -> Run:
    """Run a command against the admin server, which it finds through the environment."""

    def run(*arguments: str, columns: int | None = None) -> Result:
        environ = {"L4LB_SOCKET": socket_path, "COLUMNS": None if columns is None else str(columns)}
        return CliRunner(env=environ).invoke(main, arguments)

    return run
