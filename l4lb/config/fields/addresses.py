"""Addresses to listen on, to connect to, and to check."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from l4lb.base.text import quoted
from l4lb.config.address import UNIX_PATH_BYTES_MAX, Address
from l4lb.config.fields.shape import AT_LEAST_ONE, ENTRIES_MAX, Schema, Written, is_number, list_schema, one_or_many
from l4lb.config.fields.strings import SERVER_NAME_MAX, ServerName

ADDRESS_PATTERN = r"^(unix:[/@]|[^ ]*:[0-9]{1,5}$)"

_INTERFACE = re.compile(r"[^\s/:%\[\]]{1,15}", re.ASCII)
"""Characters that Linux allows in the name of an interface, or its number."""


def read_address(value: Any) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        return Address.parse(value)
    if is_number(value):
        raise ValueError(f"{value} is not an address; write HOST:{value}, such as 127.0.0.1:{value}")
    raise ValueError("an address is expected, such as 10.0.0.1:80, [2001:db8::1]:80, name:80 or unix:/run/x.sock")


def read_bind(value: Any) -> Address:
    """An address to listen on. Names are not resolved; port 0 lets the kernel choose."""
    address = reachable(read_address(value))
    if address.is_name:
        raise ValueError(f"{quoted(str(address))} is a name; give the IP address to listen on, or *:{address.port}")
    return address


def reachable(address: Address) -> Address:
    """The address as the kernel has it: link-local with interface, IPv4 as IPv4. ValueError if it has none."""
    if not address.is_ipv6 or address.host is None:
        return address
    try:
        return replace(address, host=_canonical_ipv6(address.host))
    except ValueError as error:
        raise ValueError(f"{quoted(str(address))} {error}") from None


def _canonical_ipv6(host: str) -> str:
    plain, percent, interface = host.partition("%")
    address = IPv6Address(plain)
    if address.ipv4_mapped is not None and not percent:
        return str(address.ipv4_mapped)
    if not address.is_link_local:
        if percent:
            raise ValueError(f"names an interface, which only link-local addresses have; write {plain}")
        return plain
    if not percent:
        raise ValueError(f"is link-local, so it needs its interface; write it as [{plain}%eth0]")
    if not _INTERFACE.fullmatch(interface) or interface.strip("0") in ("", ".", ".."):
        raise ValueError(f"names no interface behind the %; write its name or number, such as [{plain}%eth0]")
    return host


def _read_tcp_bind(value: Any) -> Address:
    address = read_bind(value)
    if address.is_unix:
        raise ValueError("an IP address and port are expected, such as 127.0.0.1:9400; socket is for a unix socket")
    return address


def read_backend(value: Any) -> Address:
    """An address to connect to."""
    address = reachable(read_address(value))
    if address.port == 0:
        raise ValueError(f"{quoted(str(address))} has a bad port; ports are 1 to 65535")
    if address.host in ("0.0.0.0", "::"):
        raise ValueError(f"{quoted(str(address))} is every address; name the one to connect to")
    return address


def _read_unix_path(value: Any) -> str:
    path = Address.parse(f"unix:{value.removeprefix('unix:')}").path if isinstance(value, str) else None
    if path is None or path.startswith("@"):
        raise ValueError("the absolute path of a unix socket is expected, such as /run/l4lb/admin.sock")
    return path


ADDRESS_SCHEMA: Schema = {"type": "string", "pattern": ADDRESS_PATTERN, "examples": ["10.0.0.1:80", "unix:/run/x"]}

TcpBind = Annotated[Address, BeforeValidator(_read_tcp_bind), WithJsonSchema(ADDRESS_SCHEMA), Written("address")]
Target = Annotated[Address, BeforeValidator(read_backend), WithJsonSchema(ADDRESS_SCHEMA), Written("address")]
UnixPath = Annotated[
    str,
    BeforeValidator(_read_unix_path),
    WithJsonSchema({"type": "string", "pattern": "^(unix:)?/", "maxLength": UNIX_PATH_BYTES_MAX + len("unix:")}),
    Written("a path"),
]

Bind = Annotated[Address, BeforeValidator(read_bind)]
Binds = Annotated[
    tuple[Bind, ...],
    Field(max_length=ENTRIES_MAX),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    list_schema(ADDRESS_SCHEMA),
    Written("addresses"),
]


HostNames = Annotated[
    tuple[ServerName, ...],
    Field(max_length=ENTRIES_MAX),
    BeforeValidator(one_or_many),
    list_schema({"type": "string", "maxLength": SERVER_NAME_MAX}),
    Written("host names"),
]


def _read_ip(value: Any) -> str:
    try:
        address = str(ip_address(value))
    except ValueError:
        raise ValueError(f"{quoted(value)} is not an IP address; write one such as 10.0.0.1 or 2001:db8::1") from None
    if ":" not in address:
        return address
    try:
        return _canonical_ipv6(address)
    except ValueError as error:
        raise ValueError(f"{quoted(address)} {error}") from None


IpAddress = Annotated[str, BeforeValidator(_read_ip), WithJsonSchema({"type": "string"}), Written("an IP address")]


def read_source(value: Any) -> str:
    """An address of this host to connect from."""
    text = _read_ip(value)
    address = ip_address(text)
    if address.is_unspecified:
        raise ValueError(f"{text} is every address; name one of this host, or leave source out")
    if address.is_multicast or text == "255.255.255.255":
        raise ValueError(f"{text} is not an address of one host; name one of this host")
    if address.is_link_local and address.version == 6:
        raise ValueError(f"{text} is link-local; connections to link-local backends need no source")
    return text


SOURCES_MAX = 64
"""The data plane has the same limit."""

Sources = Annotated[
    tuple[Annotated[str, BeforeValidator(read_source)], ...],
    Field(max_length=SOURCES_MAX),
    BeforeValidator(one_or_many),
    list_schema({"type": "string"}),
    Written("IP addresses"),
]
