"""Moves stick tables from one data plane to another, in which backends have other slots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from l4lb.engine.api import Engine, StickyEntry
from l4lb.handover.records import STICKY, StickyBatch

BATCH = 1024


def read(engine: Engine, pool: str, slot: int, names: Mapping[int, str], left: float) -> Iterator[StickyBatch]:
    """The entries of a pool's stick table that live for `left` more seconds, in batches. `names` has the backends by
    slot."""
    after = 0
    while True:
        try:
            entries, after = engine.sticky_read(slot, after, BATCH)
        except FileNotFoundError:
            return
        if not entries:
            return
        yield pack(pool, [entry for entry in entries if entry.left >= left], names)


def write(engine: Engine, slot: int, batch: StickyBatch, slots: Mapping[str, int]) -> None:
    """Add a batch to a pool's stick table. `slots` has the slots of its backends by name."""
    engine.sticky_write(slot, unpack(batch, slots))


def pack(pool: str, entries: Sequence[StickyEntry], names: Mapping[int, str]) -> StickyBatch:
    """A batch of these entries, without those of unnamed backends."""
    slots = sorted({entry.backend for entry in entries} & names.keys())
    numbers = {slot: number for number, slot in enumerate(slots)}
    packed = (
        STICKY.pack(entry.key, numbers[entry.backend], entry.left) for entry in entries if entry.backend in numbers
    )
    return StickyBatch(pool, [names[slot] for slot in slots], b"".join(packed))


def unpack(batch: StickyBatch, slots: Mapping[str, int]) -> list[StickyEntry]:
    """The entries of a batch, without those of unknown backends."""
    known = [slots.get(name) for name in batch.backends]
    return [
        StickyEntry(key=key, backend=slot, left=left)
        for key, number, left in STICKY.iter_unpack(batch.packed)
        if number < len(known) and (slot := known[number]) is not None
    ]
