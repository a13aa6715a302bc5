"""What a source reports, for a test to look at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from l4lb.discovery.source import Answer, DiscoveryError, Endpoint, Source
from tests.helpers.loops import eventually


class Recorder:
    """Satisfies `Report`."""

    def __init__(self) -> None:
        self.answers: list[list[Endpoint]] = []
        self.unusable: list[dict[str, str]] = []
        self.confirmed = 0
        self.error: Exception | None = None

    async def found(self, answer: Answer | Sequence[Endpoint]) -> None:
        answer = answer if isinstance(answer, Answer) else Answer(list(answer))
        self.answers.append(answer.endpoints)
        self.unusable.append(answer.unusable)

    def unchanged(self) -> None:
        self.confirmed += 1

    def failed(self, message: str) -> None:
        self.error = DiscoveryError(message)

    @property
    def names(self) -> list[str] | None:
        """Those of the last answer; None before the first."""
        return sorted(endpoint.name for endpoint in self.answers[-1]) if self.answers else None

    @property
    def last(self) -> list[Endpoint]:
        return self.answers[-1]

    async def wait_names(self, *names: str) -> None:
        def there() -> bool:
            assert self.error is None, self.error
            return self.names == sorted(names)

        await eventually(there)

    async def wait_error(self) -> str:
        await eventually(lambda: self.error is not None)
        return str(self.error)


@contextlib.asynccontextmanager
async def watched(source: Source) -> AsyncIterator[Recorder]:
    """Watch `source` until it breaks or the block ends."""
    recorder = Recorder()

    async def watch() -> None:
        try:
            await source.watch(recorder)
        except Exception as error:
            recorder.error = error

    task = asyncio.ensure_future(watch())
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def failure(source: Source) -> str:
    """Why watching `source` fails."""
    async with watched(source) as recorder:
        return await recorder.wait_error()
