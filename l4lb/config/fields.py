"""The types of configuration values: how each is read, bounded, and described to an editor."""

from __future__ import annotations

import contextlib
import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Literal

import regex
from pydantic import BeforeValidator, Field, StringConstraints, ValidationInfo, WithJsonSchema

from l4lb.config.address import UNIX_PATH_BYTES_MAX, Address
from l4lb.config.units import (
    DURATION_PATTERN,
    RATE_PATTERN,
    SECONDS_MAX,
    format_duration,
    parse_duration,
    parse_rate,
    shorten,
)
from l4lb.geo import selector
from l4lb.geo.selector import Selector
from l4lb.load.exposition import NAME_PATTERN, Series

FROM_FILE = {"from_file": True}
"""Validation context of data that people wrote: there, a duration must have its unit."""

ENTRIES_MAX = 4096
"""Addresses or codes in one list."""

NETWORKS_MAX = 500_000
"""Networks in one list: whole lists of countries or of known attackers are used as they are published."""

ROUTES_MAX = 16_384
"""Server names of one listener; the data plane has the same limit."""

SERVER_NAME_MAX = 255

TIERS_MAX = 16
ZONES_MAX = 255
"""As many as the data plane tells apart (`src_c/bounds.h`)."""

DATABASES_MAX = 8
RATE_MAX = 1_000_000
PIPES_MAX = 4096
WORKERS_MAX = 64
CONNECTIONS_MAX = 10_000_000
TABLE_SIZE_MAX = 5_000_011
KEEPALIVE_MAX = 32_767.0
PROBES_MAX = 127
"""These two are the kernel's, tcp(7)."""

ADDRESS_PATTERN = r"^(unix:[/@]|[^ ]*:[0-9]{1,5}$)"
NETWORK_PATTERN = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"
STATUS_PATTERN = r"^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"

_NETWORK = re.compile(NETWORK_PATTERN, re.ASCII)
_STATUS = re.compile(STATUS_PATTERN, re.ASCII)

Schema = dict[str, Any]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Durations


def _duration(least: float, *, most: float = SECONDS_MAX, off: bool = False, whole: bool = False) -> BeforeValidator:
    def read(value: Any, info: ValidationInfo) -> float | None:
        if off and (value == "off" or (value is None and not info.context)):
            return None
        if value == "off":
            raise ValueError("this timer cannot be off; write a duration such as 5s")
        if isinstance(value, str):
            seconds = parse_duration(value)
        elif not _is_number(value):
            raise ValueError(f"a duration is expected, such as 250ms, 5s, 10m or 1h{' (or off)' if off else ''}")
        elif info.context:
            raise ValueError(f"{value} has no unit; write {value}s for seconds (units: ms, s, m, h, d)")
        else:
            seconds = float(value)
        if not least <= seconds <= most:
            raise ValueError(f"a duration from {format_duration(least)} to {format_duration(most)} is expected")
        if whole and seconds != int(seconds):
            raise ValueError("whole seconds are expected, because the kernel counts these in seconds")
        return seconds

    return BeforeValidator(read)


_WRITTEN: Schema = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["250ms", "5s", "10m", "1h"]}
_DURATION_SCHEMA = WithJsonSchema(_WRITTEN)
_DURATION_OR_OFF_SCHEMA = WithJsonSchema({"anyOf": [_WRITTEN, {"const": "off"}]})

Timeout = Annotated[float, _duration(0.001), _DURATION_SCHEMA]
TimeoutOrOff = Annotated[float | None, _duration(0.001, off=True), _DURATION_OR_OFF_SCHEMA]

Patience = Annotated[float, _duration(0.0), _DURATION_SCHEMA]
"""A wait that may be nothing at all: 0s."""

PatienceOrOff = Annotated[float | None, _duration(0.0, off=True), _DURATION_OR_OFF_SCHEMA]

Interval = Annotated[float, _duration(0.01, most=86400.0), _DURATION_SCHEMA]
"""The pace of something that repeats."""


Keepalive = Annotated[float, _duration(1.0, most=KEEPALIVE_MAX, whole=True), _DURATION_SCHEMA]
KeepaliveOrOff = Annotated[
    float | None, _duration(1.0, most=KEEPALIVE_MAX, off=True, whole=True), _DURATION_OR_OFF_SCHEMA
]
UserTimeout = Annotated[float | None, _duration(0.1, most=86400.0, off=True), _DURATION_OR_OFF_SCHEMA]


