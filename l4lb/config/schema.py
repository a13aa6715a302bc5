"""The JSON Schema of the file, for editors."""

from __future__ import annotations

from typing import Any

from l4lb.config.model import Config
from l4lb.config.units import DURATION_PATTERN, format_duration

_REFERENCE = {"type": "string", "pattern": r"\$\{", "description": "A value with ${VAR} or ${VAR:-default} in it."}
_SCALAR_KEYS = ("type", "enum", "const", "pattern", "minLength", "maxLength", "minimum", "maximum")


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). It accepts every valid file; rules between sections are beyond it."""
    schema = Config.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    # A key may also come from an included file, or from the defaults.
    for section in (schema, definitions["Listener"], definitions["Pool"]):
        section.pop("required", None)
    for item in definitions["Defaults"]["properties"].values():
        item.pop("default", None)
    definitions["Backend"]["required"] = ["address"]
    for name, alone in (("Backend", "address"), ("SlowStart", "duration")):
        section = definitions[name]
        definitions[name] = {"anyOf": [section["properties"][alone], section]}
    schema = _as_written(schema)
    schema["$defs"]["Reference"] = _REFERENCE
    schema["properties"]["include"] = {
        "description": "Files to merge into this one: names or patterns, relative to this file.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _as_written(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with defaults as a file spells them, and a reference allowed instead of each scalar."""
    written: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs"):
            written[key] = {name: _as_written(item) for name, item in value.items()}
        elif key == "anyOf":
            written[key] = [_as_written(item) for item in value]
        elif key == "items":
            written[key] = _as_written(value)
        elif key == "default":
            written |= _written_default(value, schema)
        else:
            written[key] = value
    if written.get("type") in ("string", "integer", "number") or "enum" in written or "const" in written:
        scalar = {key: written.pop(key) for key in _SCALAR_KEYS if key in written}
        written["anyOf"] = [scalar, {"$ref": "#/$defs/Reference"}]
    return written


def _written_default(value: Any, schema: dict[str, Any]) -> dict[str, Any]:
    choices = [schema, *schema.get("anyOf", ())]
    if isinstance(value, float) and any(choice.get("pattern") == DURATION_PATTERN for choice in choices):
        return {"default": format_duration(value)}
    if value is None and any(choice.get("const") == "off" for choice in choices):
        return {"default": "off"}
    if isinstance(value, float) and value == int(value):
        return {"default": int(value)}
    return {} if value is None or isinstance(value, dict) else {"default": value}
