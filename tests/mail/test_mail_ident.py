import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail.ident import Ids, from_int, prefix_range, to_int

NOW = 1_800_000_000.0


@given(st.integers(0, 2**60 - 1))
def test_numbers_and_ids_are_one_to_one(n: int) -> None:
    assert to_int(from_int(n)) == n
    assert len(from_int(n)) == 12


@given(st.integers(0, 2**60 - 1), st.integers(0, 2**60 - 1))
def test_ids_sort_like_numbers(a: int, b: int) -> None:
    assert (a < b) == (from_int(a) < from_int(b))


@given(st.integers(0, 2**60 - 1), st.integers(0, 2**60 - 1), st.integers(1, 12))
def test_prefix_range_is_exactly_the_prefix(n: int, other: int, size: int) -> None:
    prefix = from_int(n)[:size]
    low, end = prefix_range(prefix)
    assert low <= n < end
    assert from_int(other).startswith(prefix) == (low <= other < end)


@pytest.mark.parametrize(
    "bad",
    ["", "0", "0" * 13, "ABCDEFGHJKMN", "00000000000i", "00000000000u", "+00000000000", "0_0000000000", "\u0660" * 12],
)
def test_not_an_id(bad: str) -> None:
    with pytest.raises(ValueError):
        to_int(bad)


@pytest.mark.parametrize("bad", ["", "3k!", "0" * 13, "L"])
def test_not_a_prefix(bad: str) -> None:
    with pytest.raises(ValueError):
        prefix_range(bad)


@pytest.mark.parametrize("bad", [-1, 2**60])
def test_number_out_of_range(bad: int) -> None:
    with pytest.raises(ValueError):
        from_int(bad)


def test_strictly_increasing_whatever_the_clock_does() -> None:
    times = [NOW, NOW, NOW + 0.001, NOW - 3600, NOW - 3600, NOW + 1, 0.0, -5.0]
    clock = iter(times * 1)
    ids = Ids(lambda: next(clock), random.Random(1))
    made = [ids.new() for _ in times]
    assert made == sorted(set(made))


def test_many_in_one_millisecond_stay_unique() -> None:
    ids = Ids(lambda: NOW, random.Random(2))
    made = [ids.new() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_continues_after_the_newest_existing_id() -> None:
    newest = Ids(lambda: NOW, random.Random(3)).new()
    assert Ids(lambda: NOW - 86400, random.Random(3), after=newest).new() > newest


def test_the_time_is_in_the_id() -> None:
    early = Ids(lambda: NOW, random.Random(4)).new()
    late = Ids(lambda: NOW + 3600, random.Random(5)).new()
    assert (to_int(late) >> 19) - (to_int(early) >> 19) == 3_600_000
