"""The admin HTTP API as OpenAPI 3.1, from the server's own routes and handlers.

Summaries and descriptions are the docstrings of the handlers. Schemas of responses are inferred from what the views
make of a status with everything in it and of one with nothing, so they cannot lag behind. `OPERATIONS` holds the rest:
parameters, bodies and status codes. A route that is missing there is an error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import hdrs, web

from docs.generate.fields import FIELDS
from docs.generate.parts import table
from l4lb.admin import metrics, views
from l4lb.admin.requests import BackendChange
from l4lb.admin.server import AdminServer
from l4lb.config import json_schema
from l4lb.engine.api import Path, Phase, SessionState
from l4lb.status import (
    AdminState,
    EjectionStatus,
    HealthState,
    Origin,
    PoolFaultStatus,
    ShutdownStatus,
    Status,
    UpgradeStatus,
)
from tests.admin.fake_control import FakeControl, exhaustive_status, make_session, make_status

Schema = dict[str, Any]

MAPPINGS = {"listeners", "pools", "backends"}
"""Objects whose keys are names. Those of counters by result or reason, and of signals, are too."""

ENUMERATIONS: dict[tuple[str, str], list[str]] = {
    ("Backend", "state"): [str(item.value) for item in AdminState],
    ("Backend", "health"): [str(item.value) for item in HealthState],
    ("Backend", "origin"): [str(item.value) for item in Origin],
    ("Session", "state"): [item.name.lower() for item in SessionState],
    ("Session", "phase"): [item.name.lower() for item in Phase],
    ("Session", "path"): [item.name.lower() for item in Path],
}

PREFIXES = {"Backend": "backend", "Pool": "pool", "Listener": "listener", "Worker": "worker"}
"""Numbers of the API that are a metric too are described by the help of that metric."""

PARAMETERS = {
    "pool": "Name of a pool.",
    "backend": "Name of a backend; an address with slashes is taken as it is.",
    "session": "Number of a session, as the list of sessions shows it.",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What the routes and handlers do not say: query parameters, the body, and the responses by status."""

    responses: Mapping[int, tuple[str, str]]
    query: Mapping[str, tuple[Schema, str]] = field(default_factory=dict)
    body: str | None = None
    content: str = "application/json"


_OK = "OK"
_NONE: tuple[str, str] = ("Not found: nothing of that name.", "Error")
_BAD: tuple[str, str] = ("Wrong in itself; nothing has changed.", "Error")
_CONFLICT: tuple[str, str] = ("Not possible beside the rest, or not now; nothing has changed.", "Error")
_TEXT = {"type": "string"}
_BACKEND = "/api/v1/pools/{pool}/backends/{backend}"

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/"): Operation({200: (_OK, "Paths")}),
    ("GET", "/metrics"): Operation({200: (_OK, "text")}, content=metrics.TEXT),
    ("GET", "/healthz"): Operation({200: (_OK, "Healthy")}),
    ("GET", "/readyz"): Operation(
        {
            200: ("Clients should be sent to this process.", "Ready"),
            503: ("They should not; `problems` says why.", "NotReady"),
            404: _NONE,
            400: _BAD,
        },
        query={
            "pool": ({"type": "array", "items": _TEXT}, "Also needs a usable backend in this pool; may be repeated."),
            "pools": ({"const": "all"}, "Also needs a usable backend in every pool."),
        },
    ),
    ("GET", "/api/v1/status"): Operation({200: (_OK, "Status")}),
    ("GET", "/api/v1/sessions"): Operation({200: (_OK, "Sessions")}),
    ("DELETE", "/api/v1/sessions/{session}"): Operation({200: ("Closed.", "Killed"), 400: _BAD, 404: _NONE}),
    ("GET", "/api/v1/pools"): Operation({200: (_OK, "Pools")}),
    ("POST", "/api/v1/pools/{pool}/backends"): Operation(
        {201: ("Added.", "NamedBackend"), 400: _BAD, 404: _NONE, 409: _CONFLICT}, body="BackendSettings"
    ),
    ("GET", _BACKEND): Operation({200: (_OK, "NamedBackend"), 404: _NONE}),
    ("PATCH", _BACKEND): Operation(
        {200: ("Changed.", "NamedBackend"), 400: _BAD, 404: _NONE, 409: _CONFLICT}, body="BackendChange"
    ),
    ("DELETE", _BACKEND): Operation(
        {200: ("Removed.", "Removed"), 400: _BAD, 404: _NONE, 409: _CONFLICT},
        query={"force": ({"type": "boolean", "default": False}, "Close its sessions instead of draining them.")},
    ),
    ("DELETE", f"{_BACKEND}/sessions"): Operation({200: ("Closed.", "KilledOfBackend"), 404: _NONE}),
    ("GET", "/api/v1/autoscale/{pool}"): Operation({200: (_OK, "Autoscale"), 404: _NONE}),
    ("POST", "/api/v1/reload"): Operation(
        {200: ("Applied.", "Reloaded"), 422: ("Rejected; nothing has changed.", "Rejected"), 409: _CONFLICT}
    ),
    ("POST", "/api/v1/upgrade"): Operation(
        {
            200: ("The new process serves; the connection is closed after this response.", "Upgraded"),
            422: ("Failed; nothing has changed.", "Error"),
            409: _CONFLICT,
        }
    ),
}


