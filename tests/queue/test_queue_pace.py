"""The rules of pacing as tables."""

import random
from itertools import pairwise

import pytest

from mtad.config import Rate
from mtad.mail.reply import LOCAL_ERROR, Reply
from mtad.queue import pace
from mtad.queue.pace import Pace, Sign, Warmup

NOW = 1_800_000_000.0
RNG = random.Random(1)


def said(code: int, status: str, text: str, stage: str = "mail") -> Reply:
    return Reply(code, status, text, "mx.example.org", stage)


@pytest.mark.parametrize(
    ("reply", "sign"),
    [
        (said(250, "2.0.0", "ok", "final"), Sign.WORKS),
        (said(550, "5.1.1", "no such user", "rcpt"), Sign.ANSWERS),
        (said(450, "4.2.0", "Greylisted, try again later", "rcpt"), Sign.ANSWERS),
        (said(451, "4.7.1", "Please try again later", "rcpt"), Sign.ANSWERS),  # greylisting, as it is said mostly
        (said(452, "4.2.2", "Mailbox full: too many messages", "rcpt"), Sign.ANSWERS),
        (said(452, "4.5.3", "Too many recipients", "rcpt"), Sign.ANSWERS),
        (said(421, "4.7.0", "Too many concurrent SMTP connections from 192.0.2.1", "connect"), Sign.CROWDED),
        (said(421, "4.7.0", "Error: too many connections from 192.0.2.1", "connect"), Sign.CROWDED),
        (said(421, "4.7.0", "Try again later, closing connection."), Sign.BLOCKED),
        (said(421, "4.7.28", "an unusual rate of unsolicited mail originating from your IP address"), Sign.BLOCKED),
        (said(451, "4.7.500", "Server busy. Please try again later from [192.0.2.1]"), Sign.BLOCKED),
        (
            said(421, "4.7.0", "[TSS04] Messages temporarily deferred due to user complaints"),
            Sign.BLOCKED,
        ),
        (said(450, "4.7.1", "Client host blocked: you are rate limited", "rcpt"), Sign.BLOCKED),
        (said(421, "4.3.2", "Service shutting down"), Sign.SILENT),
        (said(454, "4.3.0", "no resources", "ehlo"), Sign.SILENT),
        (Reply(451, "4.4.1", "Connection timed out", stage="connect"), Sign.SILENT),
        (Reply(451, "4.4.3", "DNS gave no answer for the domain"), Sign.SILENT),
        (Reply(451, "4.4.7", "Not delivered within the time that was allowed"), Sign.NOTHING),
        (Reply(454, "4.7.8", "AUTH failed: 535 bad", stage="auth"), Sign.SILENT),
        (Reply(451, "4.3.5", "Local error, please try again later", stage="auth"), Sign.NOTHING),  # no password file
        (LOCAL_ERROR, Sign.NOTHING),
        (Reply(550, "5.1.2", "The domain does not exist"), Sign.ANSWERS),
    ],
)
def test_signs(reply: Reply, sign: Sign) -> None:
    assert pace.read(reply) is sign


def test_mail_that_was_taken_speaks_loudest() -> None:
    no, busy, yes = said(550, "5.1.1", "no"), said(421, "4.7.0", "rate limited"), said(250, "2.0.0", "ok")
    assert pace.weightiest([no, busy, yes]) == (Sign.WORKS, yes)
    assert pace.weightiest([no, busy]) == (Sign.BLOCKED, busy)
    assert pace.weightiest([]) == (Sign.NOTHING, None)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("try again in 10 minutes", 600.0),
        ("please retry after 2 hours", 7200.0),
        ("blocked for 5 sec", pace.STATED_MIN_S),
        ("blocked for 9000 hours", pace.STATED_MAX_S),
        ("try again later", 0.0),
        ("in 99999 minutes", 0.0),
    ],
)
def test_a_stated_wait_is_heeded_within_bounds(text: str, wait_s: float) -> None:
    assert pace.stated_s(said(421, "4.7.0", text)) == wait_s


def feed(one: Pace, *signs: Sign, now: float = NOW, ceiling: int = 20) -> Pace:
    for sign in signs:
        one = pace.after(one, sign, now, ceiling, RNG, "421 why")
    return one


