"""The description of the admin API: valid, complete, and true of what the server answers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema
import pytest

from docs.generate import fields, openapi
from l4lb.status import ReloadOutcome, UpgradeOutcome
from tests.admin.fake_control import FakeControl, admin_in_thread, exhaustive_status, make_status
from tests.docs.pages import DOCS

DOCUMENT: dict[str, Any] = json.loads((DOCS / "reference/openapi.json").read_text())


def test_the_document_is_valid_openapi() -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="openapi-spec-validator is not installed")
    validator.validate(DOCUMENT)


def test_every_route_of_the_server_is_in_it_and_no_other() -> None:
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(method, path) for method, path, _ in openapi.routes()} == set(openapi.OPERATIONS)


def test_every_field_with_a_meaning_exists() -> None:
    schemas = openapi.schemas()
    known = {f"{name}.{path}" for name, schema in schemas.items() for path, _ in openapi._fields(name, schema)}
    assert fields.FIELDS.keys() <= known


def check(method: str, path: str, status: int, value: object) -> None:
    """Whether a response is one that the document describes."""
    response = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
    (content,) = response["content"].values()
    jsonschema.validate(value, {**content["schema"], "components": DOCUMENT["components"]})


@pytest.mark.parametrize("status", [make_status(), exhaustive_status()], ids=["plain", "with everything"])
def test_responses_are_as_described(status: Any) -> None:
    backend = "/api/v1/pools/{pool}/backends/{backend}"
    control = FakeControl(status)
    with (
        admin_in_thread(control) as socket,
        httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://l4lb") as client,
    ):

        def request(method: str, path: str, body: object = None) -> None:
            real = path.format(pool="llama", backend="a", session=control.live[0].record.id)
            response = client.request(method, real, json=body)
            check(method, path, response.status_code, response.json())

        for path in ("/", "/healthz", "/readyz", "/api/v1/status", "/api/v1/sessions", "/api/v1/pools", backend):
            request("GET", path)
        request("GET", "/api/v1/autoscale/{pool}")
        request("PATCH", backend, {"state": "drain"})
        request("PATCH", backend, {"weight": -1})
        request("POST", "/api/v1/pools/{pool}/backends", {"address": "10.0.0.1:80", "name": "c"})
        request("DELETE", "/api/v1/sessions/{session}")
        request("DELETE", f"{backend}/sessions")
        request("DELETE", backend)
        request("POST", "/api/v1/reload")
        control.outcome = ReloadOutcome(applied=False, problems=("no",))
        request("POST", "/api/v1/reload")
        request("POST", "/api/v1/upgrade")
        control.upgraded = UpgradeOutcome(reason="no")
        request("POST", "/api/v1/upgrade")