def routes() -> Iterator[tuple[str, str, web.AbstractRoute]]:
    """Method and path of every route of the server, and the route. Paths with a slash at the end are the same again."""
    server = AdminServer(FakeControl(), None, None)
    for resource in server.resources:
        if resource.canonical.endswith("/") and resource.canonical != "/":
            continue
        for route in resource:
            if route.method != hdrs.METH_HEAD:
                yield route.method, resource.canonical, route


def document() -> Schema:
    """The whole description."""
    paths: dict[str, Schema] = {}
    for method, path, route in routes():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "l4lb admin API",
            "version": "1",
            "description": "Everything is allowed over `admin.socket`; changes get 403 over `admin.listen`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas()},
    }


def request_table() -> str:
    """The requests, for people."""
    rows = []
    for method, path, route in routes():
        shown = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), path)
        rows.append((f"`{method} {shown}`", " ".join(_sentences(route))))
    return table(("request", "does"), rows)


def field_table(name: str) -> str:
    """The fields of an object of the API that have more to them than their name."""
    rows = []
    for path, schema in _fields(name, schemas()[name]):
        if text := schema.get("description"):
            rows.append((f"`{path}`", text))
    return table(("field", "meaning"), rows)


def _fields(name: str, schema: Schema, prefix: str = "") -> Iterator[tuple[str, Schema]]:
    for key, inner in schema.get("properties", {}).items():
        yield f"{prefix}{key}", inner
        yield from _fields(name, inner, f"{prefix}{key}.")


