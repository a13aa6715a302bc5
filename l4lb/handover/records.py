"""Records of what a balancer knows beyond its file, in the form in which a successor gets it.

Times are ages in seconds, since the clocks of two processes differ. Unknown fields of another version are ignored;
missing ones have the values of a start.
"""

from __future__ import annotations

import base64
import itertools
import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from l4lb.config import Address
from l4lb.config.backends import read_backend, written
from l4lb.discovery.shrink_guard import Endpoints
from l4lb.discovery.source import Endpoint, Readiness
from l4lb.errors import ConfigError
from l4lb.handover.batches import BATCH, Json, batches
from l4lb.health.passive import Cause
from l4lb.net.target import Target
from l4lb.state.edits import Edit, Edits
from l4lb.state.failback import Seat
from l4lb.state.state import BackendKey
from l4lb.state.targets import literal
from l4lb.status import AdminState, HealthState

_log = logging.getLogger(__name__)

ALWAYS = 1e9
"""The age, in seconds, of what has always been so."""

STICKY = struct.Struct("!16sHd")
"""A client's address, the index of its backend in the batch, and the seconds until the entry expires."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class AgentWeightRecord(_Record):
    value: int
    relative: bool = True


class AgentRecord(_Record):
    """The last report of a backend's agent."""

    state: AdminState = AdminState.READY
    down: bool = False
    weight: AgentWeightRecord | None = None
    max_connections: int | None = None
    remark: str = ""


class CheckRecord(_Record):
    """The result of health checks; `risen` is the age of the last change from down to up."""

    state: HealthState
    message: str = ""
    streak: int = 0
    undecided: int = 0
    flaps: int = 0
    risen: float = ALWAYS


class EjectionRecord(_Record):
    """Past and present ejections; `left` is the seconds until the present one ends, None without one."""

    ejections: int = 0
    returned: float = ALWAYS
    left: float | None = None
    cause: Cause | None = None


class BackendRecord(_Record):
    """A backend. `config` has its settings without defaults, `usable` the seconds since it became usable, `cold` the
    responses until it is no longer cold, `max_busy` the limit that was learnt, `checked` whether its pool has health
    checks."""

    pool: str
    name: str
    config: Json
    state: AdminState = AdminState.READY
    weight: int | None = None
    health: HealthState = HealthState.NONE
    checked: bool = False
    check: CheckRecord | None = None
    agent: AgentRecord | None = None
    usable: float | None = None
    cold: int = 0
    max_busy: int | None = None
    stalled: str | None = None
    ejection: EjectionRecord | None = None

    @property
    def key(self) -> BackendKey:
        return self.pool, self.name


class _EndpointRecord(_Record):
    name: str
    address: str
    weight: int = 1
    zone: str | None = None
    tier: int = 0
    readiness: Readiness = Readiness.READY


@dataclass(frozen=True, slots=True)
class StickyBatch:
    """Some entries of a pool's stick table, packed. Each has an index into `backends`."""

    pool: str
    backends: Sequence[str]
    packed: bytes

    def message(self) -> tuple[str, Json]:
        packed = base64.b64encode(self.packed).decode()
        return "sticky", {"pool": self.pool, "backends": list(self.backends), "packed": packed}


@dataclass(slots=True)
class HandoverData:
    """All records: backends, the seats of pools, discovered endpoints, resolved names, stick tables, and edits."""

    backends: dict[BackendKey, BackendRecord] = field(default_factory=dict)
    seats: dict[str, Seat] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoints] = field(default_factory=dict)
    targets: Mapping[Address, Target] = field(default_factory=dict)
    sticky: list[StickyBatch] = field(default_factory=list)
    edits: Edits = field(default_factory=dict)

    def messages(self) -> Iterator[tuple[str, Json]]:
        """The kind and fields of each message, without seats and stick tables."""
        yield from backend_messages(iter(self.backends.values()))
        for edited in batches(list(self.edits.items())):
            yield "edits", {"edits": [_write_edit(key, edit) for key, edit in edited]}
        for pool, endpoints in self.endpoints.items():
            yield "endpoints", {"pool": pool, "endpoints": []}
            for some in batches(endpoints):
                yield "endpoints", {"pool": pool, "endpoints": [_write_endpoint(one) for one in some]}
        names = {str(name): _write_target(target) for name, target in self.targets.items() if name.is_open}
        for found in batches(list(names.items())):
            yield "names", {"names": dict(found)}


