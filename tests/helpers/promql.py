"""Whether a PromQL query is one, and asks for metrics and labels that l4lb has."""

from __future__ import annotations

from functools import cache

import promql_parser as promql
from prometheus_client.parser import text_string_to_metric_families

from l4lb.admin import metrics
from l4lb.engine._native import CLOSE_REASONS, PIN_REASONS, REJECT_REASONS
from tests.admin.fake_control import exhaustive_status

SCRAPED = {"job", "instance", "namespace", "pod", "le"}
"""Labels that Prometheus adds, and that of buckets."""

REASONS = {reason for reason, _ in CLOSE_REASONS} | {*REJECT_REASONS, *PIN_REASONS[1:]}


@cache
def exposition() -> dict[str, set[str]]:
    """Every sample of `/metrics` with the names of its labels."""
    text = metrics.encode(list(metrics.render(exhaustive_status())), openmetrics=False).decode()
    samples: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    return samples


def check_query(query: str) -> set[str]:
    """AssertionError for what is wrong with a query; the metrics it asks for."""
    asked: set[str] = set()
    grouped: set[str] = set()

    def look(expr: promql.Expr) -> None:
        match expr:
            case promql.VectorSelector():
                _check_selector(expr, asked)
            case promql.AggregateExpr() if expr.modifier is not None:
                grouped.update(expr.modifier.labels)
            case promql.BinaryExpr() if expr.modifier is not None and expr.modifier.matching is not None:
                grouped.update(expr.modifier.matching.labels)

    promql.walk(promql.parse(query), look)
    assert asked, f"{query} asks for nothing"
    known = SCRAPED.union(*(exposition()[name] for name in asked))
    assert grouped <= known, f"{query} groups by {grouped - known}, which is no label"
    return asked


def _check_selector(selector: promql.VectorSelector, asked: set[str]) -> None:
    name = selector.name
    assert name in exposition(), f"there is no metric {name}"
    asked.add(name)
    for matcher in selector.matchers.matchers:
        assert matcher.name in exposition()[name] | SCRAPED, f"{name} has no label {matcher.name}"
        if matcher.name == "reason":
            assert set(matcher.value.split("|")) <= REASONS, f"there is no reason {matcher.value}"