def _plain(text: str) -> str:
    """Without links, which lead from one page of the documentation to another."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


def _sentences(route: web.AbstractRoute) -> list[str]:
    text = inspect.getdoc(route.handler)
    assert text, f"{route} has a handler without a docstring"
    return [" ".join(part.split()) for part in text.split("\n\n")]


def _operation(method: str, path: str, route: web.AbstractRoute) -> Schema:
    operation = OPERATIONS[method, path]
    summary, *rest = map(_plain, _sentences(route))
    made: Schema = {"operationId": route.handler.__name__.strip("_"), "summary": summary}
    if rest:
        made["description"] = " ".join(rest)
    parameters = [
        {"name": name, "in": "path", "required": True, "description": PARAMETERS[name], "schema": _TEXT}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": schema}
        for name, (schema, text) in operation.query.items()
    ]
    if parameters:
        made["parameters"] = parameters
    if operation.body:
        made["requestBody"] = {"required": True, "content": _content("application/json", operation.body)}
    changes = method not in ("GET", "HEAD")
    forbidden = {403: ("Changes need the admin socket.", "Error")} if changes else {}
    made["responses"] = {
        str(status): {"description": text, "content": _content(operation.content, name)}
        for status, (text, name) in sorted({**operation.responses, **forbidden}.items())
    }
    return made


def _content(kind: str, name: str) -> Schema:
    schema = _TEXT if name == "text" else {"$ref": f"#/components/schemas/{name}"}
    return {kind.partition(";")[0]: {"schema": schema}}


def schemas() -> dict[str, Schema]:
    """Every object of the API by its name."""
    status = _schema([views.status_view(status) for status in _statuses()])
    pool, listener = (_taken(status, name) for name in ("pools", "listeners"))
    backend = _taken(pool, "backends")
    worker = status["properties"]["workers"]["items"]
    status["properties"]["workers"]["items"] = _reference("Worker")
    for owner, key, name in (
        (status, "pools", "Pool"),
        (status, "listeners", "Listener"),
        (pool, "backends", "Backend"),
    ):
        owner["properties"][key]["additionalProperties"] = _reference(name)
    sessions = [views.session_view(make_session(backend=None)), views.session_view(make_session())]
    autoscale = [views.autoscale_view(name, one) for name, one in make_status().pools.items()]
    made = {
        "Status": status,
        "Listener": listener,
        "Pool": pool,
        "Backend": backend,
        "Worker": worker,
        "Session": _schema([views.session_view(make_session(queue=None, connect=None, first_byte=None)), *sessions]),
        "Autoscale": _schema(autoscale),
    }
    for name, schema in made.items():
        _describe(name, schema)
    return made | _small() | {"BackendSettings": _settings(), "BackendChange": _change()}


def _statuses() -> list[Status]:
    """One with everything in it, one with values that are not whole, one with next to nothing."""
    full = exhaustive_status()
    pool = full.pools["llama"]
    (backend,) = pool.backends.values()
    ejection = EjectionStatus(cause="failures", left=1.5, ejections_total={"failures": 1})
    odd = replace(backend, effective_weight=0.5, zone="eu-1", ejection=ejection)
    shutdown = ShutdownStatus(age=1.5, left=2.5, sessions=3, busy=1)
    fault = PoolFaultStatus("not usable", 1)
    odd_pool = replace(pool, backends={"a": odd}, fault=fault)
    config = replace(full.config, last_error="rejected")
    upgrade = UpgradeStatus(last_error="failed")
    stopping = replace(full, pools={"llama": odd_pool}, shutdown=shutdown, config=config, upgrade=upgrade)
    assert pool.failover is not None
    unsure = replace(odd_pool, failover=replace(pool.failover, current=None))
    waiting = replace(stopping, shutdown=replace(shutdown, left=None), pools={"llama": unsure})
    return [full, stopping, waiting, make_status()]


def _taken(schema: Schema, key: str) -> Schema:
    inner: Schema = schema["properties"][key]["additionalProperties"]
    return inner


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schema(values: list[Any], key: str = "") -> Schema:
    """What all these values of one place have in common."""
    some = [value for value in values if value is not None]
    if not some:
        return {}
    made = _schema_of_some(some, key)
    if len(some) < len(values) and "type" in made:
        made["type"] = [made["type"], "null"]
    return made


def _schema_of_some(some: list[Any], key: str) -> Schema:
    if all(isinstance(value, dict) for value in some):
        inner = [item for value in some for item in value.values()]
        if key.endswith("_total") or key == "signals":
            return {"type": "object", "additionalProperties": _schema(inner, key) if inner else {"type": "number"}}
        if key in MAPPINGS and all(isinstance(item, dict) for item in inner):
            return {"type": "object", "additionalProperties": _schema(inner)}
        names = dict.fromkeys(name for value in some for name in value)
        properties = {name: _schema([value.get(name) for value in some], name) for name in names}
        return {"type": "object", "required": list(names), "properties": properties}
    if all(isinstance(value, list) for value in some):
        items = [item for value in some for item in value]
        return {"type": "array", "items": _schema(items) if items else _TEXT}
    for kind, name in ((bool, "boolean"), (int, "integer"), (str, "string")):
        if all(isinstance(value, kind) for value in some):
            return {"type": "number" if key.endswith(("_s", "_seconds")) else name}
    return {"type": "number"}


def _describe(name: str, schema: Schema) -> None:
    """Put the words and the enumerations in."""
    help_texts = {
        family.name + ("_total" if family.kind == "counter" else ""): family.help
        for family in metrics.render(exhaustive_status())
    }
    for path, inner in _fields(name, schema):
        text = FIELDS.get(f"{name}.{path}") or help_texts.get(f"l4lb_{PREFIXES.get(name)}_{path.replace('.', '_')}")
        if text:
            inner["description"] = text
        if words := ENUMERATIONS.get((name, path)):
            inner["enum"] = words


def _small() -> dict[str, Schema]:
    """The objects that are made in the handlers."""
    flag, number, texts = {"type": "boolean"}, {"type": "integer"}, {"type": "array", "items": _TEXT}

    def of(**properties: Schema) -> Schema:
        return {"type": "object", "required": list(properties), "properties": properties}

    backends = {"type": "array", "items": _reference("BackendSettings")}
    return {
        "NamedBackend": {"allOf": [_reference("Backend"), of(name=_TEXT, pid=number)]},
        "Sessions": of(sessions={"type": "array", "items": _reference("Session")}),
        "Pools": of(pools={"type": "object", "additionalProperties": of(backends=backends)}),
        "Paths": of(paths={"type": "object", "additionalProperties": texts}),
        "Healthy": of(healthy=flag),
        "Ready": of(ready={"const": True}, warnings=texts),
        "NotReady": of(ready={"const": False}, warnings=texts, error=_TEXT, problems=texts),
        "Killed": of(session=number, killed=flag),
        "KilledOfBackend": of(killed=number),
        "Removed": of(removed=flag, connections=number),
        "Reloaded": of(applied={"const": True}, notes=texts),
        "Rejected": of(error=_TEXT, applied={"const": False}, problems=texts),
        "Upgraded": of(upgraded={"const": True}, pid=number, version=_TEXT),
        "Error": of(error=_TEXT),
    }


def _settings() -> Schema:
    """A backend as the file has it: the keys only, whose values `l4lb schema` describes."""
    backend = json_schema()["$defs"]["Backend"]["anyOf"][1]
    described = {
        name: {"description": " ".join(item["description"].split())} for name, item in backend["properties"].items()
    }
    return {"type": "object", "properties": described, "additionalProperties": False}


def _change() -> Schema:
    change = BackendChange.model_json_schema()["properties"]
    state = {"enum": [str(item.value) for item in AdminState], "description": "What the operator wants."}
    weight = next(item for item in change["weight"]["anyOf"] if item["type"] == "integer")
    settings = _settings()["properties"]
    settings.pop("name")
    return {
        "type": "object",
        "minProperties": 1,
        "properties": settings
        | {"state": state, "weight": {**weight, "description": settings["weight"]["description"]}},
        "additionalProperties": False,
    }