def backend_messages(told: Iterator[BackendRecord]) -> Iterator[tuple[str, Json]]:
    """The kind and fields of each message for these backends."""
    while some := list(itertools.islice(told, BATCH)):
        yield "backends", {"backends": [one.model_dump(mode="json", exclude_defaults=True) for one in some]}


def seat_messages(seats: Mapping[str, Seat]) -> Iterator[tuple[str, Json]]:
    """The kind and fields of each message for the seats of pools."""
    for some in batches(list(seats.items())):
        yield "seats", {"seats": {pool: {"tier": seat.tier, "backend": seat.backend} for pool, seat in some}}


class HandoverReader:
    """Collects the records of the messages that arrive."""

    def __init__(self) -> None:
        self.memory = HandoverData()
        self._edits: dict[BackendKey, Edit] = {}
        self._endpoints: dict[str, Endpoints] = {}
        self._targets: dict[Address, Target] = {}
        self.memory.edits, self.memory.endpoints, self.memory.targets = self._edits, self._endpoints, self._targets

    def read(self, kind: str, fields: Json) -> None:
        """Take one message. ValueError, KeyError or TypeError if it is malformed; unknown kinds are ignored."""
        match kind:
            case "backends":
                for one in fields["backends"]:
                    told = BackendRecord.model_validate(one)
                    self.memory.backends[told.key] = told
            case "edits":
                self._edits.update(filter(None, map(_read_edit, fields["edits"])))
            case "endpoints":
                pool, found = str(fields["pool"]), tuple(map(_read_endpoint, fields["endpoints"]))
                self._endpoints[pool] = self._endpoints.get(pool, ()) + found
            case "names":
                for name, address in fields["names"].items():
                    if (target := literal(Address.parse(address))) is not None:
                        self._targets[Address.parse(name)] = target
            case "seats":
                self.memory.seats |= {str(pool): _read_seat(seat) for pool, seat in fields["seats"].items()}
            case "sticky":
                self.memory.sticky.append(_read_batch(fields))


def _write_edit(key: BackendKey, edit: Edit) -> Json:
    base, now = (None if backend is None else written(backend) for backend in (edit.base, edit.now))
    return {"pool": key[0], "name": key[1], "base": base, "now": now}


def _read_edit(fields: Json) -> tuple[BackendKey, Edit] | None:
    key = str(fields["pool"]), str(fields["name"])
    try:
        base, now = (None if one is None else read_backend(one) for one in (fields["base"], fields["now"]))
    except ConfigError as error:
        _log.warning(
            "%s/%s: an edit of the previous process is not valid in this version, using the file: %s", *key, error
        )
        return None
    return key, Edit(base, now)


def _write_endpoint(endpoint: Endpoint) -> Json:
    told = _EndpointRecord(
        name=endpoint.name,
        address=str(endpoint.address),
        weight=endpoint.weight,
        zone=endpoint.zone,
        tier=endpoint.tier,
        readiness=endpoint.readiness,
    )
    return told.model_dump(mode="json", exclude_defaults=True)


def _read_endpoint(fields: Json) -> Endpoint:
    told = _EndpointRecord.model_validate(fields)
    return Endpoint(told.name, Address.parse(told.address), told.weight, told.zone, told.tier, told.readiness)


def _read_seat(fields: Json) -> Seat:
    backend = fields.get("backend")
    return Seat(int(fields["tier"]), None if backend is None else str(backend))


def _write_target(target: Target) -> str:
    if isinstance(target.address, str):
        return f"unix:{target.address}"
    return str(Address(host=target.host, port=target.address[1]))


def _read_batch(fields: Json) -> StickyBatch:
    packed = base64.b64decode(fields["packed"], validate=True)
    if len(packed) % STICKY.size:
        raise ValueError("a batch of stick-table entries is incomplete")
    return StickyBatch(str(fields["pool"]), [str(name) for name in fields["backends"]], packed)
