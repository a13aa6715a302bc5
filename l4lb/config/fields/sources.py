"""Settings of discovery sources."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from l4lb.base.text import quoted
from l4lb.config.address import Address
from l4lb.config.fields.addresses import ADDRESS_SCHEMA, reachable, read_address
from l4lb.config.fields.shape import AT_LEAST_ONE, Written, list_schema, one_or_many
from l4lb.config.fields.strings import ORIGIN, Origin

Origins = Annotated[
    tuple[Origin, ...],
    Field(max_length=64),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    list_schema({"type": "string", "pattern": ORIGIN}, 64),
    Written("URLs"),
]


def _read_server(value: Any) -> Address:
    address = reachable(read_address(value))
    if address.is_unix or address.is_name or not address.port:
        raise ValueError(f"{quoted(value)} is not a name server; write its IP address and port, such as 10.0.0.10:53")
    return address


Server = Annotated[Address, BeforeValidator(_read_server)]
Servers = Annotated[
    tuple[Server, ...],
    Field(max_length=16),
    BeforeValidator(one_or_many),
    list_schema(ADDRESS_SCHEMA, 16),
    Written("addresses"),
]

Record = Literal["A", "AAAA", "SRV"]
Records = Annotated[
    tuple[Record, ...],
    Field(max_length=3),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    list_schema({"enum": ["A", "AAAA", "SRV"]}, 3),
    Written("`A`, `AAAA`, `SRV`"),
]

KUBERNETES_PORT_NAME = r"^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$"
_KUBERNETES_PORT_NAME = re.compile(KUBERNETES_PORT_NAME, re.ASCII)


def _kubernetes_port(value: Any) -> int | str:
    if isinstance(value, str) and _KUBERNETES_PORT_NAME.fullmatch(value) and not value.isdigit():
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    raise ValueError(f"{quoted(value)} is not a port; write its number, or its name in the Service")


KubernetesPort = Annotated[
    int | str,
    BeforeValidator(_kubernetes_port),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": KUBERNETES_PORT_NAME},
            ]
        }
    ),
    Written("a number or a name"),
]
