"""The stand-in for the Kubernetes API is one: the official client and kubectl read it as they read a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.kubernetes_api import FIRST_VERSION, KubernetesApi, endpoint
from tests.helpers.waiting import DEADLINE, wait_until

SELECTOR = "kubernetes.io/service-name=llama"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with KubernetesApi(tmp_path, token="secret") as api:
        api.put("llama-1", endpoint("10.0.0.1", "pod-1", "a", ready=True, serving=True, terminating=False))
        api.put("llama-2", endpoint("10.0.0.2", "pod-2", ready=None))
        api.put("other", endpoint("10.0.0.3"), service="other")
        api.put("llama-1", endpoint("10.0.0.4"), namespace="elsewhere")
        yield api


@pytest.fixture
def official(api: KubernetesApi, tmp_path: Path) -> Iterator[Any]:
    client = pytest.importorskip("kubernetes.client", reason="the official client for Python is not installed")
    from kubernetes import config

    configuration = client.Configuration()
    config.load_kube_config(str(api.kubeconfig(tmp_path / "config")), client_configuration=configuration)
    with client.ApiClient(configuration) as made:
        yield client.DiscoveryV1Api(made)


def test_the_official_client_lists_in_pages(api: KubernetesApi, official: Any) -> None:
    api.page = 1
    names, following = [], None
    while True:
        page = official.list_namespaced_endpoint_slice("ml", label_selector=SELECTOR, limit=500, _continue=following)
        names += [
            (item.metadata.name, item.endpoints[0].addresses, item.endpoints[0].conditions.ready) for item in page.items
        ]
        following = page.metadata._continue
        if not following:
            break
    assert names == [("llama-1", ["10.0.0.1"], True), ("llama-2", ["10.0.0.2"], None)]
    assert int(page.metadata.resource_version) == FIRST_VERSION + 4


@pytest.mark.slow
def test_the_official_client_watches(api: KubernetesApi, official: Any) -> None:
    from kubernetes import watch

    listed = official.list_namespaced_endpoint_slice("ml", label_selector=SELECTOR)
    api.put("llama-1", endpoint("10.0.0.9"))
    api.put("other", endpoint("10.0.0.9"), service="other")
    api.delete("llama-2")
    stream = watch.Watch().stream(
        official.list_namespaced_endpoint_slice,
        "ml",
        label_selector=SELECTOR,
        resource_version=listed.metadata.resource_version,
        timeout_seconds=1,
    )
    events = [(event["type"], event["object"].metadata.name) for event in stream]
    assert events == [("MODIFIED", "llama-1"), ("DELETED", "llama-2")]


@pytest.mark.parametrize("gone", ["status", "event"])
def test_the_official_client_hears_that_a_version_is_forgotten(api: KubernetesApi, official: Any, gone: Any) -> None:
    from kubernetes import client, watch

    api.gone = gone
    version = official.list_namespaced_endpoint_slice("ml").metadata.resource_version
    api.forget()
    with pytest.raises(client.ApiException) as caught:
        list(
            watch.Watch().stream(
                official.list_namespaced_endpoint_slice, "ml", resource_version=version, timeout_seconds=5
            )
        )
    assert caught.value.status == 410


def test_the_official_client_is_turned_away_without_the_token(api: KubernetesApi, official: Any) -> None:
    from kubernetes import client

    api.token = "another"
    with pytest.raises(client.ApiException) as caught:
        official.list_namespaced_endpoint_slice("ml")
    assert caught.value.status == 401


@pytest.fixture
def kubectl(api: KubernetesApi, tmp_path: Path) -> list[str]:
    path = shutil.which("kubectl")
    if path is None:
        pytest.skip("kubectl is not installed")
    config = api.kubeconfig(tmp_path / "config")
    return [path, "--kubeconfig", str(config), "--cache-dir", str(tmp_path / "cache"), "--request-timeout=20s"]


def test_kubectl_lists(kubectl: list[str]) -> None:
    command = [*kubectl, "get", "endpointslices", "-l", SELECTOR, "-o", "json"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)["items"]
    assert [item["metadata"]["name"] for item in items] == ["llama-1", "llama-2"]
    assert items[0]["endpoints"][0]["targetRef"]["name"] == "pod-1"


def test_kubectl_watches(api: KubernetesApi, kubectl: list[str], tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        command = [*kubectl, "get", "endpointslices", "-l", SELECTOR, "--watch", "-o", "name"]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: api.watches == 1, deadline=4 * DEADLINE, what=output.read_text)
        api.delete("llama-2")
        wait_until(lambda: output.read_text().count("llama-2") == 2, what=output.read_text)
    finally:
        process.kill()
        process.wait()
    assert [line.rpartition("/")[2] for line in output.read_text().splitlines()] == ["llama-1", "llama-2", "llama-2"]
