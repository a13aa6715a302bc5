"""Fixtures for tests against the real balancer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import pytest
from hypothesis import settings

from tests.helpers.peers import Backend
from tests.helpers.scene import BackendLike, Scene, Stage

# Fewer examples for the inner loop: `--hypothesis-profile=dev`. Without it, hypothesis has its own default.
settings.register_profile("dev", max_examples=15)

_FAILED = pytest.StashKey[bool]()


class MakeScene(Protocol):
    def __call__(
        self,
        *backends: BackendLike,
        listener: Mapping[str, Any] | None = None,
        pool: Mapping[str, Any] | None = None,
        process: Mapping[str, Any] | None = None,
        log: Mapping[str, Any] | None = None,
        sections: Mapping[str, Any] | None = None,
    ) -> Scene: ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:  # type: ignore[attr-defined]
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def balance(stage: Stage, request: pytest.FixtureRequest) -> Iterator[MakeScene]:
    """Make a scene; at the end it must have left nothing behind."""
    scenes: list[Scene] = []

    def make(
        *backends: BackendLike,
        listener: Mapping[str, Any] | None = None,
        pool: Mapping[str, Any] | None = None,
        process: Mapping[str, Any] | None = None,
        log: Mapping[str, Any] | None = None,
        sections: Mapping[str, Any] | None = None,
    ) -> Scene:
        assert not scenes, "one scene a test: the next one would reload the first one away"
        given = {"process": process, "log": log}
        settings = {section: dict(values) for section, values in given.items() if values}
        lb = stage.balancer(settings)
        scenes.append(Scene(lb, settings, dict(listener or {}), dict(pool or {}), backends, dict(sections or {})))
        return scenes[0]

    yield make
    for scene in scenes:
        if request.node.stash.get(_FAILED, False):
            scene.abandon()
            stage.discard(scene.lb)
            continue
        try:
            scene.close()
        except BaseException:
            stage.discard(scene.lb)
            raise


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend whose connections the test accepts itself."""
    with Backend() as backend:
        yield backend


@pytest.fixture
def backends() -> Iterator[Callable[[int], list[Backend]]]:
    """Make several backends."""
    made: list[Backend] = []

    def make(number: int) -> list[Backend]:
        new = [Backend() for _ in range(number)]
        made.extend(new)
        return new

    yield make
    for backend in made:
        backend.close()
