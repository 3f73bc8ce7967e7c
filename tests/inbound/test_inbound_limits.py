"""Limits as pure decisions: tables, and what holds for any stream of events."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtad.config import Limits, Rate
from mtad.inbound.limits import COUNTED, KEYS_MAX, PARTS, Tallies, Windows, client_key, delay_s, patience_s

LENGTH_S = 60.0


@given(
    limit=st.integers(1, 8),
    gaps=st.lists(st.floats(0, 40, allow_nan=False), min_size=1, max_size=120),
    start=st.floats(0, 1e9),
)
@settings(deadline=None)
def test_no_window_holds_more_than_the_limit(limit: int, gaps: list[float], start: float) -> None:
    """And nobody is refused who had fewer within (1 + 1 / PARTS) windows: that is all the slack there is."""
    windows = Windows(Rate(limit, LENGTH_S))
    now, taken = start, []
    for gap in gaps:
        now += gap
        before = [at for at in taken if now - at <= LENGTH_S * (1 + 1 / PARTS)]
        if windows.take("x", now):
            taken.append(now)
            # A moment less than the window: events at both its ends are one window apart.
            assert sum(now - at < LENGTH_S for at in taken) <= limit
        else:
            assert len(before) >= limit


@given(events=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 1e6)), max_size=200))
def test_memory_is_bounded_whatever_the_clock_does(events: list[tuple[str, float]]) -> None:
    windows = Windows(Rate(3, 10.0), keys_max=4)
    for key, now in events:
        windows.add(key, now)
        assert len(windows) <= 4
        assert windows.count(key, now) >= 1


def test_who_was_quiet_for_longest_is_forgotten() -> None:
    windows = Windows(Rate(5, 10.0), keys_max=2)
    for key in ("a", "b", "a", "c"):
        windows.add(key, 1.0)
    assert [windows.count(key, 1.0) for key in "abc"] == [2, 0, 1]


def test_a_full_table_takes_little_memory() -> None:
    windows = Windows(Rate(100, 600.0))
    for number in range(KEYS_MAX + 1000):
        windows.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1_800_000_000.0)
    assert len(windows) == KEYS_MAX
    table = windows._by_key
    held = sys.getsizeof(table) + sum(sys.getsizeof(key) + sys.getsizeof(parts) for key, parts in table.items())
    assert held / KEYS_MAX < 400  # octets for each client; 10 tables of 20,000: 80 MB when all are full


def test_a_clock_that_was_set_back_begins_anew() -> None:
    windows = Windows(Rate(1, 60.0))
    assert windows.take("a", 1_000_000.0)
    assert not windows.take("a", 999_990.0)
    assert windows.take("a", 900_000.0)
    assert not windows.take("a", 900_010.0)


def test_zero_is_no_limit() -> None:
    windows = Windows(Rate())
    assert all(windows.take("a", 0.0) for _ in range(1000))
    assert windows.add("a", 0.0) == 0
    assert len(windows) == 0
    assert not windows.over("a", 0.0)


def test_a_refused_event_does_not_count() -> None:
    """Or who keeps trying would never get in again."""
    windows = Windows(Rate(2, 10.0))
    assert [windows.take("a", 1.0) for _ in range(50)] == [True, True] + [False] * 48
    assert windows.take("a", 1.0 + 10.0 * (1 + 1 / PARTS))


@pytest.mark.parametrize(
    ("count", "free", "longest_s", "seconds"),
    [(0, 0, 20, 0), (1, 0, 20, 1), (2, 0, 20, 2), (3, 0, 20, 4), (5, 0, 20, 16), (6, 0, 20, 20), (10**6, 0, 20, 20),
     (10, 10, 20, 0), (11, 10, 20, 1), (12, 10, 20, 2), (3, 0, 0, 0), (3, 0, 2.5, 2.5)],
)  # fmt: skip
def test_delays_grow(count: int, free: int, longest_s: float, seconds: float) -> None:
    assert delay_s(count, free, longest_s) == seconds


@pytest.mark.parametrize(
    ("rate", "every_s", "cut_after_s"),
    [
        (500, 10, 0),  # slow but honest, for as long as it takes
        (500, 170, 170),  # in blocks that come too late: a minute behind is enough
        (10_000, 50, 0),
        (450, 10, 600),  # one tenth short: the grace lasts ten minutes
        (1, 1, 61),
        (0.01, 100, 100),
    ],
)
def test_how_slow_a_mail_may_be(rate: float, every_s: int, cut_after_s: int) -> None:
    """`cut_after_s`: by then it is; 0 is never, within an hour."""
    limits, cut, octets, left_s = Limits(), 0, 0, 60.0
    for now in range(every_s, 3600, every_s):
        if left_s <= every_s and not cut:
            cut = now
        octets += int(rate * every_s) or 1
        left_s = patience_s(now, octets, limits)
    assert bool(cut) == bool(cut_after_s)
    assert cut <= cut_after_s + every_s


def test_no_rate_leaves_the_deadline_per_block() -> None:
    assert patience_s(1e6, 0, Limits(data_rate_min=0, data_timeout_s=180.0)) == 180.0


@pytest.mark.parametrize(
    ("ip", "key"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("2001:db8:1:2:3::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1%eth0", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
    ],
)
def test_a_client_is_an_address_or_a_64(ip: str, key: str) -> None:
    assert client_key(ip) == key


def test_every_rate_of_the_settings_is_counted() -> None:
    rates = {name for name in Limits.__dataclass_fields__ if name.endswith("_rate")}
    assert rates == set(COUNTED.values())


def test_other_limits_keep_what_was_counted() -> None:
    tallies = Tallies(Limits())
    tallies("client", "errors").add("a", 1.0)
    tallies("client", "messages").add("a", 1.0)
    tallies.resize(Limits(error_rate=Rate(5, 60.0)))
    assert tallies("client", "errors").count("a", 1.0) == 0  # its window is another one
    assert tallies("client", "messages").count("a", 1.0) == 1
    tallies.forget("a")
    assert tallies("client", "messages").count("a", 1.0) == 0