def _rate(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, str):
        rate = parse_rate(value)
    elif _is_number(value) and not info.context:
        rate = float(value)
    else:
        raise ValueError("a rate is expected, such as 50/s or 10/m")
    if not 0 < rate <= RATE_MAX:
        raise ValueError(f"a rate above 0 and up to {RATE_MAX}/s is expected")
    return rate


Rate = Annotated[
    float,
    BeforeValidator(_rate),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "examples": ["50/s", "10/m"]}),
]
"""How many a second."""


# Numbers


def _auto(least: int, most: int) -> BeforeValidator:
    def read(value: Any) -> Any:
        if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
            return value
        raise ValueError(f"a whole number from {least} to {most}, or auto, is expected")

    return BeforeValidator(read)


Workers = Annotated[int | Literal["auto"], _auto(1, WORKERS_MAX)]
Capacity = Annotated[int | Literal["auto"], _auto(1, CONNECTIONS_MAX)]
Pipes = Annotated[int | Literal["auto"], _auto(0, PIPES_MAX)]
Connections = Annotated[int, Field(strict=True, ge=0, le=CONNECTIONS_MAX)]
Count = Annotated[int, Field(strict=True, ge=1, le=1000)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Backlog = Annotated[int, Field(strict=True, ge=1, le=65535)]
Probes = Annotated[int, Field(strict=True, ge=1, le=PROBES_MAX)]
Retries = Annotated[int, Field(strict=True, ge=0, le=100)]
Weight = Annotated[int, Field(strict=True, ge=0, le=256)]
Tier = Annotated[int, Field(strict=True, ge=0, le=TIERS_MAX - 1)]


NUMBER_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,9})?$"

_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)


def _number(least: float, most: float, *, off: bool = False) -> BeforeValidator:
    def read(value: Any, info: ValidationInfo) -> float | None:
        if off and (value == "off" or (value is None and not info.context)):
            return None
        number = float(value) if _is_number(value) or (isinstance(value, str) and _NUMBER.fullmatch(value)) else None
        if number is None or not least <= number <= most:
            raise ValueError(f"a number from {least:.12g} to {most:.12g}{', or off,' if off else ''} is expected")
        return number

    return BeforeValidator(read)


_WRITTEN_NUMBER: Schema = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": NUMBER_PATTERN}]}
Limit = Annotated[
    float | None, _number(0.001, 1e6, off=True), WithJsonSchema({"anyOf": [_WRITTEN_NUMBER, {"const": "off"}]})
]
"""How much of something is all of it."""


def _prime(value: Any) -> Any:
    if isinstance(value, int) and 2 <= value <= TABLE_SIZE_MAX and not _is_prime(value):
        above = next(number for number in range(value, TABLE_SIZE_MAX + 1) if _is_prime(number))
        raise ValueError(f"{value} is not a prime number; the next one is {above}")
    return value


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


TableSize = Annotated[int, Field(strict=True, ge=2, le=TABLE_SIZE_MAX), BeforeValidator(_prime)]


PERCENTAGE_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,3})?%$"

_PERCENTAGE = re.compile(PERCENTAGE_PATTERN, re.ASCII)


def _percentage(most: int) -> BeforeValidator:
    def read(value: Any, info: ValidationInfo) -> float:
        if isinstance(value, str) and _PERCENTAGE.fullmatch(value):
            share = float(value.removesuffix("%")) / 100
        elif _is_number(value) and not info.context:
            share = float(value)
        else:
            raise ValueError(f"a percentage is expected, such as {most}%")
        if not 0 <= share <= most / 100:
            raise ValueError(f"a percentage from 0% to {most}% is expected")
        return share

    return BeforeValidator(read)


_PERCENTAGE_SCHEMA = WithJsonSchema({"type": "string", "pattern": PERCENTAGE_PATTERN, "examples": ["50%"]})
Percentage = Annotated[float, _percentage(100), _PERCENTAGE_SCHEMA]
"""A share of a whole."""

Spread = Annotated[float, _percentage(50), _PERCENTAGE_SCHEMA]
"""How far something may be off, either way."""


QueueSize = Annotated[int, Field(strict=True, ge=1, le=100_000)]
StickyEntries = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
MaxLoad = Annotated[float, Field(ge=1.01, le=100.0)]

# Words: each pattern has the sentence that is said when it does not match.