def test_the_window_grows_with_each_mail_and_stops_at_the_ceiling() -> None:
    windows = [pace.room(feed(Pace(), *[Sign.WORKS] * n), NOW, 5) for n in range(6)]
    assert windows == [1, 2, 3, 4, 5, 5]
    full = feed(Pace(), *[Sign.WORKS] * 30)
    assert full.window == 20
    assert feed(full, Sign.WORKS) is full  # nothing is made for nothing


def test_the_window_halves_on_failure_and_then_grows_by_one_a_round() -> None:
    full = feed(Pace(), *[Sign.WORKS] * 30)
    halved = feed(full, Sign.SILENT)
    assert halved.window == 10
    assert not halved.proven
    assert pace.room(feed(halved, *[Sign.WORKS] * 10), NOW, 20) == 10  # a round of ten brings not quite one
    assert pace.room(feed(halved, *[Sign.WORKS] * 11), NOW, 20) == 11
    assert feed(full, Sign.CROWDED, Sign.CROWDED).window == 5
    assert feed(full, Sign.ANSWERS) is full  # a mailbox that is unknown says nothing of the site


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    assert not feed(Pace(), Sign.SILENT, Sign.SILENT, Sign.ANSWERS, Sign.SILENT, Sign.SILENT).open
    assert not feed(Pace(), Sign.SILENT, Sign.SILENT, Sign.WORKS, Sign.SILENT, Sign.SILENT).open
    broken = feed(Pace(), *[Sign.SILENT] * 3)
    assert broken.open
    assert (broken.opened_at, broken.seen, broken.cause) == (NOW, 3, "421 why")
    assert 54 <= broken.probe_at - NOW <= 66
    assert pace.room(broken, NOW, 20) == 0
    assert pace.room(broken, broken.probe_at, 20) == 1


def test_a_block_opens_it_at_once_and_for_as_long_as_it_said() -> None:
    blocked = feed(Pace(), Sign.BLOCKED)
    assert blocked.blocked
    assert 270 <= blocked.probe_at - NOW <= 330
    assert pace.after(Pace(), Sign.BLOCKED, NOW, 20, RNG, "", 3600.0).probe_at == NOW + 3600


def test_each_failed_probe_waits_longer_and_one_that_works_closes_it() -> None:
    one, waits = feed(Pace(), *[Sign.SILENT] * 3), []
    for _ in range(10):
        late = feed(one, Sign.SILENT, now=one.probe_at - 1)
        assert (late.probe_at, late.seen) == (one.probe_at, one.seen + 1)  # begun before it opened
        now = one.probe_at
        one = feed(one, Sign.SILENT, now=now)
        waits.append(one.probe_at - now)
    assert one.opened_at == NOW
    assert waits[0] > 100
    assert all(later > sooner * 1.5 for sooner, later in pairwise(waits[:4]))
    assert max(waits) <= pace.SILENT_MAX_S * 1.1
    for sign in (Sign.WORKS, Sign.ANSWERS):
        closed = feed(one, sign, now=one.probe_at)
        assert not closed.open
        assert pace.room(closed, NOW, 20) == 1
        assert closed.cautious


def test_one_connection_that_is_still_too_many_counts_as_failure() -> None:
    assert feed(Pace(window=1.0), *[Sign.CROWDED] * 3).open


def test_a_rate_is_kept_in_every_window() -> None:
    rate = Rate(100, 60.0)
    times, at = [], 0.0
    for _ in range(1000):
        times.append(at)
        at += pace.spacing_s(rate)
    assert all(sum(start <= one < start + 59.99 for one in times) <= 100 for start in times[::50])
    assert pace.spacing_s(Rate()) == 0


def test_a_warm_up_goes_on_by_days_with_mail() -> None:
    day = 20_000
    one = pace.today(Warmup(), day * 86400.0)
    assert (one.day, one.sent, one.step) == (day, 0, 0)
    one = pace.today(Warmup(day, 50, 0), (day + 1) * 86400.0)
    assert (one.sent, one.step) == (0, 1)
    assert pace.today(one, (day + 9) * 86400.0).step == 1  # nothing was sent meanwhile
    assert pace.today(Warmup(day, 50, 3), (day - 100) * 86400.0).sent == 50  # the clock was set back
    assert [pace.quota(50, 1.5, step) for step in range(4)] == [50, 75, 112, 168]
    assert pace.quota(50, 10.0, 10_000) == pace.QUOTA_MAX == pace.quota(0, 1.0, 0)
    assert pace.next_day(day * 86400.0 + 5) == (day + 1) * 86400.0
