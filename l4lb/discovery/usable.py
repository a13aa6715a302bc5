"""Which endpoints of an answer can be backends, decided one by one: an invalid entry does not affect the others. Pure.

The rules are those of backends in the file.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace

from pydantic import ValidationError

from l4lb.base.text import quoted
from l4lb.config import model
from l4lb.discovery.source import Endpoint


def usable(endpoints: Iterable[Endpoint], known: Container[Endpoint] = ()) -> tuple[list[Endpoint], dict[str, str]]:
    """The usable endpoints, with addresses as the file would have them, and what is wrong with the others, by name.
    Endpoints in `known` are usable."""
    good: list[Endpoint] = []
    wrong: dict[str, str] = {}
    for endpoint in endpoints:
        if endpoint in known:
            good.append(endpoint)
            continue
        try:
            good.append(_checked(endpoint))
        except ValidationError as error:
            wrong[quoted(endpoint.name)] = str(_reason(error))
        except ValueError as error:
            wrong[quoted(endpoint.name)] = str(error)
    return good, wrong


def _checked(endpoint: Endpoint) -> Endpoint:
    if endpoint.address.is_unix:
        raise ValueError(f"{quoted(str(endpoint.address))} is a socket of this host; HOST:PORT is expected")
    # The address as text, because a host from elsewhere may be invalid.
    backend = model.Backend.model_validate(
        {"name": endpoint.name, "address": str(endpoint.address), "weight": endpoint.weight, "tier": endpoint.tier}
    )
    return endpoint if backend.address == endpoint.address else replace(endpoint, address=backend.address)


def _reason(error: ValidationError) -> object:
    first = error.errors(include_url=False)[0]
    return first.get("ctx", {}).get("error") or f"its {first['loc'][-1]} {first['msg'][0].lower()}{first['msg'][1:]}"