_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$"
_BACKEND_NAME = r"^[^\s\x00-\x1f\x7f]{1,255}$"
_USER = r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$"
_FILE_PATH = r"^[^\x00-\x1f\x7f]{1,4095}$"
_URL_PATH = r"^/[!-~]{0,2047}$"
_HOST = r"^[!-~]{1,255}$"
_SERVER_NAME = r"^(\*\.)?([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}$"
_URL = r"^https?://[!-~]{1,2047}$"
_CERTIFICATE_NAME = r"^[A-Za-z0-9_.:-]{1,253}$"
_SERVICE = r"^[!-~]{0,255}$"
_PLAIN_URL = r"^https?://[A-Za-z0-9\[][!-z|~]{0,2046}$"
_ORIGIN = r"^https?://[A-Za-z0-9\[][A-Za-z0-9.:\]_-]{0,300}$"
_DNS_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$"
_KUBERNETES_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_KEY_PREFIX = r"^[!-~]{1,1024}$"

PATTERN_HELP = {
    _NAME: "a name is up to 128 letters, digits and _ . : - and begins with a letter, a digit or _",
    _BACKEND_NAME: "a backend name is up to 255 characters without spaces",
    _USER: "a user name is expected, such as l4lb",
    _FILE_PATH: "a file name is expected, or - for standard output",
    _URL_PATH: "a path begins with / and has no spaces, such as /health",
    _URL: "a URL is expected, such as http://{host}:{port}/metrics",
    _CERTIFICATE_NAME: "the name in a certificate is expected, such as model.example or an IP address",
    _SERVICE: "the name of a service has no spaces, such as inference.GRPCInferenceService",
    _HOST: "a host name without spaces is expected, such as model.example",
    _SERVER_NAME: "a server name is expected, such as model.example or *.model.example",
    _PLAIN_URL: "a URL is expected, such as http://registry.example/targets",
    _ORIGIN: "a URL without a path is expected, such as http://10.0.0.5:2379",
    _DNS_NAME: "a name is expected, such as llama.ml.svc",
    _KUBERNETES_NAME: "a name in Kubernetes has lower-case letters, digits, - and .",
    _KEY_PREFIX: "the beginning of keys is expected, without spaces, such as /l4lb/llama/",
}

Name = Annotated[str, StringConstraints(strict=True, pattern=_NAME)]
"""Listeners and pools have names that need no quoting in a shell, a URL or a metric."""

BackendName = Annotated[str, StringConstraints(strict=True, pattern=_BACKEND_NAME)]
"""A backend may be called by its address, so everything but spaces is allowed."""

User = Annotated[str, StringConstraints(strict=True, pattern=_USER)]
FilePath = Annotated[str, StringConstraints(strict=True, pattern=_FILE_PATH)]
UrlPath = Annotated[str, StringConstraints(strict=True, pattern=_URL_PATH)]
Url = Annotated[str, StringConstraints(strict=True, pattern=_URL)]
ServerName = Annotated[str, StringConstraints(strict=True, pattern=_SERVER_NAME, max_length=SERVER_NAME_MAX)]
"""A name in a TLS handshake, in any case, or `*.` and the end of such names."""

Routes = Annotated[dict[ServerName, Name], Field(max_length=ROUTES_MAX)]
"""Which pool serves which server name."""

PlainUrl = Annotated[str, StringConstraints(strict=True, pattern=_PLAIN_URL)]
Origin = Annotated[str, StringConstraints(strict=True, pattern=_ORIGIN)]
DnsName = Annotated[str, StringConstraints(strict=True, pattern=_DNS_NAME)]
KubernetesName = Annotated[str, StringConstraints(strict=True, pattern=_KUBERNETES_NAME)]
KeyPrefix = Annotated[str, StringConstraints(strict=True, pattern=_KEY_PREFIX)]
HostHeader = Annotated[str, StringConstraints(strict=True, pattern=_HOST)]
CertificateName = Annotated[str, StringConstraints(strict=True, pattern=_CERTIFICATE_NAME)]
ServiceName = Annotated[str, StringConstraints(strict=True, pattern=_SERVICE)]


# Addresses


def _address(value: Any) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        return Address.parse(value)
    if _is_number(value):
        raise ValueError(f"{value} is not an address; write HOST:{value}, such as 127.0.0.1:{value}")
    raise ValueError("an address is expected, such as 10.0.0.1:80, [2001:db8::1]:80, name:80 or unix:/run/x.sock")


def read_bind(value: Any) -> Address:
    """An address to listen on. There is nothing to resolve; port 0 lets the kernel choose."""
    address = _address(value)
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
    address = _address(value)
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


_ADDRESS_SCHEMA: Schema = {"type": "string", "pattern": ADDRESS_PATTERN, "examples": ["10.0.0.1:80", "unix:/run/x"]}

