"""Addresses: to listen on, to connect to, to check."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from l4lb.config.address import UNIX_PATH_BYTES_MAX, Address
from l4lb.config.fields.shape import AT_LEAST_ONE, ENTRIES_MAX, Schema, is_number, list_schema, one_or_many
from l4lb.config.units import shorten

ADDRESS_PATTERN = r"^(unix:[/@]|[^ ]*:[0-9]{1,5}$)"


def read_address(value: Any) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        return Address.parse(value)
    if is_number(value):
        raise ValueError(f"{value} is not an address; write HOST:{value}, such as 127.0.0.1:{value}")
    raise ValueError("an address is expected, such as 10.0.0.1:80, [2001:db8::1]:80, name:80 or unix:/run/x.sock")


def read_bind(value: Any) -> Address:
    """An address to listen on. There is nothing to resolve; port 0 lets the kernel choose."""
    address = read_address(value)
    if address.is_name:
        raise ValueError(f"{shorten(str(address))} is a name; give the IP address to listen on, or *:{address.port}")
    return address


def _read_tcp_bind(value: Any) -> Address:
    address = read_bind(value)
    if address.is_unix:
        raise ValueError("an IP address and port are expected, such as 127.0.0.1:9400; socket is for a unix socket")
    return address


def read_backend(value: Any) -> Address:
    """An address to connect to."""
    address = read_address(value)
    if address.port == 0:
        raise ValueError(f"{shorten(str(address))} has a bad port; ports are 1 to 65535")
    if address.host in ("0.0.0.0", "::"):
        raise ValueError(f"{shorten(str(address))} is every address; name the one to connect to")
    return address


def _read_unix_path(value: Any) -> str:
    path = Address.parse(f"unix:{value.removeprefix('unix:')}").path if isinstance(value, str) else None
    if path is None or path.startswith("@"):
        raise ValueError("the absolute path of a unix socket is expected, such as /run/l4lb/admin.sock")
    return path


ADDRESS_SCHEMA: Schema = {"type": "string", "pattern": ADDRESS_PATTERN, "examples": ["10.0.0.1:80", "unix:/run/x"]}

TcpBind = Annotated[Address, BeforeValidator(_read_tcp_bind), WithJsonSchema(ADDRESS_SCHEMA)]
Target = Annotated[Address, BeforeValidator(read_backend), WithJsonSchema(ADDRESS_SCHEMA)]
UnixPath = Annotated[
    str,
    BeforeValidator(_read_unix_path),
    WithJsonSchema({"type": "string", "pattern": "^(unix:)?/", "maxLength": UNIX_PATH_BYTES_MAX + len("unix:")}),
]

Bind = Annotated[Address, BeforeValidator(read_bind)]
Binds = Annotated[
    tuple[Bind, ...],
    Field(max_length=ENTRIES_MAX),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    list_schema(ADDRESS_SCHEMA),
]


def _read_ip(value: Any) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError(f"{shorten(value)} is not an IP address; write one such as 10.0.0.1 or 2001:db8::1") from None


IpAddress = Annotated[str, BeforeValidator(_read_ip), WithJsonSchema({"type": "string"})]
