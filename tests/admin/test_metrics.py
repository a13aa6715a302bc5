"""The exposition says what the status says, in both formats, and survives a large fleet."""

from __future__ import annotations

import dataclasses
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from l4lb.admin import metrics
from l4lb.status import AdminState, AgentStatus, DiscoveryStatus, HealthState, LoadStatus, Status
from tests.admin.fake_control import (
    backend_statistics,
    backend_status,
    exhaustive_status,
    histogram,
    make_status,
    pool_status,
    sticky_statistics,
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(status: Status, *, openmetrics: bool = False) -> Samples:
    text = metrics.encode(list(metrics.render(status)), openmetrics=openmetrics).decode()
    parsed = list((parse_openmetrics if openmetrics else parse_text)(text))
    found = [(sample.name, frozenset(sample.labels.items()), sample.value) for m in parsed for sample in m.samples]
    result = {(name, labels): value for name, labels, value in found}
    assert len(result) == len(found), "a series appears twice"
    return result


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def busy_status() -> Status:
    backend = backend_status(
        weight=5,
        effective_weight=3,
        state=AdminState.DRAIN,
        statistics=backend_statistics(
            connections=4,
            busy=3,
            connections_total=40,
            received_bytes_total=1 << 60,
            sent_bytes_total=77,
            retries_total=6,
            turns_total=11,
            connect_failures_total=8,
            connect_timeouts_total=9,
            connect=histogram(1, 2, 3, total=0.0125),
            first_byte=histogram(0, 0, 0, 0, 0, 0, 0, 1, total=400.0),
            stream_gap=histogram(5, total=0.005),
            turn=histogram(0, 7, total=9.5),
        ),
    )
    return make_status({"llama": pool_status({"a": backend})})


def test_places_and_panic_are_shown() -> None:
    backends = {"a": backend_status(tier=1, zone="eu-1"), "b": backend_status()}
    found = samples(make_status({"llama": pool_status(backends, panic=True), "calm": pool_status({})}))
    assert value(found, "l4lb_backend_info", pool="llama", backend="a", tier="1", zone="eu-1") == 1
    assert value(found, "l4lb_backend_info", pool="llama", backend="b", tier="0", zone="") == 1
    assert [value(found, "l4lb_pool_panic", pool=pool) for pool in ("llama", "calm")] == [1, 0]


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_promised_name_carries_its_value(openmetrics: bool) -> None:
    found = samples(busy_status(), openmetrics=openmetrics)
    names = {"pool": "llama", "backend": "a"}
    assert value(found, "l4lb_listener_connections", listener="front") == 3
    assert value(found, "l4lb_listener_connections_total", listener="front") == 9
    assert value(found, "l4lb_listener_rejected_total", listener="front", reason="denied") == 2
    assert value(found, "l4lb_backend_connections", **names) == 4
    assert value(found, "l4lb_backend_busy", **names) == 3
    assert value(found, "l4lb_backend_connections_total", **names) == 40
    assert value(found, "l4lb_backend_received_bytes_total", **names) == 1 << 60
    assert value(found, "l4lb_backend_sent_bytes_total", **names) == 77
    assert value(found, "l4lb_backend_retries_total", **names) == 6
    assert value(found, "l4lb_backend_connect_failures_total", **names) == 8
    assert value(found, "l4lb_backend_connect_timeouts_total", **names) == 9
    assert value(found, "l4lb_backend_turns_total", **names) == 11
    assert value(found, "l4lb_backend_stream_gap_seconds_count", **names) == 5
    assert value(found, "l4lb_backend_turn_seconds_sum", **names) == 9.5
    assert value(found, "l4lb_backend_up", **names) == 1
    assert value(found, "l4lb_backend_weight", **names) == 5
    assert value(found, "l4lb_backend_effective_weight", **names) == 3
    assert value(found, "l4lb_backend_state", **names, state="drain") == 1
    assert value(found, "l4lb_backend_state", **names, state="ready") == 0
    assert value(found, "l4lb_backend_health_checks_total", **names, result="failure") == 1
    assert value(found, "l4lb_closed_total", pool="llama", reason="connect_failed", code="SC") == 2
    assert value(found, "l4lb_config_last_reload_successful") == 1
    assert value(found, "l4lb_config_last_reload_timestamp_seconds") == 1_700_000_001.5
    assert value(found, "l4lb_build_info", version="1.2.3") == 1
    assert value(found, "l4lb_worker_loops_total", worker="1") == 0
    assert value(found, "l4lb_access_log_dropped_total") == 0


@pytest.mark.parametrize("openmetrics", [False, True])
def test_histograms_are_cumulative_and_end_in_infinity(openmetrics: bool) -> None:
    found = samples(busy_status(), openmetrics=openmetrics)
    names = {"pool": "llama", "backend": "a"}
    assert value(found, "l4lb_backend_connect_seconds_bucket", **names, le="0.0001") == 1
    assert value(found, "l4lb_backend_connect_seconds_bucket", **names, le="0.0005") == 6
    assert value(found, "l4lb_backend_connect_seconds_bucket", **names, le="+Inf") == 6
    assert value(found, "l4lb_backend_connect_seconds_count", **names) == 6
    assert value(found, "l4lb_backend_connect_seconds_sum", **names) == 0.0125
    assert value(found, "l4lb_backend_first_byte_seconds_bucket", **names, le="300.0") == 0
    assert value(found, "l4lb_backend_first_byte_seconds_bucket", **names, le="+Inf") == 1


@pytest.mark.parametrize(
    ("health", "up"), [(HealthState.UP, 1), (HealthState.NONE, 1), (HealthState.DOWN, 0), (HealthState.PENDING, 0)]
)
def test_a_backend_is_up_unless_checks_say_otherwise(health: HealthState, up: int) -> None:
    status = make_status({"p": pool_status({"a": backend_status(health=health)})})
    assert value(samples(status), "l4lb_backend_up", pool="p", backend="a") == up


def test_a_source_has_its_age_and_its_answers() -> None:
    discovery = DiscoveryStatus(
        source="dns",
        working=False,
        message="no answer",
        age=7.5,
        endpoints=4,
        held=3,
        updates_total={"success": 9, "failure": 2},
    )
    pools = {
        "p": dataclasses.replace(pool_status({}), discovery=discovery),
        "new": dataclasses.replace(pool_status({}), discovery=dataclasses.replace(discovery, age=None, working=True)),
        "listed": pool_status({}),
    }
    found = samples(make_status(pools))
    labels = {"pool": "p", "source": "dns"}
    assert value(found, "l4lb_discovery_age_seconds", **labels) == 7.5
    assert value(found, "l4lb_discovery_working", **labels) == 0
    assert value(found, "l4lb_discovery_endpoints", **labels) == 4
    assert value(found, "l4lb_discovery_held_endpoints", **labels) == 3
    assert value(found, "l4lb_discovery_updates_total", **labels, result="success") == 9
    assert value(found, "l4lb_discovery_updates_total", **labels, result="failure") == 2
    assert value(found, "l4lb_discovery_working", pool="new", source="dns") == 1
    text = metrics.encode(list(metrics.render(make_status(pools))), openmetrics=False).decode()
    assert 'l4lb_discovery_age_seconds{pool="new"' not in text
    assert not [line for line in text.splitlines() if line.startswith("l4lb_discovery") and "listed" in line]


@pytest.mark.parametrize("openmetrics", [False, True])
def test_names_with_quotes_backslashes_and_newlines_survive(openmetrics: bool) -> None:
    odd = 'a"b\\c\nd'
    status = make_status({odd: pool_status({odd: backend_status()})})
    assert value(samples(status, openmetrics=openmetrics), "l4lb_backend_up", pool=odd, backend=odd) == 1


def test_every_family_has_help_type_and_a_valid_name() -> None:
    for family in metrics.render(busy_status()):
        assert re.fullmatch(r"l4lb_[a-z0-9_]+", family.name)
        assert not family.name.endswith("_total"), "the encoder adds it"
        assert family.help.endswith(".")


def test_openmetrics_ends_in_eof_and_text_does_not() -> None:
    families = list(metrics.render(busy_status()))
    assert metrics.encode(families, openmetrics=True).endswith(b"# EOF\n")
    assert b"# EOF" not in metrics.encode(families, openmetrics=False)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3", True),
        ("text/plain;version=0.0.4", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_the_accept_header_chooses_the_format(accept: str, wanted: bool) -> None:
    assert metrics.wants_openmetrics(accept) is wanted


def test_process_metrics_are_valid_in_both_formats() -> None:
    families = list(metrics.ProcessMetrics().families())
    for openmetrics, parse in ((False, parse_text), (True, parse_openmetrics)):
        text = metrics.encode(families, openmetrics=openmetrics).decode()
        found = {sample.name: sample.value for family in parse(text) for sample in family.samples}
        assert found["process_open_fds"] > 0
        assert found["process_cpu_seconds_total"] > 0
        assert found["process_resident_memory_bytes"] > 0


def test_ten_thousand_backends_have_one_sample_each() -> None:
    backends = {f"10.0.{n // 256}.{n % 256}:80": backend_status() for n in range(10_000)}
    status = dataclasses.replace(make_status({"big": pool_status(backends)}))
    text = metrics.encode(list(metrics.render(status)), openmetrics=False).decode()
    assert text.count("\nl4lb_backend_up{") == 10_000


@pytest.mark.parametrize("openmetrics", [False, True])
def test_sticky_pools_are_shown_and_no_others(openmetrics: bool) -> None:
    status = make_status({"plain": pool_status({}), "sticky": pool_status({}, sticky_statistics())})
    found = {
        name: value for (name, labels), value in samples(status, openmetrics=openmetrics).items() if "sticky" in name
    }
    assert found == {
        "l4lb_pool_sticky_entries": 7,
        "l4lb_pool_sticky_hits_total": 6,
        "l4lb_pool_sticky_misses_total": 5,
        "l4lb_pool_sticky_moved_total": 4,
        "l4lb_pool_sticky_passed_total": 3,
    }


@pytest.mark.parametrize("openmetrics", [False, True])
def test_responses_pins_and_moves_are_shown_where_messages_are_followed_and_nowhere_else(openmetrics: bool) -> None:
    statistics = backend_statistics(
        responses_total={"2xx": 5, "5xx": 2, "other": 0}, first_body=histogram(0, 3, total=0.5)
    )
    pools = {
        name: pool_status({"a": backend_status(statistics=statistics)}, protocol=protocol)
        for name, protocol in (("web", "http1"), ("raw", "tcp"))
    }
    found = samples(make_status(pools), openmetrics=openmetrics)
    names = {"pool": "web", "backend": "a"}
    assert value(found, "l4lb_backend_responses_total", **names, code="2xx") == 5
    assert value(found, "l4lb_backend_responses_total", **names, code="5xx") == 2
    assert value(found, "l4lb_backend_responses_total", **names, code="other") == 0
    assert value(found, "l4lb_backend_first_body_seconds_count", **names) == 3
    assert value(found, "l4lb_pool_pinned_total", pool="web", reason="upgrade") == 3
    assert value(found, "l4lb_pool_moves_total", pool="web") == 0
    assert value(found, "l4lb_pool_queued", pool="raw") == 0
    followed = re.compile(r"first_body|responses|pinned|moves|reused|resends|detached")
    assert {dict(labels)["pool"] for name, labels in found if followed.search(name)} == {"web"}
    assert {name for name, _ in found if followed.search(name)} >= {
        f"l4lb_pool_{name}_total" for name in ("moves", "reused", "resends", "detached")
    }


def test_load_and_agents_are_shown_where_there_are_any() -> None:
    load = LoadStatus(
        utilisation=0.4,
        readings={"queue": 2.0},
        age=0.25,
        stale=False,
        factor=0.6,
        message="queue 2",
        scrapes_total={"success": 7, "failure": 1},
    )
    agent = AgentStatus(message="up 75%", checks_total={"success": 3, "failure": 2})
    unknown = dataclasses.replace(load, utilisation=None, age=None, stale=True)
    backends = {
        "a": backend_status(load=load, agent=agent, effective_weight=0.6),
        "b": backend_status(load=unknown),
        "c": backend_status(),
    }
    found = samples(make_status({"llama": pool_status(backends)}))
    names = {"pool": "llama", "backend": "a"}
    assert value(found, "l4lb_backend_effective_weight", **names) == 0.6
    assert value(found, "l4lb_backend_load", **names) == 0.4
    assert value(found, "l4lb_backend_load_stale", **names) == 0
    assert value(found, "l4lb_backend_load_scrapes_total", **names, result="failure") == 1
    assert value(found, "l4lb_backend_agent_checks_total", **names, result="success") == 3
    assert value(found, "l4lb_backend_load_stale", pool="llama", backend="b") == 1
    shown = {dict(labels).get("backend") for name, labels in found if name == "l4lb_backend_load"}
    assert shown == {"a"}


def test_limits_have_samples_where_there_are_any() -> None:
    limited = {
        (name, *labels): value for (name, labels), value in samples(exhaustive_status()).items() if "_limit" in name
    }
    front, backend, pool = ("listener", "front"), [("backend", "a"), ("pool", "llama")], ("pool", "llama")
    assert {(name, *sorted(labels)): value for (name, *labels), value in limited.items()} == {
        ("l4lb_process_connections_limit",): 1000,
        ("l4lb_listener_connections_limit", front): 20,
        ("l4lb_backend_connections_limit", *backend): 8,
        ("l4lb_backend_busy_limit", *backend): 4,
        ("l4lb_pool_queue_limit", pool): 100,
        ("l4lb_pool_sticky_entries_limit", pool): 1000,
    }
    unlimited = samples(make_status({"llama": pool_status({"a": backend_status()})}, listeners={}))
    assert {name for name, _ in unlimited if "_limit" in name} == {"l4lb_process_connections_limit"}