TcpBind = Annotated[Address, BeforeValidator(_read_tcp_bind), WithJsonSchema(_ADDRESS_SCHEMA)]
Target = Annotated[Address, BeforeValidator(read_backend), WithJsonSchema(_ADDRESS_SCHEMA)]
UnixPath = Annotated[
    str,
    BeforeValidator(_read_unix_path),
    WithJsonSchema({"type": "string", "pattern": "^(unix:)?/", "maxLength": UNIX_PATH_BYTES_MAX + len("unix:")}),
]


# Lists: where several values may stand, one may stand alone.


def one_or_many(value: Any) -> Any:
    return value if isinstance(value, list | tuple | set | frozenset) else (value,)


def _at_least_one(value: Any) -> Any:
    if isinstance(value, list | tuple) and not value:
        raise ValueError("the list is empty; give at least one entry")
    return value


AT_LEAST_ONE = BeforeValidator(_at_least_one)


def _list_schema(item: Schema, most: int = ENTRIES_MAX) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item, "maxItems": most}]})


def _network(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = str(value)
    network = None
    # What the pattern refuses, the library would take as a netmask behind the slash, or as the inverse of one.
    if _NETWORK.fullmatch(text):
        with contextlib.suppress(ValueError):
            return ip_network(text)
        with contextlib.suppress(ValueError):
            network = ip_network(text, strict=False)
    if network is None:
        raise ValueError(f"{shorten(value)} is not a network; write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")
    raise ValueError(f"{shorten(value)} has bits set after its prefix; write {network}")


def _statuses(value: Any) -> tuple[int, ...]:
    codes: set[int] = set()
    for item in one_or_many(value):
        first, _, last = str(item).partition("-")
        if isinstance(item, bool) or not _STATUS.fullmatch(str(item)) or int(last or first) < int(first):
            raise ValueError(f"{shorten(item)} is not a status; write a code such as 200 or a range such as 200-399")
        codes.update(range(int(first), int(last or first) + 1))
    if not codes:
        raise ValueError("at least one status is expected, such as 200")
    return tuple(sorted(codes))


_NETWORK_SCHEMA: Schema = {"type": "string", "pattern": NETWORK_PATTERN, "examples": ["10.0.0.0/8", "2001:db8::/32"]}
_STATUS_SCHEMA: Schema = {
    "anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, {"type": "string", "pattern": STATUS_PATTERN}]
}

Bind = Annotated[Address, BeforeValidator(read_bind)]
Binds = Annotated[
    tuple[Bind, ...],
    Field(max_length=ENTRIES_MAX),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    _list_schema(_ADDRESS_SCHEMA),
]

Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Networks = Annotated[
    tuple[Network, ...],
    Field(max_length=NETWORKS_MAX),
    BeforeValidator(one_or_many),
    _list_schema(_NETWORK_SCHEMA, NETWORKS_MAX),
]


def read_zone_entry(value: Any) -> IPv4Network | IPv6Network | Selector:
    """What may be in a zone: a network, or what a database says of some."""
    if isinstance(value, Selector):
        return value
    if isinstance(value, str) and selector.is_selector(value):
        return Selector.parse(value)
    try:
        return _network(value)
    except ValueError as error:
        raise ValueError(f"{error}; or country:DE, continent:EU or asn:64500") from None


Zone = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network | Selector, BeforeValidator(read_zone_entry)], ...],
    Field(max_length=NETWORKS_MAX),
    BeforeValidator(one_or_many),
    _list_schema({"anyOf": [_NETWORK_SCHEMA, {"type": "string", "pattern": f"^({selector.PATTERN})$"}]}, NETWORKS_MAX),
]
Databases = Annotated[
    tuple[FilePath, ...],
    Field(max_length=DATABASES_MAX),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    _list_schema({"type": "string"}, DATABASES_MAX),
]

Statuses = Annotated[tuple[int, ...], BeforeValidator(_statuses), _list_schema(_STATUS_SCHEMA)]
STATUSES_OK = tuple(range(200, 400))

Origins = Annotated[
    tuple[Origin, ...],
    Field(max_length=64),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    _list_schema({"type": "string", "pattern": _ORIGIN}, 64),
]


def _read_server(value: Any) -> Address:
    address = _address(value)
    if address.is_unix or address.is_name or not address.port:
        raise ValueError(f"{shorten(value)} is no name server; write its IP address and port, such as 10.0.0.10:53")
    return address


Server = Annotated[Address, BeforeValidator(_read_server)]
Servers = Annotated[
    tuple[Server, ...], Field(max_length=16), BeforeValidator(one_or_many), _list_schema(_ADDRESS_SCHEMA, 16)
]

