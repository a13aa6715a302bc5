"""The Maglev table in plain Python: what src_c/structures/maglev.c must compute, written to be read and not to be fast.

From Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016, section 3.4. What the
paper leaves open is decided here: the hash, the order of turns, and what a weight means.
"""

from collections.abc import Iterator, Sequence

_WORD = (1 << 64) - 1


def _hash(data: bytes, seed: int) -> int:
    """FNV-1a of 64 bits, then the finalizer of SplitMix64."""
    word = 0xCBF29CE484222325 ^ seed
    for byte in data:
        word = (word ^ byte) * 0x100000001B3 & _WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31


def _permutation(name: str, size: int) -> Iterator[int]:
    """Every slot once, in the order in which this member would like to have them."""
    offset = _hash(name.encode(), 0) % size
    skip = _hash(name.encode(), 1) % (size - 1) + 1
    return ((offset + step * skip) % size for step in range(size))


def _turns(weights: Sequence[int], order: Sequence[int]) -> Iterator[int]:
    """Which backend is next, without end: the heaviest every round, others in proportion, all in the first round."""
    heaviest = max(weights)
    played = 0
    while True:
        for member in order:
            turns_before = 0 if played == 0 else 1 + (played - 1) * weights[member] // heaviest
            turns_after = 1 + played * weights[member] // heaviest
            if turns_after > turns_before:
                yield member
        played += 1


def maglev_table(names: Sequence[str], weights: Sequence[int], size: int) -> list[int]:
    """The table of a prime `size`, as indices into `names`. At least one weight must be positive."""
    order = sorted((i for i, weight in enumerate(weights) if weight > 0), key=lambda i: (names[i].encode(), i))
    wishes = {i: _permutation(names[i], size) for i in order}
    table: list[int | None] = [None] * size
    free = size
    for member in _turns(weights, order):
        slot = next(slot for slot in wishes[member] if table[slot] is None)
        table[slot] = member
        free -= 1
        if free == 0:
            break
    return [member for member in table if member is not None]
