"""The Maglev table of the data plane, compared with its plain Python reference, and what it is there for."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l4lb.engine._native import maglev_table
from tests.helpers.maglev_reference import maglev_table as reference_table

PRIMES = (3, 5, 7, 101, 251, 1009)

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
weights = st.one_of(st.sampled_from((0, 1, 2, 256, 65535)), st.integers(0, 300))
pools = st.dictionaries(names, weights, min_size=1, max_size=40).filter(lambda pool: any(pool.values()))


def _by_name(pool: dict[str, int], size: int) -> list[str]:
    members = list(pool)
    return [members[i] for i in maglev_table(members, list(pool.values()), size)]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(pools, st.sampled_from(PRIMES))
def test_the_native_table_is_that_of_the_reference(pool: dict[str, int], size: int) -> None:
    assert maglev_table(list(pool), list(pool.values()), size) == reference_table(list(pool), list(pool.values()), size)


def test_the_default_size_is_that_of_the_reference() -> None:
    members = [f"10.0.0.{i}:8080" for i in range(12)]
    shares = [1 + i % 3 for i in range(12)]
    assert maglev_table(members, shares, 65537) == reference_table(members, shares, 65537)


def test_equal_names_keep_the_order_they_come_in() -> None:
    assert maglev_table(["same", "same"], [1, 1], 101) == reference_table(["same", "same"], [1, 1], 101)


@settings(max_examples=50, deadline=None)
@given(pools, st.randoms(use_true_random=False))
def test_the_order_of_backends_does_not_matter(pool: dict[str, int], random: Random) -> None:
    items = list(pool.items())
    random.shuffle(items)
    assert _by_name(dict(items), 251) == _by_name(pool, 251)


@settings(max_examples=30, deadline=None, derandomize=True)  # names with an unlucky pair of steps move more
@given(st.lists(names, min_size=2, max_size=40, unique=True), st.data())
def test_a_removal_moves_the_share_of_the_removed_and_little_more(members: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(members))
    before = _by_name(dict.fromkeys(members, 1), 65537)
    after = _by_name({name: int(name != gone) for name in members}, 65537)
    moved = sum(was != now for was, now in zip(before, after, strict=True))
    assert moved <= 65537 / len(members) + 0.03 * 65537
    assert gone not in after


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 256), min_size=1, max_size=20))
def test_shares_follow_the_weights(shares: list[int]) -> None:
    counts = Counter(maglev_table([f"backend-{i}" for i in range(len(shares))], shares, 65537))
    for member, weight in enumerate(shares):
        assert counts[member] == pytest.approx(65537 * weight / sum(shares), abs=len(shares) + 2)


@pytest.mark.parametrize("size", [0, 1, 2, 4, 100, 65536])
def test_a_size_that_is_no_prime_or_too_small_is_refused(size: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        maglev_table(["a"], [1], size)


@pytest.mark.parametrize(("members", "shares"), [([], []), (["a", "b"], [0, 0])])
def test_a_pool_without_weight_is_refused(members: list[str], shares: list[int]) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        maglev_table(members, shares, 101)


def test_every_backend_needs_a_weight() -> None:
    with pytest.raises(ValueError, match="shorter"):
        maglev_table(["a", "b"], [1], 101)
