"""Access to the plain data of a file before validation: data of the wrong shape reads as None."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from l4lb.config.address import Address
from l4lb.config.fields.addresses import read_backend

T = TypeVar("T")


def get(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, Mapping) else getattr(item, key, None)


def read(reader: Callable[[Any], T], value: Any) -> T | None:
    try:
        return reader(value)
    except ValueError:
        return None


def backend_name(backend: Any) -> str | None:
    """The name of a backend: its own, or else its address. None if neither can be read."""
    if isinstance(backend, str | Address):
        backend = {"address": backend}
    name = get(backend, "name")
    if name is None:
        address = read(read_backend, get(backend, "address"))
        return None if address is None else str(address)
    return name if isinstance(name, str) else None
