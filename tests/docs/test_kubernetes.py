"""conf/kubernetes: valid for the API server and kubectl, and consistent with the configuration inside."""

from __future__ import annotations

import copy
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from l4lb.admin import views
from l4lb.config import Config, load_config
from tests.admin.fake_control import pool_status
from tests.helpers.promql import check_query

FOLDER = Path(__file__).resolve().parents[2] / "conf/kubernetes"
OLDEST = "1.30"
MODELS = {
    "ScaledObject": "cloudcoil.models.keda.v1alpha1",
    "PodMonitor": "cloudcoil.models.prometheus_operator.v1",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1",
}
"""Where the kinds of others are described. Loading that takes seconds, so it is left to the tests that need it."""


def documents() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield pytest.param(document, id=f"{path.name}-{document['kind']}-{document['metadata']['name']}")


def find(kind: str, name: str, file: str) -> Any:
    for document in yaml.safe_load_all((FOLDER / file).read_text()):
        if (document["kind"], document["metadata"]["name"]) == (kind, name):
            return document
    raise AssertionError(f"{file} has no {kind} {name}")


def validate(document: Any) -> None:
    if document["kind"] not in MODELS:
        for version in (OLDEST, kubernetes_validate.latest_version()):
            kubernetes_validate.validate(document, version, strict=True)
    else:
        model = getattr(importlib.import_module(MODELS[document["kind"]]), document["kind"])
        # What the model does not know is not there any more afterwards.
        read = model.model_validate(document)
        assert read.model_dump(by_alias=True, exclude_unset=True, mode="json") == document


@pytest.mark.slow
@pytest.mark.parametrize("document", [*documents()])
def test_every_document_is_what_its_kind_has_to_be(document: Any) -> None:
    validate(document)
    broken = copy.deepcopy(document)
    if "spec" in broken:
        broken["spec"]["replica"] = 1
        with pytest.raises((AssertionError, ValueError, kubernetes_validate.ValidationError)):
            validate(broken)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "l4lb.yaml"
    path.write_text(find("ConfigMap", "l4lb", "config.yaml")["data"]["l4lb.yaml"])
    return load_config(path, {"WORKERS": "2"})


@pytest.fixture
def pod() -> Any:
    return find("Deployment", "l4lb", "deployment.yaml")["spec"]["template"]["spec"]


@pytest.mark.slow
def test_the_configuration_passes_the_check(tmp_path: Path) -> None:
    path = tmp_path / "l4lb.yaml"
    path.write_text(find("ConfigMap", "l4lb", "config.yaml")["data"]["l4lb.yaml"])
    command = [sys.executable, "-m", "l4lb", "check", "-c", str(path)]
    done = subprocess.run(command, env={"WORKERS": "2"}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_deployment_gives_the_configuration_what_it_needs(config: Config, pod: Any) -> None:
    (container,) = pod["containers"]
    assert [variable["name"] for variable in container["env"]] == ["WORKERS"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config.admin.listen is not None
    assert ports == {"llama": config.listeners["llama"].bind[0].port, "admin": config.admin.listen.port}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert config.admin.socket is not None
    assert mounts == {str(Path(config.admin.socket).parent), "/etc/l4lb"}
    probes = [container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")]
    assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
    assert {probe["port"] for probe in probes} == {"admin"}


def test_a_pod_has_the_time_that_draining_takes(config: Config, pod: Any) -> None:
    _, seconds = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert config.process.drain_timeout is not None
    assert pod["terminationGracePeriodSeconds"] > int(seconds) + config.process.drain_timeout


def test_services_and_their_like_lead_to_the_pods(pod: Any) -> None:
    deployment = find("Deployment", "l4lb", "deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    names = {port["name"] for port in pod["containers"][0]["ports"]}
    for kind, name in (("Service", "l4lb"), ("Service", "l4lb-admin")):
        spec = find(kind, name, "deployment.yaml")["spec"]
        assert spec["selector"] == labels
        assert {port["targetPort"] for port in spec["ports"]} <= names
    for kind, name, key in (("PodDisruptionBudget", "l4lb", "selector"), ("NetworkPolicy", "l4lb", "podSelector")):
        assert find(kind, name, "deployment.yaml")["spec"][key]["matchLabels"] == labels
    monitor = find("PodMonitor", "l4lb", "monitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"] == labels
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= names
    policy = find("NetworkPolicy", "l4lb", "deployment.yaml")["spec"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == names


def test_the_account_may_do_what_discovery_does_and_nothing_else(pod: Any) -> None:
    role, binding = find("Role", "l4lb", "rbac.yaml"), find("RoleBinding", "l4lb", "rbac.yaml")
    assert role["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [subject["name"] for subject in binding["subjects"]] == [pod["serviceAccountName"]]


def test_keda_asks_for_a_number_that_is_there(config: Config) -> None:
    scaled = find("ScaledObject", "llama", "keda.yaml")["spec"]
    (trigger,) = scaled["triggers"]
    url = urlsplit(trigger["metadata"]["url"])
    assert url.hostname is not None
    service = find("Service", url.hostname.split(".")[0], "deployment.yaml")
    assert url.port == service["spec"]["ports"][0]["port"]
    path, _, pool = url.path.rpartition("/")
    assert path == "/api/v1/autoscale"
    value: Any = views.autoscale_view(pool, pool_status({}, queued=7))
    for part in trigger["metadata"]["valueLocation"].split("."):
        value = value[part]
    assert value == 7
    settings = config.pools[pool]
    assert settings.scale_to_zero
    assert scaled["minReplicaCount"] == 0
    assert settings.discover is not None
    assert settings.discover.max_busy == 2 * int(trigger["metadata"]["targetValue"])
    assert settings.queue is not None
    assert scaled["cooldownPeriod"] > settings.queue.timeout
    assert all(isinstance(item, str) for item in trigger["metadata"].values())


def test_queries_and_alerts_ask_for_what_there_is() -> None:
    (trigger,) = find("ScaledObject", "llama", "keda-prometheus.yaml")["spec"]["triggers"]
    assert check_query(trigger["metadata"]["query"]) == {"l4lb_backend_busy", "l4lb_pool_queued"}
    (group,) = find("PrometheusRule", "l4lb-scaling", "monitor.yaml")["spec"]["groups"]
    for rule in group["rules"]:
        assert check_query(rule["expr"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


def test_the_three_ways_to_scale_want_the_same() -> None:
    by_l4lb, by_prometheus = (
        find("ScaledObject", "llama", name)["spec"] for name in ("keda.yaml", "keda-prometheus.yaml")
    )
    for key in ("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod"):
        assert by_l4lb[key] == by_prometheus[key]
    target = by_l4lb["triggers"][0]["metadata"]["targetValue"]
    assert by_prometheus["triggers"][0]["metadata"]["threshold"] == target
    hpa = find("HorizontalPodAutoscaler", "llama", "hpa.yaml")["spec"]
    assert hpa["metrics"][0]["external"]["target"]["averageValue"] == target
    assert hpa["scaleTargetRef"]["name"] == by_l4lb["scaleTargetRef"]["name"]


def test_the_image_is_built_of_what_is_there_and_runs_as_the_pod_does(pod: Any) -> None:
    text = (FOLDER / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (FOLDER.parents[1] / name).exists(), name
    context = pod["securityContext"]
    assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in text
    mount = next(one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "config")
    assert f'"{mount["mountPath"]}/l4lb.yaml"' in text
