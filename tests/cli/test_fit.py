"""What a narrow terminal gets of a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtactl.fit import CUT, GAP, cut, fit

TITLES = ["ID", "STATE", "AGE", "SIZE", "TRIES", "NEXT", "FROM", "TO", "REASON"]
WANTED = [14, 8, 3, 4, 5, 4, 18, 15, 28]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (200, TITLES),
        (115, TITLES),
        (100, ["ID", "STATE", "AGE", "NEXT", "FROM", "TO", "REASON"]),
        (80, ["ID", "STATE", "AGE", "NEXT", "TO", "REASON"]),
        (60, ["ID", "STATE", "TO", "REASON"]),
    ],
)
def test_what_is_left_out(width: int, shown: list[str]) -> None:
    assert [TITLES[index] for index, _ in fit(TITLES, WANTED, width)] == shown


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (130, [*TITLES[:-1], "SUBJECT", "REASON"]),
        (100, ["ID", "STATE", "AGE", "NEXT", "TO", "SUBJECT", "REASON"]),
        (80, ["ID", "STATE", "AGE", "NEXT", "TO", "SUBJECT"]),
        (60, ["ID", "STATE", "TO", "SUBJECT"]),
    ],
)
def test_where_subjects_are_asked_about_they_stay(width: int, shown: list[str]) -> None:
    titles = [*TITLES[:-1], "SUBJECT", "REASON"]
    assert [titles[index] for index, _ in fit(titles, [*WANTED[:-1], 22, 28], width)] == shown


@given(st.lists(st.integers(8, 200), min_size=9, max_size=9), st.integers(90, 300))
def test_it_fits(widths: list[int], width: int) -> None:
    widths[:6] = [14, 8, 3, 5, 5, 4]
    plan = fit(TITLES, widths, width)
    assert sum(wide for _, wide in plan) + GAP * (len(plan) - 1) <= width
    assert all(wide == widths[index] for index, wide in plan if TITLES[index] not in CUT)
    assert all(wide <= widths[index] for index, wide in plan)


def test_tables_without_soft_columns_stay_whole() -> None:
    assert fit(["NAME", "ADDED"], [50, 16], 40) == [(0, 50), (1, 16)]


@pytest.mark.parametrize(("width", "wanted"), [(9, "abcdefgh"), (8, "abcdefgh"), (7, "abcd..."), (2, "..")])
def test_cut(width: int, wanted: str) -> None:
    assert cut("abcdefgh", width) == wanted
