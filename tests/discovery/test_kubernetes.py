"""EndpointSlices through everything that ends a list or a watch: no endpoint is lost, and no removed one stays."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from l4lb.config.sections.discover import KubernetesDiscovery as Settings
from l4lb.discovery import kubernetes as module
from l4lb.discovery import kubernetes_cluster
from l4lb.discovery.kubernetes import KubernetesSource
from l4lb.discovery.source import ANSWER_MAX, Readiness
from tests.discovery.recorder import failure, watched
from tests.helpers.kubernetes_api import KubernetesApi, endpoint
from tests.helpers.loops import eventually, run

pytest.importorskip("kubernetes_asyncio", reason="l4lb[kubernetes] is not installed")


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with KubernetesApi() as api:
        api.put("llama-1", endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b"))
        api.put("other", endpoint("10.0.0.3", "x"), service="other")
        yield api


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELIST_PAUSE", 0.01)
    monkeypatch.setattr(module, "SHORT_WATCH", 0.0)


def source(api: KubernetesApi, tmp_path: Path, **settings: Any) -> KubernetesSource:
    kubeconfig = str(api.kubeconfig(tmp_path / "kubeconfig"))
    return KubernetesSource(Settings.model_validate({"service": "llama", "kubeconfig": kubeconfig} | settings))


def test_changes_come_as_they_happen(api: KubernetesApi, tmp_path: Path) -> None:
    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await recorder.wait_names("a", "b")
            api.put("llama-1", endpoint("10.0.0.1", "a"))
            await recorder.wait_names("a")
            api.put("llama-2", endpoint("10.0.0.9", "c"))
            await recorder.wait_names("a", "c")
            api.put("other", endpoint("10.0.0.3", "y"), service="other")
            api.delete("llama-1")
            await recorder.wait_names("c")
            api.delete("llama-2")
            await recorder.wait_names()
        assert api.lists() == 1

    run(main())
    listed, watch = api.requests[0], api.requests[1]
    assert listed["labelSelector"] == watch["labelSelector"] == "kubernetes.io/service-name=llama"
    assert listed["limit"] == str(module.PAGE)
    assert "resourceVersion" not in listed
    assert watch["allowWatchBookmarks"] in ("true", "True", "1")
    assert 240 <= int(watch["timeoutSeconds"]) <= 300


def test_a_long_list_comes_in_pages(api: KubernetesApi, tmp_path: Path) -> None:
    for number in range(5):
        api.put(f"more-{number}", endpoint(f"10.0.1.{number}", f"m{number}"))
    api.page = 2

    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await recorder.wait_names("a", "b", "m0", "m1", "m2", "m3", "m4")
            assert len(recorder.answers) == 1

    run(main())


def test_a_list_that_is_forgotten_half_way_is_begun_again(api: KubernetesApi, tmp_path: Path) -> None:
    api.put("llama-2", endpoint("10.0.0.9", "c"))
    api.page = 1
    forgotten = iter([True])
    lister = api._list

    def forget_first(namespace: str, query: dict[str, str]) -> Any:
        if "continue" in query and next(forgotten, False):
            api._pages.clear()
            api._slices.pop(("ml", "llama-1"))
        return lister(namespace, query)

    api._list = forget_first  # type: ignore[method-assign]

    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await recorder.wait_names("c")
            assert len(recorder.answers) == 1

    run(main())
    assert api.lists() == 2


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["status", "event"])
def test_a_forgotten_version_lists_again_and_what_went_meanwhile_is_gone(
    api: KubernetesApi, tmp_path: Path, gone: Any
) -> None:
    api.gone = gone

    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await recorder.wait_names("a", "b")
            await eventually(lambda: api.watches == 1)
            for lists in (2, 3):
                # Deleted and forgotten while the watch is down: no event ever tells.
                api._call(lambda: (api._slices.pop(("ml", "llama-1"), None), None)[1])
                api.put("llama-3", endpoint("10.0.0.3", "c"), service="other")
                api._call(lambda: api._slices.__setitem__(("ml", "llama-4"), _moved(api)))
                api.forget()
                api.end_watches()
                # The old watch and the old names may both still be there: only the list tells that this round is over.
                await eventually(lambda lists=lists: api.lists() == lists and api.watches == 1)
                await recorder.wait_names("d")
            assert api.lists() == 3

    run(main())


def _moved(api: KubernetesApi) -> Any:
    item = dict(api._slices["ml", "llama-3"])
    labels = {"kubernetes.io/service-name": "llama"}
    item["metadata"] = item["metadata"] | {"name": "llama-4", "labels": labels}
    return item | {"endpoints": [endpoint("10.0.0.4", "d")]}


@pytest.mark.slow
def test_a_watch_that_ends_goes_on_from_where_it_was(api: KubernetesApi, tmp_path: Path) -> None:
    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            for number in range(3):
                await eventually(lambda: api.watches == 1)
                api.end_watches()
                await eventually(lambda: api.watches == 0)
                api.put("llama-2", endpoint("10.0.0.9", f"c{number}"))
                await recorder.wait_names("a", "b", f"c{number}")
            assert api.lists() == 1

    run(main())


@pytest.mark.parametrize("last", [b'{"type": "DELETED", "object": {"metadata": {"na', b" "])
def test_half_an_event_is_none(api: KubernetesApi, tmp_path: Path, last: bytes) -> None:
    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await recorder.wait_names("a", "b")
            await eventually(lambda: api.watches == 1)
            api.end_watches(last)
            await eventually(lambda: len(api.requests) == 3 and api.watches == 1)
            api.put("llama-2", endpoint("10.0.0.9", "c"))
            await recorder.wait_names("a", "b", "c")
            assert api.lists() == 1

    run(main())


def test_a_bookmark_moves_the_version_on(api: KubernetesApi, tmp_path: Path) -> None:
    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await recorder.wait_names("a", "b")
            await eventually(lambda: api.watches == 1)
            confirmed = recorder.confirmed
            api.bookmark(1_000_000)
            await eventually(lambda: recorder.confirmed > confirmed)
            # The server forgets what was before the bookmark; a client that received the bookmark need not list again.
            api._call(lambda: setattr(api, "_forgotten", api._version))
            api.end_watches()
            await eventually(lambda: len(api.requests) == 3 and api.watches == 1)
            api.put("llama-2", endpoint("10.0.0.9", "c"))
            await recorder.wait_names("a", "b", "c")
            assert api.lists() == 1

    run(main())


def test_versions_are_not_compared(api: KubernetesApi, tmp_path: Path) -> None:
    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await recorder.wait_names("a", "b")
            await eventually(lambda: api.watches == 1)
            for version in ("9999", "17"):
                api.send({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}})
            api.gone = "event"
            api.end_watches()
            await eventually(lambda: len(api.requests) > 3)
            assert api.requests[2]["resourceVersion"] == "17"

    run(main())


@pytest.mark.slow
def test_silence_begins_the_watch_anew(api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.05)

    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await eventually(lambda: len(api.requests) >= 4)
            assert recorder.error is None
            api.put("llama-2", endpoint("10.0.0.9", "c"))
            await recorder.wait_names("a", "b", "c")
            assert api.lists() == 1

    run(main())


def test_a_server_that_ends_every_watch_at_once_is_broken(
    api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHORT_WATCH", 5.0)

    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await eventually(lambda: api.watches == 1)
            api.end_watches()
            assert await recorder.wait_error() == "the server ends the watch at once"

    run(main())


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"type": "ERROR", "object": {"code": 500, "message": "etcd has no leader"}}, "etcd has no leader"),
        ({"type": "ERROR", "object": {}}, "no reason given"),
        ({"type": "SURPRISE", "object": {}}, "unknown type 'SURPRISE'"),
        ({"type": "ADDED", "object": {}}, "has no name"),
    ],
)
def test_any_other_event_is_a_failure(api: KubernetesApi, tmp_path: Path, event: Any, message: str) -> None:
    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await eventually(lambda: api.watches == 1)
            api.send(event)
            assert message in await recorder.wait_error()
            assert recorder.names == ["a", "b"]

    run(main())


def test_an_event_without_an_end_is_a_failure(api: KubernetesApi, tmp_path: Path) -> None:
    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await eventually(lambda: api.watches == 1)
            api.end_watches(b"x" * (ANSWER_MAX + 2))
            assert "larger than" in await recorder.wait_error()

    run(main())


def test_a_server_that_is_down_is_a_failure(api: KubernetesApi, tmp_path: Path) -> None:
    async def main() -> None:
        asked = source(api, tmp_path)
        async with watched(asked) as recorder:
            await eventually(lambda: api.watches == 1)
            api.broken = True
            api.end_watches()
            assert await recorder.wait_error() == "the apiserver is down"
            assert recorder.names == ["a", "b"]
        assert await failure(asked) == "the apiserver is down"

    run(main())


def test_a_port_that_is_not_there_is_a_failure(api: KubernetesApi, tmp_path: Path) -> None:
    async def main() -> None:
        assert "does not have the port" in await failure(source(api, tmp_path, port="grpc"))
        async with watched(source(api, tmp_path, port="http", namespace="elsewhere")) as recorder:
            await recorder.wait_names()

    run(main())


def test_conditions_become_readiness_and_zones_are_kept(api: KubernetesApi, tmp_path: Path) -> None:
    api.put(
        "llama-1",
        endpoint("10.0.0.1", "a", "eu-1", ready=True),
        endpoint("10.0.0.2", "b", ready=False, serving=True, terminating=True),
        endpoint("10.0.0.3", "c", ready=False),
    )

    async def main() -> None:
        async with watched(source(api, tmp_path)) as recorder:
            await recorder.wait_names("a", "b", "c")
            assert {one.name: (one.readiness, one.zone) for one in recorder.last} == {
                "a": (Readiness.READY, "eu-1"),
                "b": (Readiness.DRAINING, None),
                "c": (Readiness.NOT_READY, None),
            }

    run(main())


# ---- as a pod --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    """The API as a pod in the namespace `ml` sees it."""
    with KubernetesApi(tmp_path, token="one") as api:
        api.put("llama-1", endpoint("10.0.0.1", "a"))
        (tmp_path / "token").write_text("one")
        (tmp_path / "namespace").write_text("ml\n")
        host, _, port = api.origin.removeprefix("https://").rpartition(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        monkeypatch.setattr(kubernetes_cluster, "SERVICE_ACCOUNT", str(tmp_path))
        yield api


def test_a_pod_needs_no_more_than_the_service(pod: KubernetesApi) -> None:
    async def main() -> None:
        async with watched(KubernetesSource(Settings(service="llama"))) as recorder:
            await recorder.wait_names("a")

    run(main())


def test_a_token_that_was_rotated_is_read_again(
    pod: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_TIMEOUT", 0.2)

    async def main() -> None:
        async with watched(KubernetesSource(Settings(service="llama"))) as recorder:
            await recorder.wait_names("a")
            await eventually(lambda: pod.watches == 1)
            signed_in = asyncio_time()
            await eventually(lambda: asyncio_time() > signed_in + 0.2)
            pod.token = "two"
            (tmp_path / "token").write_text("two")
            pod.end_watches()
            pod.put("llama-1", endpoint("10.0.0.2", "b"))
            await recorder.wait_names("b")
            assert recorder.error is None
            # One that is not rotated in the file does not help.
            pod.token = "three"
            pod.end_watches()
            assert "the token is not accepted" in await recorder.wait_error()

    run(main())
    assert pod.unauthorized >= 2


def asyncio_time() -> float:
    import asyncio

    return asyncio.get_running_loop().time()


def test_outside_of_a_cluster_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    async def main() -> None:
        assert "the cluster cannot be reached: " in await failure(KubernetesSource(Settings(service="llama")))
        missing = Settings(service="llama", kubeconfig=str(tmp_path / "no"))
        assert "the cluster cannot be reached: " in await failure(KubernetesSource(missing))

    run(main())


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    importer = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("kubernetes_asyncio"):
            raise ImportError(name, name="kubernetes_asyncio")
        return importer(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)

    async def main() -> None:
        message = await failure(KubernetesSource(Settings(service="llama")))
        assert message == "it needs more packages (kubernetes_asyncio); install l4lb[kubernetes]"

    run(main())


def test_nothing_is_left_open(api: KubernetesApi, tmp_path: Path) -> None:
    async def main() -> None:
        async def round_trip() -> None:
            async with watched(source(api, tmp_path)) as recorder:
                await recorder.wait_names("a", "b")
            api.broken = True
            await failure(source(api, tmp_path))
            api.broken = False

        await round_trip()
        await eventually(lambda: api.watches == 0)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await round_trip()
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(main())
