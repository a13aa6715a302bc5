"""Turns EndpointSlices of Kubernetes into endpoints. Pure.

A Service may have several slices. While an endpoint moves between slices, two of them contain it; a Service with two
address families has slices for each. Each pod becomes one backend: IPv4 is preferred to IPv6, and of several entries
the one that is most ready counts.

Source: https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from l4lb.base.text import clipped, quoted
from l4lb.bounded import shape
from l4lb.config import Address
from l4lb.config.fields.addresses import read_backend
from l4lb.discovery.source import Answer, DiscoveryError, Endpoint, Readiness

Port = int | str | None

_FAMILIES = ("IPv4", "IPv6", "FQDN")
_RANKS = {Readiness.READY: 0, Readiness.DRAINING: 1, Readiness.NOT_READY: 2}


@dataclass(frozen=True, slots=True)
class Entry:
    """An endpoint of one slice. `serving` means that it still answers; `hints` are the zones whose clients should use
    it."""

    name: str
    address: Address
    family: str
    readiness: Readiness
    serving: bool
    zone: str | None
    hints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """The entries of one slice. `port_found` says whether the slice has the wanted port; without it, there are no
    entries."""

    entries: tuple[Entry, ...]
    port_found: bool
    empty: bool
    unusable: Mapping[str, str] = field(default_factory=dict)


def read_slice(data: shape.Object, port: Port) -> Slice:
    """Parse one EndpointSlice. DiscoveryError if it is invalid, or has several ports and none is configured."""
    endpoints = shape.objects(data, "endpoints")
    number = _port(shape.objects(data, "ports"), port)
    if number is None:
        return Slice((), port_found=False, empty=not endpoints)
    family = shape.text(data, "addressType")
    if family not in _FAMILIES:
        raise DiscoveryError(f"an EndpointSlice has the unknown address type {quoted(family)}")
    entries: list[Entry] = []
    unusable: dict[str, str] = {}
    for index, endpoint in enumerate(endpoints):
        try:
            entries += _entry(endpoint, family, number)
        except ValueError as error:
            unusable[f"endpoint {index + 1} of {quoted(shape.text(shape.section(data, 'metadata'), 'name'))}"] = str(
                error
            )
    return Slice(tuple(entries), port_found=True, empty=not endpoints, unusable=unusable)


def _port(ports: Iterable[shape.Object], wanted: Port) -> int | None:
    """The number of the wanted port; None if the slice does not have it."""
    found = [(shape.text(one, "name"), one.get("port")) for one in ports if one.get("protocol") in (None, "TCP")]
    if wanted is None and len(found) > 1:
        shown = clipped(", ".join(name or quoted(number)[1:-1] for name, number in found[:16]), 200)
        raise DiscoveryError(f"the Service has several ports ({shown}); give port")
    if not found and isinstance(wanted, int):
        # A headless Service may have no ports: its pods are reached at any port.
        return wanted
    for name, number in found:
        if number is None:
            # A port without a number stands for all ports.
            if isinstance(wanted, int):
                return wanted
            raise DiscoveryError("the Service is for all ports; give the number of the one to use")
        if isinstance(number, bool) or not isinstance(number, int):
            raise DiscoveryError(f"an EndpointSlice has the port {quoted(number)}")
        if wanted is None or wanted in (name, number):
            return number
    return None


def _entry(endpoint: shape.Object, family: str, port: int) -> Iterator[Entry]:
    """The entry of an endpoint; None if it has no address. ValueError says what is wrong."""
    conditions = shape.section(endpoint, "conditions")
    ready = conditions.get("ready") is not False
    serving = ready if conditions.get("serving") is None else bool(conditions["serving"])
    if conditions.get("terminating"):
        readiness = Readiness.DRAINING
    else:
        readiness = Readiness.READY if ready else Readiness.NOT_READY
    hints = shape.objects(shape.section(endpoint, "hints"), "forZones")
    # All addresses of an endpoint are equivalent, and the API allows only one (API reference, `addresses`).
    for host in shape.items(endpoint, "addresses")[:1]:
        address = _address(host if isinstance(host, str) else quoted(host), port)
        yield Entry(
            name=shape.text(shape.section(endpoint, "targetRef"), "name") or str(address),
            address=address,
            family=family,
            readiness=readiness,
            serving=serving,
            zone=shape.text(endpoint, "zone") or None,
            hints=tuple(filter(None, (shape.text(hint, "name") for hint in hints))),
        )


def _address(host: str, port: int) -> Address:
    return read_backend(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def merge(slices: Iterable[Slice]) -> Answer:
    """The endpoints of all slices. DiscoveryError if there are slices but none has the wanted port."""
    slices = list(slices)
    if not any(one.port_found for one in slices) and any(not one.empty for one in slices):
        raise DiscoveryError("the Service does not have the port that is asked for")
    entries = _last_resort(_distinct(entry for one in slices for entry in one.entries))
    hinted = all(entry.hints for entry in entries if entry.readiness in (Readiness.READY, Readiness.LAST_RESORT))
    unusable = {name: why for one in slices for name, why in one.unusable.items()}
    endpoints = [
        Endpoint(entry.name, entry.address, zone=_zone(entry, hinted), readiness=entry.readiness) for entry in entries
    ]
    return Answer(endpoints, unusable)


def _distinct(entries: Iterable[Entry]) -> list[Entry]:
    """One entry for each pod, the best one. Further ready addresses of the same family get their host appended to the
    name. kube-proxy treats addresses in the same way."""
    kept: dict[str, Entry] = {}
    for entry in sorted(entries, key=_preference):
        best = kept.setdefault(entry.name, entry)
        if entry.family == best.family and entry.readiness is Readiness.READY and entry.address != best.address:
            name = f"{entry.name}@{entry.address.host}"
            kept.setdefault(name, replace(entry, name=name))
    return list(kept.values())


def _preference(entry: Entry) -> tuple[int, int, bool, Address, str, tuple[str, ...]]:
    """A total order: the result must not depend on which slice contains an endpoint."""
    rank = _RANKS[entry.readiness]
    return _FAMILIES.index(entry.family), rank, not entry.serving, entry.address, entry.zone or "", entry.hints


def _last_resort(entries: list[Entry]) -> list[Entry]:
    """If no endpoint is ready, those that are terminating but still serve are used (KEP-1669)."""
    if any(entry.readiness is Readiness.READY for entry in entries):
        return entries
    return [
        replace(entry, readiness=Readiness.LAST_RESORT)
        if entry.readiness is Readiness.DRAINING and entry.serving
        else entry
        for entry in entries
    ]


def _zone(entry: Entry, hinted: bool) -> str | None:
    """The zone whose clients should use it, if every ready endpoint has a hint; else the zone that it is in."""
    if not hinted or not entry.hints:
        return entry.zone
    return entry.zone if entry.zone in entry.hints else entry.hints[0]
