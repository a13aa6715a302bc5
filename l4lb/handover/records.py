"""What a balancer knows that its file does not say, in a form that a successor can be told.

Times are seconds ago, so that clocks need not agree. Fields that another version has beside these are passed over;
those that it lacks are as at a start.
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
"""Seconds. What has always been so has been so for that long."""

STICKY = struct.Struct("!16sHd")
"""A client's address, the number of its backend in the batch, and the seconds until it is forgotten."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class AgentWeightRecord(_Record):
    value: int
    relative: bool = True


class AgentRecord(_Record):
    """All that an agent has said of its backend until now."""

    state: AdminState = AdminState.READY
    down: bool = False
    weight: AgentWeightRecord | None = None
    max_connections: int | None = None
    remark: str = ""


class CheckRecord(_Record):
    """What health checks have come to; `risen` is how long ago it came up after it was down."""

    state: HealthState
    message: str = ""
    streak: int = 0
    undecided: int = 0
    flaps: int = 0
    risen: float = ALWAYS


class EjectionRecord(_Record):
    """What connections of clients have led to. `left` is the seconds until it is back; None when it is not out."""

    ejections: int = 0
    returned: float = ALWAYS
    left: float | None = None
    cause: Cause | None = None


class BackendRecord(_Record):
    """`config` is what the configuration says of it, defaults left out; `usable` is for how long it has been usable.
    `checked` is whether its pool has health checks."""

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
    """Some clients that a pool remembers, packed; entries number the `backends`."""

    pool: str
    backends: Sequence[str]
    packed: bytes

    def message(self) -> tuple[str, Json]:
        packed = base64.b64encode(self.packed).decode()
        return "sticky", {"pool": self.pool, "backends": list(self.backends), "packed": packed}


@dataclass(slots=True)
class HandoverData:
    """Backends, what was edited of them, where pools stay, what sources found for each, where names lead, and the
    clients of sticky pools."""

    backends: dict[BackendKey, BackendRecord] = field(default_factory=dict)
    seats: dict[str, Seat] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoints] = field(default_factory=dict)
    targets: Mapping[Address, Target] = field(default_factory=dict)
    sticky: list[StickyBatch] = field(default_factory=list)
    edits: Edits = field(default_factory=dict)

    def messages(self) -> Iterator[tuple[str, Json]]:
        """Kinds and fields of the messages that tell it, without clients."""
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
    """Kinds and fields of the messages that tell of these."""
    while some := list(itertools.islice(told, BATCH)):
        yield "backends", {"backends": [one.model_dump(mode="json", exclude_defaults=True) for one in some]}


def seat_messages(seats: Mapping[str, Seat]) -> Iterator[tuple[str, Json]]:
    """Kinds and fields of the messages that tell where pools stay."""
    for some in batches(list(seats.items())):
        yield "seats", {"seats": {pool: {"tier": seat.tier, "backend": seat.backend} for pool, seat in some}}


class HandoverReader:
    """Puts together what is told, message by message."""

    def __init__(self) -> None:
        self.memory = HandoverData()
        self._edits: dict[BackendKey, Edit] = {}
        self._endpoints: dict[str, Endpoints] = {}
        self._targets: dict[Address, Target] = {}
        self.memory.edits, self.memory.endpoints, self.memory.targets = self._edits, self._endpoints, self._targets

    def read(self, kind: str, fields: Json) -> None:
        """ValueError, KeyError or TypeError if the message is not what it should be; other kinds are passed over."""
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
        _log.warning("%s/%s is as the file has it, for what was changed at run time is not known here: %s", *key, error)
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
        raise ValueError("the entries of remembered clients are not whole")
    return StickyBatch(str(fields["pool"]), [str(name) for name in fields["backends"]], packed)
