"""What a pool becomes by naming a preset, and what it may still say itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from l4lb.config import Config
from l4lb.config.fields import FROM_FILE
from l4lb.config.model import Pool
from l4lb.config.sections.slow_start import SlowStart
from l4lb.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTATION = (ROOT / "docs/reference/presets.md").read_text()


def pool(defaults: dict[str, Any] | None = None, **keys: Any) -> Pool:
    data = {
        "defaults": defaults or {},
        "listeners": {"web": {"bind": "127.0.0.1:80", "pool": "web"}},
        "pools": {"web": {"backends": ["10.0.0.1:80"], **keys}},
    }
    return Config.model_validate(data, context=FROM_FILE).pools["web"]


def test_the_file_knows_the_presets_there_are() -> None:
    literal, _none = get_args(Pool.model_fields["preset"].annotation)
    assert set(get_args(literal)) == set(PRESETS)
    names = "vllm sglang tgi triton kserve ray mlflow dask airflow prefect tensorflow-serving torchserve"
    assert set(PRESETS) == set(names.split())


def span(seconds: float | None) -> str:
    if seconds is None:
        return "off"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:g}s"


def row(name: str) -> str:
    """The row of a preset in the documentation, from the configuration that it makes."""
    made = pool(preset=name)
    assert made.health is not None
    if made.health.type == "http":
        port = f":{made.health.port}" if made.health.port else ""
        check = f"`{port}{made.health.path}` {', '.join(map(str, made.health.status))}"
        check += " and its body" if made.health.body else ""
    else:
        check = made.health.type
    check += f", every {span(made.health.interval)} within {span(made.health.timeout)}"
    if made.health.progress is not None:
        check += f"; down when stalled for {span(made.health.progress.stalled)}"
    if made.load is None:
        load = "none"
    else:
        full = [
            f"{signal} {limit:g}"
            for signal in type(made.load.signals).model_fields
            if getattr(made.load.signals, signal) and (limit := getattr(made.load.limits, signal)) is not None
        ]
        load = f"`{made.load.url.removeprefix('http://{host}')}`, full at {', '.join(full)}"
    waits = made.timeouts
    spans = [span(wait) for wait in (waits.idle, waits.response, waits.stream_gap, waits.keepalive)]
    kept = span(waits.backend_keepalive) if made.protocol == "http1" else "none"
    return f"| `{name}` | {check} | {load} | {' | '.join([*spans, kept, span(made.drain_timeout)])} |"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_the_pool_that_is_documented(name: str) -> None:
    assert row(name) in DOCUMENTATION, row(name)


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_of_http_servers_balance_requests_and_close_before_the_server_does(name: str) -> None:
    made = pool({"timeouts": {"backend_keepalive": "1h"}}, preset=name)
    if name == "dask":
        assert made.protocol == "tcp"
        return
    assert (made.protocol, made.abort_on_close) == ("http1", True)
    assert made.timeouts.backend_keepalive is not None
    assert made.timeouts.backend_keepalive < (2 if name == "mlflow" else 5)
    assert pool(preset=name, protocol="tcp").protocol == "tcp"


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_of_model_servers_spare_replicas_that_are_cold(name: str) -> None:
    spared = name in ["vllm", "sglang", "tgi", "triton", "kserve", "tensorflow-serving", "torchserve"]
    assert pool(preset=name).slow_start.turns == (2 if spared else 0)
    assert pool(preset=name, slow_start="30s").slow_start == SlowStart(duration=30.0)


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_cuts_a_stream_that_waits_for_its_next_token(name: str) -> None:
    """Silence after the head of an answer, or in its middle, is that of `stream_gap` at first, then of `keepalive`."""
    timeouts = pool(preset=name).timeouts
    response, gap, quiet = (
        timeouts.idle if value is None else value
        for value in (timeouts.response, timeouts.stream_gap, timeouts.keepalive)
    )
    assert response >= 600
    assert quiet >= response
    # The longest silence that is taken for the middle of an answer.
    middle_ms = re.search(r"LB_SILENCE_NOT_LAST_MS = (\d+)", (ROOT / "src_c/base/bounds.h").read_text())
    assert middle_ms is not None
    assert gap > int(middle_ms[1]) / 1000


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_finds_lost_hosts_before_a_nat_forgets_the_session(name: str) -> None:
    tcp = pool(preset=name).tcp
    assert tcp.keepalive is not None
    assert tcp.keepalive < 240
    assert tcp.keepalive + tcp.keepalive_interval * tcp.keepalive_probes == (30 if name == "dask" else 120)
    assert tcp.user_timeout is None
    assert f"{{keepalive: {tcp.keepalive:g}s," in DOCUMENTATION


@pytest.mark.parametrize("name", PRESETS)
def test_every_metric_of_a_preset_and_its_source_is_documented(name: str) -> None:
    preset = PRESETS[name]
    assert f"<{preset.source}>" in DOCUMENTATION, preset.source
    progress = preset.settings["health"].get("progress", {})
    for chain in [*preset.settings.get("load", {}).get("signals", {}).values(), progress.get("counter", ())]:
        for metric in chain:
            assert f"`{metric}`" in DOCUMENTATION, metric


def test_the_documentation_has_no_other_preset() -> None:
    section = DOCUMENTATION
    assert set(re.findall(r"^\| `([a-z-]+)` \| `?[:/t]", section, re.MULTILINE)) == set(PRESETS)


# ---- the last word ---------------------------------------------------------------------------------------------------


def test_what_a_pool_says_itself_wins_key_by_key() -> None:
    made = pool(
        preset="vllm",
        drain_timeout="1s",
        health={"interval": "9s"},
        timeouts={"idle": "7s"},
        load={"limits": {"queue": 50}, "signals": {"kv": "my_kv"}},
    )
    assert made.health is not None
    assert made.load is not None
    assert (made.health.interval, made.health.path, made.health.status) == (9.0, "/health", (200,))
    assert (made.timeouts.idle, made.timeouts.connect, made.drain_timeout) == (7.0, 2.0, 1.0)
    assert (made.load.limits.queue, made.load.limits.kv) == (50.0, 0.8)
    assert [series.name for series in made.load.signals.kv] == ["my_kv"]
    assert made.load.signals.queue[0].name == "vllm:num_requests_waiting"


@pytest.mark.parametrize("health", [{"type": "none"}, {"type": "tcp", "interval": "9s"}])
def test_checks_of_another_type_take_nothing_from_the_preset(health: dict[str, Any]) -> None:
    made = pool(preset="vllm", health=health)
    assert made.health is not None
    assert (made.health.type, made.health.path, made.health.timeout) == (health["type"], "/", 1.0)


def test_a_preset_comes_before_the_defaults() -> None:
    made = pool({"drain_timeout": "1s", "retries": 7, "timeouts": {"idle": "3s", "lifetime": "4h"}}, preset="dask")
    assert (made.drain_timeout, made.retries) == (None, 7)
    assert (made.timeouts.idle, made.timeouts.lifetime) == (86400.0, 14400.0)


def test_a_preset_of_the_defaults_comes_last() -> None:
    made = pool({"preset": "vllm", "drain_timeout": "1s"}, health={"interval": "9s"})
    assert made.health is not None
    assert (made.preset, made.drain_timeout) == ("vllm", 1.0)
    assert (made.health.path, made.health.interval) == ("/health", 9.0)


def test_a_pools_own_preset_replaces_that_of_the_defaults() -> None:
    made = pool({"preset": "vllm"}, preset="mlflow")
    assert made.health is not None
    assert (made.health.path, made.load) == ("/ping", None)


def test_options_of_tcp_are_mixed_key_by_key_too() -> None:
    made = pool({"tcp": {"keepalive": "30s", "user_timeout": "5m"}}, preset="vllm", tcp={"keepalive_probes": 3})
    assert (made.tcp.keepalive, made.tcp.keepalive_probes, made.tcp.user_timeout) == (60.0, 3, 300.0)


def test_without_a_preset_nothing_changes() -> None:
    made = pool()
    assert (made.preset, made.health, made.load) == (None, None, None)