Record = Literal["A", "AAAA", "SRV"]
Records = Annotated[
    tuple[Record, ...],
    Field(max_length=3),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    _list_schema({"enum": ["A", "AAAA", "SRV"]}, 3),
]

KUBERNETES_PORT_NAME = r"^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$"
_KUBERNETES_PORT_NAME = re.compile(KUBERNETES_PORT_NAME, re.ASCII)


def _kubernetes_port(value: Any) -> int | str:
    if isinstance(value, str) and _KUBERNETES_PORT_NAME.fullmatch(value) and not value.isdigit():
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    raise ValueError(f"{shorten(value)} is no port; write its number, or its name in the Service")


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
]

Event = Literal["open", "interval", "close"]
Events = Annotated[
    tuple[Event, ...],
    Field(max_length=3),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    _list_schema({"enum": ["open", "interval", "close"]}),
]


def _series(value: Any) -> Series:
    if isinstance(value, Series):
        return value
    if not isinstance(value, str):
        raise ValueError(f"a metric name is expected, not {shorten(value)}")
    return Series.parse(value)


SERIES_PATTERN = rf"^{NAME_PATTERN}\s*(\{{.*\}})?\s*%?$"

Chain = Annotated[
    tuple[Annotated[Series, BeforeValidator(_series)], ...],
    Field(max_length=64),
    BeforeValidator(one_or_many),
    _list_schema({"type": "string", "pattern": SERIES_PATTERN}, 64),
]
"""The names a metric goes by; the first that is there counts."""


# What checks send and expect


PAYLOAD_MAX = 4096
"""Bytes that one step of a check sends or looks for."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]{0,4096}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


def _payload(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"text is expected, or hex: and digits such as hex:0d0a, not {shorten(value)}")
    text = str(value)
    try:
        data = bytes.fromhex(text.removeprefix("hex:")) if text.startswith("hex:") else text.encode()
    except ValueError:
        raise ValueError(f"{shorten(text)} is not hex: pairs of the digits 0-9 and a-f are expected") from None
    if not 0 < len(data) <= PAYLOAD_MAX:
        raise ValueError(f"1 to {PAYLOAD_MAX} bytes are expected, not {len(data)}")
    return data


Payload = Annotated[bytes, BeforeValidator(_payload), WithJsonSchema({"type": "string"})]
"""Bytes, written as text or as `hex:` and their digits."""


def _regular_expression(value: Any) -> Any:
    if isinstance(value, str):
        try:
            regex.compile(value)
        except regex.error as error:
            raise ValueError(f"{shorten(value)} is not a regular expression: {error}") from None
    return value


RegularExpression = Annotated[str, Field(strict=True, max_length=1024), BeforeValidator(_regular_expression)]

Pairs = tuple[tuple[str, str], ...]


def _pairs(what: str, name: re.Pattern[str], text: re.Pattern[str]) -> BeforeValidator:
    def read(value: Any) -> Pairs:
        items = value.items() if isinstance(value, dict) else value
        if not isinstance(value, dict | list | tuple):
            raise ValueError(f"a section of {what}s and their values is expected, not {shorten(value)}")
        pairs = tuple((key, str(item)) for key, item in items)
        for key, item in pairs:
            if not isinstance(key, str) or not name.fullmatch(key):
                raise ValueError(f"{shorten(key)} is not the name of a {what}")
            if not text.fullmatch(item):
                raise ValueError(
                    f"the value of {what} {shorten(key)} is too long, or has a character that is not allowed"
                )
        if len(pairs) > 64:
            raise ValueError(f"there are more than 64 {what}s")
        return pairs

    return BeforeValidator(read)


_PAIRS_SCHEMA = WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "integer"]}})
Headers = Annotated[Pairs, _pairs("header", _HEADER_NAME, _HEADER_VALUE), _PAIRS_SCHEMA]
Variables = Annotated[Pairs, _pairs("variable", _VARIABLE, re.compile(r"[^\x00]{0,4096}")), _PAIRS_SCHEMA]

Argument = Annotated[str, BeforeValidator(lambda value: str(value) if _is_number(value) else value)]
Command = Annotated[
    tuple[Argument, ...],
    Field(max_length=64),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    _list_schema({"type": "string"}, 64),
]
"""A program and its arguments."""


def _read_ip(value: Any) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError(f"{shorten(value)} is not an IP address; write one such as 10.0.0.1 or 2001:db8::1") from None


IpAddress = Annotated[str, BeforeValidator(_read_ip), WithJsonSchema({"type": "string"})]
