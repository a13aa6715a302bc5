"""The address of a socket: an IP address and port, a host name and port, or a unix socket."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from l4lb.base.text import quoted

UNIX_PATH_BYTES_MAX = 107
"""sun_path holds 108 bytes and ends with a NUL."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE | re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_NUMERIC = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Either `host` and `port`, or `path`. `parse(str(address)) == address` always holds.

    `host` is a canonical IP address without brackets, or a name in lower case. A link-local IPv6 address ends with `%`
    and the name or number of its interface. `path` is absolute, or begins with `@` for a name in the kernel's abstract
    namespace.
    """

    host: str | None = None
    port: int | None = None
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse `10.0.0.1:80`, `[2001:db8::1]:80`, `name:80`, `*:80` or `unix:/path`. ValueError says what is wrong."""
        if text.startswith("unix:"):
            return cls(path=_unix_path(text))
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(f"{quoted(text)} is not an address; write HOST:PORT or unix:/path")
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError(f"{quoted(text)} has no port; write {_with_port(text)}")
        if host.startswith("[") and host.endswith("]"):
            return cls(host=_ipv6(host[1:-1], text), port=_port(port, text))
        if ":" in host:
            raise ValueError(
                f"{quoted(text)} is ambiguous; write an IPv6 address in brackets, such as [2001:db8::1]:80"
            )
        return cls(host=_ipv4_or_name(host, text), port=_port(port, text))

    @property
    def is_unix(self) -> bool:
        return self.path is not None

    @property
    def is_name(self) -> bool:
        """Whether the host has to be resolved."""
        return self.host is not None and ":" not in self.host and not _NUMERIC.fullmatch(self.host.rpartition(".")[2])

    @property
    def is_ipv6(self) -> bool:
        return self.host is not None and ":" in self.host

    @property
    def interface(self) -> str | None:
        """The name or number of the interface of a link-local IPv6 address; None for any other address."""
        return self.host.partition("%")[2] or None if self.is_ipv6 and self.host is not None else None

    @property
    def is_open(self) -> bool:
        """Whether the address has to be looked up again: names change their addresses, and interfaces their numbers."""
        return self.is_name or self.interface is not None

    @property
    def unix_name(self) -> str:
        """The unix address for the socket module, where an abstract name begins with NUL."""
        if self.path is None:
            raise ValueError(f"{self} is not a unix socket")
        return "\0" + self.path[1:] if self.path.startswith("@") else self.path

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


def _unix_path(text: str) -> str:
    path = text.removeprefix("unix:")
    if not path.startswith(("/", "@")) or len(path) < 2:
        raise ValueError(f"{quoted(text)} is not the absolute path of a socket; write unix:/path or unix:@name")
    if not path.isprintable():
        raise ValueError(f"{quoted(text)} holds characters that cannot be printed")
    if len(path.encode()) > UNIX_PATH_BYTES_MAX:
        raise ValueError(f"{quoted(text)} is longer than the {UNIX_PATH_BYTES_MAX} bytes that a unix socket may have")
    return path


def _port(port: str, text: str) -> int:
    number = int(port) if _PORT.fullmatch(port) else -1
    if not 0 <= number <= 65535:
        raise ValueError(f"{quoted(text)} has a bad port; ports are 1 to 65535")
    return number


def _ipv6(host: str, text: str) -> str:
    try:
        return str(IPv6Address(host))
    except AddressValueError:
        raise ValueError(f"{quoted(text)} does not hold an IPv6 address between its brackets") from None


def _ipv4_or_name(host: str, text: str) -> str:
    if host == "*":
        return "0.0.0.0"
    if not host:
        raise ValueError(f"{quoted(text)} has no host; write *{text} for every IPv4 address, or 127.0.0.1{text}")
    # A trailing dot marks a complete name: search domains do not apply.
    labels = host.removesuffix(".").split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        try:
            # As strict as ipaddress, but in C: a file may have ten thousand addresses.
            socket.inet_pton(socket.AF_INET, host)
        except OSError:
            raise ValueError(
                f"{quoted(text)} does not hold an IPv4 address; it has four numbers from 0 to 255"
            ) from None
        return host
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{quoted(text)} does not begin with a host name or an IP address")
    return host.lower()


def _with_port(text: str) -> str:
    if ":" in text:
        return f"[{text.strip('[]')}]:PORT"
    return f"*:{text}" if _PORT.fullmatch(text) else f"{text}:PORT"
